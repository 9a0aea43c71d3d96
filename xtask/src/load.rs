//! A load at a constant rate, every request on a connection of its own.
//!
//! The rate does not follow the answers: a request is sent when it is due, however long others take, so
//! that a stall is seen by as many requests as it concerns.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a load runs, whatever is waited for.
const LIMIT: Duration = Duration::from_mins(3);

/// A load that is being sent.
#[derive(Clone, Debug, Default)]
pub struct Load {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

/// What became of the requests.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Requests sent.
    pub requests: u64,
    /// Requests that got no answer, or a server's error.
    pub lost: u64,
    /// The lost ones by cause.
    pub causes: BTreeMap<&'static str, u64>,
    /// The lost ones, in the order in which they were due.
    pub losses: Vec<Loss>,
    /// How long the answered ones took.
    #[serde(rename = "latencySeconds")]
    pub latency: Latency,
}

/// A lost request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// When it was due, in seconds from the start of the load.
    pub at_seconds: f64,
    /// Refused, reset and the like.
    pub cause: &'static str,
}

/// Seconds from when a request was due to its answer's last byte.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Half of the requests took no longer.
    pub p50: f64,
    /// 99 in 100 took no longer.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Load {
    /// Ends the load; what was sent is still waited for.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// How many requests have been sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends `rate` requests a second to `address`, at least `minimum` of them, until it is stopped.
    pub async fn run(&self, address: SocketAddr, rate: u32, minimum: u64) -> Outcome {
        let started = Instant::now();
        let period = Duration::from_secs(1) / rate;
        let mut requests = JoinSet::new();
        let mut results = Vec::new();
        for number in 0.. {
            let offset = period * number;
            let enough = u64::from(number) >= minimum;
            if offset > LIMIT || (enough && self.stop.load(Ordering::Relaxed)) {
                break;
            }
            sleep_until((started + offset).into()).await;
            self.sent.fetch_add(1, Ordering::Relaxed);
            requests.spawn(async move { (offset, request(address).await, started.elapsed()) });
            while let Some(result) = requests.try_join_next() {
                results.push(result);
            }
        }
        while let Some(result) = requests.join_next().await {
            results.push(result);
        }
        // A request that panicked would be one of ours, and is no answer.
        let results = results.into_iter().map(|result| {
            result.unwrap_or((Duration::ZERO, Err("the load generator failed"), Duration::ZERO))
        });
        Outcome::of(results.collect())
    }
}

impl Outcome {
    fn of(mut results: Vec<(Duration, Result<(), &'static str>, Duration)>) -> Self {
        results.sort_by_key(|(due, _, _)| *due);
        let mut outcome = Self::default();
        let mut latencies = Vec::new();
        for (due, result, done) in results {
            outcome.requests += 1;
            match result {
                Ok(()) => latencies.push((done.saturating_sub(due)).as_secs_f64()),
                Err(cause) => {
                    outcome.lost += 1;
                    *outcome.causes.entry(cause).or_default() += 1;
                    outcome.losses.push(Loss { at_seconds: due.as_secs_f64(), cause });
                }
            }
        }
        latencies.sort_by(f64::total_cmp);
        let quantile = |percent: usize| {
            let index = (latencies.len() * percent).div_ceil(100).saturating_sub(1);
            latencies.get(index).copied().unwrap_or_default()
        };
        outcome.latency = Latency { p50: quantile(50), p99: quantile(99), max: quantile(100) };
        outcome
    }
}

/// Sends one request; an error names the cause of the loss.
pub async fn request(address: SocketAddr) -> Result<(), &'static str> {
    get(address, "/", TIMEOUT).await
}

/// Asks for `path`, and waits for the answer for no longer than `limit`.
pub async fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<(), &'static str> {
    match timeout(limit, exchange(address, path)).await {
        Err(_) => Err("timed out"),
        Ok(Err(Failure::Connection(error))) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused",
            io::ErrorKind::ConnectionReset => "connection reset",
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no route to host",
            io::ErrorKind::TimedOut => "timed out",
            io::ErrorKind::UnexpectedEof => "connection closed before the answer",
            _ => "connection failed",
        }),
        Ok(Err(Failure::Http)) => Err("connection closed before the answer"),
        Ok(Ok(status)) if status.is_server_error() => Err("5xx"),
        Ok(Ok(_)) => Ok(()),
    }
}

enum Failure {
    Connection(io::Error),
    Http,
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(current) = source {
            if let Some(error) = current.downcast_ref::<io::Error>() {
                return Self::Connection(error.kind().into());
            }
            source = current.source();
        }
        Self::Http
    }
}

async fn exchange(address: SocketAddr, path: &str) -> Result<StatusCode, Failure> {
    let stream = TcpStream::connect(address).await.map_err(Failure::Connection)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| Failure::Http)?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        Ok::<_, Failure>(status)
    };
    // The connection is driven here, beside the request, and ends with it.
    let (answer, _) = tokio::join!(answer, connection);
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers every connection with `answer`, and closes it.
    async fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn answers_count_and_losses_have_a_cause() {
        let good = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(request(good).await, Ok(()));
        let broken = server("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(request(broken).await, Err("5xx"));
        let cut = server("HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\nok").await;
        assert_eq!(request(cut).await, Err("connection closed before the answer"));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(request(closed).await, Err("connection refused"));
    }

    #[tokio::test]
    async fn a_load_sends_at_least_what_was_asked_for() {
        let load = Load::default();
        load.stop();
        let address = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let outcome = load.run(address, 1000, 50).await;
        assert_eq!((outcome.requests, outcome.lost, load.sent()), (50, 0, 50));
        assert!(outcome.latency.p50 > 0.0 && outcome.latency.p50 <= outcome.latency.max);
    }

    #[test]
    fn losses_are_listed_in_the_order_in_which_they_were_due() {
        let ms = Duration::from_millis;
        let outcome = Outcome::of(vec![
            (ms(30), Err("timed out"), ms(40)),
            (ms(10), Err("5xx"), ms(50)),
            (ms(20), Ok(()), ms(25)),
        ]);
        assert_eq!((outcome.requests, outcome.lost), (3, 2));
        assert_eq!(outcome.losses.iter().map(|loss| loss.cause).collect::<Vec<_>>(), ["5xx", "timed out"]);
        assert!((outcome.latency.max - 0.005).abs() < 1e-9);
    }
}
