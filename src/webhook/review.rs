//! Reviews one admission request: decode, decide, encode.

use std::time::Duration;

use json_patch::Patch;
use kube::{ResourceExt as _, core::TypeMeta};
use tracing::{Span, record_all};

use super::{
    deadline::Deadline,
    envelope::{Head, RawObject, RawReview, ReviewedKind},
    error::{BadRequest, ReviewError},
    response::{Answer, Decision},
    tree::{DEPTH_LIMIT, Shape, TREE_LIMIT, TreeBudget},
};
use crate::{
    index::{caches::Caches, workloads::CACHE_LAG},
    plan::{self, Kind, OptIn, Owner, Workload},
};

/// How long a review waits for the caches of a replica that has just started, if its deadline allows.
const SYNC_LIMIT: Duration = Duration::from_secs(2);

/// The chart's `timeoutSeconds`, for reviews without one.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Without policies, adieu would revert what they injected.
const CRD_MISSING: &str = "the policies are unknown, because their CRD is gone: the object is not changed";

/// A policy may or may not select the namespace.
const LABELS_UNKNOWN: &str = "the labels of the namespace are not cached yet: the object is not changed";

/// The unreadable policy may be the one that manages the workload.
const POLICY_UNREADABLE: &str = "a policy of the namespace can't be read (see its Events): the object is not changed, \
                                 because neither an annotation nor another policy opts it in";

/// The outcome of a review.
#[derive(Debug)]
pub struct Reviewed {
    /// The answer to the API server.
    pub answer: Answer,
    /// The kind of the reviewed object.
    pub kind: ReviewedKind,
    /// Whether it was too large for injection, and so was allowed unchanged.
    pub is_oversized: bool,
}

impl Reviewed {
    /// Removes the patch, which is too large.
    pub(super) fn without_patch(mut self, limit: usize) -> Self {
        let warning =
            format!("not injected: the answer would be larger than {limit} bytes; use fewer containers");
        let response = &mut self.answer.response;
        (response.patch, response.patch_type) = (None, None);
        response.warnings = vec![warning];
        Self { is_oversized: true, ..self }
    }
}

/// Reviews the body of an admission request.
///
/// # Errors
/// If the body is no review of the creation or update of a workload, or of the creation of a pod, or the policies aren't
/// cached yet.
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
    review.head.record();
    // Also before the caches are filled: it must be possible to remove finalizers.
    if review.object.is_being_deleted() || review.head.is_by_controller {
        return Ok(review.head.answer(Decision::default()));
    }
    if !caches.synced_within(SYNC_LIMIT.min(deadline.left())).await {
        return Err(ReviewError::NotSynced);
    }
    let shape = review.shape();
    if let Some(warning) = oversized(shape) {
        return Ok(review.head.allow_oversized(warning));
    }
    let namespace = &review.head.namespace;
    if !caches.is_served() {
        return Ok(review.head.answer(Decision::unchanged(CRD_MISSING)));
    }
    if !caches.wait_for_policies(namespace, CACHE_LAG.min(deadline.left())).await {
        return Ok(review.head.answer(Decision::unchanged(LABELS_UNKNOWN)));
    }
    if review.head.kind == ReviewedKind::Pod
        && let Some(Owner { kind, name }) = review.owner()?
    {
        caches.workloads().wait_until_cached(kind, namespace, &name, CACHE_LAG.min(deadline.left())).await;
    }
    let _share = budget.reserve(shape.tree, deadline).await?;
    let decide = || match review.head.kind {
        ReviewedKind::Workload(kind) => workload(kind, &review, caches),
        ReviewedKind::Pod => pod(&review, caches),
    };
    let decision = budget.work(shape.tree, deadline, decide).await??;
    Ok(review.head.answer(decision))
}

/// Allows a review whose body is too large to be buffered.
pub(super) fn allow_oversized_body(head: Head, limit: usize) -> Reviewed {
    let warning = format!(
        "not injected: the admission review is larger than {limit} bytes; make the object smaller, for example by \
         moving values of env to a ConfigMap"
    );
    head.record();
    head.allow_oversized(warning)
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

impl Head {
    /// Records the header in the span, in one call: the JSON formatter parses and encodes all fields with each.
    fn record(&self) {
        record_all!(
            Span::current(),
            uid = self.uid,
            kind = self.kind.as_str(),
            namespace = self.namespace,
            name = self.name,
            operation = ?self.operation
        );
    }

    fn answer(self, decision: Decision) -> Reviewed {
        let types = TypeMeta { api_version: "admission.k8s.io/v1".into(), kind: "AdmissionReview".into() };
        let answer = Answer { types, response: decision.response(self.uid) };
        Reviewed { answer, kind: self.kind, is_oversized: false }
    }

    fn allow_oversized(self, warning: String) -> Reviewed {
        Reviewed { is_oversized: true, ..self.answer(Decision::unchanged(&warning)) }
    }
}

impl RawReview<'_> {
    /// The workload that owns the pod.
    fn owner(&self) -> Result<Option<Owner>, BadRequest> {
        let metadata = self.object.build_metadata()?;
        Ok(Owner::of(&serde_json::json!({ "metadata": metadata })))
    }
}

fn workload(kind: Kind, review: &RawReview<'_>, caches: &Caches) -> Result<Decision, BadRequest> {
    let (anonymous, namespace) = (review.head.is_anonymous, &review.head.namespace);
    let length = review.object.spec_length();
    let namespace_context = &caches.namespace_context(namespace);
    let object = review.object.build()?;
    let old_object = review.old_object.as_ref().map(RawObject::build).transpose()?;
    let new = Workload::of(kind, &object);
    let old = old_object.as_ref().map(|old| Workload::of(kind, old));
    if caches.unusable().has_policy_of(namespace)
        && plan::resolve(&new, namespace_context).opt_in == OptIn::Unmentioned
    {
        return Ok(Decision::unchanged(POLICY_UNREADABLE));
    }
    let admit = if anonymous { plan::admit_anonymous } else { plan::admit };
    let kept =
        old.as_ref().filter(|_| anonymous).and_then(|old| plan::preserve_opt_in_on_rollback(&new, old));
    // A pending change takes effect with a change of the template.
    let clear_pending = plan::clear_pending(new.annotations)
        .filter(|_| old.as_ref().is_none_or(|old| old.template != new.template));
    let effective =
        kept.as_ref().map_or(new, |(annotations, template)| Workload { annotations, template, ..new });
    let mut admission = admit(&effective, old.as_ref(), namespace_context);
    let mut patch = Patch::default();
    if let Some((annotations, _)) = &kept {
        admission.warnings.push(
            "the earlier revision's annotations would have opted this workload out of adieu; they are kept: \
             to opt out, set adieu.dev/graceful to \"false\""
                .into(),
        );
        patch = plan::annotations_patch(new.annotations, annotations);
    }
    let template = admission.template.as_ref().unwrap_or(effective.template);
    let accepted = if kept.is_none() { plan::keep_accepted(&new, old.as_ref(), template) } else { None };
    let injected = plan::label_injected(object.labels(), template);
    let template = admission.template.take().or_else(|| kept.as_ref().map(|(_, template)| template.clone()));
    if let Some(template) = template {
        patch.0.extend(plan::answer_patch(new.template, template, length).0);
    }
    patch.0.extend([clear_pending, accepted, injected].into_iter().flatten());
    Ok(Decision::new(admission, patch))
}

fn pod(review: &RawReview<'_>, caches: &Caches) -> Result<Decision, BadRequest> {
    let (pod, namespace) = (review.object.build_pod()?, &review.head.namespace);
    let workload = Owner::of(&pod).and_then(|Owner { kind, name }| {
        caches.workloads().get(kind, namespace, &name).map(|found| (kind, found))
    });
    let workload = workload.as_ref().map(|(kind, object)| (*kind, object));
    let admission = plan::admit_pod(&pod, workload, &caches.namespace_context(namespace));
    let patch = admission.template.as_ref().map(|injected| plan::pod_patch(&pod, injected));
    Ok(Decision::new(admission, patch.unwrap_or_default()))
}
