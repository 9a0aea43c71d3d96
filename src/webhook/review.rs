//! Reviews one admission request: decode, decide, encode.

use std::time::Duration;

use adieu_review::{BadRequest, DEPTH_LIMIT, Decision, Head, RawReview, ReviewedKind, Shape, TREE_LIMIT};
use tracing::{Level, Span, enabled, record_all};

use super::{deadline::Deadline, error::ReviewError, tree::TreeBudget};
use crate::{
    index::{caches::Caches, workloads::CACHE_LAG},
    plan::Owner,
};

/// How long a review waits for the caches of a replica that has just started, if its deadline allows.
const SYNC_LIMIT: Duration = Duration::from_secs(2);

/// The chart's `timeoutSeconds`, for reviews without one.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Without policies, adieu would revert what they injected.
const CRD_MISSING: &str = "the policies are unknown, because their CRD is gone: the object is not changed";

/// A policy may or may not select the namespace.
const LABELS_UNKNOWN: &str = "the labels of the namespace are not cached yet: the object is not changed";

/// The outcome of a review.
#[derive(Debug)]
pub struct Reviewed {
    /// The review without its objects.
    pub head: Head,
    /// The decision.
    pub decision: Decision,
}

impl Reviewed {
    /// The answer to the API server, as JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.decision.encode(&self.head.uid)
    }

    /// Removes the patch, which is too large.
    pub(super) fn without_patch(self, limit: usize) -> Self {
        let warning =
            format!("not injected: the answer would be larger than {limit} bytes; use fewer containers");
        Self { decision: Decision::oversized(warning), ..self }
    }
}

/// Reviews the body of an admission request.
///
/// # Errors
/// If the body is not a review of the creation or update of a workload, or of the creation of a pod, or the policies
/// aren't cached yet.
pub async fn review(body: &[u8], caches: &Caches) -> Result<Reviewed, ReviewError> {
    review_within(body, caches, &TreeBudget::default(), Deadline::after(TIMEOUT)).await
}

/// Reviews a request within a deadline, with the memory budget that all reviews share.
///
/// All waiting comes before the trees of the objects are built, so that a tree is held only during the decision.
pub(super) async fn review_within(
    body: &[u8],
    caches: &Caches,
    budget: &TreeBudget,
    deadline: Deadline,
) -> Result<Reviewed, ReviewError> {
    let review = {
        // Strings of the envelope may be copied, and the parser may quote one in its error.
        let _share = budget.reserve(2 * body.len(), deadline).await?;
        budget.work(2 * body.len(), deadline, || RawReview::parse(body)).await??
    };
    let decision = decide_within(&review, caches, budget, deadline).await;
    if decision.is_err() || enabled!(Level::DEBUG) {
        record(&review.head);
    }
    Ok(Reviewed { head: review.head, decision: decision? })
}

async fn decide_within(
    review: &RawReview<'_>,
    caches: &Caches,
    budget: &TreeBudget,
    deadline: Deadline,
) -> Result<Decision, ReviewError> {
    // Also before the caches are filled: it must be possible to remove finalizers.
    if review.object.is_being_deleted() || review.head.is_by_controller {
        return Ok(Decision::default());
    }
    if !caches.synced_within(SYNC_LIMIT.min(deadline.left())).await {
        return Err(ReviewError::NotSynced);
    }
    let shape = review.shape();
    if let Some(warning) = oversized(shape) {
        return Ok(Decision::oversized(warning));
    }
    let namespace = &review.head.namespace;
    if !caches.is_served() {
        return Ok(Decision::unchanged(CRD_MISSING.to_owned()));
    }
    if !caches.wait_for_policies(namespace, CACHE_LAG.min(deadline.left())).await {
        return Ok(Decision::unchanged(LABELS_UNKNOWN.to_owned()));
    }
    let owner = if review.head.kind == ReviewedKind::Pod { review.object.owner()? } else { None };
    if let Some(Owner { kind, name }) = &owner {
        caches.workloads().wait_until_cached(*kind, namespace, name, CACHE_LAG.min(deadline.left())).await;
    }
    let _share = budget.reserve(shape.tree, deadline).await?;
    Ok(budget.work(shape.tree, deadline, || decide(review, owner, caches)).await??)
}

fn decide(review: &RawReview<'_>, owner: Option<Owner>, caches: &Caches) -> Result<Decision, BadRequest> {
    let namespace = &review.head.namespace;
    let context = caches.namespace_context(namespace);
    match review.head.kind {
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
pub(super) fn allow_oversized_body(head: Head, limit: usize) -> Reviewed {
    let warning = format!(
        "not injected: the admission review is larger than {limit} bytes; make the object smaller, for example by \
         moving values of env to a ConfigMap"
    );
    Reviewed { head, decision: Decision::oversized(warning) }
}

/// The warning if the trees of the objects would be too large.
fn oversized(shape: Shape) -> Option<String> {
    let Shape { depth, tree } = shape;
    if depth > DEPTH_LIMIT {
        return Some(format!(
            "not injected: the object is nested {depth} levels deep, more than {DEPTH_LIMIT}"
        ));
    }
    (tree > TREE_LIMIT).then(|| {
        format!(
            "not injected: the object would take {} MiB of memory, more than {}; make it smaller, for example by moving \
             env or args to a ConfigMap",
            tree.div_ceil(1 << 20),
            TREE_LIMIT >> 20,
        )
    })
}

/// Records the header in the span, for a line of the log: the JSON formatter parses and encodes all fields with each
/// call, which takes longer than parsing the envelope.
pub(super) fn record(head: &Head) {
    record_all!(
        Span::current(),
        uid = head.uid,
        kind = head.kind.as_str(),
        namespace = head.namespace,
        name = head.name,
        operation = ?head.operation
    );
}
