//! The drain profiles of cluster policies.

use std::{cmp::Reverse, sync::Arc};

use adieu_exposures::Profiles;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::{
    api::{ClusterGracefulPolicy, DrainProfile},
    plan::Source,
};

/// The drain profiles of the cluster policies of a namespace: first those of the policy that takes precedence, by priority,
/// then the older, then the first by name.
pub(super) fn of(policies: &[Arc<ClusterGracefulPolicy>]) -> Profiles {
    let mut policies: Vec<&ClusterGracefulPolicy> = policies.iter().map(Arc::as_ref).collect();
    policies.sort_by_cached_key(|policy| {
        let created = policy.creation_timestamp().map_or(Timestamp::MAX, |time| time.0);
        (Reverse(policy.spec.policy.priority.unwrap_or(0)), created, policy.name_any())
    });
    let mut profiles = Profiles::default();
    for policy in policies {
        profiles.add(&Source::ClusterPolicy(policy.name_any()).to_string(), drain_profiles(policy));
    }
    profiles
}

/// The `drainProfiles` of a policy.
fn drain_profiles(_policy: &ClusterGracefulPolicy) -> &[DrainProfile] {
    // The field is not part of the spec yet.
    &[]
}
