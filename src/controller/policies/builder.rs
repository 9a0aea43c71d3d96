//! Counts the workloads of a policy, and collects what its conditions report.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    api::{WorkloadCounts, limits},
    controller::backoff::{Backoff, BlockReason},
    index::{DesiredState, EvaluatedWorkload},
    keys::{PolicyKey, WorkloadKey as Key},
    plan::{InjectionState, RolloutTiming, Source},
    scheduler::PolicyFailures,
};

/// The reasons not to write workloads.
pub(super) struct Blockers<'a> {
    /// Whether failures stop a policy in a namespace.
    pub(super) is_stopped: &'a (dyn Fn(&PolicyKey, &str) -> bool + Sync),
    pub(super) backoff: &'a Backoff,
}

/// A workload that can't be written, and why.
pub(super) struct BlockedWorkload {
    pub(super) name: String,
    pub(super) reason: BlockReason,
    pub(super) message: String,
}

/// The states of the workloads that a policy applies to.
#[derive(Default)]
pub(super) struct StatusBuilder {
    /// Whether it is a cluster policy.
    pub(super) is_cluster_scoped: bool,
    pub(super) counts: WorkloadCounts,
    /// How many are injected by their pods.
    pub(super) pod_injection: usize,
    /// How many are not reverted yet, and how many are.
    pub(super) reverting: usize,
    pub(super) reverted: usize,
    /// Workloads for which another policy takes precedence.
    pub(super) overridden: Vec<String>,
    /// Those that can't be injected, and why.
    pub(super) unsatisfiable: Option<(String, String)>,
    /// How many have a drain that is too short for their exposures, and why the first of them has.
    pub(super) short_drains: usize,
    pub(super) short_drain: Option<(String, String)>,
    /// Those that can't be written.
    pub(super) blocked: Vec<BlockedWorkload>,
    /// The failed rollouts.
    pub(super) failures: PolicyFailures,
    /// How many wait for the next change of their template.
    pub(super) next_update: usize,
    /// How many wait for other policies that are stopped, and those policies.
    pub(super) delayed: usize,
    pub(super) delayed_by: BTreeSet<Source>,
}

impl StatusBuilder {
    pub(super) fn of(
        policy: &PolicyKey,
        workloads: &[(Key, Arc<EvaluatedWorkload>)],
        blockers: &Blockers<'_>,
    ) -> Self {
        let mut builder = Self { is_cluster_scoped: policy.is_cluster_scoped(), ..Self::default() };
        for (key, evaluation) in workloads {
            let desired = &evaluation.desired;
            if desired.overridden_policies.contains(policy) {
                builder.overridden.push(name_in(policy.is_cluster_scoped(), key));
            }
            if desired.counted_by.contains(policy) {
                builder.count(policy, key, desired, blockers);
            }
        }
        builder
    }

    fn count(&mut self, policy: &PolicyKey, key: &Key, desired: &DesiredState, blockers: &Blockers<'_>) {
        let name = || name_in(policy.is_cluster_scoped(), key);
        self.counts.matched += 1;
        match desired.state {
            InjectionState::Injected => self.counts.injected += 1,
            InjectionState::Pending => {
                self.counts.pending += 1;
                let cause = blockers.backoff.cause(key);
                let blocked = |(reason, message)| BlockedWorkload { name: name(), reason, message };
                self.blocked.extend(cause.map(blocked));
                self.reverting += usize::from(desired.reverts);
                self.next_update += usize::from(desired.timing == RolloutTiming::NextUpdate);
                if desired.timing == RolloutTiming::Queued {
                    let others = desired.requested_by.keys().filter(|other| *other != policy);
                    let is_stopped = |other: &&PolicyKey| (blockers.is_stopped)(other, &key.namespace);
                    let stopped: Vec<_> = others.filter(is_stopped).collect();
                    self.delayed += usize::from(!stopped.is_empty());
                    self.delayed_by.extend(stopped.into_iter().map(|policy| policy.source().clone()));
                }
            }
            InjectionState::Unsatisfiable => {
                self.counts.unsatisfiable += 1;
                self.unsatisfiable.get_or_insert_with(|| (name(), desired.unsatisfiable_reasons.join("; ")));
            }
            InjectionState::PodInjection => self.pod_injection += 1,
            InjectionState::Reverted => self.reverted += 1,
            InjectionState::Unmanaged => {}
        }
        if let Some(short) = &desired.short_drain {
            self.short_drains += 1;
            self.short_drain.get_or_insert_with(|| (name(), short.to_string()));
        }
    }

    pub(super) fn set_failures(&mut self, failures: PolicyFailures) {
        let failed = failures.current.len() + failures.superseded.len();
        self.counts.rollout_failed = i32::try_from(failed).unwrap_or(limits::WORKLOADS);
        self.failures = failures;
    }

    /// Whether failures stop the policy, everywhere or in some namespaces.
    pub(super) fn is_stopped(&self) -> bool {
        self.failures.is_limit_reached || self.is_cluster_scoped && !self.failures.current.is_empty()
    }
}

/// How the status of a policy names a workload: that of a cluster policy with the namespace.
pub(super) fn name_in(is_cluster_scoped: bool, key: &Key) -> String {
    if is_cluster_scoped { format!("{}/{}", key.namespace, key.name) } else { key.name.clone() }
}
