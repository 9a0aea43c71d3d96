//! Holds connections open, and opens others when they end.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    clock::{Clock, INTERVAL},
    http1, http2,
    target::Target,
    websocket,
};
use crate::verify::{ConnectionKind, HeldConnection, Observation};

/// Connections of each kind, so that most pods of a small workload have some.
const CONNECTIONS: usize = 8;
/// The time until another connection is opened if one couldn't be.
const RETRY: Duration = Duration::from_secs(1);

/// Holds connections of the target's kinds open until `stop`. `sink` gets each when it ends, and those that are still
/// open at `stop`, in times from `origin`.
pub async fn hold(
    target: &Arc<Target>,
    origin: Instant,
    mut sink: impl FnMut(Observation),
    stop: CancellationToken,
) {
    let (sender, mut observations) = unbounded_channel();
    // Its tasks end with it.
    let mut workers = JoinSet::new();
    for kind in target.kinds() {
        for _ in 0..CONNECTIONS {
            let clock = Clock { origin, stop: stop.clone() };
            workers.spawn(hold_one_by_one(target.clone(), kind, clock, sender.clone()));
        }
    }
    drop(sender);
    while let Some(observation) = observations.recv().await {
        sink(observation);
    }
    stop.cancelled().await;
}

async fn hold_one_by_one(
    target: Arc<Target>,
    kind: ConnectionKind,
    clock: Clock,
    sink: UnboundedSender<Observation>,
) {
    let mut has_failed = false;
    while !clock.stop.is_cancelled() {
        let pause = match hold_one(&target, kind, &clock).await {
            Ok(held) => {
                // The receiver outlives the workers.
                let _ = sink.send(Observation::Held(held));
                INTERVAL
            }
            Err(reason) => {
                if !has_failed && !clock.stop.is_cancelled() {
                    let _ = sink.send(Observation::NotOpened { kind, reason });
                }
                has_failed = true;
                RETRY
            }
        };
        clock.stop.run_until_cancelled(sleep(pause)).await;
    }
}

async fn hold_one(target: &Target, kind: ConnectionKind, clock: &Clock) -> Result<HeldConnection, String> {
    match kind {
        ConnectionKind::Busy => http1::hold(target, true, clock).await,
        ConnectionKind::Idle => http1::hold(target, false, clock).await,
        ConnectionKind::Http2 => http2::hold(target, clock).await,
        ConnectionKind::Grpc => http2::hold_stream(target, clock).await,
        ConnectionKind::WebSocket => websocket::hold(target, clock).await,
    }
}
