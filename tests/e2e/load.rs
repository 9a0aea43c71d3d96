//! The load on Services in tests: that of `adieu verify`, with a summary.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use adieu::{
    load::{self, Answer, Client, Options},
    verify::Sample,
};
use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::support::eventually;

/// Rounds of answers, and concurrent answers, after which a Service counts as open on every pod.
const ROUNDS: usize = 5;
const ANSWERS: usize = 20;
/// The timeout of a request, which waits for a deleted pod if it takes longer.
const LIMIT: Duration = Duration::from_secs(10);
/// Source ports below those of other clients and of Services.
const PORTS: Range<u16> = 10_000..30_000;

/// A running load.
#[derive(Clone, Debug, Default)]
pub struct Load {
    sent: Arc<AtomicU64>,
    stop: CancellationToken,
}

/// Its outcome.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub requests: u64,
    pub lost: u64,
    pub causes: BTreeMap<String, u64>,
    pub losses: Vec<Sample>,
}

impl Load {
    /// Stops it, and waits for outstanding answers.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// How many requests were answered or lost so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends `rate` requests per second to `address` until it is stopped.
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

/// Sends one request for `path`, with this timeout.
pub async fn get(address: SocketAddr, path: &str, timeout: Duration) -> Answer {
    let options = Options { timeout, ..Options::to(format!("http://{address}{path}")) };
    Client::new(&options).unwrap().request().await
}

/// Waits until many requests in a row to `address` are answered, so that kube-proxy knows the Service, and has no
/// deleted pod as an endpoint.
///
/// They come from ports that no other client uses. Connections that are rejected before kube-proxy knows the Service
/// stay untranslated in the node's connection tracking for up to two minutes, and affect later ones from the same
/// port: a connection in the state CLOSE is reused by a SYN unless the client reset it.
pub async fn open(address: SocketAddr) {
    eventually(&format!("answers at {address}"), || async {
        for _ in 0..ROUNDS {
            let answered = join_all((0..ANSWERS).map(|_| timeout(LIMIT, answers(address)))).await;
            if !answered.into_iter().all(|answered| matches!(answered, Ok(Ok(true)))) {
                return false;
            }
        }
        true
    })
    .await;
}

/// Whether a request gets the expected answer.
async fn answers(address: SocketAddr) -> io::Result<bool> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let port = PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::UNSPECIFIED, port).into())?;
    let mut stream = socket.connect(address).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

fn to(address: SocketAddr) -> Options {
    Options::to(format!("http://{address}/"))
}
