//! What reconcilers need, without a cluster.

use std::{convert::Infallible, future::pending, sync::Arc};

use http::{Request, Response};
use kube::{Client, client::Body, runtime::events::Reporter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use super::{Context, Replica, blocked::Blocked, events, turns::Turns};
use crate::runtime::{caches::Caches, metrics::Metrics};

/// Of a replica that leads. Its API server never answers.
pub(super) fn context(caches: Caches, rollouts: usize) -> Context {
    let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
    let client = Client::new(server, "default");
    let reporter = Reporter { controller: "adieu".into(), instance: None };
    let (outbox, _) = events::outbox(client.clone(), reporter, CancellationToken::new());
    let (leads, paused) = (watch::channel(true).1, watch::channel(false).1);
    Context {
        client,
        caches,
        metrics: Arc::new(Metrics::default()),
        outbox,
        turns: Turns::new(rollouts),
        blocked: Blocked::default(),
        replica: Replica { pod: "adieu-0".into(), rollouts, leads, paused },
    }
}
