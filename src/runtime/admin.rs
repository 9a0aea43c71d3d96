//! `/healthz`, `/readyz` and `/metrics`, on a separate port without TLS.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tower_http::timeout::TimeoutLayer;

use super::{
    metrics::{Component, Metrics, Port},
    panics,
    readiness::Readiness,
    server::{Limits, Server, serve_connection},
};

/// The content type of OpenMetrics text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The time limit for a request.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The limits of the port. Kubelets and monitoring open a few connections.
const LIMITS: Limits = Limits {
    connections: 64,
    connections_per_peer: 16,
    head: Duration::from_secs(10),
    age: Duration::from_mins(1),
    drain: Duration::from_millis(500),
};

/// Serves until `shutdown` completes, and then finishes open requests for half a second at most.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    serve_on(listener, router(readiness, metrics.clone()), metrics, shutdown).await;
}

async fn serve_on(
    listener: TcpListener,
    router: Router,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let router = router
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIME_LIMIT))
        .layer(panics::layer(Component::Admin, metrics.clone()));
    let serve = move |stream, info, closing| serve_connection(stream, info, router.clone(), LIMITS, closing);
    let mut server = Server::new(listener, Port::Admin, LIMITS, metrics, serve);
    tokio::select! {
        () = server.accept() => {}
        () = shutdown => {}
    }
    server.close().await;
}

fn router(readiness: Readiness, metrics: Arc<Metrics>) -> Router {
    let ready = move || async move {
        match readiness.pending_checks().as_slice() {
            [] => (StatusCode::OK, "ok\n".to_owned()),
            waiting => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", waiting.join(", "))),
        }
    };
    let metrics = move || async move {
        match metrics.render() {
            Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

#[cfg(test)]
mod tests {
    use std::{future::pending, net::SocketAddr};

    use axum::{body::Body, http::Request};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        time::{Instant, timeout},
    };
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt as _;

    use super::{super::listen::listen, *};

    async fn get_status(router: &Router, path: &str) -> StatusCode {
        let request = Request::get(path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn readiness_follows_its_gates_and_health_does_not() {
        let readiness = Readiness::default();
        let check = readiness.check("caches");
        let router = router(readiness.clone(), Arc::default());
        assert_eq!(get_status(&router, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        check.pass();
        assert_eq!(get_status(&router, "/readyz").await, StatusCode::OK);
        readiness.shut_down();
        assert_eq!(get_status(&router, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get_status(&router, "/healthz").await, StatusCode::OK);
        assert_eq!(get_status(&router, "/metrics").await, StatusCode::OK);
    }

    /// Starts the port with this router; returns its address, the token that stops it, and its task.
    async fn start(
        router: Router,
        metrics: Arc<Metrics>,
    ) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serving = serve_on(listener, router, metrics, shutdown.clone().cancelled_owned());
        (address, shutdown, tokio::spawn(serving))
    }

    async fn ask(address: SocketAddr, request: &str) -> (TcpStream, String) {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let length = client.read(&mut answer).await.unwrap();
        (client, String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    const GET: &str = "GET /healthz HTTP/1.1\r\nhost: adieu\r\n\r\n";

    #[tokio::test]
    async fn half_a_request_at_the_admin_port_does_not_delay_the_exit() {
        let metrics: Arc<Metrics> = Arc::default();
        let stuck = Router::new().route("/stuck", get(pending::<()>));
        let router = router(Readiness::default(), metrics.clone()).merge(stuck);
        let (address, shutdown, serving) = start(router, metrics).await;
        let (mut idle, answer) = ask(address, GET).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET /met").await.unwrap();
        let mut open = TcpStream::connect(address).await.unwrap();
        open.write_all(b"GET /stuck HTTP/1.1\r\nhost: adieu\r\n\r\n").await.unwrap();
        // Once a later request is answered, the earlier connections have been accepted.
        ask(address, GET).await;
        let started = Instant::now();
        shutdown.cancel();
        timeout(Duration::from_secs(5), serving).await.expect("an end").unwrap();
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        assert_eq!(idle.read(&mut [0]).await.unwrap_or_default(), 0);
    }

    #[tokio::test]
    async fn a_request_at_the_admin_port_times_out() {
        let stuck = Router::new().route("/stuck", get(pending::<()>));
        let (address, ..) = start(stuck, Arc::default()).await;
        let answer =
            tokio::spawn(async move { ask(address, "GET /stuck HTTP/1.1\r\nhost: adieu\r\n\r\n").await.1 });
        let answer = timeout(2 * TIME_LIMIT, answer).await.expect("an answer").unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }

    #[tokio::test]
    async fn a_panic_at_the_admin_port_is_answered_and_counted() {
        async fn panics() {
            panic!("on purpose");
        }
        let metrics: Arc<Metrics> = Arc::default();
        let router = router(Readiness::default(), metrics.clone()).route("/panic", get(panics));
        let (address, ..) = start(router, metrics.clone()).await;
        let (_client, answer) = ask(address, "GET /panic HTTP/1.1\r\nhost: adieu\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(metrics.render().unwrap().contains("adieu_panics_total{component=\"admin\"} 1"));
        assert!(ask(address, GET).await.1.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn one_peer_gets_a_few_connections_to_the_admin_port() {
        let metrics: Arc<Metrics> = Arc::default();
        let (address, ..) = start(router(Readiness::default(), metrics.clone()), metrics.clone()).await;
        let mut open = Vec::new();
        for _ in 0..LIMITS.connections_per_peer {
            open.push(ask(address, GET).await);
        }
        // It replaces the one with the oldest success.
        open.push(ask(address, GET).await);
        assert!(open.iter().all(|(_, answer)| answer.starts_with("HTTP/1.1 200 ")));
        assert_eq!(open[0].0.read(&mut [0]).await.unwrap_or_default(), 0);
        assert!(metrics.render().unwrap().contains("adieu_rejected_connections_total{port=\"admin\"} 1"));
    }
}
