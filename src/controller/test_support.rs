//! What reconcilers need, without a cluster.

use kube::{Client, runtime::events::Reporter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Context, Replica, blocked::Blocked, events, scheduling::Scheduling, trees::Trees};
use crate::{
    disruption::test_support::client,
    index::{Index, caches::Caches},
    runtime::metrics::Metrics,
};

/// Of a replica that leads. Its API server never answers.
pub(super) fn context(caches: Caches, rollouts: usize) -> Context {
    commanded(client(|_, _| None), caches, rollouts).0
}

/// The same with an API server, and with who tells whether it leads and is paused.
pub(super) fn commanded(
    client: Client,
    caches: Caches,
    rollouts: usize,
) -> (Context, [watch::Sender<bool>; 2]) {
    let reporter = Reporter { controller: "adieu".into(), instance: None };
    let (outbox, _) = events::outbox(client.clone(), reporter, CancellationToken::new());
    let (tell_leader, is_leader) = watch::channel(true);
    let (tell_paused, paused) = watch::channel(false);
    let context = Context {
        client,
        caches,
        metrics: Metrics::default().into(),
        outbox,
        index: Index::default(),
        scheduling: Scheduling::new(rollouts),
        blocked: Blocked::default(),
        trees: Trees::default(),
        replica: Replica { pod: "adieu-0".into(), rollouts, is_leader, paused },
    };
    context.index.refresh(&context.caches);
    context.scheduling.refresh(&context);
    (context, [tell_leader, tell_paused])
}
