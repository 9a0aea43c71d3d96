//! Encodes the decision about a request as an AdmissionReview.

use adieu_core::text::truncate_chars;
use base64::{Engine as _, encoded_len, prelude::BASE64_STANDARD};
use serde::Serialize;

use crate::decision::Decision;

/// The longest warning, in characters: the API server truncates longer ones.
const MAX_WARNING_LENGTH: usize = 256;
/// The maximum number of warnings. The API server forwards 4096 characters in total.
const MAX_WARNINGS: usize = 16;
/// A usual response without its patch, in bytes.
const USUAL_SIZE: usize = 512;

/// `admission.k8s.io/v1` AdmissionReview.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AdmissionReview<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: AdmissionResponse<'a>,
}

/// `admission.k8s.io/v1` AdmissionResponse, with the fields that adieu uses, but for the patch.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AdmissionResponse<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Denial<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// `meta/v1` Status of a denial.
#[derive(Serialize)]
struct Denial<'a> {
    status: &'static str,
    code: u16,
    reason: &'static str,
    message: &'a str,
}

impl Decision {
    /// The AdmissionReview with the response to the request with this uid, as JSON.
    #[must_use]
    pub fn encode(&self, uid: &str) -> Vec<u8> {
        let Self { denial, patch, warnings, .. } = self;
        let status = |message| Denial { status: "Failure", code: 422, reason: "Invalid", message };
        let review = AdmissionReview {
            api_version: "admission.k8s.io/v1",
            kind: "AdmissionReview",
            response: AdmissionResponse {
                uid,
                allowed: denial.is_none(),
                status: denial.as_deref().map(status),
                warnings: shown(warnings),
            },
        };
        let length = patch.as_ref().and_then(|patch| encoded_len(patch.len(), true)).unwrap_or_default();
        let mut text = Vec::with_capacity(USUAL_SIZE + length);
        // Texts and numbers can always be encoded.
        let _ = serde_json::to_writer(&mut text, &review);
        if let Some(patch) = patch {
            add_patch(&mut text, patch, length);
        }
        text
    }
}

/// Adds a patch at the end of the response, of this length in base64, which has no characters that JSON escapes.
fn add_patch(text: &mut Vec<u8>, patch: &[u8], length: usize) {
    const END: &[u8] = b"}}";
    text.truncate(text.len() - END.len());
    text.extend_from_slice(br#","patchType":"JSONPatch","patch":""#);
    let start = text.len();
    text.resize(start + length, b'=');
    let _ = BASE64_STANDARD.encode_slice(patch, &mut text[start..]);
    text.push(b'"');
    text.extend_from_slice(END);
}

/// The first warnings, truncated, and the number of the others.
fn shown(warnings: &[String]) -> Vec<String> {
    let first = warnings.iter().take(MAX_WARNINGS);
    let mut shown: Vec<_> =
        first.map(|warning| truncate_chars(warning, MAX_WARNING_LENGTH).into_owned()).collect();
    let others = warnings.len().saturating_sub(MAX_WARNINGS);
    if others > 0 {
        shown.push(match others {
            1 => "1 more warning is not shown".to_owned(),
            _ => format!("{others} more warnings are not shown"),
        });
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn encoded(decision: Decision) -> Value {
        serde_json::from_slice(&decision.encode("1\"2")).unwrap()
    }

    fn review(response: &Value) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    #[test]
    fn patch_is_encoded_in_base64() {
        for (patch, base64) in [("[]", "W10="), ("[1]", "WzFd"), ("[12]", "WzEyXQ==")] {
            let decision = Decision { patch: Some(patch.into()), ..Decision::default() };
            assert_eq!(
                encoded(decision),
                review(&json!({"uid": "1\"2", "allowed": true, "patchType": "JSONPatch", "patch": base64}))
            );
        }
    }

    #[test]
    fn unchanged_objects_have_no_patch_and_denials_have_a_status() {
        assert_eq!(encoded(Decision::default()), review(&json!({"uid": "1\"2", "allowed": true})));
        let denied = Decision { denial: Some("no \"way\"".to_owned()), ..Decision::default() };
        let status = json!({"status": "Failure", "code": 422, "reason": "Invalid", "message": "no \"way\""});
        assert_eq!(encoded(denied), review(&json!({"uid": "1\"2", "allowed": false, "status": status})));
    }

    #[test]
    fn warnings_are_truncated_and_counted() {
        let of = |count: usize| Decision { warnings: vec!["ü".repeat(300); count], ..Decision::default() };
        let warnings = |count| encoded(of(count))["response"]["warnings"].clone();
        let short = format!("{}…", "ü".repeat(MAX_WARNING_LENGTH - 1));
        assert_eq!(warnings(1), json!([short]));
        assert_eq!(warnings(MAX_WARNINGS).as_array().map(Vec::len), Some(MAX_WARNINGS));
        assert_eq!(warnings(MAX_WARNINGS + 3)[MAX_WARNINGS], "3 more warnings are not shown");
        assert_eq!(warnings(MAX_WARNINGS + 1)[MAX_WARNINGS], "1 more warning is not shown");
    }
}
