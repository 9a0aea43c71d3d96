//! Metrics about the workloads of each policy.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::{
    keys::PolicyKey,
    runtime::metrics::{KindLabel, Metrics, PolicyWorkloadLabels, WorkloadState},
};

/// How many policies have series of their own, in all and of one namespace: a tenant may have thousands.
const MAX_POLICIES: usize = 200;
const MAX_POLICIES_OF_NAMESPACE: usize = 50;
/// The label of all others.
const OTHER: &str = "other";

/// How many workloads each policy counts, by state.
pub(super) type PolicyCounts = BTreeMap<PolicyKey, HashMap<WorkloadState, i64>>;

/// The policies with series of their own, and the published series.
#[derive(Default)]
pub(super) struct PolicyMetrics {
    own: BTreeSet<PolicyKey>,
    published: HashSet<PolicyWorkloadLabels>,
}

impl PolicyMetrics {
    /// Sets the counts of the policies that exist, and removes those of deleted ones.
    pub(super) fn publish(
        &mut self,
        metrics: &Metrics,
        policies: impl IntoIterator<Item = PolicyKey>,
        counts: &PolicyCounts,
    ) {
        let policies: BTreeSet<_> = policies.into_iter().collect();
        self.own = with_own_series(&policies, &self.own);
        let series = series(&policies, &self.own, counts);
        for (labels, count) in &series {
            metrics.policy_workloads.get_or_create(labels).set(*count);
        }
        for labels in self.published.iter().filter(|labels| !series.contains_key(*labels)) {
            metrics.policy_workloads.remove(labels);
        }
        self.published = series.into_keys().collect();
    }
}

/// The policies that have series of their own: cluster policies first, then those that had them `before`, then the
/// others, each in the order of namespaces and names. So a policy that is created and deleted again and again moves no
/// other one between its own series and the sum.
fn with_own_series(policies: &BTreeSet<PolicyKey>, before: &BTreeSet<PolicyKey>) -> BTreeSet<PolicyKey> {
    let mut ranked: Vec<_> = policies.iter().collect();
    ranked.sort_by_key(|policy| (!policy.is_cluster_scoped(), !before.contains(*policy)));
    let (mut own, mut of_namespaces) = (BTreeSet::new(), HashMap::<&str, usize>::new());
    for policy in ranked {
        let of_namespace = of_namespaces.entry(policy.namespace()).or_default();
        if own.len() < MAX_POLICIES && *of_namespace < MAX_POLICIES_OF_NAMESPACE {
            *of_namespace += 1;
            own.insert(policy.clone());
        }
    }
    own
}

/// All states of each policy, also those without workloads.
fn series(
    policies: &BTreeSet<PolicyKey>,
    own: &BTreeSet<PolicyKey>,
    counts: &PolicyCounts,
) -> HashMap<PolicyWorkloadLabels, i64> {
    let mut series = HashMap::new();
    for policy in policies {
        let (kind, namespace, name) = if own.contains(policy) {
            (policy.kind(), policy.namespace(), policy.name())
        } else {
            (OTHER, "", OTHER)
        };
        for &state in WorkloadState::ALL {
            let labels = PolicyWorkloadLabels {
                policy_kind: KindLabel(kind),
                policy_namespace: namespace.to_owned(),
                policy: name.to_owned(),
                state,
            };
            let count = counts.get(policy).and_then(|counts| counts.get(&state));
            *series.entry(labels).or_default() += count.copied().unwrap_or_default();
        }
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::policy_key, plan::Source};

    fn policy(namespace: &str, name: &str) -> PolicyKey {
        policy_key(namespace, &Source::Policy(name.to_owned()))
    }

    /// Each policy counts one injected workload.
    fn counts(policies: &[PolicyKey]) -> PolicyCounts {
        let counts = |policy: &PolicyKey| (policy.clone(), HashMap::from([(WorkloadState::Injected, 1)]));
        policies.iter().map(counts).collect()
    }

    /// The policies with injected workloads, with their numbers.
    fn injected(policies: &[PolicyKey]) -> BTreeMap<(&'static str, String, String), i64> {
        let all: BTreeSet<_> = policies.iter().cloned().collect();
        let series = series(&all, &with_own_series(&all, &BTreeSet::new()), &counts(policies));
        let injected = series.into_iter().filter(|(labels, _)| labels.state == WorkloadState::Injected);
        injected
            .map(|(labels, count)| ((labels.policy_kind.0, labels.policy_namespace, labels.policy), count))
            .collect()
    }

    #[test]
    fn policies_beyond_the_limits_are_summed() {
        let other = || ("other", String::new(), "other".to_owned());
        let tenant = |number| policy("a-tenant", &format!("{number:03}"));
        let mut policies: Vec<_> = (0..MAX_POLICIES_OF_NAMESPACE + 7).map(tenant).collect();
        policies.push(policy("shop", "other"));
        policies.push(policy_key("", &Source::ClusterPolicy("other".into())));
        let found = injected(&policies);
        assert_eq!(found.len(), MAX_POLICIES_OF_NAMESPACE + 3);
        assert_eq!(found[&other()], 7);
        assert_eq!(found[&("GracefulPolicy", "shop".to_owned(), "other".to_owned())], 1);
        assert_eq!(found[&("ClusterGracefulPolicy", String::new(), "other".to_owned())], 1);

        let of = |number: usize| policy(&(number % 20).to_string(), &format!("{number:03}"));
        let policies: Vec<_> = (0..MAX_POLICIES + 30).map(of).collect();
        let found = injected(&policies);
        assert_eq!((found.len(), found[&other()]), (MAX_POLICIES + 1, 30));
    }

    #[test]
    fn a_policy_that_is_created_and_deleted_again_and_again_moves_no_other() {
        let (metrics, mut published) = (Metrics::default(), PolicyMetrics::default());
        let mut publish = |policies: &[PolicyKey]| {
            published.publish(&metrics, policies.iter().cloned(), &counts(policies));
            let lines = metrics.render().unwrap();
            let lines = lines.lines().filter(|line| line.starts_with("adieu_policy_workloads{")).count();
            assert_eq!(lines, (MAX_POLICIES + 1) * WorkloadState::ALL.len());
            published.own.clone()
        };
        let mut policies: Vec<_> = (0..MAX_POLICIES + 30)
            .map(|number| policy(&(number % 20).to_string(), &number.to_string()))
            .collect();
        let own = publish(&policies);
        for number in 0..20 {
            // It is the first by name.
            policies.push(policy("-", &number.to_string()));
            assert_eq!(publish(&policies), own);
            policies.pop();
            assert_eq!(publish(&policies), own);
        }
        // The series of a deleted one are for another, which keeps them.
        let deleted = policies.remove(0);
        assert!(own.contains(&deleted));
        let after = publish(&policies);
        policies.push(deleted);
        assert_eq!(publish(&policies), after);
        let cluster_policy = policy_key("", &Source::ClusterPolicy("all".into()));
        policies.push(cluster_policy.clone());
        assert!(publish(&policies).contains(&cluster_policy));
    }

    #[test]
    fn a_deleted_policy_has_no_series() {
        let (metrics, mut published) = (Metrics::default(), PolicyMetrics::default());
        let policies = ["checkout", "search"].map(|name| policy("shop", name));
        let counts = counts(&policies);
        let line = |name: &str, state: &str, count: usize| {
            format!(
                "adieu_policy_workloads{{policy_kind=\"GracefulPolicy\",policy_namespace=\"shop\",\
                 policy=\"{name}\",state=\"{state}\"}} {count}"
            )
        };
        published.publish(&metrics, policies.clone(), &counts);
        let text = metrics.render().unwrap();
        for line in
            [line("checkout", "injected", 1), line("search", "injected", 1), line("search", "blocked", 0)]
        {
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
        // Its workloads may not be evaluated without it yet.
        published.publish(&metrics, policies.into_iter().take(1), &counts);
        let text = metrics.render().unwrap();
        assert!(text.contains(&line("checkout", "injected", 1)) && !text.contains("search"), "{text}");
    }
}
