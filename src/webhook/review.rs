//! Reviews one admission request: decode, decide, encode.

use std::str::Utf8Error;

use json_patch::Patch;
use k8s_openapi::ByteString;
use kube::core::{
    DynamicObject, Status, TypeMeta,
    admission::{AdmissionRequest, AdmissionReview, Operation},
    response::StatusSummary,
};
use serde::Serialize;
use serde_json::json;

use crate::{
    api::annotations::Invalid,
    plan::{self, Admission, Kind, Owner, Surroundings, Workload},
    runtime::caches::Caches,
};

/// The API server cuts admission warnings that are longer (characters).
const WARNING_LIMIT: usize = 256;

/// Without policies, adieu would take back what they had injected.
const UNSERVED: &str = "adieu doesn't know the policies, because their CRD is gone: nothing is changed";

/// What is written all the same may be in a namespace that a policy leaves out.
const UNKNOWN: &str = "adieu doesn't know the labels of the namespace yet, by which policies select: nothing is \
                       changed for now";

/// A body that can't be reviewed. The API server never sends one.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// Not JSON, or not an `admission.k8s.io/v1` AdmissionReview.
    #[error("the body is no admission.k8s.io/v1 AdmissionReview: {0}")]
    NotAReview(#[from] serde_json::Error),
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
}

/// The outcome of a review.
#[derive(Debug)]
pub struct Reviewed {
    /// What goes back to the API server.
    pub answer: Answer,
    /// What was reviewed.
    pub subject: Subject,
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

    fn from_gvk(group: &str, version: &str, kind: &str) -> Option<Self> {
        match (group, version, kind) {
            ("", "v1", "Pod") => Some(Self::Pod),
            _ => Kind::from_gvk(group, version, kind).map(Self::Workload),
        }
    }

    /// A pod that exists keeps its hooks: they can't be changed.
    fn takes(self, operation: &Operation) -> bool {
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
    warnings: Vec<String>,
}

/// Reviews the body of an admission request.
///
/// # Errors
/// Where the body is no review of the creation or update of a workload, or of the creation of a pod.
pub async fn review(body: &[u8], caches: &Caches) -> Result<Reviewed, BadRequest> {
    let review: AdmissionReview<DynamicObject> = serde_json::from_str(str::from_utf8(body)?)?;
    let types = review.types.clone();
    let wrong =
        || BadRequest::WrongReview { kind: types.kind.clone(), api_version: types.api_version.clone() };
    if types.kind != "AdmissionReview" || types.api_version != "admission.k8s.io/v1" {
        return Err(wrong());
    }
    let request: AdmissionRequest<DynamicObject> = review.try_into().map_err(|_| wrong())?;
    let gvk = &request.kind;
    let subject = Subject::from_gvk(&gvk.group, &gvk.version, &gvk.kind);
    let (Some(subject), Some(object)) =
        (subject.filter(|subject| subject.takes(&request.operation)), &request.object)
    else {
        let kind = format!("{}/{} {}", gvk.group, gvk.version, gvk.kind);
        return Err(BadRequest::NotReviewed { operation: request.operation, kind });
    };

    let span = tracing::Span::current();
    span.record("uid", &request.uid);
    span.record("kind", subject.as_str());
    span.record("namespace", request.namespace.as_deref());
    span.record("name", &request.name);
    span.record("operation", tracing::field::debug(&request.operation));
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let unchanged = |warning: &str| Decision { warnings: vec![warning.to_owned()], ..Decision::default() };
    // What is being deleted is let go as it is.
    let decision = if object.metadata.deletion_timestamp.is_some() {
        Decision::default()
    } else if !caches.is_served() {
        unchanged(UNSERVED)
    } else if !caches.learns_policies_of(namespace).await {
        unchanged(UNKNOWN)
    } else {
        match subject {
            Subject::Workload(kind) => workload(kind, &request, object, &caches.surroundings(namespace)),
            Subject::Pod => pod(object, namespace, caches).await,
        }
    };
    Ok(Reviewed { answer: Answer { types, response: decision.response(request.uid) }, subject })
}

/// What is done with a request.
#[derive(Default)]
struct Decision {
    refusals: Vec<Invalid>,
    patch: Patch,
    warnings: Vec<String>,
}

impl Decision {
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
        response.warnings = self.warnings.iter().map(|warning| limited(warning)).collect();
        response
    }
}

fn workload(
    kind: Kind,
    request: &AdmissionRequest<DynamicObject>,
    object: &DynamicObject,
    surroundings: &Surroundings,
) -> Decision {
    let sent = Workload::of(kind, object);
    let old = request.old_object.as_ref().map(|old| Workload::of(kind, old));
    let anonymous = is_anonymous(request);
    let admit = if anonymous { plan::admit_anonymous } else { plan::admit };
    let kept = old.as_ref().filter(|_| anonymous).and_then(|old| plan::undone(&sent, old));
    // What it waited for is the change of its template.
    let unmark = plan::unmark(sent.annotations)
        .filter(|_| old.as_ref().is_none_or(|old| old.template != sent.template));
    let Some((annotations, template)) = &kept else {
        let admission = admit(&sent, old.as_ref(), surroundings);
        let template = admission.template.as_ref();
        let mut patch = template.map(|new| plan::template_patch(sent.template, new)).unwrap_or_default();
        patch.0.extend(unmark);
        return Decision::new(admission, patch);
    };
    let new = Workload { annotations, template, ..sent };
    let mut admission = admit(&new, old.as_ref(), surroundings);
    admission.warnings.push(
        "the earlier revision's annotations would have opted this workload out of adieu; they are kept: \
         to opt out, set adieu.dev/graceful to \"false\""
            .into(),
    );
    let mut patch = plan::annotations_patch(sent.annotations, annotations);
    let template = admission.template.as_ref().unwrap_or(template);
    patch.0.extend(plan::template_patch(sent.template, template).0);
    patch.0.extend(unmark);
    Decision::new(admission, patch)
}

/// Whether the client named no field manager, as `kubectl rollout undo` doesn't. The other commands of
/// kubectl, Helm and GitOps tools do.
fn is_anonymous(request: &AdmissionRequest<DynamicObject>) -> bool {
    let options = request.options.as_ref().map(|options| &options.0);
    options.and_then(|options| options["fieldManager"].as_str()).is_none_or(str::is_empty)
}

async fn pod(object: &DynamicObject, namespace: &str, caches: &Caches) -> Decision {
    let pod = json!({"metadata": object.metadata, "spec": object.data["spec"]});
    let owner = Owner::of(&pod);
    let workload = match &owner {
        Some(Owner { kind, name }) => {
            caches.workloads().wait_for(*kind, namespace, name).await.map(|found| (*kind, found))
        }
        None => None,
    };
    let workload = workload.as_ref().map(|(kind, object)| (*kind, object));
    let admission = plan::admit_pod(&pod, workload, &caches.surroundings(namespace));
    let patch = admission.template.as_ref().map(|injected| plan::pod_patch(&pod, injected));
    Decision::new(admission, patch.unwrap_or_default())
}

fn limited(warning: &str) -> String {
    if warning.chars().count() <= WARNING_LIMIT {
        return warning.to_owned();
    }
    warning.chars().take(WARNING_LIMIT - 1).chain(['…']).collect()
}
