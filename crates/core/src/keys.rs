//! The keys of workloads and policies.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::core::{DynamicObject, ObjectMeta};

use crate::{api::WorkloadKind as Kind, plan::Source};

/// The key of a workload, ordered by namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadKey {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl WorkloadKey {
    /// The key of the object with this metadata.
    #[must_use]
    pub fn new(kind: Kind, metadata: &ObjectMeta) -> Self {
        let namespace = metadata.namespace.clone().unwrap_or_default();
        Self { namespace, kind, name: metadata.name.clone().unwrap_or_default() }
    }

    /// The key of the object.
    #[must_use]
    pub fn of(kind: Kind, object: &DynamicObject) -> Self {
        Self::new(kind, &object.metadata)
    }
}

/// The key of a policy: namespace (empty for a cluster policy), kind and name. Thousands of workloads share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyKey(Arc<(String, Source)>);

impl PolicyKey {
    /// Its namespace; empty for a cluster policy.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.0.0
    }

    /// Its kind and name.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.0.1
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.is_cluster_scoped() { "ClusterGracefulPolicy" } else { "GracefulPolicy" }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        let (Source::Policy(name) | Source::ClusterPolicy(name)) = self.source() else { return "" };
        name
    }

    /// Whether it is a `ClusterGracefulPolicy`.
    #[must_use]
    pub fn is_cluster_scoped(&self) -> bool {
        matches!(self.source(), Source::ClusterPolicy(_))
    }
}

/// The key of a policy that is in effect in this namespace.
#[must_use]
pub fn policy_key(namespace: &str, policy: &Source) -> PolicyKey {
    let namespace = if matches!(policy, Source::ClusterPolicy(_)) { "" } else { namespace };
    PolicyKey(Arc::new((namespace.to_owned(), policy.clone())))
}

/// Interned keys. A tenant may have hundreds of policies that all select hundreds of workloads, and each such pair takes
/// only a pointer.
#[derive(Debug, Default)]
pub struct PolicyKeys(Mutex<Interned>);

#[derive(Debug, Default)]
struct Interned {
    keys: BTreeSet<PolicyKey>,
    /// How many keys were used when the others were last removed.
    used: usize,
}

/// How many keys may be unused at least.
const UNUSED: usize = 1024;

impl PolicyKeys {
    /// The interned key of a policy.
    #[must_use]
    pub fn get(&self, namespace: &str, policy: &Source) -> PolicyKey {
        let key = policy_key(namespace, policy);
        let mut interned = self.interned();
        if let Some(known) = interned.keys.get(&key) {
            return known.clone();
        }
        interned.keys.insert(key.clone());
        if interned.keys.len() > 2 * interned.used + UNUSED {
            interned.keys.retain(|key| Arc::strong_count(&key.0) > 1);
            interned.used = interned.keys.len();
        }
        key
    }

    fn interned(&self) -> MutexGuard<'_, Interned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn workloads_are_ordered_by_namespace() {
        let key = |namespace: &str, kind, name: &str| {
            let object = json!({"metadata": {"namespace": namespace, "name": name}});
            WorkloadKey::of(kind, &serde_json::from_value(object).unwrap())
        };
        let keys = [
            key("a", Kind::StatefulSet, "z"),
            key("b", Kind::Deployment, "a"),
            key("b", Kind::DaemonSet, "a"),
        ];
        assert!(keys.is_sorted());
        let WorkloadKey { namespace, kind, name } = &keys[0];
        assert_eq!((namespace.as_str(), *kind, name.as_str()), ("a", Kind::StatefulSet, "z"));
    }

    #[test]
    fn a_cluster_policy_has_the_same_key_in_every_namespace() {
        let [cluster, namespaced] = [Source::ClusterPolicy("all".into()), Source::Policy("all".into())];
        let key = policy_key("shop", &cluster);
        assert_eq!(key, policy_key("bank", &cluster));
        assert_eq!((key.namespace(), key.source(), key.is_cluster_scoped()), ("", &cluster, true));
        assert_eq!((key.kind(), key.name()), ("ClusterGracefulPolicy", "all"));
        let key = policy_key("shop", &namespaced);
        assert_ne!(key, policy_key("bank", &namespaced));
        assert_eq!((key.namespace(), key.source(), key.is_cluster_scoped()), ("shop", &namespaced, false));
        assert_eq!((key.kind(), key.name()), ("GracefulPolicy", "all"));
    }

    #[test]
    fn a_key_is_stored_once_and_only_while_it_is_used() {
        let (keys, source) = (PolicyKeys::default(), Source::Policy("all".into()));
        let [first, second] = [(), ()].map(|()| keys.get("shop", &source));
        assert!(Arc::ptr_eq(&first.0, &second.0));
        assert_eq!(first, policy_key("shop", &source));
        // Others come and go.
        let most = (0..10 * UNUSED).map(|number| {
            let _ = keys.get("shop", &Source::Policy(number.to_string()));
            keys.interned().keys.len()
        });
        assert_eq!(most.max(), Some(UNUSED + 4));
        assert!(Arc::ptr_eq(&first.0, &keys.get("shop", &source).0));
    }
}
