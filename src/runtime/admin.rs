//! `/healthz`, `/readyz` and `/metrics`, on a port of their own without TLS.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};

use super::{listen::listen, metrics::Metrics, readiness::Readiness};

/// The content type of OpenMetrics text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until `shutdown` is done.
///
/// # Errors
/// Where the address can't be bound.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = listen(address).await?;
    axum::serve(listener, router(readiness, metrics)).with_graceful_shutdown(shutdown).await
}

fn router(readiness: Readiness, metrics: Arc<Metrics>) -> Router {
    let ready = move || async move {
        match readiness.waiting_for().as_slice() {
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
    use axum::{body::Body, http::Request};
    use tower::ServiceExt as _;

    use super::*;

    async fn get_status(router: &Router, path: &str) -> StatusCode {
        let request = Request::get(path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn readiness_follows_its_gates_and_health_does_not() {
        let readiness = Readiness::default();
        let gate = readiness.gate("caches");
        let router = router(readiness.clone(), Arc::default());
        assert_eq!(get_status(&router, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        gate.open();
        assert_eq!(get_status(&router, "/readyz").await, StatusCode::OK);
        readiness.shut_down();
        assert_eq!(get_status(&router, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get_status(&router, "/healthz").await, StatusCode::OK);
        assert_eq!(get_status(&router, "/metrics").await, StatusCode::OK);
    }
}
