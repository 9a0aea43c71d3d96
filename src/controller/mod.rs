//! Brings in the workloads that exist already or slipped past the webhook, and keeps the policies' status.

mod blocked;
mod budgets;
mod census;
mod events;
mod failures;
mod keys;
mod policies;
mod scheduling;
#[cfg(test)]
mod test_support;
mod trees;
mod unusable;
mod workloads;
pub(crate) mod write;

use std::{sync::Arc, time::Duration};

use futures::{
    Stream, StreamExt as _,
    future::{join_all, ready},
    stream,
};
use keys::{Key, key};
use kube::{Client, core::DynamicObject, runtime::events::Reporter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trees::Trees;

use crate::{
    index::{
        Index,
        caches::{Caches, changes},
        workloads::Events,
    },
    plan::Kind,
    runtime::{
        metrics::{Component, Metrics},
        panics,
    },
};

/// The replica that runs the controller, and what it may do.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The name of its pod, for the events that are published.
    pub pod: String,
    /// How many workloads roll out at a time because of policy changes, in the whole cluster.
    pub rollouts: usize,
    /// Whether it acts, or another replica does.
    pub is_leader: watch::Receiver<bool>,
    /// Whether somebody wants no workload written for the time being.
    pub paused: watch::Receiver<bool>,
}

/// What every reconciler needs.
struct Context {
    client: Client,
    caches: Caches,
    metrics: Arc<Metrics>,
    outbox: events::Outbox,
    index: Index,
    scheduling: scheduling::Scheduling,
    blocked: blocked::Blocked,
    trees: Trees,
    replica: Replica,
}

impl Context {
    /// Whether this replica acts. The others keep up with what there is, and so can take over at once.
    fn is_leader(&self) -> bool {
        *self.replica.is_leader.borrow()
    }

    /// Whether workloads may be written: not while somebody has paused it, nor without the CRDs.
    fn writes(&self) -> bool {
        self.is_leader() && !*self.replica.paused.borrow() && self.caches.is_served()
    }

    /// Writes, where workloads may be written at this moment; `None` where they mayn't, or it was let go because
    /// this replica no longer leads.
    async fn write<T>(&self, write: impl Future<Output = T>) -> Option<T> {
        if self.writes() { self.while_leading(write).await } else { None }
    }

    /// Does something, unless this replica leads no more before it is done.
    async fn while_leading<T>(&self, write: impl Future<Output = T>) -> Option<T> {
        let mut is_leader = self.replica.is_leader.clone();
        tokio::select! {
            biased;
            Ok(_) = is_leader.wait_for(|is_leader| !is_leader) => None,
            written = write => Some(written),
        }
    }

    /// Runs an attempt to reconcile something.
    ///
    /// # Errors
    /// Where it panicked.
    async fn guarded<T>(&self, attempt: impl Future<Output = T>) -> Result<T, kube::Error> {
        let outcome = panics::caught(Component::Reconcile, &self.metrics, attempt).await;
        outcome.map_err(|panic| kube::Error::Service(panic.into()))
    }

    /// Notes why a workload can't be written. How long to wait before the next attempt.
    fn block(&self, kind: Kind, object: &DynamicObject, reason: String) -> Duration {
        let key = key(kind, object);
        let (wait, news) = self.blocked.note(key.clone(), reason.clone());
        self.scheduling.set_blocked(self, &key, true);
        if news {
            self.index.touch(&key);
            self.outbox.blocked(kind, object, reason);
        }
        wait
    }

    /// The workload is as it shall be, or isn't to be written for now.
    fn unblock(&self, key: &Key) {
        if self.blocked.clear(key) {
            self.scheduling.set_blocked(self, key, false);
            self.index.touch(key);
        }
    }

    /// An item whenever what this replica may do changes.
    fn permissions(&self) -> impl Stream<Item = ()> + Send + use<> {
        let Replica { is_leader, paused, .. } = &self.replica;
        let commanded = stream::select(changes(is_leader.clone()), changes(paused.clone()));
        stream::select(commanded, self.caches.served_changes())
    }
}

/// Runs until `shutdown`; what is being reconciled then is finished first. Writes while this replica leads
/// and nobody has paused it. `events` are the watches of the workloads in `caches`.
pub async fn run(
    client: Client,
    caches: Caches,
    events: [Events; 3],
    metrics: Arc<Metrics>,
    replica: Replica,
    shutdown: CancellationToken,
) {
    // Before the caches are filled a policy would seem to be gone.
    if !matches!(shutdown.run_until_cancelled(caches.synced()).await, Some(Ok(()))) {
        return;
    }
    let reporter =
        Reporter { controller: "adieu.dev/controller".into(), instance: Some(replica.pod.clone()) };
    let (outbox, publishing) = events::outbox(client.clone(), reporter, shutdown.clone());
    let context = Arc::new(Context {
        outbox,
        client,
        caches,
        metrics,
        index: Index::default(),
        scheduling: scheduling::Scheduling::new(replica.rollouts),
        blocked: blocked::Blocked::default(),
        trees: Trees::default(),
        replica,
    });
    let workloads = Kind::ALL
        .into_iter()
        .zip(events)
        .map(|(kind, stream)| workloads::control(kind, stream, context.clone(), shutdown.clone()));
    // A status need not be finished, and a controller that has yet to list its policies would wait for them.
    let policies = policies::control(context.clone(), shutdown.clone());
    let policies = shutdown.run_until_cancelled(policies);
    let census = census::keep(context.clone(), shutdown.clone());
    let unusable = unusable::report(context.clone(), shutdown.clone());
    let index = context.index.keep(&context.caches, context.replica.is_leader.clone());
    let index = shutdown.run_until_cancelled(index);
    let scheduling = shutdown.run_until_cancelled(context.scheduling.drive(&context));
    let budgets = context.caches.changed_budgets().stream(Duration::ZERO);
    let budgets = budgets.for_each(|namespace| {
        context.index.touch_workloads(namespace.as_deref());
        ready(())
    });
    let budgets = shutdown.run_until_cancelled(budgets);
    tokio::join!(join_all(workloads), index, scheduling, budgets, policies, census, unusable, publishing);
}

/// The field selector of the workloads that are watched: not those in the namespaces that the webhook configuration
/// leaves alone, which are what the cluster itself needs, and the operator's, which would wait for its own restart.
#[must_use]
pub fn watched(own: &str) -> String {
    let field = |namespace: &str| format!("metadata.namespace!={namespace}");
    [field("kube-system"), field(own)].join(",")
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::{StreamExt as _, poll};
    use tokio::time::timeout;

    use super::{test_support::commanded, *};
    use crate::{
        disruption::test_support::client,
        index::{unusable::UnusableObjects, workloads::Workloads},
        runtime::client::LIMIT,
    };

    #[tokio::test(start_paused = true)]
    async fn who_is_asked_to_end_before_anything_is_listed_ends_soon() {
        let silent = client(|_, _| None);
        let (unfilled, _follow) =
            Caches::follow(&silent, Workloads::fixed(vec![]), &UnusableObjects::default());
        for caches in [Caches::fixed(vec![], vec![], vec![]), unfilled] {
            let events = [(); 3].map(|()| stream::pending().boxed());
            let (context, _senders) = commanded(silent.clone(), caches.clone(), 1);
            let (replica, shutdown) = (context.replica.clone(), CancellationToken::new());
            let running = run(silent.clone(), caches, events, Arc::default(), replica, shutdown.clone());
            let mut running = Box::pin(running);
            assert!(poll!(&mut running).is_pending());
            shutdown.cancel();
            timeout(LIMIT / 2, running).await.expect("an end");
        }
    }

    #[tokio::test]
    async fn who_does_not_lead_or_is_paused_or_lacks_the_crds_writes_nothing() {
        let caches = || Caches::fixed(vec![], vec![], vec![]);
        let may_write = async |caches, leading, pausing| {
            let (context, [is_leader, paused]) = commanded(client(|_, _| None), caches, 1);
            is_leader.send_replace(leading);
            paused.send_replace(pausing);
            let written = context.write(ready(())).await.is_some();
            assert_eq!(written, context.writes());
            written
        };
        assert!(may_write(caches(), true, false).await);
        assert!(!may_write(caches(), false, false).await);
        assert!(!may_write(caches(), true, true).await);
        assert!(!may_write(caches().unserved(), true, false).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_under_way_is_let_go_once_another_leads() {
        let (context, [is_leader, _paused]) =
            commanded(client(|_, _| None), Caches::fixed(vec![], vec![], vec![]), 1);
        let mut write = Box::pin(context.write(pending::<()>()));
        assert!(poll!(&mut write).is_pending());
        is_leader.send_replace(false);
        assert_eq!(timeout(LIMIT, write).await, Ok(None));
    }

    #[tokio::test]
    async fn a_reconciliation_that_panics_is_a_failed_attempt() {
        let (context, _senders) = commanded(client(|_, _| None), Caches::fixed(vec![], vec![], vec![]), 1);
        let attempt = context.guarded(async { panic!("on purpose") }).await;
        let error: kube::Error = attempt.map(|()| unreachable!()).unwrap_err();
        assert!(matches!(&error, kube::Error::Service(_)), "{error}");
        assert!(error.to_string().contains("panicked: on purpose"), "{error}");
        assert!(context.metrics.render().unwrap().contains("adieu_panics_total{component=\"reconcile\"} 1"));
    }
}
