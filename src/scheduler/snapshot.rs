//! A workload, as far as scheduling is concerned.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::jiff::Timestamp;

use crate::{
    index::{
        EvaluatedWorkload, PolicyKey,
        progress::{Progress, ReplicaCounts},
    },
    plan::{InjectionState, RolloutTiming},
};

/// A workload as it was last evaluated.
// Each is a fact of its own.
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
    /// The template that it shall have, as a hash. `None` if that is the one it has.
    pub plan: Option<u64>,
    /// Whether it waits for a slot to be written.
    pub is_queued: bool,
    /// The policies that ask for a rollout, and how many rollouts each has at a time.
    pub asked_by: BTreeMap<PolicyKey, usize>,
    /// The policies that a rollout of it may be for.
    pub rolled_out_by: Vec<PolicyKey>,
    /// How far its rollout is.
    pub progress: Progress,
    /// Its replicas, once its controller has observed the generation.
    pub counts: Option<ReplicaCounts>,
    /// How long its rollout may make no progress.
    pub patience: Duration,
    /// What its controller says of the rollout, as a hash.
    pub said: Option<u64>,
    /// Whether the rollout was complete once, and every pod is still of that template.
    pub was_complete: bool,
    /// Whether every pod of a DaemonSet is of the current template.
    pub is_updated: bool,
    /// Whether its controller says that pods can't be created.
    pub replica_failure: bool,
}

impl Snapshot {
    /// What an evaluation says. `None` of a workload that is not managed or too large: it is never written.
    #[must_use]
    pub fn of(evaluation: &EvaluatedWorkload) -> Option<Self> {
        let EvaluatedWorkload { decision, rollout } = evaluation;
        let is_managed = decision.state != InjectionState::Unmanaged || decision.planned.is_some();
        (is_managed && !decision.too_large).then(|| Self {
            uid: decision.uid.clone(),
            generation: rollout.generation.unwrap_or(0),
            created: decision.created,
            template: decision.template,
            plan: decision.planned,
            is_queued: decision.planned.is_some() && decision.timing == RolloutTiming::Queued,
            asked_by: decision.asked_by.clone(),
            rolled_out_by: decision.rolled_out_by.clone(),
            progress: rollout.progress,
            counts: rollout.counts,
            patience: rollout.patience,
            said: rollout.condition,
            was_complete: rollout.was_complete,
            is_updated: rollout.is_updated,
            replica_failure: rollout.replica_failure,
        })
    }

    /// Whether it is as it shall be, and complete.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_queued && self.progress == Progress::Complete
    }
}
