//! The HTTP side of the webhook: limits, error responses, logs and metrics.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use adieu_review::BadRequest;
use axum::{
    Extension, Router,
    body::Body,
    extract::{RawQuery, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use tower_http::timeout::TimeoutLayer;
use tracing::{Instrument as _, field::Empty, info_span};

use super::{
    body::{BODY_LIMIT, BodyBudget, BodyError, BufferedBody, OversizedBody, RESPONSE_LIMIT, ReceivedBody},
    deadline::Deadline,
    error::ReviewError,
    parse_budget::ParseBudget,
    review::{NO_PEER, ReviewOutcome, allow_oversized_body, record, review_within},
};
use crate::{
    index::caches::Caches,
    runtime::{
        logs::LineLimit,
        metrics::{
            AdmissionLabels, AdmissionResult, Component, KindLabel, Metrics, Overload, OverloadLabels,
        },
        panics,
        server::ConnectionInfo,
    },
};

/// The path of reviews.
pub const PATH: &str = "/mutate";

/// The time limit of a request: the largest `timeoutSeconds` of a webhook is 30.
const TIME_LIMIT: Duration = Duration::from_secs(30);

struct Context {
    caches: Caches,
    metrics: Arc<Metrics>,
    bodies: BodyBudget,
    parse_budget: ParseBudget,
    timeout: Duration,
    lines: LineLimit,
}

/// The webhook's routes. `timeout` is the webhook's `timeoutSeconds`, for requests without the parameter.
pub fn router(caches: Caches, metrics: Arc<Metrics>, timeout: Duration) -> Router {
    let context = Context {
        caches,
        metrics: metrics.clone(),
        bodies: BodyBudget::default(),
        parse_budget: ParseBudget::default(),
        timeout,
        lines: LineLimit::default(),
    };
    with_limits(Router::new().route(PATH, post(handle)).with_state(Arc::new(context)), metrics)
}

/// Adds a time limit, and a response if a handler panics.
fn with_limits(router: Router, metrics: Arc<Metrics>) -> Router {
    router
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIME_LIMIT))
        .layer(panics::layer(Component::Webhook, metrics))
}

/// Why a request isn't reviewed.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Review(#[from] ReviewError),
}

async fn handle(
    State(context): State<Arc<Context>>,
    connection: Option<Extension<ConnectionInfo>>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let peer = connection.map_or(NO_PEER, |Extension(connection)| connection.address);
    let deadline = Deadline::of_query(query.as_deref(), context.timeout);
    let span = info_span!(
        "admission",
        uid = Empty,
        kind = Empty,
        namespace = Empty,
        name = Empty,
        operation = Empty
    );
    async move {
        let response = async {
            // The body holds its share of the budget until the response.
            let (outcome, duration, _body) = receive_and_review(&context, body, peer, deadline).await?;
            respond(&context, outcome, duration, peer, deadline).await
        };
        response.await.unwrap_or_else(|error| reject(&context, &error))
    }
    .instrument(span)
    .await
}

/// Returns the outcome of the review, its duration without receiving the body, and the body.
async fn receive_and_review(
    context: &Context,
    body: Body,
    peer: IpAddr,
    deadline: Deadline,
) -> Result<(ReviewOutcome, Duration, Option<BufferedBody>), RequestError> {
    match context.bodies.receive(body, peer, deadline).await? {
        ReceivedBody::Buffered(body) => {
            let started = Instant::now();
            let outcome =
                review_within(&body.bytes, &context.caches, &context.parse_budget, peer, deadline).await?;
            Ok((outcome, started.elapsed(), Some(body)))
        }
        ReceivedBody::Oversized(body) => Ok((oversized(body, deadline).await?, Duration::ZERO, None)),
    }
}

/// Allows a review whose body is too large, and rejects other bodies.
async fn oversized(body: OversizedBody, deadline: Deadline) -> Result<ReviewOutcome, RequestError> {
    let OversizedBody { header, rest } = body;
    let header = header.map_err(ReviewError::from)?;
    rest.discard(deadline).await?;
    Ok(allow_oversized_body(header, BODY_LIMIT))
}

async fn respond(
    context: &Context,
    mut outcome: ReviewOutcome,
    duration: Duration,
    peer: IpAddr,
    deadline: Deadline,
) -> Result<Response, RequestError> {
    let mut text = outcome.encode();
    if text.len() > RESPONSE_LIMIT {
        outcome = outcome.without_patch(RESPONSE_LIMIT);
        text = outcome.encode();
    }
    let decision = &outcome.decision;
    if decision.is_oversized
        && let Some(dropped) = context.lines.allow()
    {
        record(&outcome.header);
        tracing::warn!(warnings = ?decision.warnings, dropped, "too large for injection");
    }
    let (allowed, mutated) = (decision.denial.is_none(), decision.patch.is_some());
    let result = match (allowed, mutated) {
        _ if decision.is_oversized => AdmissionResult::TooLarge,
        (false, _) => AdmissionResult::Denied,
        (true, true) => AdmissionResult::Patched,
        (true, false) => AdmissionResult::Unchanged,
    };
    let labels = AdmissionLabels { kind: KindLabel(outcome.header.kind.as_str()), result };
    drop(outcome);
    let text = context.bodies.reserve_response(text, peer, deadline).await?;
    context.metrics.admission_requests.get_or_create(&labels).inc();
    context.metrics.admission_duration.observe(duration.as_secs_f64());
    tracing::debug!(allowed, mutated, "reviewed");
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

impl RequestError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Body(error) => error.status(),
            Self::Review(ReviewError::BadRequest(BadRequest::NotReviewed { .. })) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::Review(ReviewError::BadRequest(_)) => StatusCode::BAD_REQUEST,
            Self::Review(ReviewError::NotSynced | ReviewError::NoMemory) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether no API server sends such a request.
    fn is_bad(&self) -> bool {
        matches!(
            self,
            Self::Body(BodyError::TooLarge | BodyError::NoLength) | Self::Review(ReviewError::BadRequest(_))
        )
    }

    fn overload(&self) -> Option<Overload> {
        match self {
            Self::Body(BodyError::NoBudget) | Self::Review(ReviewError::NoMemory) => Some(Overload::Memory),
            Self::Body(BodyError::TooSlow) => Some(Overload::SlowBody),
            _ => None,
        }
    }
}

fn reject(context: &Context, error: &RequestError) -> Response {
    let (status, reason) = (error.status(), error.to_string());
    if error.is_bad() {
        context.metrics.admission_bad_requests.inc();
    }
    if let Some(reason) = error.overload() {
        context.metrics.overload.get_or_create(&OverloadLabels { reason }).inc();
    }
    if let Some(dropped) = context.lines.allow() {
        tracing::warn!(status = status.as_u16(), reason, dropped, "not reviewed");
    }
    (status, format!("{reason}\n")).into_response()
}

#[cfg(test)]
#[path = "recorded_tests.rs"]
mod recorded;
#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
