//! The cluster policy with the times that most workloads need.

use std::{collections::BTreeSet, sync::Arc};

use adieu_core::{
    api::{ClusterGracefulPolicy, ClusterGracefulPolicySpec},
    plan::default_policy,
};

use crate::{
    group::{Group, groups},
    member::Members,
    name::unused,
    policy_times::{context_of, label, raise_maximum, resolved, set},
    times::Times,
};

/// The name of the policy, unless a user has one of that name.
const NAME: &str = "recommended";

/// The policy with the times with which the fewest other policies are needed, and of these the times that most workloads
/// need, and of these the longest. `None` if no workload needs any.
pub(crate) fn recommended(namespaces: &[Members<'_>]) -> Option<Arc<ClusterGracefulPolicy>> {
    let base = base(namespaces);
    let groups: Vec<(&Members<'_>, Group<'_>)> = namespaces
        .iter()
        .flat_map(|namespace| groups(&namespace.all).into_iter().map(move |group| (namespace, group)))
        .collect();
    let choices = choices(groups.iter().map(|(_, group)| group.times));
    let choices = choices.into_iter().filter(|times| times.count() > 0).map(|times| {
        let policy = Arc::new(with_times(base.clone(), times, namespaces));
        (score(&policy, times, &groups), times, policy)
    });
    let best = choices.max_by(|(score, times, _), (other, others, _)| (score, times).cmp(&(other, others)));
    best.map(|(_, _, policy)| policy)
}

/// Each drain with each shutdown timeout. All set the same times, so the result doesn't depend on those that a policy had.
fn choices(groups: impl Iterator<Item = Times>) -> Vec<Times> {
    let (drains, timeouts): (BTreeSet<_>, BTreeSet<_>) =
        groups.map(|times| (times.drain_seconds, times.shutdown_timeout_seconds)).unzip();
    let given = |seconds: BTreeSet<Option<i64>>| {
        let given: Vec<_> = seconds.into_iter().flatten().map(Some).collect();
        if given.is_empty() { vec![None] } else { given }
    };
    let timeouts = given(timeouts);
    let with_timeouts = |drain_seconds: Option<i64>| {
        timeouts.iter().map(move |timeout| Times { drain_seconds, shutdown_timeout_seconds: *timeout })
    };
    given(drains).into_iter().flat_map(with_timeouts).collect()
}

/// How many groups need no policy, and how many workloads are in those with these times.
fn score(
    policy: &Arc<ClusterGracefulPolicy>,
    times: Times,
    groups: &[(&Members<'_>, Group<'_>)],
) -> (usize, usize) {
    let needs_none = |(namespace, group): &&(&Members<'_>, Group<'_>)| {
        let cluster_policies = with(&namespace.kept.cluster_policies, Some(policy));
        group.members.iter().all(|member| member.base.is_none() && member.needs_no_policy(&cluster_policies))
    };
    let same = groups.iter().filter(|(_, group)| group.times.is_compatible(times));
    (groups.iter().filter(needs_none).count(), same.map(|(_, group)| group.members.len()).sum())
}

/// The policy of a user that has the defaults of all namespaces.
fn base(namespaces: &[Members<'_>]) -> Option<ClusterGracefulPolicy> {
    let policies = namespaces.iter().filter_map(|namespace| default_policy(&namespace.kept));
    let everywhere = policies.filter(|policy| policy.spec.namespace_selector.is_none());
    everywhere.min_by(|a, b| a.metadata.name.cmp(&b.metadata.name)).cloned()
}

/// The policy of a user, or a new one, with these times.
fn with_times(
    base: Option<ClusterGracefulPolicy>,
    times: Times,
    namespaces: &[Members<'_>],
) -> ClusterGracefulPolicy {
    let mut policy = base.unwrap_or_else(|| {
        let name = unused_name(namespaces);
        let mut policy = ClusterGracefulPolicy::new(&name, ClusterGracefulPolicySpec::default());
        label(&mut policy.metadata);
        policy
    });
    set(&mut policy.spec.policy, times);
    if let Some(member) = namespaces.iter().find_map(|namespace| namespace.all.first()) {
        let context = context_of(vec![], &[Arc::new(policy.clone())]);
        raise_maximum(&mut policy.spec.policy, &resolved(member.candidate, None, &context));
    }
    policy
}

fn unused_name(namespaces: &[Members<'_>]) -> String {
    let policies = namespaces.iter().flat_map(|namespace| &namespace.kept.cluster_policies);
    let used = policies.filter_map(|policy| policy.metadata.name.as_deref()).map(str::to_owned).collect();
    unused(NAME, &used)
}

/// The cluster policies with this one, which replaces that of the same name.
pub(crate) fn with(
    policies: &[Arc<ClusterGracefulPolicy>],
    policy: Option<&Arc<ClusterGracefulPolicy>>,
) -> Vec<Arc<ClusterGracefulPolicy>> {
    let is_replaced = |known: &&Arc<ClusterGracefulPolicy>| {
        policy.is_some_and(|policy| policy.metadata.name == known.metadata.name)
    };
    let others = policies.iter().filter(|known| !is_replaced(known));
    others.chain(policy).cloned().collect()
}
