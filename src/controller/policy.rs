//! The common interface of both kinds of policy.

use std::fmt::Debug;

use kube::{
    Resource, ResourceExt as _,
    runtime::reflector::{ObjectRef, Store},
};
use serde::de::DeserializeOwned;

use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy, GracefulPolicySpec, GracefulPolicyStatus},
    index::caches::Caches,
    keys::{PolicyKey, policy_key},
    plan::Source,
};

/// A policy of either kind.
pub(super) trait Policy:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    const CLUSTER_SCOPED: bool;
    fn spec(&self) -> &GracefulPolicySpec;
    fn status(&self) -> Option<&GracefulPolicyStatus>;
    fn key(&self) -> PolicyKey;
    fn store(caches: &Caches) -> &Store<Self>;

    /// The reference of the policy with this key in its store.
    fn reference(key: &PolicyKey) -> ObjectRef<Self> {
        let reference = ObjectRef::new(key.name());
        if Self::CLUSTER_SCOPED { reference } else { reference.within(key.namespace()) }
    }

    fn keys(caches: &Caches) -> Vec<PolicyKey> {
        Self::store(caches).state().iter().map(|policy| policy.key()).collect()
    }
}

/// The policies of both kinds in the caches.
pub(super) fn policies(caches: &Caches) -> Vec<PolicyKey> {
    [GracefulPolicy::keys(caches), ClusterGracefulPolicy::keys(caches)].concat()
}

impl Policy for GracefulPolicy {
    const CLUSTER_SCOPED: bool = false;

    fn spec(&self) -> &GracefulPolicySpec {
        &self.spec
    }

    fn status(&self) -> Option<&GracefulPolicyStatus> {
        self.status.as_ref()
    }

    fn key(&self) -> PolicyKey {
        policy_key(&self.namespace().unwrap_or_default(), &Source::Policy(self.name_any()))
    }

    fn store(caches: &Caches) -> &Store<Self> {
        caches.policies()
    }
}

impl Policy for ClusterGracefulPolicy {
    const CLUSTER_SCOPED: bool = true;

    fn spec(&self) -> &GracefulPolicySpec {
        &self.spec.policy
    }

    fn status(&self) -> Option<&GracefulPolicyStatus> {
        self.status.as_ref()
    }

    fn key(&self) -> PolicyKey {
        policy_key("", &Source::ClusterPolicy(self.name_any()))
    }

    fn store(caches: &Caches) -> &Store<Self> {
        caches.cluster_policies()
    }
}
