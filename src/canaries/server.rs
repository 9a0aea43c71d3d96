//! The canary: a server that names its pod in each response, ignores SIGTERM and continues to serve until it is killed.

use std::{
    future::pending,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::Uri,
    response::IntoResponse,
    routing::get,
};
use k8s_openapi::jiff::Timestamp;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

use crate::calibration::{LoggedArrival, MARK_HEADER, Mark, Stream};

/// The path of the readiness probe.
pub const READY: &str = "/ready";
/// How long a response takes. So several kept connections are in use at a time, and a connection that is dropped usually
/// has a request in flight.
const RESPONSE_TIME: Duration = Duration::from_millis(200);
/// The limit of arrivals in the log.
const MAX_LOGGED: u64 = 100_000;

/// Receives each arrival after SIGTERM.
type Log = Box<dyn Fn(&LoggedArrival) + Send + Sync>;

struct Canary {
    pod: String,
    terminating_since: OnceLock<Instant>,
    logged: AtomicU64,
    log: Log,
}

/// Serves until the process is killed. `terminated` completes on SIGTERM; `log` receives the arrivals after that.
///
/// # Errors
/// The server fails.
pub async fn serve(
    listener: TcpListener,
    pod: String,
    terminated: impl Future<Output = ()>,
    log: impl Fn(&LoggedArrival) + Send + Sync + 'static,
) -> io::Result<()> {
    let canary = Arc::new(Canary {
        pod,
        terminating_since: OnceLock::new(),
        logged: AtomicU64::new(0),
        log: Box::new(log),
    });
    let router = Router::new().route(READY, get(|| async {})).fallback(answer).with_state(canary.clone());
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let terminate = async {
        terminated.await;
        canary.terminating_since.get_or_init(Instant::now);
        pending::<()>().await;
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
    [(MARK_HEADER, mark.to_string())]
}

impl Canary {
    /// Records that a request arrives.
    fn arrival(&self, path: &str, from: IpAddr) -> Mark {
        let terminating_for = self.terminating_since.get().map(Instant::elapsed);
        if let (Some(time), Some(stream)) = (terminating_for, Stream::of_path(path))
            && self.logged.fetch_add(1, Ordering::Relaxed) < MAX_LOGGED
        {
            (self.log)(&LoggedArrival {
                stream,
                after_millis: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
                time: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
                from,
            });
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
    use crate::{
        calibration::Connections,
        load::{Client, Options},
    };

    const LIMIT: Duration = Duration::from_secs(20);

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
            serve(listener, "canary-1".to_owned(), sigterm.cancelled(), log).await
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
}
