//! A workload, as far as scheduling is concerned.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::jiff::Timestamp;

use crate::{
    index::{
        EvaluatedWorkload, PolicyKey,
        progress::{Progress, ReplicaCounts, Suspended},
    },
    plan::{InjectionState, RolloutTiming},
};

/// A workload as it was last evaluated.
// The flags are independent.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its uid.
    pub uid: Option<String>,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Its pod template, as a hash.
    pub template: u64,
    /// The planned template, as a hash. `None` if it is the current one.
    pub plan: Option<u64>,
    /// Whether it waits for a slot to be written.
    pub is_queued: bool,
    /// The policies that ask for a rollout, and how many rollouts each has at a time.
    pub requested_by: BTreeMap<PolicyKey, usize>,
    /// How many workloads of its namespace may roll out at a time. `None`: no limit.
    pub namespace_limit: Option<usize>,
    /// The policies that a rollout of it may be for.
    pub rolled_out_by: Vec<PolicyKey>,
    /// How far its rollout is.
    pub progress: Progress,
    /// Its replicas, once its controller has observed the generation.
    pub counts: Option<ReplicaCounts>,
    /// How long its rollout may make no progress.
    pub patience: Duration,
    /// The message of its condition `Progressing`, as a hash.
    pub condition: Option<u64>,
    /// Whether the rollout was complete once, and every pod is still of that template.
    pub was_complete: bool,
    /// Whether every pod of a DaemonSet is of the current template.
    pub is_updated: bool,
    /// Why it rolls out no pods, and counts as complete, if it doesn't.
    pub suspended: Option<Suspended>,
    /// Whether its controller reports that pods can't be created.
    pub replica_failure: bool,
}

impl Snapshot {
    /// The snapshot of an evaluation. `None` for a workload that is not managed or too large: it is never written.
    #[must_use]
    pub fn of(evaluation: &EvaluatedWorkload) -> Option<Self> {
        let EvaluatedWorkload { desired: decision, rollout } = evaluation;
        let is_managed = decision.state != InjectionState::Unmanaged || decision.planned.is_some();
        (is_managed && !decision.too_large).then(|| Self {
            uid: decision.uid.clone(),
            generation: rollout.generation.unwrap_or(0),
            created: decision.created,
            template: decision.template,
            plan: decision.planned,
            is_queued: decision.planned.is_some() && decision.timing == RolloutTiming::Queued,
            requested_by: decision.requested_by.clone(),
            namespace_limit: decision.namespace_limit,
            rolled_out_by: decision.rolled_out_by.clone(),
            progress: rollout.progress,
            counts: rollout.counts,
            patience: rollout.patience,
            condition: rollout.condition,
            was_complete: rollout.was_complete,
            is_updated: rollout.is_updated,
            suspended: rollout.suspended,
            replica_failure: rollout.replica_failure,
        })
    }

    /// Whether it is complete, and waits for no slot.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_queued && self.progress == Progress::Complete
    }

    /// Whether its pods show that its template works.
    pub(super) fn is_proven(&self) -> bool {
        self.progress == Progress::Complete && self.suspended.is_none()
    }

    /// Whether a canary tool may roll out its template in other pods.
    pub(super) fn may_roll_out_elsewhere(&self) -> bool {
        self.suspended == Some(Suspended::ScaledToZeroWithService)
    }
}
