//! Evictions.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::EvictParams, core::Status};
use tokio::time::{Duration, sleep};

use super::error::Error;

/// The interval at which an eviction is retried that a PodDisruptionBudget doesn't allow yet, as in kubectl.
const EVICTION_RETRY: Duration = Duration::from_secs(5);

/// The cause of a rejection in a terminating namespace (`NamespaceTerminatingCause` of the core API).
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// Evicts a pod as soon as its PodDisruptionBudget allows it.
pub(super) async fn evict(pods: &Api<Pod>, name: &str) -> Result<(), Error> {
    loop {
        match pods.evict(name, &EvictParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 429 => sleep(EVICTION_RETRY).await,
            // It is gone, or will be deleted with its namespace.
            Err(kube::Error::Api(status)) if status.code == 404 || is_namespace_terminating(&status) => {
                return Ok(());
            }
            outcome => return outcome.map(drop).map_err(Error::api(format!("evict the pod {name}"))),
        }
    }
}

/// Whether an eviction was rejected because the namespace, with every pod in it, is being deleted.
fn is_namespace_terminating(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == NAMESPACE_TERMINATING)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_eviction_in_a_terminating_namespace_differs_from_a_forbidden_one() {
        let rejected = |causes: serde_json::Value| -> Status {
            serde_json::from_value(json!({"code": 403, "reason": "Forbidden", "details": {"causes": causes}}))
                .unwrap()
        };
        let terminating =
            json!([{"reason": "NamespaceTerminating", "field": "metadata.namespace", "message": "going"}]);
        assert!(is_namespace_terminating(&rejected(terminating)));
        assert!(!is_namespace_terminating(&rejected(json!([]))));
    }
}
