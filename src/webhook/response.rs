//! Encodes the decision about a request as an AdmissionReview.

use json_patch::Patch;
use k8s_openapi::ByteString;
use kube::core::{Status, TypeMeta, response::StatusSummary};
use serde::Serialize;

use crate::{api::annotations::Invalid, plan::Admission};

/// The longest warning, in characters: the API server truncates longer ones.
const WARNING_LIMIT: usize = 256;
/// The maximum number of warnings. The API server forwards 4096 characters in total.
const WARNINGS: usize = 16;

/// An AdmissionReview with a response. The patch is encoded in base64, a third of the size of the list of bytes that
/// kube's type encodes.
#[derive(Debug, Serialize)]
pub struct Answer {
    #[serde(flatten)]
    pub(super) types: TypeMeta,
    /// The response.
    pub response: Response,
}

/// `admission.k8s.io/v1` AdmissionResponse, with the fields that adieu uses.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    uid: String,
    /// Whether the request is allowed.
    pub allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    /// The JSON patch, if the object is changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

/// The decision about a request.
#[derive(Default)]
pub(super) struct Decision {
    denials: Vec<Invalid>,
    patch: Patch,
    warnings: Vec<String>,
}

impl Decision {
    pub(super) fn unchanged(warning: &str) -> Self {
        Self { warnings: vec![warning.to_owned()], ..Self::default() }
    }

    pub(super) fn new(admission: Admission, patch: Patch) -> Self {
        Self { denials: admission.denials, patch, warnings: admission.warnings }
    }

    pub(super) fn response(self, uid: String) -> Response {
        let mut response = Response { uid, allowed: self.denials.is_empty(), ..Response::default() };
        if !response.allowed {
            let reasons: Vec<_> = self.denials.iter().map(ToString::to_string).collect();
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
                // A value can always be serialized; if not, the object is allowed unchanged.
                Err(error) => tracing::error!(%error, "patch not serialized"),
            }
        }
        response.warnings = self.warnings.iter().take(WARNINGS).map(|warning| truncate(warning)).collect();
        let others = self.warnings.len().saturating_sub(WARNINGS);
        if others > 0 {
            response.warnings.push(format!("warnings that are not shown: {others}"));
        }
        response
    }
}

fn truncate(warning: &str) -> String {
    if warning.chars().count() <= WARNING_LIMIT {
        return warning.to_owned();
    }
    warning.chars().take(WARNING_LIMIT - 1).chain(['…']).collect()
}
