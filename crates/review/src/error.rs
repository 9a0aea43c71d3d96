//! Why a body can't be reviewed.

use std::str::Utf8Error;

use adieu_core::text::truncate_chars;
use kube::core::admission::Operation;

/// The maximum number of characters of a client's text in a message or the log.
const MAX_SHOWN: usize = 253;

/// A body that can't be reviewed. The API server sends none if the rules of the MutatingWebhookConfiguration are the
/// chart's.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// Not JSON, or not an `admission.k8s.io/v1` AdmissionReview.
    #[error("the body is not an admission.k8s.io/v1 AdmissionReview: {0}")]
    NotAReview(String),
    /// Not UTF-8, even in an unused field.
    #[error("the body is not an admission.k8s.io/v1 AdmissionReview: {0}")]
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
    /// Nested deeper than the API server's decoder allows.
    #[error("the body is not an admission.k8s.io/v1 AdmissionReview: it is nested {depth} levels deep")]
    TooDeep {
        /// The number of levels.
        depth: usize,
    },
    /// A uid that no API server generates.
    #[error("request.uid has {length} characters: an API server's have 36")]
    LongUid {
        /// Its length.
        length: usize,
    },
}

impl BadRequest {
    /// The parser's message can quote the body at length.
    pub(crate) fn not_a_review(error: serde_json::Error) -> Self {
        Self::NotAReview(shown(&error.to_string()))
    }
}

/// A client's text for a message, truncated if it is long.
pub(crate) fn shown(text: &str) -> String {
    truncate_chars(text, MAX_SHOWN).into_owned()
}
