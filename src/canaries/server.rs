//! The canary: a server that names its pod in each response, ignores SIGTERM and continues to serve until its observation
//! is over.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{Uri, header::CONNECTION},
    response::IntoResponse,
    routing::get,
};
use k8s_openapi::jiff::Timestamp;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

use super::pacing::{CLOSING, has_served};
use crate::calibration::{Connections, LoggedArrival, MARK_HEADER, Mark, Stream};

/// The path of the readiness probe.
pub const READY: &str = "/ready";
/// How long a response takes. So several kept connections are in use at a time, and a connection that is dropped usually
/// has a request in flight.
const RESPONSE_TIME: Duration = Duration::from_millis(200);
/// The limit of arrivals in the log.
const MAX_LOGGED: u64 = 100_000;
/// The time without a request after which clients have closed their connections.
const UNUSED: Duration = Duration::from_secs(2);
/// The interval of checks.
const TICK: Duration = Duration::from_millis(100);

/// Receives each arrival after SIGTERM.
type Log = Box<dyn Fn(&LoggedArrival) + Send + Sync>;

struct Canary {
    pod: String,
    terminating_since: OnceLock<Instant>,
    /// Milliseconds from SIGTERM to the last arrival on new and on kept connections.
    last: [AtomicU64; 2],
    /// Whether clients are asked to close their connections.
    is_closing: AtomicBool,
    logged: AtomicU64,
    log: Log,
}

/// Serves until `terminated` completes, on SIGTERM, and then until its observation is over, which waits for a time of
/// `quiet` without a request. `log` receives the arrivals after SIGTERM.
///
/// # Errors
/// The server fails.
pub async fn serve(
    listener: TcpListener,
    pod: String,
    terminated: impl Future<Output = ()>,
    quiet: Duration,
    log: impl Fn(&LoggedArrival) + Send + Sync + 'static,
) -> io::Result<()> {
    let canary = Arc::new(Canary::new(pod, Box::new(log)));
    let router = Router::new().route(READY, get(|| async {})).fallback(answer).with_state(canary.clone());
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let terminate = async {
        terminated.await;
        canary.terminate(quiet).await;
    };
    tokio::select! {
        served = axum::serve(listener, service).into_future() => served,
        () = terminate => Ok(()),
    }
}

async fn answer(
    State(canary): State<Arc<Canary>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    uri: Uri,
) -> impl IntoResponse {
    let mark = canary.arrival(uri.path(), peer.ip().to_canonical());
    sleep(RESPONSE_TIME).await;
    let close = canary.is_closing.load(Ordering::Relaxed).then_some([(CONNECTION, "close")]);
    (close, [(MARK_HEADER, mark.to_string())])
}

impl Canary {
    fn new(pod: String, log: Log) -> Self {
        Self {
            pod,
            terminating_since: OnceLock::new(),
            last: [0, 0].map(AtomicU64::new),
            is_closing: AtomicBool::new(false),
            logged: AtomicU64::new(0),
            log,
        }
    }

    /// Waits until the observation is over, and then until clients have closed the connections that still lead here:
    /// requests on connections that end with the process are lost, during the observation of another canary.
    async fn terminate(&self, quiet: Duration) {
        let since = *self.terminating_since.get_or_init(Instant::now);
        while !has_served(since.elapsed(), self.last_arrivals(), quiet) {
            sleep(TICK).await;
        }
        self.is_closing.store(true, Ordering::Relaxed);
        let closing = Instant::now();
        let is_used = || {
            let [new, kept] = self.last_arrivals();
            since.elapsed() < new.max(kept) + UNUSED
        };
        while is_used() && closing.elapsed() < CLOSING {
            sleep(TICK).await;
        }
    }

    /// The times from SIGTERM to the last arrivals on new and on kept connections.
    fn last_arrivals(&self) -> [Duration; 2] {
        self.last.each_ref().map(|last| Duration::from_millis(last.load(Ordering::Relaxed)))
    }

    /// Records that a request arrives.
    fn arrival(&self, path: &str, from: IpAddr) -> Mark {
        let terminating_for = self.terminating_since.get().map(Instant::elapsed);
        if let (Some(time), Some(stream)) = (terminating_for, Stream::of_path(path)) {
            let after_millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let [new, kept] = &self.last;
            let last = if stream.connections == Connections::New { new } else { kept };
            last.fetch_max(after_millis, Ordering::Relaxed);
            if self.logged.fetch_add(1, Ordering::Relaxed) < MAX_LOGGED {
                let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
                (self.log)(&LoggedArrival { stream, after_millis, time, from });
            }
        }
        Mark { pod: self.pod.clone(), terminating_for }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::load::{Client, Options};

    const LIMIT: Duration = Duration::from_secs(20);
    const QUIET: Duration = Duration::from_secs(5);

    /// Sends a request, and returns the mark of its response.
    async fn mark(client: &Client) -> Mark {
        let answer = timeout(LIMIT, client.request()).await.unwrap();
        Mark::parse(&answer.pod.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_canary_serves_after_sigterm_and_logs_each_arrival() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (terminated, logged) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
        let log = logged.clone();
        let sigterm = terminated.clone();
        tokio::spawn(async move {
            let log = move |arrival: &LoggedArrival| log.lock().unwrap().push(arrival.clone());
            serve(listener, "canary-1".to_owned(), sigterm.cancelled(), LIMIT, log).await
        });
        let stream = Stream { way: 2, connections: Connections::Kept };
        let options = |path: &str| Options {
            keep_alive: true,
            pod_header: Some(MARK_HEADER.to_owned()),
            ..Options::to(format!("http://{address}/adieu-calibrate-x{path}"))
        };
        let client = Client::new(&options(&stream.path())).unwrap();
        let before = mark(&client).await;
        assert_eq!(before, Mark { pod: "canary-1".to_owned(), terminating_for: None });
        assert!(logged.lock().unwrap().is_empty());

        terminated.cancel();
        let first = timeout(LIMIT, async {
            loop {
                if let Some(time) = mark(&client).await.terminating_for {
                    return time;
                }
            }
        });
        let first = first.await.unwrap();
        let later = mark(&client).await.terminating_for.unwrap();
        assert!(later > first, "{later:?} {first:?}");
        // A request that isn't of a load.
        mark(&Client::new(&options("/other")).unwrap()).await;
        let logged = logged.lock().unwrap();
        assert_eq!(logged.len(), 2, "{logged:?}");
        assert!(logged.iter().all(|arrival| arrival.stream == stream && arrival.from.is_loopback()));
        assert!(logged[0].after_millis <= logged[1].after_millis);
    }

    /// Requests on new and on kept connections until these times in seconds. On kept ones they end earlier if clients are
    /// asked to close them.
    async fn send(canary: &Canary, [new, kept]: [u64; 2]) {
        let started = Instant::now();
        loop {
            sleep(TICK / 2).await;
            let seconds = started.elapsed().as_secs();
            if seconds < new {
                canary.arrival("/0/new", [10, 0, 0, 1].into());
            }
            if seconds < kept && !canary.is_closing.load(Ordering::Relaxed) {
                canary.arrival("/0/kept", [10, 0, 0, 1].into());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_canary_ends_when_its_observation_is_over_and_connections_are_closed() {
        for (what, until, expected) in [
            ("no request", [0, 0], 15),
            ("new connections", [3, 0], 18),
            ("kept ones, which end", [3, 8], 23),
            // 3 s, 15 s and 10 s, and 2 s for clients to close them.
            ("kept ones, which do not end", [3, u64::MAX], 30),
        ] {
            let canary = Canary::new("canary-1".to_owned(), Box::new(|_| ()));
            let started = Instant::now();
            tokio::select! {
                () = canary.terminate(QUIET) => {}
                () = send(&canary, until) => {}
            }
            let seconds = started.elapsed().as_secs();
            assert!((expected - 1..=expected).contains(&seconds), "{what}: {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_closing_canary_asks_clients_to_close_their_connections() {
        let canary = Arc::new(Canary::new("canary-1".to_owned(), Box::new(|_| ())));
        for (is_closing, expected) in [(false, None), (true, Some("close"))] {
            canary.is_closing.store(is_closing, Ordering::Relaxed);
            let peer = ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 1000)));
            let response = answer(State(canary.clone()), peer, Uri::from_static("/0/kept")).await;
            let headers = response.into_response().headers().clone();
            assert_eq!(headers.get(CONNECTION).map(|value| value.to_str().unwrap()), expected);
            assert!(headers.contains_key(MARK_HEADER));
        }
    }
}
