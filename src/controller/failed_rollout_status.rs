//! Failed rollouts in the status of policies. The next leader can't derive them from the workloads.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;

use crate::{
    api::{FailedRolloutStatus, limits},
    keys::{PolicyKey, WorkloadKey as Key},
    scheduler::FailedRollout,
};

/// The failures as the status of a policy records them. If not all fit, one of each namespace comes before the others,
/// because a cluster policy stops in each of these namespaces, and `superseded` ones, which stop nothing, come last.
pub(super) fn recorded(
    policy: &PolicyKey,
    failures: &[FailedRollout],
    superseded: &[FailedRollout],
) -> Vec<FailedRolloutStatus> {
    let record = |failure: &FailedRollout| {
        let FailedRollout { workload, uid, generation, desired_template, template, reason, time } =
            failure.clone();
        FailedRolloutStatus {
            namespace: policy.is_cluster_scoped().then_some(workload.namespace),
            kind: workload.kind,
            name: workload.name,
            uid,
            policy_generation: generation,
            plan_hash: desired_template.map(hash_text),
            template_hash: template.map(hash_text),
            reason,
            failure_time: time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    };
    let mut namespaces = BTreeSet::new();
    let (mut chosen, others): (Vec<_>, Vec<_>) =
        failures.iter().enumerate().partition(|(_, failure)| namespaces.insert(&failure.workload.namespace));
    chosen.extend(others);
    chosen.truncate(limits::FAILED_ROLLOUTS);
    chosen.sort_by_key(|(index, _)| *index);
    let chosen = chosen.into_iter().map(|(_, failure)| failure);
    chosen.chain(superseded).take(limits::FAILED_ROLLOUTS).map(record).collect()
}

/// The failures that a status records.
pub(super) fn restored(policy: &PolicyKey, recorded: &[FailedRolloutStatus]) -> Vec<FailedRollout> {
    let restore = |record: &FailedRolloutStatus| {
        let FailedRolloutStatus { namespace, kind, name, uid, policy_generation, .. } = record.clone();
        let namespace = namespace.unwrap_or_else(|| policy.namespace().to_owned());
        FailedRollout {
            workload: Key { namespace, kind, name },
            uid,
            generation: policy_generation,
            desired_template: record.plan_hash.as_deref().and_then(hash),
            template: record.template_hash.as_deref().and_then(hash),
            reason: record.reason,
            time: record.failure_time.parse().unwrap_or(Timestamp::UNIX_EPOCH),
        }
    };
    recorded.iter().map(restore).collect()
}

/// Another version of adieu may compute another hash of the same template.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn hash_text(hash: u64) -> String {
    format!("{VERSION}/{hash:016x}")
}

/// The hash, if this version of adieu computed it.
fn hash(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix(VERSION)?.strip_prefix('/')?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::RolloutFailureReason,
        keys::policy_key,
        plan::{Kind, Source},
    };

    #[test]
    fn recorded_failures_are_restored() {
        for (policy, namespace) in [
            (policy_key("shop", &Source::Policy("all".into())), None),
            (policy_key("", &Source::ClusterPolicy("all".into())), Some("shop".to_owned())),
        ] {
            let failure = FailedRollout {
                workload: Key { namespace: "shop".into(), kind: Kind::StatefulSet, name: "db".into() },
                uid: Some("1-2".into()),
                generation: Some(3),
                desired_template: Some(7),
                template: Some(u64::MAX),
                reason: RolloutFailureReason::ReplicaFailure,
                time: "2026-01-02T03:04:05Z".parse().unwrap(),
            };
            let many = vec![failure.clone(); limits::FAILED_ROLLOUTS + 1];
            let status = recorded(&policy, &many, &[]);
            assert_eq!(status.len(), limits::FAILED_ROLLOUTS);
            assert_eq!(status[0].namespace, namespace);
            assert_eq!(status[0].failure_time, "2026-01-02T03:04:05Z");
            assert_eq!(restored(&policy, &status[..1]), std::slice::from_ref(&failure));

            let mut of_another_version = status[0].clone();
            of_another_version.plan_hash = Some("0.0.1-alpha/0000000000000007".into());
            of_another_version.template_hash = None;
            let unknown = FailedRollout { desired_template: None, template: None, ..failure };
            assert_eq!(restored(&policy, &[of_another_version]), [unknown]);
        }
    }

    #[test]
    fn one_failure_of_each_namespace_is_recorded_first() {
        let policy = policy_key("", &Source::ClusterPolicy("all".into()));
        let failure = |namespace: &str, name: usize| FailedRollout {
            workload: Key { namespace: namespace.into(), kind: Kind::Deployment, name: name.to_string() },
            uid: None,
            generation: None,
            desired_template: None,
            template: None,
            reason: RolloutFailureReason::ProgressDeadlineExceeded,
            time: Timestamp::UNIX_EPOCH,
        };
        let mut failures: Vec<_> = (0..limits::FAILED_ROLLOUTS).map(|name| failure("many", name)).collect();
        failures.push(failure("one", 0));
        let recorded = recorded(&policy, &failures, &[failure("superseded", 0)]);
        assert_eq!(recorded.len(), limits::FAILED_ROLLOUTS);
        let namespaces: Vec<_> = recorded.iter().filter_map(|record| record.namespace.as_deref()).collect();
        assert_eq!((namespaces[0], *namespaces.last().unwrap()), ("many", "one"));
    }
}
