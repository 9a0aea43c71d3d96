//! The security contexts of pods that adieu's command line creates, for the strictest Pod Security Standard.

use serde_json::{Value, json};

/// The security context of a pod, as JSON. The user is the image's, or on OpenShift one of the namespace's range.
#[must_use]
pub fn pod_security() -> Value {
    json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
}

/// The security context of its container, as JSON.
#[must_use]
pub fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    })
}
