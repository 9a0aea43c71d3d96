//! The `adieu.dev/` labels. The API server matches them before it converts an object, which an expression over
//! annotations would need for every request.

use std::collections::BTreeMap;

/// On a namespace: all its workloads and pods reach the webhook when they are created. On a pod template: its pods do, in
/// any namespace. adieu sets it on injected templates.
pub const INJECTION: &str = "adieu.dev/injection";
/// The value of [`INJECTION`] with this effect.
pub const ENABLED: &str = "enabled";
/// On a workload: its pod template has a record. Set by adieu for the chart's final check. A label of the workload itself
/// causes no rollout.
pub const INJECTED: &str = "adieu.dev/injected";

/// Whether the labels of a namespace or a pod route requests to the webhook.
#[must_use]
pub fn is_enabled(labels: &BTreeMap<String, String>) -> bool {
    labels.get(INJECTION).is_some_and(|value| value == ENABLED)
}
