//! The `adieu.dev/` labels. The API server selects by them before it converts an object, which an expression
//! over annotations would cost on every request.

use std::collections::BTreeMap;

/// On a namespace: every workload and pod created in it reaches the webhook. On a pod template: its pods do, in
/// any namespace. adieu sets it on the templates that it injects.
pub const INJECTION: &str = "adieu.dev/injection";
/// The value of [`INJECTION`] that counts.
pub const ENABLED: &str = "enabled";
/// On a workload: its pod template carries a record. Set by adieu; the chart's final check selects by it. A label
/// of the workload itself rolls nothing out.
pub const INJECTED: &str = "adieu.dev/injected";

/// Whether the labels of a namespace or a pod lead to the webhook.
#[must_use]
pub fn is_enabled(labels: &BTreeMap<String, String>) -> bool {
    labels.get(INJECTION).is_some_and(|value| value == ENABLED)
}
