//! By how many pods workloads were scaled down, from their watches.

use std::sync::{Arc, Mutex, PoisonError};

use adieu_observer::{ReplicaHistory, Scale};
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;

use super::cached_workload::CachedWorkload;
use crate::keys::WorkloadKey;

/// The replicas of the workloads of a kind.
#[derive(Clone, Debug, Default)]
pub struct Replicas(Arc<Mutex<ReplicaHistory>>);

impl Replicas {
    /// Records the replicas of a workload. It is parsed only if its spec changed, and while it is scaled down.
    pub(super) fn record(&self, key: WorkloadKey, workload: &CachedWorkload, at: Timestamp) {
        let metadata = workload.meta();
        let uid = metadata.uid.as_deref().unwrap_or_default();
        let generation = metadata.generation.unwrap_or_default();
        if self.with(|history| history.is_recorded(&key, uid, generation)) {
            return;
        }
        let data = workload.data();
        let (spec, status) = (&data["spec"], &data["status"]);
        let replicas = spec["replicas"].as_i64().unwrap_or(1);
        let is_observed = status["observedGeneration"].as_i64().unwrap_or_default() >= generation;
        let is_settled = is_observed && status["replicas"].as_i64().unwrap_or_default() <= replicas;
        self.with(|history| history.set(key, Scale { uid, generation, replicas, is_settled }, at));
    }

    /// Forgets workloads that aren't among the existing ones, if there are many.
    pub(super) fn prune<E: IntoIterator<Item = WorkloadKey>>(&self, existing: impl FnOnce() -> E) {
        self.with(|history| history.prune(existing));
    }

    /// Whether a pod of a workload that terminates now does so because the workload was scaled down.
    #[must_use]
    pub fn explain(&self, key: &WorkloadKey, at: Timestamp) -> bool {
        self.with(|history| history.explain(key, at))
    }

    fn with<T>(&self, act: impl FnOnce(&mut ReplicaHistory) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use kube::core::DynamicObject;
    use serde_json::json;

    use super::*;
    use crate::plan::Kind;

    #[test]
    fn a_scale_down_ends_soon_after_the_status_has_no_more_pods() {
        let (replicas, at) = (Replicas::default(), |second: i64| Timestamp::from_second(second).unwrap());
        let key = || WorkloadKey { namespace: "shop".into(), kind: Kind::Deployment, name: "web".into() };
        let record = |second: i64, generation: i64, number: i64, status: (i64, i64)| {
            let object = json!({
                "metadata": {"name": "web", "namespace": "shop", "uid": "1", "generation": generation},
                "spec": {"replicas": number}, "status": {"observedGeneration": status.0, "replicas": status.1},
            });
            let workload: CachedWorkload = serde_json::from_value::<DynamicObject>(object).unwrap().into();
            replicas.record(key(), &workload, at(second));
        };
        record(0, 1, 5, (1, 5));
        record(10, 2, 3, (1, 5));
        // Its controller has observed it, and there are pods too many.
        record(11, 2, 3, (2, 5));
        assert!(replicas.explain(&key(), at(100)));
        record(101, 2, 3, (2, 3));
        // Later events change nothing.
        record(130, 2, 3, (2, 3));
        assert!(!replicas.explain(&key(), at(132)));
    }
}
