//! The load that tests send to Services: that of `adieu verify`, summed up.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use adieu::{
    load::{self, Answer, Client, Options},
    verify::{Cause, Outcome as Became, Sample},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Requests that are being sent.
#[derive(Clone, Debug, Default)]
pub struct Load {
    sent: Arc<AtomicU64>,
    stop: CancellationToken,
}

/// What became of them.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub requests: u64,
    pub lost: u64,
    pub causes: BTreeMap<String, u64>,
    pub losses: Vec<Sample>,
}

impl Load {
    /// Ends it; what was sent is still waited for.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// How many requests were answered or lost so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends `rate` requests a second to `address` until it is stopped.
    pub async fn run(&self, address: SocketAddr, rate: u32) -> Outcome {
        let options = Options { rate: rate.try_into().unwrap(), ..to(address) };
        let mut outcome = Outcome::default();
        let sink = |sample: Sample| {
            self.sent.fetch_add(1, Ordering::Relaxed);
            outcome.requests += 1;
            if let Some(cause) = sample.loss() {
                outcome.lost += 1;
                *outcome.causes.entry(cause.to_string()).or_default() += 1;
                outcome.losses.push(sample);
            }
        };
        let client = Client::new(&options).unwrap();
        load::run(&client, &options, Instant::now(), sink, self.stop.clone()).await;
        outcome
    }
}

/// Sends one request; an error says why it was lost.
pub async fn request(address: SocketAddr) -> Result<(), Cause> {
    match Client::new(&to(address)).unwrap().request().await.outcome {
        Became::Lost(cause) => Err(cause),
        Became::Answered(_) | Became::NotSent => Ok(()),
    }
}

/// Sends one request for `path`, whose answer may take so long.
pub async fn get(address: SocketAddr, path: &str, timeout: Duration) -> Answer {
    let options = Options { timeout, ..Options::to(format!("http://{address}{path}")) };
    Client::new(&options).unwrap().request().await
}

fn to(address: SocketAddr) -> Options {
    Options::to(format!("http://{address}/"))
}
