//! Sends HTTP requests at a constant rate, and records the outcome of each.
//!
//! The load is open-loop: a slow answer doesn't delay the next request, and latency counts from when a request was
//! due. If the limit of requests in flight is reached, a request is not sent, and is reported as such.

mod client;
pub(crate) mod connector;
mod options;
mod resolver;
mod tls;

pub(crate) use client::Template;
pub use client::{Answer, Client, Error};
pub use options::{Options, Probes};

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::verify::{Cause, Outcome, Sample, Schedule};

/// Sends requests until `stop`, then waits for the outstanding answers. `sink` gets each request when it ends, in
/// times from `origin`.
pub async fn run(
    client: &Client,
    options: &Options,
    origin: Instant,
    mut sink: impl FnMut(Sample),
    stop: CancellationToken,
) {
    let schedule = Schedule { rate: options.rate };
    let started = origin.elapsed();
    let mut requests = JoinSet::new();
    for number in 0.. {
        let due = started + schedule.due(number);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return finish(requests, sink).await,
                Some(ended) = requests.join_next() => sink(ended.unwrap_or_else(|_| failed(due))),
                () = sleep_until(origin + due) => break,
            }
        }
        if requests.len() >= options.max_in_flight.get() {
            sink(Sample { outcome: Outcome::NotSent, ..failed(due) });
            continue;
        }
        let request = client.request();
        requests.spawn(async move {
            let answer = request.await;
            answer.sample(due, origin.elapsed().saturating_sub(due))
        });
    }
}

async fn finish(mut requests: JoinSet<Sample>, mut sink: impl FnMut(Sample)) {
    while let Some(ended) = requests.join_next().await {
        sink(ended.unwrap_or_else(|_| failed(Duration::ZERO)));
    }
}

/// A request whose task panicked counts as lost.
fn failed(due: Duration) -> Sample {
    Sample {
        due,
        took: Duration::ZERO,
        connecting: Duration::ZERO,
        outcome: Outcome::Lost(Cause::Other),
        pod: None,
        peer: None,
    }
}

#[cfg(test)]
mod tests;
