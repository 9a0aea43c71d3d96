//! Writes workloads that exist already or bypassed the webhook, and the status of policies.

mod backoff;
mod events;
mod failed_rollout_status;
mod keys;
mod pace;
mod pod_disruption_budgets;
mod policies;
mod reconcile_memory;
mod scheduling;
#[cfg(test)]
mod test_support;
mod unusable_objects;
mod workload_metrics;
mod workloads;
pub(crate) mod write;
mod write_history;

use std::{sync::Arc, time::Duration};

use backoff::Backoff;
use futures::{
    Stream, StreamExt as _,
    future::{join_all, ready},
    stream,
};
use k8s_openapi::jiff::Timestamp;
use keys::{Key, key};
use kube::{
    Client, ResourceExt as _,
    core::DynamicObject,
    runtime::{controller::Action, events::Reporter},
};
use pace::Pace;
use reconcile_memory::ReconcileMemory;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use write_history::WriteHistory;

use crate::{
    index::{
        Index,
        caches::{Caches, changes},
        workloads::Events,
    },
    plan::Kind,
    runtime::{
        metrics::{Component, KindLabel, Metrics, ReconcileLabels, ReconcileResult},
        panics,
    },
};

/// The replica that runs the controller, and what it may write.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The name of its pod, for Events.
    pub pod: String,
    /// How many workloads roll out at a time because of policy changes, in the whole cluster.
    pub max_concurrent_rollouts: usize,
    /// Whether it leads.
    pub is_leader: watch::Receiver<bool>,
    /// When the previous leader last renewed the Lease, by its clock.
    pub previous_renewal: watch::Receiver<Option<Timestamp>>,
    /// Whether writes to workloads are paused.
    pub paused: watch::Receiver<bool>,
}

/// The controller of a replica.
pub struct Controller {
    /// A client of the API server.
    pub client: Client,
    /// What it reads.
    pub caches: Caches,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    /// The replica that runs it.
    pub replica: Replica,
}

/// The context of every reconciler.
struct ReconcileContext {
    client: Client,
    caches: Caches,
    metrics: Arc<Metrics>,
    events: events::EventPublisher,
    index: Index,
    scheduling: scheduling::Scheduling,
    backoff: Backoff,
    /// Of the status of policies, and of workloads whose template is not to be written immediately.
    pace: Arc<Pace>,
    history: WriteHistory,
    memory: ReconcileMemory,
    replica: Replica,
}

impl ReconcileContext {
    fn new(controller: Controller, events: events::EventPublisher) -> Self {
        let Controller { client, caches, metrics, replica } = controller;
        Self {
            client,
            caches,
            index: Index::new(metrics.evaluations.clone()),
            metrics,
            events,
            scheduling: scheduling::Scheduling::new(replica.max_concurrent_rollouts),
            backoff: Backoff::default(),
            pace: Arc::default(),
            history: WriteHistory::default(),
            memory: ReconcileMemory::default(),
            replica,
        }
    }

    /// Whether this replica leads.
    fn is_leader(&self) -> bool {
        *self.replica.is_leader.borrow()
    }

    /// Whether workloads may be written: not while writes are paused, nor without the CRDs.
    fn may_write(&self) -> bool {
        self.is_leader() && !*self.replica.paused.borrow() && self.caches.is_served()
    }

    /// Writes, if workloads may be written now. `None` if they may not, or if the write was dropped because this replica
    /// no longer leads.
    async fn write<T>(&self, write: impl Future<Output = T>) -> Option<T> {
        if self.may_write() { self.while_leading(write).await } else { None }
    }

    /// Completes a future, unless this replica stops leading before.
    async fn while_leading<T>(&self, write: impl Future<Output = T>) -> Option<T> {
        let mut is_leader = self.replica.is_leader.clone();
        tokio::select! {
            biased;
            Ok(_) = is_leader.wait_for(|is_leader| !is_leader) => None,
            written = write => Some(written),
        }
    }

    /// Completes an attempt to reconcile something.
    ///
    /// # Errors
    /// If it panicked.
    async fn catch_panic<T>(&self, attempt: impl Future<Output = T>) -> Result<T, kube::Error> {
        let outcome = panics::catch(Component::Reconcile, &self.metrics, attempt).await;
        outcome.map_err(|panic| kube::Error::Service(panic.into()))
    }

    /// Records why a workload can't be written. How long to wait before the next attempt.
    fn block(&self, kind: Kind, object: &DynamicObject, reason: String) -> Duration {
        let key = key(kind, object);
        let (wait, is_new) = self.backoff.block(key.clone(), reason.clone());
        self.scheduling.set_blocked(self, &key, true);
        if is_new {
            self.index.requeue_policies_of(&key);
            self.events.blocked(kind, object, reason);
        }
        wait
    }

    /// Records why a workload can't be written, and retries later.
    fn block_and_retry(
        &self,
        kind: Kind,
        object: &DynamicObject,
        reason: String,
        result: ReconcileResult,
    ) -> Action {
        self.count(kind, result);
        let (namespace, name) = (object.namespace(), object.name_any());
        tracing::warn!(%kind, namespace, name, reason, "write failed, retrying");
        Action::requeue(self.block(kind, object, reason))
    }

    /// The workload is up to date, or is not to be written for now.
    fn unblock(&self, key: &Key) {
        if self.backoff.unblock(key) {
            self.scheduling.set_blocked(self, key, false);
            self.index.requeue_policies_of(key);
        }
    }

    /// Counts a reconciliation.
    fn count(&self, kind: Kind, result: ReconcileResult) {
        let labels = ReconcileLabels { kind: KindLabel(kind.as_str()), result };
        self.metrics.reconciles.get_or_create(&labels).inc();
    }

    /// An item whenever the permission to write changes.
    fn permissions(&self) -> impl Stream<Item = ()> + Send + use<> {
        let Replica { is_leader, paused, .. } = &self.replica;
        let switched = stream::select(changes(is_leader.clone()), changes(paused.clone()));
        stream::select(switched, self.caches.served_changes())
    }
}

impl Controller {
    /// Runs until `shutdown`, and completes reconciliations in progress. Writes while this replica leads and writes are
    /// not paused. `events` are the watches of the workloads in the caches.
    pub async fn run(self, events: [Events; 3], shutdown: CancellationToken) {
        // Before the caches are filled a policy would seem to be deleted.
        if !matches!(shutdown.run_until_cancelled(self.caches.synced()).await, Some(Ok(()))) {
            return;
        }
        let reporter =
            Reporter { controller: "adieu.dev/controller".into(), instance: Some(self.replica.pod.clone()) };
        let (publisher, publishing) = events::publisher(self.client.clone(), reporter, shutdown.clone());
        let context = Arc::new(ReconcileContext::new(self, publisher));
        let workloads = Kind::ALL
            .into_iter()
            .zip(events)
            .map(|(kind, stream)| workloads::control(kind, stream, context.clone(), shutdown.clone()));
        // A status need not be completed, and a controller without listed policies would wait for them.
        let policies = policies::control(context.clone(), shutdown.clone());
        let policies = shutdown.run_until_cancelled(policies);
        let metrics = workload_metrics::report(context.clone(), shutdown.clone());
        let unusable = unusable_objects::report(context.clone(), shutdown.clone());
        let index = context.index.run(&context.caches, context.replica.is_leader.clone());
        let index = shutdown.run_until_cancelled(index);
        let scheduling = shutdown.run_until_cancelled(context.scheduling.run(&context));
        let budgets = context.caches.changed_budgets().stream(Duration::ZERO);
        let budgets = budgets.for_each(|namespace| {
            context.index.requeue_workloads(namespace.as_deref());
            ready(())
        });
        let budgets = shutdown.run_until_cancelled(budgets);
        tokio::join!(
            join_all(workloads),
            index,
            scheduling,
            budgets,
            policies,
            metrics,
            unusable,
            publishing
        );
    }
}

/// The field selector of the watched workloads: without the namespaces that the webhook configuration excludes, which
/// are `kube-system` and the operator's: it would wait for its own restart.
#[must_use]
pub fn namespace_field_selector(own: &str) -> String {
    let field = |namespace: &str| format!("metadata.namespace!={namespace}");
    [field("kube-system"), field(own)].join(",")
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::{StreamExt as _, poll};
    use tokio::time::timeout;

    use super::{test_support::context_with, *};
    use crate::{
        index::{unusable_objects::UnusableObjects, workloads::Workloads},
        runtime::client::LIMIT,
        runtime::test_support::client,
    };

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_before_anything_is_listed_is_prompt() {
        let silent = client(|_, _| None);
        let (unfilled, _follow) =
            Caches::follow(&silent, Workloads::fixed(vec![]), &UnusableObjects::default());
        for caches in [Caches::fixed(vec![], vec![], vec![]), unfilled] {
            let events = [(); 3].map(|()| stream::pending().boxed());
            let (context, _senders) = context_with(silent.clone(), caches.clone(), 1);
            let (client, metrics, replica) = (silent.clone(), Arc::default(), context.replica.clone());
            let controller = Controller { client, caches, metrics, replica };
            let shutdown = CancellationToken::new();
            let mut running = Box::pin(controller.run(events, shutdown.clone()));
            assert!(poll!(&mut running).is_pending());
            shutdown.cancel();
            timeout(LIMIT / 2, running).await.expect("an end");
        }
    }

    #[tokio::test]
    async fn nothing_is_written_without_leading_while_paused_or_without_crds() {
        let caches = || Caches::fixed(vec![], vec![], vec![]);
        let may_write = async |caches, leading, pausing| {
            let (context, [is_leader, paused]) = context_with(client(|_, _| None), caches, 1);
            is_leader.send_replace(leading);
            paused.send_replace(pausing);
            let written = context.write(ready(())).await.is_some();
            assert_eq!(written, context.may_write());
            written
        };
        assert!(may_write(caches(), true, false).await);
        assert!(!may_write(caches(), false, false).await);
        assert!(!may_write(caches(), true, true).await);
        assert!(!may_write(caches().unserved(), true, false).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_in_progress_is_dropped_once_another_replica_leads() {
        let (context, [is_leader, _paused]) =
            context_with(client(|_, _| None), Caches::fixed(vec![], vec![], vec![]), 1);
        let mut write = Box::pin(context.write(pending::<()>()));
        assert!(poll!(&mut write).is_pending());
        is_leader.send_replace(false);
        assert_eq!(timeout(LIMIT, write).await, Ok(None));
    }

    #[tokio::test]
    async fn a_reconciliation_that_panics_is_a_failed_attempt() {
        let (context, _senders) = context_with(client(|_, _| None), Caches::fixed(vec![], vec![], vec![]), 1);
        let attempt = context.catch_panic(async { panic!("on purpose") }).await;
        let error: kube::Error = attempt.map(|()| unreachable!()).unwrap_err();
        assert!(matches!(&error, kube::Error::Service(_)), "{error}");
        assert!(error.to_string().contains("panicked: on purpose"), "{error}");
        assert!(context.metrics.render().unwrap().contains("adieu_panics_total{component=\"reconcile\"} 1"));
    }
}
