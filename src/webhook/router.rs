//! The webhook's HTTP side: limits, answers to bad input, logs and metrics.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use tower_http::timeout::TimeoutLayer;
use tracing::{Instrument as _, field::Empty, info_span};

use super::{
    body::{Room, Unread},
    review::{BadRequest, review},
};
use crate::runtime::{
    caches::Caches,
    metrics::{AdmissionLabels, AdmissionResult, KindLabel, Metrics},
};

/// Where the API server sends its reviews.
pub const PATH: &str = "/mutate";

/// How long a request may take: an API server waits no longer for a webhook (`timeoutSeconds` is at most 30).
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// How long a review waits for the caches of a replica that has just started: less than the API server waits for
/// the review (`timeoutSeconds`, 5 as a rule).
const SYNC_LIMIT: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Context {
    caches: Caches,
    metrics: Arc<Metrics>,
    room: Room,
}

/// The webhook's routes.
pub fn router(caches: Caches, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route(PATH, post(handle))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIME_LIMIT))
        .with_state(Context { caches, metrics, room: Room::default() })
}

async fn handle(State(context): State<Context>, body: Body) -> Response {
    let span = info_span!(
        "admission",
        uid = Empty,
        kind = Empty,
        namespace = Empty,
        name = Empty,
        operation = Empty,
        allowed = Empty,
        mutated = Empty
    );
    async move {
        let body = match context.room.read(body).await {
            Ok(body) => body,
            Err(unread) => {
                if matches!(unread, Unread::TooLarge) {
                    context.metrics.admission_bad_requests.inc();
                }
                return refuse(unread.status(), &unread.to_string());
            }
        };
        // From the last byte on.
        let started = Instant::now();
        // Without policies, adieu would take back what they had injected: the failurePolicy decides.
        if !context.caches.synced_within(SYNC_LIMIT).await {
            let reason = "this replica has just started and doesn't know the policies yet";
            return refuse(StatusCode::SERVICE_UNAVAILABLE, reason);
        }
        match review(&body.bytes, &context.caches).await {
            Ok(reviewed) => {
                let response = &reviewed.answer.response;
                let (allowed, mutated) = (response.allowed, response.patch.is_some());
                let result = match (allowed, mutated) {
                    (false, _) => AdmissionResult::Refused,
                    (true, true) => AdmissionResult::Patched,
                    (true, false) => AdmissionResult::Unchanged,
                };
                let labels = AdmissionLabels { kind: KindLabel(reviewed.subject.as_str()), result };
                context.metrics.admission_requests.get_or_create(&labels).inc();
                let span = tracing::Span::current();
                span.record("allowed", allowed);
                span.record("mutated", mutated);
                context.metrics.admission_duration.observe(started.elapsed().as_secs_f64());
                tracing::debug!("reviewed");
                Json(reviewed.answer).into_response()
            }
            Err(error) => {
                context.metrics.admission_bad_requests.inc();
                let status = match error {
                    BadRequest::NotReviewed { .. } => StatusCode::UNPROCESSABLE_ENTITY,
                    _ => StatusCode::BAD_REQUEST,
                };
                refuse(status, &error.to_string())
            }
        }
    }
    .instrument(span)
    .await
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    tracing::warn!(status = status.as_u16(), reason, "not reviewed");
    (status, format!("{reason}\n")).into_response()
}

#[cfg(test)]
#[path = "recorded_tests.rs"]
mod recorded;
#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
