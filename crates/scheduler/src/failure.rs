//! Failed rollouts, and how many may fail. Whether they stop a policy is decided in `slots.rs`.

use adieu_core::{
    api::{GracefulPolicySpec, IntOrString, RolloutFailureReason, limits::FAILED_ROLLOUTS},
    keys::WorkloadKey,
};
use k8s_openapi::jiff::Timestamp;

use super::snapshot::Snapshot;

/// A failed rollout of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRollout {
    /// The workload.
    pub workload: WorkloadKey,
    /// The workload's uid.
    pub uid: Option<String>,
    /// The policy's generation when it failed.
    pub generation: Option<i64>,
    /// The template that was written, as a hash. `None` if it is not known, or another version computed it.
    pub desired_template: Option<u64>,
    /// The template that the API server stored, as a hash. `None` as for `desired_template`.
    pub template: Option<u64>,
    /// Why it failed.
    pub reason: RolloutFailureReason,
    /// When it failed.
    pub time: Timestamp,
}

impl FailedRollout {
    /// Whether the workload still has the template that failed. If another version of adieu recorded it, whether it
    /// wants no other.
    pub(super) fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.template
            .map_or(snapshot.desired_template.is_none(), |template| template == snapshot.current_template)
    }

    /// Whether the workload would roll out the failed template again, after it was reverted.
    pub(super) fn is_wanted_again(&self, snapshot: &Snapshot, generation: Option<i64>) -> bool {
        let is_same = self.desired_template.is_none_or(|desired| snapshot.desired_template == Some(desired));
        snapshot.is_queued && is_same && self.generation == generation
    }
}

/// How many rollouts of a policy may fail before no other starts; of a cluster policy, in how many namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailureLimit {
    /// adieu's default for the kind of policy.
    #[default]
    Default,
    /// This many.
    Count(usize),
    /// This percentage of the workloads that the policy matches, rounded up, and at least one.
    Percent(usize),
}

impl FailureLimit {
    /// That of a policy.
    #[must_use]
    pub fn of(policy: &GracefulPolicySpec) -> Self {
        match policy.rollout.as_ref().and_then(|rollout| rollout.max_failures.as_ref()) {
            None => Self::Default,
            Some(IntOrString::Int(number)) => Self::Count(usize::try_from(*number).unwrap_or(1)),
            Some(IntOrString::String(text)) => {
                let percent = text.strip_suffix('%').and_then(|percent| percent.parse().ok());
                percent.map_or(Self::Default, Self::Percent)
            }
        }
    }

    /// The number, for a policy that matches `matched` workloads: at most as many as a status records, because the next
    /// leader knows no more.
    pub(super) fn max_failures(self, matched: usize, default: usize) -> usize {
        let number = match self {
            Self::Default => default,
            Self::Count(count) => count,
            Self::Percent(percent) => matched.saturating_mul(percent).div_ceil(100),
        };
        number.clamp(1, FAILED_ROLLOUTS)
    }
}

/// The failed rollouts of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyFailures {
    /// Those that count towards the limit, the oldest failures first.
    pub current: Vec<FailedRollout>,
    /// Failed rollouts whose policy has since requested another template, the oldest failures first.
    /// They don't count towards the limit.
    pub superseded: Vec<FailedRollout>,
    /// How many may fail before no other starts; of a cluster policy, in how many namespaces.
    pub limit: usize,
    /// Whether that limit is reached, so that no rollout of the policy starts in any namespace.
    pub is_limit_reached: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_or_a_percentage_of_rollouts_may_fail() {
        for (rollout, expected) in [
            (json!({}), FailureLimit::Default),
            (json!({"maxFailures": 5}), FailureLimit::Count(5)),
            (json!({"maxFailures": "5%"}), FailureLimit::Percent(5)),
        ] {
            let spec = serde_json::from_value(json!({"rollout": rollout})).unwrap();
            assert_eq!(FailureLimit::of(&spec), expected);
        }
    }

    #[test]
    fn a_policy_stops_after_as_many_failures_as_a_status_records_at_most() {
        for (limit, matched, expected) in [
            (FailureLimit::Default, 10, 3),
            (FailureLimit::Count(0), 10, 1),
            (FailureLimit::Count(7), 10, 7),
            (FailureLimit::Count(51), 1000, FAILED_ROLLOUTS),
            (FailureLimit::Percent(1), 0, 1),
            (FailureLimit::Percent(5), 101, 6),
            (FailureLimit::Percent(100), 5000, FAILED_ROLLOUTS),
        ] {
            assert_eq!(limit.max_failures(matched, 3), expected, "{limit:?} of {matched}");
        }
    }
}
