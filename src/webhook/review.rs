//! Reviews one admission request: decode, decide, encode.

use std::{str::Utf8Error, time::Duration};

use json_patch::Patch;
use k8s_openapi::ByteString;
use kube::{
    ResourceExt as _,
    core::{Status, TypeMeta, admission::Operation, response::StatusSummary},
};
use serde::Serialize;
use tracing::{Span, record_all};

use super::{
    deadline::Deadline,
    envelope::{Head, RawObject, Sent, shown},
    tree::{DEPTH_LIMIT, NoneFree, Shape, TREE_LIMIT, TreeBudget},
};
use crate::{
    api::annotations::Invalid,
    index::{caches::Caches, workloads::LAG},
    plan::{self, Admission, Kind, OptIn, Owner, Workload},
};

/// The API server cuts admission warnings that are longer (characters).
const WARNING_LIMIT: usize = 256;
/// How many warnings an answer has. The API server passes on 4096 characters in all.
const WARNINGS: usize = 16;

/// How long a review waits for the caches of a replica that has just started, if its deadline allows.
const SYNC_LIMIT: Duration = Duration::from_secs(2);

/// The `timeoutSeconds` of the chart, for reviews that come without one.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Without policies, adieu would take back what they had injected.
const UNSERVED: &str = "adieu doesn't know the policies, because their CRD is gone: nothing is changed";

/// What is written all the same may be in a namespace that a policy leaves out.
const UNKNOWN: &str = "adieu doesn't know the labels of the namespace yet, by which policies select: nothing is \
                       changed for now";

/// The policy that manages the workload may be the one.
const UNREADABLE: &str = "a policy of the namespace can't be read (see its Events): a workload that no annotation and no \
                          other policy opts in is left as it is";

/// A body that can't be reviewed. The API server never sends one.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// Not JSON, or not an `admission.k8s.io/v1` AdmissionReview.
    #[error("the body is no admission.k8s.io/v1 AdmissionReview: {0}")]
    NotAReview(String),
    /// Not UTF-8, be it in a field that nobody reads.
    #[error("the body is no admission.k8s.io/v1 AdmissionReview: {0}")]
    NotText(#[from] Utf8Error),
    /// An AdmissionReview of another kind or version, or without a request.
    #[error(
        "expected kind AdmissionReview of admission.k8s.io/v1 with a request, got {kind} of {api_version}"
    )]
    WrongReview {
        /// The body's kind.
        kind: String,
        /// The body's API version.
        api_version: String,
    },
    /// A review of something other than the creation or update of a workload, or the creation of a pod.
    #[error(
        "reviews CREATE and UPDATE of Deployment, StatefulSet and DaemonSet of apps/v1, and CREATE of Pod of v1, got \
         {operation:?} of {kind}: correct the rules of the MutatingWebhookConfiguration"
    )]
    NotReviewed {
        /// The operation.
        operation: Operation,
        /// Group, version and kind of the object.
        kind: String,
    },
    /// Nested deeper than the API server can encode.
    #[error("the body is no admission.k8s.io/v1 AdmissionReview: it is nested {depth} levels deep")]
    TooDeep {
        /// How many levels.
        depth: usize,
    },
    /// An uid that no API server makes.
    #[error("request.uid has {length} characters: an API server's have 36")]
    LongUid {
        /// Its length.
        length: usize,
    },
}

impl BadRequest {
    /// The parser's message can quote the body at length.
    pub(super) fn not_a_review(error: serde_json::Error) -> Self {
        Self::NotAReview(shown(&error.to_string()))
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Nothing that this webhook reviews.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// Without policies, adieu would revert what they had injected: the failurePolicy decides.
    #[error("this replica has just started and doesn't know the policies yet")]
    NotSynced,
    /// The failurePolicy decides.
    #[error("too many large reviews at the same time: try again")]
    NoMemory,
}

impl From<NoneFree> for ReviewError {
    fn from(_: NoneFree) -> Self {
        Self::NoMemory
    }
}

/// The outcome of a review.
#[derive(Debug)]
pub struct Reviewed {
    /// What goes back to the API server.
    pub answer: Answer,
    /// What was reviewed.
    pub subject: Subject,
    /// Whether it was too large to be looked into, and so was allowed as it came.
    pub is_oversized: bool,
}

impl Reviewed {
    /// The same without its patch, which is too large.
    pub(super) fn without_patch(mut self, limit: usize) -> Self {
        let warning =
            format!("not injected: the answer would be larger than {limit} bytes; use fewer containers");
        let response = &mut self.answer.response;
        (response.patch, response.patch_type) = (None, None);
        response.warnings = vec![warning];
        Self { is_oversized: true, ..self }
    }
}

/// What can be reviewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A workload.
    Workload(Kind),
    /// A pod.
    Pod,
}

impl Subject {
    /// The kind as the API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workload(kind) => kind.as_str(),
            Self::Pod => "Pod",
        }
    }

    pub(super) fn from_gvk(group: &str, version: &str, kind: &str) -> Option<Self> {
        match (group, version, kind) {
            ("", "v1", "Pod") => Some(Self::Pod),
            _ => Kind::from_gvk(group, version, kind).map(Self::Workload),
        }
    }

    /// A pod that exists keeps its hooks: they can't be changed.
    pub(super) fn takes(self, operation: &Operation) -> bool {
        match operation {
            Operation::Create => true,
            Operation::Update => self != Self::Pod,
            _ => false,
        }
    }
}

/// An AdmissionReview with a response. The patch goes out in base64, a third of the size of the list of
/// bytes that kube's type makes of it.
#[derive(Debug, Serialize)]
pub struct Answer {
    #[serde(flatten)]
    types: TypeMeta,
    /// The response.
    pub response: Response,
}

/// `admission.k8s.io/v1` AdmissionResponse, with the fields that adieu uses.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    uid: String,
    /// Whether the request is let through.
    pub allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    /// The JSON patch, where the object is changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// Reviews the body of an admission request.
///
/// # Errors
/// Where the body is no review of the creation or update of a workload, or of the creation of a pod, or the policies
/// aren't known yet.
pub async fn review(body: &[u8], caches: &Caches) -> Result<Reviewed, ReviewError> {
    review_within(body, caches, &TreeBudget::default(), Deadline::after(TIMEOUT)).await
}

/// The same, with the memory that all reviews share, up to a deadline.
///
/// Everything that waits for something comes before the trees of the objects are built, so that a tree is held only
/// for as long as the decision takes.
pub(super) async fn review_within(
    body: &[u8],
    caches: &Caches,
    budget: &TreeBudget,
    deadline: Deadline,
) -> Result<Reviewed, ReviewError> {
    let sent = {
        // Strings of the envelope may be copied, and the parser may quote one in its error.
        let _share = budget.reserve(2 * body.len(), deadline).await?;
        budget.work(2 * body.len(), deadline, || Sent::parse(body)).await??
    };
    sent.head.record();
    // It is let go as it is, also before the caches are filled: finalizers must be able to go. So is what the
    // controller writes.
    if sent.object.is_being_deleted() || sent.head.is_by_the_controller {
        return Ok(sent.head.answered(Decision::default()));
    }
    if !caches.synced_within(SYNC_LIMIT.min(deadline.left())).await {
        return Err(ReviewError::NotSynced);
    }
    let shape = sent.shape();
    if let Some(warning) = oversized(shape) {
        return Ok(sent.head.let_through(warning));
    }
    let namespace = &sent.head.namespace;
    if !caches.is_served() {
        return Ok(sent.head.answered(Decision::unchanged(UNSERVED)));
    }
    if !caches.learns_policies_of(namespace, LAG.min(deadline.left())).await {
        return Ok(sent.head.answered(Decision::unchanged(UNKNOWN)));
    }
    if sent.head.subject == Subject::Pod
        && let Some(Owner { kind, name }) = sent.owner()?
    {
        caches.workloads().learns_of(kind, namespace, &name, LAG.min(deadline.left())).await;
    }
    let _share = budget.reserve(shape.tree, deadline).await?;
    let decide = || match sent.head.subject {
        Subject::Workload(kind) => workload(kind, &sent, caches),
        Subject::Pod => pod(&sent, caches),
    };
    let decision = budget.work(shape.tree, deadline, decide).await??;
    Ok(sent.head.answered(decision))
}

/// Answers a review that is too large to be kept, of which `head` is known.
pub(super) fn let_oversized_through(head: Head, limit: usize) -> Reviewed {
    let warning = format!(
        "not injected: the admission review is larger than {limit} bytes; make the object smaller, for example by \
         moving values of env to a ConfigMap"
    );
    head.record();
    head.let_through(warning)
}

/// The warning about objects whose trees would be too large.
fn oversized(shape: Shape) -> Option<String> {
    let Shape { depth, tree } = shape;
    if depth > DEPTH_LIMIT {
        return Some(format!(
            "not injected: the object is nested {depth} levels deep, and at most {DEPTH_LIMIT} are read"
        ));
    }
    (tree > TREE_LIMIT).then(|| {
        format!(
            "not injected: reading the object may take {} MiB of memory, and at most {} are used; make it smaller, \
             for example by moving env or args to a ConfigMap",
            tree.div_ceil(1 << 20),
            TREE_LIMIT >> 20,
        )
    })
}

impl Head {
    /// Records what is reviewed in the span. The JSON formatter parses and encodes the fields of a span again with each
    /// call.
    fn record(&self) {
        record_all!(
            Span::current(),
            uid = self.uid,
            kind = self.subject.as_str(),
            namespace = self.namespace,
            name = self.name,
            operation = ?self.operation
        );
    }

    fn answered(self, decision: Decision) -> Reviewed {
        let types = TypeMeta { api_version: "admission.k8s.io/v1".into(), kind: "AdmissionReview".into() };
        let answer = Answer { types, response: decision.response(self.uid) };
        Reviewed { answer, subject: self.subject, is_oversized: false }
    }

    fn let_through(self, warning: String) -> Reviewed {
        Reviewed { is_oversized: true, ..self.answered(Decision::unchanged(&warning)) }
    }
}

impl Sent<'_> {
    /// The workload that owns the pod.
    fn owner(&self) -> Result<Option<Owner>, BadRequest> {
        let metadata = self.object.build_metadata()?;
        Ok(Owner::of(&serde_json::json!({ "metadata": metadata })))
    }
}

/// What is done with a request.
#[derive(Default)]
struct Decision {
    refusals: Vec<Invalid>,
    patch: Patch,
    warnings: Vec<String>,
}

impl Decision {
    fn unchanged(warning: &str) -> Self {
        Self { warnings: vec![warning.to_owned()], ..Self::default() }
    }

    fn new(admission: Admission, patch: Patch) -> Self {
        Self { refusals: admission.refusals, patch, warnings: admission.warnings }
    }

    fn response(self, uid: String) -> Response {
        let mut response = Response { uid, allowed: self.refusals.is_empty(), ..Response::default() };
        if !response.allowed {
            let reasons: Vec<_> = self.refusals.iter().map(ToString::to_string).collect();
            response.status = Some(Status {
                status: Some(StatusSummary::Failure),
                code: 422,
                reason: "Invalid".into(),
                message: reasons.join("; "),
                ..Status::default()
            });
            return response;
        }
        if !self.patch.0.is_empty() {
            match serde_json::to_vec(&self.patch) {
                Ok(patch) => {
                    (response.patch, response.patch_type) = (Some(ByteString(patch)), Some("JSONPatch"));
                }
                // JSON made of JSON: this can't fail, and if it did, the object would go as it came.
                Err(error) => tracing::error!(%error, "patch not serialized"),
            }
        }
        response.warnings = self.warnings.iter().take(WARNINGS).map(|warning| limited(warning)).collect();
        let others = self.warnings.len().saturating_sub(WARNINGS);
        if others > 0 {
            response.warnings.push(format!("warnings that are not shown: {others}"));
        }
        response
    }
}

fn workload(kind: Kind, sent: &Sent<'_>, caches: &Caches) -> Result<Decision, BadRequest> {
    let (anonymous, namespace) = (sent.head.is_anonymous, &sent.head.namespace);
    let length = sent.object.spec_length();
    let namespace_context = &caches.namespace_context(namespace);
    let object = sent.object.build()?;
    let old_object = sent.old_object.as_ref().map(RawObject::build).transpose()?;
    let sent = Workload::of(kind, &object);
    let old = old_object.as_ref().map(|old| Workload::of(kind, old));
    if caches.unusable().has_policy_of(namespace)
        && plan::resolve(&sent, namespace_context).opt_in == OptIn::Unmentioned
    {
        return Ok(Decision::unchanged(UNREADABLE));
    }
    let admit = if anonymous { plan::admit_anonymous } else { plan::admit };
    let kept =
        old.as_ref().filter(|_| anonymous).and_then(|old| plan::preserve_opt_in_on_rollback(&sent, old));
    // What it waited for is the change of its template.
    let clear_pending = plan::clear_pending(sent.annotations)
        .filter(|_| old.as_ref().is_none_or(|old| old.template != sent.template));
    let new =
        kept.as_ref().map_or(sent, |(annotations, template)| Workload { annotations, template, ..sent });
    let mut admission = admit(&new, old.as_ref(), namespace_context);
    let mut patch = Patch::default();
    if let Some((annotations, _)) = &kept {
        admission.warnings.push(
            "the earlier revision's annotations would have opted this workload out of adieu; they are kept: \
             to opt out, set adieu.dev/graceful to \"false\""
                .into(),
        );
        patch = plan::annotations_patch(sent.annotations, annotations);
    }
    let template = admission.template.as_ref().unwrap_or(new.template);
    let accepted = if kept.is_none() { plan::keep_accepted(&sent, old.as_ref(), template) } else { None };
    let injected = plan::show_injection(object.labels(), template);
    let template = admission.template.take().or_else(|| kept.as_ref().map(|(_, template)| template.clone()));
    if let Some(template) = template {
        patch.0.extend(plan::answer_patch(sent.template, template, length).0);
    }
    patch.0.extend([clear_pending, accepted, injected].into_iter().flatten());
    Ok(Decision::new(admission, patch))
}

fn pod(sent: &Sent<'_>, caches: &Caches) -> Result<Decision, BadRequest> {
    let (pod, namespace) = (sent.object.build_pod()?, &sent.head.namespace);
    let workload = Owner::of(&pod).and_then(|Owner { kind, name }| {
        caches.workloads().get(kind, namespace, &name).map(|found| (kind, found))
    });
    let workload = workload.as_ref().map(|(kind, object)| (*kind, object));
    let admission = plan::admit_pod(&pod, workload, &caches.namespace_context(namespace));
    let patch = admission.template.as_ref().map(|injected| plan::pod_patch(&pod, injected));
    Ok(Decision::new(admission, patch.unwrap_or_default()))
}

fn limited(warning: &str) -> String {
    if warning.chars().count() <= WARNING_LIMIT {
        return warning.to_owned();
    }
    warning.chars().take(WARNING_LIMIT - 1).chain(['…']).collect()
}
