//! How a policy's condition `Stalled` names the workloads whose rollout failed: to people, and to whoever leads
//! next.

use std::collections::BTreeSet;

use kube::ResourceExt as _;

use super::keys::{Key, PolicyKey, policy_key};
use crate::{
    api::GracefulPolicyStatus,
    plan::{Source, Surroundings},
};

/// How many workloads a condition names at most.
const NAMED: usize = 10;

/// How the condition `Stalled` names the workloads whose rollout failed.
pub(super) fn rollout_failed(names: &BTreeSet<String>) -> String {
    let named: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    let named = named.join(", ");
    match names.len() {
        1 => format!("the rollout of {named} failed"),
        all if all > NAMED => format!("the rollouts of {named} and {} more failed", all - NAMED),
        _ => format!("the rollouts of {named} failed"),
    }
}

/// Whether a condition that was written so names this workload.
fn names_failed(message: &str, name: &str) -> bool {
    let rest = message.strip_prefix("the rollout of ").or_else(|| message.strip_prefix("the rollouts of "));
    let names = rest.and_then(|rest| rest.split_once(" failed")).map_or("", |(names, _)| names);
    // The last one may be followed by how many more there are.
    names.split(", ").any(|named| named.split(' ').next() == Some(name))
}

/// How a policy's status names a workload: one of the cluster's with the namespace.
pub(super) fn name_for(policy: &Source, key: &Key) -> String {
    match policy {
        Source::ClusterPolicy(_) => format!("{}/{}", key.namespace, key.name),
        _ => key.name.clone(),
    }
}

/// The policies whose status says that the rollout of this workload failed; where `still`, only as they are now.
pub(super) fn stalled_by(key: &Key, around: &Surroundings, still: bool) -> BTreeSet<PolicyKey> {
    let policies =
        around.policies.iter().map(|p| (Source::Policy(p.name_any()), &p.status, p.metadata.generation));
    let of_cluster = around
        .cluster_policies
        .iter()
        .map(|p| (Source::ClusterPolicy(p.name_any()), &p.status, p.metadata.generation));
    let says_so = |(policy, status, generation): &(Source, &Option<GracefulPolicyStatus>, Option<i64>)| {
        let name = name_for(policy, key);
        status.iter().flat_map(|status| &status.conditions).any(|condition| {
            condition.type_ == "Stalled"
                && condition.status == "True"
                && (!still || condition.observed_generation == *generation)
                && names_failed(&condition.message, &name)
        })
    };
    let stalled = policies.chain(of_cluster).filter(says_so);
    stalled.map(|(policy, ..)| policy_key(&key.namespace, &policy)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_the_condition_finds_the_workloads_that_it_names() {
        let failed =
            |count: usize| -> BTreeSet<String> { (0..count).map(|n| format!("shop/web-{n:02}")).collect() };
        assert_eq!(rollout_failed(&failed(1)), "the rollout of shop/web-00 failed");
        assert_eq!(rollout_failed(&failed(2)), "the rollouts of shop/web-00, shop/web-01 failed");
        let many = rollout_failed(&failed(13));
        assert!(many.ends_with("shop/web-09 and 3 more failed"), "{many}");
        for (message, last) in [(rollout_failed(&failed(1)), 0), (rollout_failed(&failed(2)), 1), (many, 9)] {
            let message = format!("{message}, and 2 workloads wait: mend it, or change the policy");
            for n in 0..=last {
                assert!(names_failed(&message, &format!("shop/web-{n:02}")), "{n}: {message}");
            }
            for other in ["shop/web-10", "shop/web-0", "web-00", "more", "and", ""] {
                assert!(!names_failed(&message, other), "{other}: {message}");
            }
        }
    }
}
