//! Which of several policies of one level applies.

use std::{cmp::Reverse, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::{context::NamespaceContext, source::Source};
use crate::api::{ClusterGracefulPolicy, DrainProfile, GracefulPolicy, GracefulPolicySpec, Rollout};

/// Either kind of policy.
pub(super) trait AnyPolicy: ResourceExt {
    /// It as the source of a setting.
    fn source(&self) -> Source;
    /// Its priority within its level.
    fn priority(&self) -> i32;
}

impl AnyPolicy for GracefulPolicy {
    fn source(&self) -> Source {
        Source::Policy(self.name_any())
    }

    fn priority(&self) -> i32 {
        self.spec.priority.unwrap_or(0)
    }
}

impl AnyPolicy for ClusterGracefulPolicy {
    fn source(&self) -> Source {
        Source::ClusterPolicy(self.name_any())
    }

    fn priority(&self) -> i32 {
        self.spec.policy.priority.unwrap_or(0)
    }
}

/// Whether a policy sets only limits, which apply in any case.
fn has_only_limits(spec: &GracefulPolicySpec) -> bool {
    let GracefulPolicySpec { priority, max_grace_period_seconds, .. } = *spec;
    let rollout = spec.rollout.as_ref().map(|rollout| Rollout {
        max_concurrent_per_namespace: rollout.max_concurrent_per_namespace,
        ..Rollout::default()
    });
    *spec
        == GracefulPolicySpec { priority, max_grace_period_seconds, rollout, ..GracefulPolicySpec::default() }
}

/// The cluster policies without a selector: the first of them has the defaults. A policy that sets only limits is
/// skipped.
pub(super) fn ranked_defaults(
    context: &NamespaceContext,
) -> (Option<&ClusterGracefulPolicy>, Vec<&ClusterGracefulPolicy>) {
    let has_defaults = |spec: &GracefulPolicySpec| spec.selector.is_none() && !has_only_limits(spec);
    ranked(context.cluster_policies.iter().filter(|policy| has_defaults(&policy.spec.policy)))
}

/// The cluster policy with the defaults of a namespace.
#[must_use]
pub fn default_policy(context: &NamespaceContext) -> Option<&ClusterGracefulPolicy> {
    ranked_defaults(context).0
}

/// The policy that wins at its level, by priority, then the older, then the first by name, and the others.
pub(super) fn ranked<'a, P: AnyPolicy + 'a>(
    policies: impl Iterator<Item = &'a Arc<P>>,
) -> (Option<&'a P>, Vec<&'a P>) {
    let mut policies: Vec<&P> = policies.map(AsRef::as_ref).collect();
    policies.sort_by_cached_key(|policy| {
        let created = policy.creation_timestamp().map_or(Timestamp::MAX, |time| time.0);
        (Reverse(policy.priority()), created, policy.name_any())
    });
    let mut policies = policies.into_iter();
    (policies.next(), policies.collect())
}

/// The drain profiles of the cluster policies of a namespace, each with its policy: those of the policy that wins first.
pub fn drain_profiles(
    cluster_policies: &[Arc<ClusterGracefulPolicy>],
) -> impl Iterator<Item = (Source, &[DrainProfile])> {
    let with_profiles = cluster_policies.iter().filter(|policy| policy.spec.drain_profiles.is_some());
    let (first, others) = ranked(with_profiles);
    first
        .into_iter()
        .chain(others)
        .map(|policy| (policy.source(), policy.spec.drain_profiles.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn drain_profiles_are_in_the_order_of_their_policies() {
        let policy = |name: &str, spec: Value| {
            Arc::new(ClusterGracefulPolicy::new(name, serde_json::from_value(spec).unwrap()))
        };
        let profile = |seconds: i64| json!([{"exposure": "cluster-ip", "seconds": seconds}]);
        let policies = [
            policy("b", json!({"drainProfiles": profile(20)})),
            policy("a", json!({"drainProfiles": profile(30)})),
            policy("none", json!({"drainSeconds": 5, "priority": 9})),
            policy("first", json!({"drainProfiles": profile(40), "priority": 1})),
        ];
        let found = drain_profiles(&policies).map(|(policy, profiles)| (policy, profiles[0].seconds));
        let by = |name: &str| Source::ClusterPolicy(name.to_owned());
        assert_eq!(found.collect::<Vec<_>>(), [(by("first"), 40), (by("a"), 30), (by("b"), 20)]);
    }
}
