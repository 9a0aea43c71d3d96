//! A load at a constant rate over HTTP, and what became of each of its requests.
//!
//! It is open: a request is sent when it is due, however long others take, and its time counts from when it
//! was due. Only where as many as may be wait for their answers is one not sent, and that is told.

mod client;
mod resolver;
mod tls;

pub use client::{Answer, Client, Error};

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::verify::{Cause, Outcome, Sample, Schedule};

/// What a load consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Where requests go; with http: or https:.
    pub url: String,
    /// Requests per second.
    pub rate: NonZeroU32,
    /// Whether connections are used for more than one request.
    pub keep_alive: bool,
    /// HTTP/2: by prior knowledge where the URL says http:, by ALPN where it says https:.
    pub http2: bool,
    /// GET and the like.
    pub method: String,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// The body of every request.
    pub data: Option<String>,
    /// How long an answer may take, from when the request was sent.
    pub timeout: Duration,
    /// Whether any certificate will do.
    pub insecure: bool,
    /// The authorities that certificates may be from, PEM; the machine's own where absent.
    pub authorities: Option<String>,
    /// How many requests may wait for their answers.
    pub max_in_flight: NonZeroUsize,
    /// The header of answers that names the pod.
    pub pod_header: Option<String>,
}

impl Options {
    /// A hundred GET requests a second, each on a connection of its own.
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            rate: NonZeroU32::MIN.saturating_add(99),
            keep_alive: false,
            http2: false,
            method: "GET".to_owned(),
            headers: vec![],
            data: None,
            timeout: Duration::from_secs(10),
            insecure: false,
            authorities: None,
            max_in_flight: NonZeroUsize::MIN.saturating_add(1999),
            pod_header: None,
        }
    }
}

/// Sends requests until `stop`, and waits for the answers of those that were sent. Each is handed to `sink`
/// when it is over, in times from `origin`.
pub async fn run(
    client: &Client,
    options: &Options,
    origin: Instant,
    mut sink: impl FnMut(Sample),
    stop: CancellationToken,
) {
    let schedule = Schedule { rate: options.rate };
    let begun = origin.elapsed();
    let mut requests = JoinSet::new();
    for number in 0.. {
        let due = begun + schedule.due(number);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return finish(requests, sink).await,
                Some(over) = requests.join_next() => sink(over.unwrap_or_else(|_| failed(due))),
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
    while let Some(over) = requests.join_next().await {
        sink(over.unwrap_or_else(|_| failed(Duration::ZERO)));
    }
}

/// A request that panicked would be a fault of this program, and is no answer.
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
