//! Brings in the workloads that exist already or slipped past the webhook, and keeps the policies' status.

mod blocked;
mod budgets;
mod census;
mod events;
mod policies;
pub mod progress;
mod stalled;
#[cfg(test)]
mod test_support;
mod turns;
mod workloads;
mod write;

use std::sync::Arc;

use futures::{Stream, future::join_all, stream};
use kube::{
    Client,
    runtime::{events::Reporter, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    plan::Kind,
    runtime::{
        caches::{Caches, changes},
        metrics::Metrics,
        workloads::Events,
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
    pub leads: watch::Receiver<bool>,
    /// Whether somebody wants no workload written for the time being.
    pub paused: watch::Receiver<bool>,
}

/// What every reconciler needs.
struct Context {
    client: Client,
    caches: Caches,
    metrics: Arc<Metrics>,
    outbox: events::Outbox,
    turns: turns::Turns,
    blocked: blocked::Blocked,
    replica: Replica,
}

impl Context {
    /// Whether this replica acts. The others keep up with what there is, and so can take over at once.
    fn leads(&self) -> bool {
        *self.replica.leads.borrow()
    }

    /// Whether workloads may be written: not while somebody has paused it, nor without the CRDs.
    fn writes(&self) -> bool {
        self.leads() && !*self.replica.paused.borrow() && self.caches.is_served()
    }

    /// An item whenever what this replica may do changes.
    fn permissions(&self) -> impl Stream<Item = ()> + Send + use<> {
        let Replica { leads, paused, .. } = &self.replica;
        stream::select(changes(leads.clone()), changes(paused.clone()))
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
    if caches.synced().await.is_err() {
        return;
    }
    let workloads_changed = caches.workloads().changed();
    let reporter =
        Reporter { controller: "adieu.dev/controller".into(), instance: Some(replica.pod.clone()) };
    let (outbox, publishing) = events::outbox(client.clone(), reporter, shutdown.clone());
    let context = Arc::new(Context {
        outbox,
        client,
        caches,
        metrics,
        turns: turns::Turns::new(replica.rollouts),
        blocked: blocked::Blocked::default(),
        replica,
    });
    let workloads = Kind::ALL
        .into_iter()
        .zip(events)
        .map(|(kind, stream)| workloads::control(kind, stream, context.clone(), shutdown.clone()));
    let policies = policies::control(context.clone(), workloads_changed.clone(), shutdown.clone());
    let census = census::keep(context.clone(), workloads_changed, shutdown.clone());
    tokio::join!(join_all(workloads), policies, census, publishing);
}

/// How many are listed at a time: each takes tens of kilobytes while it is read.
const PAGE: u32 = 100;

/// The workloads that are watched: not those in the namespaces that the webhook configuration leaves alone,
/// which are what the cluster itself needs, and the operator's, which would wait for its own restart.
#[must_use]
pub fn watched(own: &str) -> watcher::Config {
    let field = |namespace: &str| format!("metadata.namespace!={namespace}");
    watcher::Config::default().fields(&[field("kube-system"), field(own)].join(",")).page_size(PAGE)
}
