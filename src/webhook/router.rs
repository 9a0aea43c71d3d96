//! The webhook's HTTP side: limits, answers to bad input, logs and metrics.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

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
    body::{ANSWER_LIMIT, BODY_LIMIT, BodyBudget, BodyError, BufferedBody, OversizedBody, ReceivedBody},
    deadline::Deadline,
    envelope::Head,
    review::{BadRequest, ReviewError, Reviewed, let_oversized_through, review_within},
    tree::{TreeBudget, without_object},
};
use crate::{
    index::caches::Caches,
    runtime::{
        logs::LineLimit,
        metrics::{
            AdmissionLabels, AdmissionResult, Component, KindLabel, Metrics, Overload, OverloadLabels,
        },
        panics,
        server::Peer,
    },
};

/// Where the API server sends its reviews.
pub const PATH: &str = "/mutate";

/// How long a request may take: an API server waits no longer for a webhook (`timeoutSeconds` is at most 30).
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Where a request seems to come from that came over no connection, in tests.
const NO_PEER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

struct Context {
    caches: Caches,
    metrics: Arc<Metrics>,
    bodies: BodyBudget,
    trees: TreeBudget,
    timeout: Duration,
    lines: LineLimit,
}

/// The webhook's routes. `timeout` is the webhook's `timeoutSeconds`, for requests that don't name it.
pub fn router(caches: Caches, metrics: Arc<Metrics>, timeout: Duration) -> Router {
    let context = Context {
        caches,
        metrics: metrics.clone(),
        bodies: BodyBudget::default(),
        trees: TreeBudget::default(),
        timeout,
        lines: LineLimit::default(),
    };
    guarded(Router::new().route(PATH, post(handle)).with_state(Arc::new(context)), metrics)
}

/// What holds for every request: a time limit, and an answer also where a handler panics.
fn guarded(router: Router, metrics: Arc<Metrics>) -> Router {
    router
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIME_LIMIT))
        .layer(panics::layer(Component::Webhook, metrics))
}

/// Why a request gets no review.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Review(#[from] ReviewError),
}

async fn handle(
    State(context): State<Arc<Context>>,
    peer: Option<Extension<Peer>>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let peer = peer.map_or(NO_PEER, |Extension(peer)| peer.address);
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
        let answered = async {
            // What waits to be answered holds its share of the memory for bodies.
            let (reviewed, took, _body) = reviewed(&context, body, peer, deadline).await?;
            answer(&context, reviewed, took, peer, deadline).await
        };
        answered.await.unwrap_or_else(|refusal| refuse(&context, &refusal))
    }
    .instrument(span)
    .await
}

/// The review, what it took from the last byte on, and the body.
async fn reviewed(
    context: &Context,
    body: Body,
    peer: IpAddr,
    deadline: Deadline,
) -> Result<(Reviewed, Duration, Option<BufferedBody>), Refusal> {
    match context.bodies.receive(body, peer, deadline).await? {
        ReceivedBody::Buffered(body) => {
            let started = Instant::now();
            let reviewed = review_within(&body.bytes, &context.caches, &context.trees, deadline).await?;
            Ok((reviewed, started.elapsed(), Some(body)))
        }
        ReceivedBody::Oversized(body) => Ok((oversized(body, deadline).await?, Duration::ZERO, None)),
    }
}

/// The answer to a review that is too large to be kept. What can't be one is refused as too large.
async fn oversized(body: OversizedBody, deadline: Deadline) -> Result<Reviewed, Refusal> {
    let head = without_object(body.start()).ok_or(BodyError::TooLarge)?;
    let head = Head::parse(&head).map_err(ReviewError::from)?;
    body.discard(deadline).await?;
    Ok(let_oversized_through(head, BODY_LIMIT))
}

async fn answer(
    context: &Context,
    mut reviewed: Reviewed,
    took: Duration,
    peer: IpAddr,
    deadline: Deadline,
) -> Result<Response, Refusal> {
    let mut text = encoded(&reviewed);
    if text.len() > ANSWER_LIMIT {
        reviewed = reviewed.without_patch(ANSWER_LIMIT);
        text = encoded(&reviewed);
    }
    if reviewed.is_oversized
        && let Some(left_out) = context.lines.allow()
    {
        tracing::warn!(warnings = ?reviewed.answer.response.warnings, left_out, "too large for injection");
    }
    let response = &reviewed.answer.response;
    let (allowed, mutated) = (response.allowed, response.patch.is_some());
    let result = match (allowed, mutated) {
        _ if reviewed.is_oversized => AdmissionResult::TooLarge,
        (false, _) => AdmissionResult::Denied,
        (true, true) => AdmissionResult::Patched,
        (true, false) => AdmissionResult::Unchanged,
    };
    let labels = AdmissionLabels { kind: KindLabel(reviewed.subject.as_str()), result };
    drop(reviewed);
    let text = context.bodies.hold_answer(text, peer, deadline).await?;
    context.metrics.admission_requests.get_or_create(&labels).inc();
    context.metrics.admission_duration.observe(took.as_secs_f64());
    tracing::debug!(allowed, mutated, "reviewed");
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

/// The answer as text. What is made of texts and numbers can be encoded.
fn encoded(reviewed: &Reviewed) -> Vec<u8> {
    serde_json::to_vec(&reviewed.answer).unwrap_or_default()
}

impl Refusal {
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

    /// Whether it is of a kind that no API server sends.
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

fn refuse(context: &Context, refusal: &Refusal) -> Response {
    let (status, reason) = (refusal.status(), refusal.to_string());
    if refusal.is_bad() {
        context.metrics.admission_bad_requests.inc();
    }
    if let Some(reason) = refusal.overload() {
        context.metrics.overload.get_or_create(&OverloadLabels { reason }).inc();
    }
    if let Some(left_out) = context.lines.allow() {
        tracing::warn!(status = status.as_u16(), reason, left_out, "not reviewed");
    }
    (status, format!("{reason}\n")).into_response()
}

#[cfg(test)]
#[path = "recorded_tests.rs"]
mod recorded;
#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
