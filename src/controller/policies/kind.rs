//! The common interface of both kinds of policy.

use std::fmt::Debug;

use kube::{Resource, ResourceExt as _, runtime::reflector::Store};
use serde::de::DeserializeOwned;

use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy, GracefulPolicySpec, GracefulPolicyStatus},
    index::caches::Caches,
    plan::Source,
};

/// A policy of either kind.
pub(super) trait Policy:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    const KIND: &'static str;
    const CLUSTER_SCOPED: bool;
    fn spec(&self) -> &GracefulPolicySpec;
    fn status(&self) -> Option<&GracefulPolicyStatus>;
    fn source(&self) -> Source;
    fn store(caches: &Caches) -> &Store<Self>;
}

impl Policy for GracefulPolicy {
    const KIND: &'static str = "GracefulPolicy";
    const CLUSTER_SCOPED: bool = false;

    fn spec(&self) -> &GracefulPolicySpec {
        &self.spec
    }

    fn status(&self) -> Option<&GracefulPolicyStatus> {
        self.status.as_ref()
    }

    fn source(&self) -> Source {
        Source::Policy(self.name_any())
    }

    fn store(caches: &Caches) -> &Store<Self> {
        caches.policies()
    }
}

impl Policy for ClusterGracefulPolicy {
    const KIND: &'static str = "ClusterGracefulPolicy";
    const CLUSTER_SCOPED: bool = true;

    fn spec(&self) -> &GracefulPolicySpec {
        &self.spec.policy
    }

    fn status(&self) -> Option<&GracefulPolicyStatus> {
        self.status.as_ref()
    }

    fn source(&self) -> Source {
        Source::ClusterPolicy(self.name_any())
    }

    fn store(caches: &Caches) -> &Store<Self> {
        caches.cluster_policies()
    }
}
