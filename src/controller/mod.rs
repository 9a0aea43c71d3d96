//! Brings in the workloads that exist already or slipped past the webhook, and keeps the policies' status.

mod events;
mod policies;
mod progress;
mod turns;
mod workloads;
mod write;

use std::sync::Arc;

use futures::future::join_all;
use kube::{
    Client,
    runtime::{
        events::{Recorder, Reporter},
        watcher,
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    plan::Kind,
    runtime::{caches::Caches, metrics::Metrics, workloads::Events},
};

/// Who runs the controller.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The namespace that the operator runs in.
    pub namespace: String,
    /// The name of its pod, for the events that are published.
    pub pod: Option<String>,
}

/// What every reconciler needs.
struct Context {
    client: Client,
    caches: Caches,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    turns: turns::Turns,
    told: events::Told,
}

/// Runs until `shutdown`; what is being reconciled then is finished first. `events` are the watches of the
/// workloads in `caches`.
pub async fn run(
    client: Client,
    caches: Caches,
    events: [Events; 3],
    metrics: Arc<Metrics>,
    identity: Identity,
    shutdown: CancellationToken,
) {
    // Before the caches are filled a policy would seem to be gone.
    if caches.synced().await.is_err() {
        return;
    }
    let workloads_changed = caches.workloads().changed();
    let reporter = Reporter { controller: "adieu.dev/controller".into(), instance: identity.pod };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        caches,
        metrics,
        turns: turns::Turns::default(),
        told: events::Told::default(),
    });
    let workloads = Kind::ALL
        .into_iter()
        .zip(events)
        .map(|(kind, stream)| workloads::control(kind, stream, context.clone(), shutdown.clone()));
    let policies = policies::control(context.clone(), workloads_changed, shutdown.clone());
    tokio::join!(join_all(workloads), policies);
}

/// The workloads that are watched: not those in the namespaces that the webhook configuration leaves alone,
/// which are what the cluster itself needs, and the operator's, which would wait for its own restart.
#[must_use]
pub fn watched(own: &str) -> watcher::Config {
    let field = |namespace: &str| format!("metadata.namespace!={namespace}");
    watcher::Config::default().fields(&[field("kube-system"), field(own)].join(","))
}
