//! What workloads and policies are found by.

use kube::{api::ObjectMeta, core::DynamicObject};

use crate::{api::WorkloadKind as Kind, plan::Source};

/// A workload, ordered by namespace.
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
    /// That of the object with this metadata.
    #[must_use]
    pub fn new(kind: Kind, metadata: &ObjectMeta) -> Self {
        let namespace = metadata.namespace.clone().unwrap_or_default();
        Self { namespace, kind, name: metadata.name.clone().unwrap_or_default() }
    }

    /// That of the object.
    #[must_use]
    pub fn of(kind: Kind, object: &DynamicObject) -> Self {
        Self::new(kind, &object.metadata)
    }
}

/// A policy: its namespace, which is empty for the cluster's, and its name.
pub type PolicyKey = (String, Source);

/// The key of a policy that is in effect in this namespace.
#[must_use]
pub fn policy_key(namespace: &str, policy: &Source) -> PolicyKey {
    let namespace = if matches!(policy, Source::ClusterPolicy(_)) { "" } else { namespace };
    (namespace.to_owned(), policy.clone())
}
