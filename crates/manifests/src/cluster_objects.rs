//! Manifests together with the objects of the cluster to which they are applied.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Service;
use kube::Resource;

use super::manifest_set::ManifestSet;
use adieu_core::{
    api::{ClusterGracefulPolicy, GracefulPolicy, labels::is_enabled},
    plan::{self, NamespaceContext},
};

/// The objects of a cluster that apply to the workloads of one namespace.
#[derive(Debug, Default)]
pub struct ClusterObjects {
    /// The policies of the namespace.
    pub policies: Vec<Arc<GracefulPolicy>>,
    /// All cluster policies.
    pub cluster_policies: Vec<Arc<ClusterGracefulPolicy>>,
    /// The Services of the namespace.
    pub services: Vec<Arc<Service>>,
    /// The labels of the namespace; `None` if they are unknown.
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether every kubelet has the native sleep action.
    pub native_sleep: bool,
    /// Whether a policy that may apply can't be read.
    pub has_unusable_policy: bool,
}

impl ClusterObjects {
    /// The context of the namespace once the manifests are applied.
    #[must_use]
    pub fn with_manifests(&self, set: &mut ManifestSet, namespace: &str) -> NamespaceContext {
        // The policies of a set are shared only with contexts that have their age already.
        keep_age(&self.policies, set.policies_of(namespace));
        keep_age(&self.cluster_policies, set.cluster_policies_mut());
        let mut labels = set.labels(namespace);
        for (key, value) in self.labels.iter().flatten() {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let mut cluster_policies = merged(&self.cluster_policies, set.cluster_policies());
        cluster_policies.retain(|policy| {
            let selector = policy.spec.namespace_selector.as_ref();
            selector.is_none_or(|selector| plan::matches(selector, &labels))
        });
        NamespaceContext {
            policies: merged(&self.policies, set.policies_in(namespace)),
            cluster_policies,
            services: merged(&self.services, set.services_in(namespace)),
            // The caller adds them.
            exposures: None,
            native_sleep: self.native_sleep,
            injection_enabled: self.labels.is_none() || is_enabled(&labels),
            has_unusable_policy: self.has_unusable_policy,
        }
    }
}

/// The objects of a cluster, and those of manifests, which replace others of the same name.
fn merged<T: Resource>(cluster: &[Arc<T>], manifests: &[Arc<T>]) -> Vec<Arc<T>> {
    let mut objects = manifests.to_vec();
    objects.extend(cluster.iter().filter(|old| find(manifests, old).is_none()).cloned());
    objects
}

/// Sets the age of the objects of manifests that replace others: of two policies, the older wins.
fn keep_age<T: Resource>(cluster: &[Arc<T>], manifests: &mut [Arc<T>]) {
    for new in manifests {
        let Some(old) = find(cluster, new) else { continue };
        let created = old.meta().creation_timestamp.clone();
        if let Some(new) = Arc::get_mut(new) {
            new.meta_mut().creation_timestamp = created;
        }
    }
}

/// The object with the name of another one.
fn find<'a, T: Resource>(objects: &'a [Arc<T>], other: &T) -> Option<&'a Arc<T>> {
    let name = other.meta().name.as_ref()?;
    objects.iter().find(|object| object.meta().name.as_ref() == Some(name))
}

#[cfg(test)]
mod tests {
    use adieu_core::api::DrainSeconds;
    use serde_json::{Value, json};

    use super::*;
    use crate::Manifests;

    fn policy(name: &str, drain: i64) -> Value {
        json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": {"selector": {}, "drainSeconds": drain},
        })
    }

    fn shops() -> Value {
        json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy", "metadata": {"name": "shops"},
            "spec": {"namespaceSelector": {"matchLabels": {"team": "shop"}}},
        })
    }

    fn set(objects: &[Value]) -> ManifestSet {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        Manifests::parse("list.json", &list.to_string()).unwrap().set("shop").unwrap()
    }

    fn read<T: serde::de::DeserializeOwned>(object: Value) -> Arc<T> {
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn policies_of_manifests_replace_those_of_the_cluster_and_keep_their_age() {
        let mut old = policy("a", 1);
        old["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        let cluster =
            ClusterObjects { policies: vec![read(old), read(policy("b", 2))], ..ClusterObjects::default() };
        let context = cluster.with_manifests(&mut set(&[policy("a", 3), policy("c", 4)]), "shop");
        let mut drains: Vec<_> = context.policies.iter().map(|policy| policy.spec.drain_seconds).collect();
        drains.sort_unstable();
        assert_eq!(drains, [2, 3, 4].map(|seconds| Some(DrainSeconds::Seconds(seconds))));
        let is_a = |policy: &&Arc<GracefulPolicy>| policy.metadata.name.as_deref() == Some("a");
        assert!(context.policies.iter().find(is_a).unwrap().metadata.creation_timestamp.is_some());
        assert_eq!(cluster.with_manifests(&mut set(&[policy("a", 3)]), "bank").policies.len(), 2);
    }

    #[test]
    fn labels_of_a_namespace_in_the_manifests_select_policies_of_the_cluster() {
        let team = |team: &str| Some(BTreeMap::from([("team".to_owned(), team.to_owned())]));
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "shop", "labels": {"team": "shop", "adieu.dev/injection": "enabled"}},
        });
        for (labels, objects, applies, enabled) in [
            (team("shop"), vec![], true, false),
            (team("bank"), vec![], false, false),
            (team("bank"), vec![namespace], true, true),
            (None, vec![], false, true),
        ] {
            let policies = vec![read(shops())];
            let cluster = ClusterObjects { cluster_policies: policies, labels, ..ClusterObjects::default() };
            let context = cluster.with_manifests(&mut set(&objects), "shop");
            assert_eq!((context.cluster_policies.len() == 1, context.injection_enabled), (applies, enabled));
        }
    }
}
