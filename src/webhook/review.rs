//! Reviews one admission request: decode, decide, encode.

use k8s_openapi::ByteString;
use kube::core::{
    DynamicObject, Status, TypeMeta,
    admission::{AdmissionRequest, AdmissionReview, Operation},
    response::StatusSummary,
};
use serde::Serialize;

use crate::{
    plan::{self, Kind, Workload},
    runtime::caches::Caches,
};

/// The API server cuts admission warnings that are longer (characters).
const WARNING_LIMIT: usize = 256;

/// A body that can't be reviewed. The API server never sends one.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// Not JSON, or not an `admission.k8s.io/v1` AdmissionReview.
    #[error("the body is no admission.k8s.io/v1 AdmissionReview: {0}")]
    NotAReview(#[from] serde_json::Error),
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
    /// A review of something other than the creation or update of a workload.
    #[error(
        "reviews CREATE and UPDATE of Deployment, StatefulSet and DaemonSet of apps/v1, got {operation:?} of {kind}: \
         correct the rules of the MutatingWebhookConfiguration"
    )]
    NotAWorkload {
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
    /// The kind of the workload.
    pub kind: Kind,
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
/// Where the body is no review of the creation or update of a workload.
pub fn review(body: &[u8], caches: &Caches) -> Result<Reviewed, BadRequest> {
    let review: AdmissionReview<DynamicObject> = serde_json::from_slice(body)?;
    let types = review.types.clone();
    let wrong =
        || BadRequest::WrongReview { kind: types.kind.clone(), api_version: types.api_version.clone() };
    if types.kind != "AdmissionReview" || types.api_version != "admission.k8s.io/v1" {
        return Err(wrong());
    }
    let request: AdmissionRequest<DynamicObject> = review.try_into().map_err(|_| wrong())?;
    let gvk = &request.kind;
    let kind = Kind::from_gvk(&gvk.group, &gvk.version, &gvk.kind);
    let (Some(kind), Some(object), Operation::Create | Operation::Update) =
        (kind, &request.object, &request.operation)
    else {
        let kind = format!("{}/{} {}", gvk.group, gvk.version, gvk.kind);
        return Err(BadRequest::NotAWorkload { operation: request.operation, kind });
    };

    let span = tracing::Span::current();
    span.record("uid", &request.uid);
    span.record("kind", kind.as_str());
    span.record("namespace", request.namespace.as_deref());
    span.record("name", &request.name);
    span.record("operation", tracing::field::debug(&request.operation));
    let response = respond(kind, &request, object, caches);
    Ok(Reviewed { answer: Answer { types, response }, kind })
}

fn respond(
    kind: Kind,
    request: &AdmissionRequest<DynamicObject>,
    object: &DynamicObject,
    caches: &Caches,
) -> Response {
    let mut response = Response { uid: request.uid.clone(), allowed: true, ..Response::default() };
    // What is being deleted is let go as it is.
    if object.metadata.deletion_timestamp.is_some() {
        return response;
    }
    let new = Workload::of(kind, object);
    let old = request.old_object.as_ref().map(|old| Workload::of(kind, old));
    let surroundings = caches.surroundings(request.namespace.as_deref().unwrap_or_default());
    let admission = plan::admit(&new, old.as_ref(), &surroundings);

    if !admission.refusals.is_empty() {
        let reasons: Vec<_> = admission.refusals.iter().map(ToString::to_string).collect();
        response.allowed = false;
        response.status = Some(Status {
            status: Some(StatusSummary::Failure),
            code: 422,
            reason: "Invalid".into(),
            message: reasons.join("; "),
            ..Status::default()
        });
        return response;
    }
    if let Some(template) = &admission.template {
        match serde_json::to_vec(&plan::template_patch(new.template, template)) {
            Ok(patch) => (response.patch, response.patch_type) = (Some(ByteString(patch)), Some("JSONPatch")),
            // JSON made of JSON: this can't fail, and if it did, the workload would go as it came.
            Err(error) => tracing::error!(%error, "patch not serialized"),
        }
    }
    response.warnings = admission.warnings.iter().map(|warning| limited(warning)).collect();
    response
}

fn limited(warning: &str) -> String {
    if warning.chars().count() <= WARNING_LIMIT {
        return warning.to_owned();
    }
    warning.chars().take(WARNING_LIMIT - 1).chain(['…']).collect()
}
