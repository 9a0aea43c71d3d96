//! The context of reconcilers, without a cluster.

use kube::{Client, runtime::events::Reporter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{context::ReconcileContext, events, replica::Replica};
use crate::{
    index::caches::Caches,
    runtime::{metrics::Metrics, test_support::client},
};

/// The context of a leader whose API server never answers.
pub(super) fn context(caches: Caches, rollouts: usize) -> ReconcileContext {
    context_with(client(|_, _| None), caches, rollouts).0
}

/// The same with an API server, and the senders of whether it leads and is paused.
pub(super) fn context_with(
    client: Client,
    caches: Caches,
    rollouts: usize,
) -> (ReconcileContext, [watch::Sender<bool>; 2]) {
    let (context, senders, _) = publishing(client, caches, rollouts);
    (context, senders)
}

/// The same, with the future that publishes Events until the context is dropped.
pub(super) fn publishing(
    client: Client,
    caches: Caches,
    rollouts: usize,
) -> (ReconcileContext, [watch::Sender<bool>; 2], impl Future<Output = ()> + Send) {
    let reporter = Reporter { controller: "adieu".into(), instance: None };
    let (publisher, publishing) = events::publisher(client.clone(), reporter, CancellationToken::new());
    let (leader, is_leader) = watch::channel(true);
    let (pause, paused) = watch::channel(false);
    let (_, previous_renewal) = watch::channel(None);
    let replica = Replica {
        pod: "adieu-0".into(),
        max_concurrent_rollouts: rollouts,
        is_leader,
        previous_renewal,
        paused,
    };
    let context = ReconcileContext::new(client, caches, Metrics::default().into(), replica, publisher);
    context.index.refresh(&context.caches);
    context.scheduling.refresh();
    (context, [leader, pause], publishing)
}
