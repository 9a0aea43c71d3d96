//! Caches with fixed content, for tests, benchmarks and fuzz targets.

use adieu_exposures::TrafficObject;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::core::DynamicObject;
use tokio::sync::watch;

use super::{Caches, watches::MissingKinds};
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    index::{
        by_namespace::fixed, change_set::ChangeSet, exposures::TrafficCache,
        unusable_objects::UnusableObjects, workloads::Workloads,
    },
    plan::Kind,
};

impl Caches {
    /// Caches with fixed content.
    #[must_use]
    pub fn fixed(
        policies: Vec<GracefulPolicy>,
        services: Vec<Service>,
        workloads: Vec<(Kind, DynamicObject)>,
    ) -> Self {
        Self {
            policies: fixed(policies),
            cluster_policies: fixed(vec![]),
            services: fixed(services),
            namespaces: fixed(vec![]),
            budgets: fixed(vec![]),
            traffic: TrafficCache::default(),
            workloads: Workloads::fixed(workloads),
            native_sleep: watch::channel(Some(true)).1,
            policies_changed: watch::channel(()).1,
            budgets_changed: ChangeSet::default(),
            synced: watch::channel(true).1,
            missing: MissingKinds::default(),
            unusable: UnusableObjects::default(),
        }
    }

    /// Caches with these cluster policies.
    #[must_use]
    pub fn with_cluster_policies(self, policies: Vec<ClusterGracefulPolicy>) -> Self {
        Self { cluster_policies: fixed(policies), ..self }
    }

    /// Caches with these objects that lead requests to Services.
    #[must_use]
    pub fn with_traffic(self, objects: Vec<TrafficObject>) -> Self {
        Self { traffic: TrafficCache::fixed(objects), ..self }
    }

    /// Caches with these namespaces.
    #[must_use]
    pub fn with_namespaces(self, namespaces: Vec<Namespace>) -> Self {
        Self { namespaces: fixed(namespaces), ..self }
    }

    /// Caches of a cluster in which every kubelet has the native sleep action, or not.
    #[must_use]
    pub fn with_native_sleep(self, native_sleep: bool) -> Self {
        Self { native_sleep: watch::channel(Some(native_sleep)).1, ..self }
    }
}
