//! Reviews one admission request: decode, decide, encode.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use adieu_review::{
    BadRequest, DEPTH_LIMIT, Decision, PARSED_SIZE_LIMIT, RawReview, ReviewHeader, ReviewedKind, Shape,
};
use tracing::{Level, Span, enabled, record_all};

use super::{deadline::Deadline, error::ReviewError, parse_budget::ParseBudget};
use crate::{
    index::{caches::Caches, workloads::CACHE_LAG},
    plan::Owner,
};

/// How long a review waits for the caches of a replica that has just started, if its deadline allows.
const SYNC_LIMIT: Duration = Duration::from_secs(2);

/// The chart's `timeoutSeconds`, for reviews without one.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The peer of reviews without a connection.
pub(super) const NO_PEER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Without policies, adieu would revert what they injected.
const CRD_MISSING: &str = "not injected: the CRDs of adieu's policies are not installed: adieu crd | kubectl apply --server-side -f -";

/// The outcome of a review.
#[derive(Debug)]
pub struct ReviewOutcome {
    /// The review without its objects.
    pub header: ReviewHeader,
    /// The decision.
    pub decision: Decision,
}

impl ReviewOutcome {
    /// The response to the API server, as JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.decision.encode(&self.header.uid)
    }

    /// Removes the patch, which is too large.
    pub(super) fn without_patch(self, limit: usize) -> Self {
        let warning =
            format!("not injected: the response would be larger than {limit} bytes; use fewer containers");
        Self { decision: Decision::oversized(warning), ..self }
    }
}

/// Reviews the body of an admission request.
///
/// # Errors
/// If the body is not a review of the creation or update of a workload, or of the creation of a pod, or the policies
/// aren't cached yet.
pub async fn review(body: &[u8], caches: &Caches) -> Result<ReviewOutcome, ReviewError> {
    review_within(body, caches, &ParseBudget::default(), NO_PEER, Deadline::after(TIMEOUT)).await
}

/// Reviews a request within a deadline, with the memory budget that all reviews share.
///
/// All waiting comes before the objects are parsed, so that the parsed objects are held only during the decision.
pub(super) async fn review_within(
    body: &[u8],
    caches: &Caches,
    budget: &ParseBudget,
    peer: IpAddr,
    deadline: Deadline,
) -> Result<ReviewOutcome, ReviewError> {
    let review = {
        // Strings of the envelope may be copied, and the parser may quote one in its error.
        let _share = budget.reserve(2 * body.len(), deadline).await?;
        budget.work(2 * body.len(), peer, deadline, || RawReview::parse(body)).await??
    };
    let decision = decide_within(&review, caches, budget, peer, deadline).await;
    if decision.is_err() || enabled!(Level::DEBUG) {
        record(&review.header);
    }
    Ok(ReviewOutcome { header: review.header, decision: decision? })
}

async fn decide_within(
    review: &RawReview<'_>,
    caches: &Caches,
    budget: &ParseBudget,
    peer: IpAddr,
    deadline: Deadline,
) -> Result<Decision, ReviewError> {
    // Also before the caches are filled: it must be possible to remove finalizers.
    if review.object.is_being_deleted() || review.header.is_by_controller {
        return Ok(Decision::default());
    }
    if !caches.synced_within(SYNC_LIMIT.min(deadline.left())).await {
        return Err(ReviewError::NotSynced);
    }
    let shape = review.shape();
    if let Some(warning) = oversized(shape) {
        return Ok(Decision::oversized(warning));
    }
    let namespace = &review.header.namespace;
    if !caches.is_served() {
        return Ok(Decision::unchanged(CRD_MISSING.to_owned()));
    }
    if !caches.wait_for_policies(namespace, CACHE_LAG.min(deadline.left())).await {
        // A policy may or may not select the namespace.
        return Ok(Decision::unchanged(format!(
            "not injected: the labels of namespace {namespace:?} are not cached yet"
        )));
    }
    let owner = if review.header.kind == ReviewedKind::Pod { review.object.owner()? } else { None };
    if let Some(Owner { kind, name }) = &owner {
        caches.workloads().wait_until_cached(*kind, namespace, name, CACHE_LAG.min(deadline.left())).await;
    }
    // The workload of a pod is parsed as well.
    let of_owner = owner.as_ref().and_then(|Owner { kind, name }| {
        caches.workloads().cached(*kind, namespace, name).map(|cached| cached.parsed_size())
    });
    let parsed_size = shape.parsed_size + of_owner.unwrap_or_default();
    let _share = budget.reserve_for_namespace(parsed_size, (peer, namespace), deadline).await?;
    Ok(budget.work(parsed_size, peer, deadline, || decide(review, owner, caches)).await??)
}

fn decide(review: &RawReview<'_>, owner: Option<Owner>, caches: &Caches) -> Result<Decision, BadRequest> {
    let namespace = &review.header.namespace;
    let context = caches.namespace_context(namespace);
    match review.header.kind {
        ReviewedKind::Workload(kind) => review.decide_workload(kind, &context),
        ReviewedKind::Pod => {
            let workload = owner.and_then(|Owner { kind, name }| {
                caches.workloads().get(kind, namespace, &name).map(|found| (kind, found))
            });
            let workload = workload.as_ref().map(|(kind, object)| (*kind, object));
            review.decide_pod(workload, &context)
        }
    }
}

/// Allows a review whose body is too large to be buffered.
pub(super) fn allow_oversized_body(header: ReviewHeader, limit: usize) -> ReviewOutcome {
    let warning = format!(
        "not injected: the admission review is larger than {limit} bytes; make the object smaller, for example by \
         moving values of env to a ConfigMap"
    );
    ReviewOutcome { header, decision: Decision::oversized(warning) }
}

/// The warning if the parsed objects would be too large.
fn oversized(shape: Shape) -> Option<String> {
    let Shape { depth, parsed_size } = shape;
    if depth > DEPTH_LIMIT {
        return Some(format!(
            "not injected: the object is nested {depth} levels deep, more than {DEPTH_LIMIT}"
        ));
    }
    (parsed_size > PARSED_SIZE_LIMIT).then(|| {
        format!(
            "not injected: the object would take {} MiB of memory, more than {}; make it smaller, for example by moving \
             env or args to a ConfigMap",
            parsed_size.div_ceil(1 << 20),
            PARSED_SIZE_LIMIT >> 20,
        )
    })
}

/// Records the header in the span, for a line of the log: the JSON formatter parses and encodes all fields with each
/// call, which takes longer than parsing the envelope.
pub(super) fn record(header: &ReviewHeader) {
    record_all!(
        Span::current(),
        uid = header.uid,
        kind = header.kind.as_str(),
        namespace = header.namespace,
        name = header.name,
        operation = ?header.operation
    );
}
