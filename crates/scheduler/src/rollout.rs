//! A rollout that was started here: its progress, and whether it failed.

use std::{collections::BTreeSet, time::Duration};

use adieu_core::{api::RolloutFailureReason, keys::PolicyKey};
use k8s_openapi::jiff::Timestamp;

use super::{
    canary::CANARY_SLOT_TTL,
    progress::{BestCounts, RolloutState, is_condition_of_rollout},
    snapshot::Snapshot,
    time::later,
};

/// The longest that a rollout may take in all, however many replicas it has.
const MAX_ROLLOUT_DURATION: Duration = Duration::from_hours(7 * 24);

/// The API server's answer when a workload was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenRevision {
    /// Its `metadata.generation`.
    pub generation: i64,
    /// The stored pod template, as a hash.
    pub template: u64,
}

/// A rollout that was started here and is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rollout {
    /// The policies that it is for.
    pub(super) policies: BTreeSet<PolicyKey>,
    /// The template that was written, as a hash. `None` if it is unknown.
    pub(super) desired_template: Option<u64>,
    pub(super) written: WrittenRevision,
    /// Whether it has failed.
    pub(super) has_failed: bool,
    /// Whether it holds no slot: a previous leader started it, and more than there are slots for.
    pub(super) is_without_slot: bool,
    /// The workload's progress deadline before the rollout: its old pods may take longer to terminate than the new ones.
    progress_deadline: Duration,
    /// The condition `Progressing` of the previous rollout, as a hash.
    condition_before: Option<u64>,
    started: Timestamp,
    last_progress: Timestamp,
    best_counts: Option<BestCounts>,
    /// Whether the workload was scaled to zero behind a Service when it was written.
    may_be_canary_source: bool,
}

impl Rollout {
    /// One in progress, as in `snapshot`.
    pub(super) fn of(snapshot: &Snapshot, policies: BTreeSet<PolicyKey>, now: Timestamp) -> Self {
        Self {
            policies,
            desired_template: None,
            written: WrittenRevision { generation: snapshot.generation, template: snapshot.current_template },
            has_failed: false,
            is_without_slot: false,
            progress_deadline: Duration::ZERO,
            condition_before: None,
            started: now,
            last_progress: now,
            best_counts: None,
            may_be_canary_source: false,
        }
    }

    /// One that starts when the desired template of `before` is written.
    pub(super) fn started(before: &Snapshot, policies: BTreeSet<PolicyKey>, now: Timestamp) -> Self {
        let (desired_template, progress_deadline, condition_before) =
            (before.desired_template, before.progress_deadline, before.condition);
        let may_be_canary_source = before.may_be_canary_source();
        Self {
            desired_template,
            progress_deadline,
            condition_before,
            may_be_canary_source,
            ..Self::of(before, policies, now)
        }
    }

    /// The same, once the API server has answered.
    pub(super) fn committed(self, written: WrittenRevision, now: Timestamp) -> Self {
        Self { written, started: now, last_progress: now, ..self }
    }

    /// Whether it holds a slot until it is over.
    pub(super) fn holds_slot(&self) -> bool {
        !self.has_failed && !self.is_without_slot
    }

    /// Whether the written generation is not observed yet.
    pub(super) fn is_ahead_of(&self, snapshot: &Snapshot) -> bool {
        snapshot.generation < self.written.generation
    }

    /// Whether it is over: the workload is complete, or was, and has unavailable pods since.
    pub(super) fn is_over(&self, snapshot: &Snapshot) -> bool {
        // A failed rollout is fixed by pods that work, not by the absence of pods.
        let is_complete = if self.has_failed {
            snapshot.has_working_pods()
        } else {
            snapshot.rollout_state == RolloutState::Complete
        };
        is_complete || self.was_complete(snapshot)
    }

    /// Until when it keeps its slot though it is over.
    pub(super) fn kept_until(&self) -> Timestamp {
        let is_kept = self.may_be_canary_source && !self.has_failed;
        if is_kept { later(self.started, CANARY_SLOT_TTL) } else { self.started }
    }

    /// Whether the workload was complete, and has unavailable pods since, which is not a rollout.
    fn was_complete(&self, snapshot: &Snapshot) -> bool {
        snapshot.rollout_state == RolloutState::Progressing
            && snapshot.was_complete
            && self.is_reported_by(snapshot)
    }

    /// Whether the condition `Progressing` is of this rollout, and not of the previous one.
    fn is_reported_by(&self, snapshot: &Snapshot) -> bool {
        is_condition_of_rollout(snapshot.condition, self.condition_before)
    }

    /// Records its progress.
    pub(super) fn observe(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let Some(counts) = snapshot.counts else { return };
        if BestCounts::update(&mut self.best_counts, snapshot.generation, counts) {
            self.last_progress = now;
        }
    }

    /// When it fails unless it makes progress before, or when it releases its slot if it is over.
    pub(super) fn deadline(&self, snapshot: &Snapshot) -> Timestamp {
        if !self.is_ahead_of(snapshot) && self.is_over(snapshot) {
            return self.kept_until();
        }
        later(self.last_progress, self.progress_deadline(snapshot)).min(self.total_deadline(snapshot))
    }

    /// Why it has failed, if it has.
    pub(super) fn failure(&self, snapshot: &Snapshot, now: Timestamp) -> Option<RolloutFailureReason> {
        let is_reported = snapshot.rollout_state == RolloutState::Failed
            && self.is_reported_by(snapshot)
            && !self.is_ahead_of(snapshot);
        if is_reported || now >= later(self.last_progress, self.progress_deadline(snapshot)) {
            return Some(if snapshot.replica_failure {
                RolloutFailureReason::ReplicaFailure
            } else {
                RolloutFailureReason::ProgressDeadlineExceeded
            });
        }
        (now >= self.total_deadline(snapshot)).then_some(RolloutFailureReason::TotalTimeExceeded)
    }

    fn progress_deadline(&self, snapshot: &Snapshot) -> Duration {
        snapshot.progress_deadline.max(self.progress_deadline)
    }

    /// When its total time is over: its progress deadline for each replica and once more, at most
    /// [`MAX_ROLLOUT_DURATION`].
    fn total_deadline(&self, snapshot: &Snapshot) -> Timestamp {
        let replicas =
            self.best_counts.map_or(1, |best| u32::try_from(best.desired().max(1)).unwrap_or(u32::MAX));
        let progress_deadline = self.progress_deadline(snapshot);
        let total = progress_deadline
            .saturating_mul(replicas.saturating_add(1))
            .min(MAX_ROLLOUT_DURATION)
            .max(progress_deadline);
        later(self.started, total)
    }
}
