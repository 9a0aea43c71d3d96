//! A rollout that was started here: its progress, and whether it failed.

use std::{collections::BTreeSet, time::Duration};

use adieu_core::{api::RolloutFailureReason, keys::PolicyKey};
use k8s_openapi::jiff::Timestamp;

use super::{
    progress::{Progress, ReplicaCounts},
    snapshot::Snapshot,
    time::later,
};

/// The longest that a rollout may take in all, however many replicas it has.
const LONGEST: Duration = Duration::from_hours(7 * 24);

/// How long a workload that is scaled to zero behind a Service keeps its slot. Its own rollout is complete immediately, but a canary
/// tool may roll out its template in other pods: Argo Rollouts those of a Rollout (`workloadRef`), Flagger those of
/// `NAME-primary`. Neither leaves a mark on the workload.
pub(super) const ELSEWHERE_TTL: Duration = Duration::from_mins(1);

/// The API server's answer when a workload was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutMark {
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
    pub(super) plan: Option<u64>,
    pub(super) mark: RolloutMark,
    /// Whether it has failed.
    pub(super) has_failed: bool,
    /// The workload's progress deadline before the rollout: its old pods may take longer to terminate than the new ones.
    progress_deadline: Duration,
    /// The condition `Progressing` of the previous rollout, as a hash. The Deployment controller keeps it while pods of
    /// an older ReplicaSet start again (`syncRolloutStatus`).
    condition_before: Option<u64>,
    started: Timestamp,
    progressed: Timestamp,
    /// The best counts so far, and the generation that they were last observed in.
    best: Option<ReplicaCounts>,
    best_generation: i64,
    /// Whether the workload was scaled to zero behind a Service when it was written.
    may_roll_out_elsewhere: bool,
}

impl Rollout {
    /// One in progress, as in `snapshot`.
    pub(super) fn of(snapshot: &Snapshot, policies: BTreeSet<PolicyKey>, now: Timestamp) -> Self {
        Self {
            policies,
            plan: None,
            mark: RolloutMark { generation: snapshot.generation, template: snapshot.template },
            has_failed: false,
            progress_deadline: Duration::ZERO,
            condition_before: None,
            started: now,
            progressed: now,
            best: None,
            best_generation: snapshot.generation,
            may_roll_out_elsewhere: false,
        }
    }

    /// One that starts when the plan of `before` is written.
    pub(super) fn started(before: &Snapshot, policies: BTreeSet<PolicyKey>, now: Timestamp) -> Self {
        let (plan, progress_deadline, condition_before) =
            (before.plan, before.progress_deadline, before.condition);
        let may_roll_out_elsewhere = before.may_roll_out_elsewhere();
        Self {
            plan,
            progress_deadline,
            condition_before,
            may_roll_out_elsewhere,
            ..Self::of(before, policies, now)
        }
    }

    /// The same, once the API server has answered.
    pub(super) fn written(self, mark: RolloutMark, now: Timestamp) -> Self {
        Self { mark, started: now, progressed: now, ..self }
    }

    /// Whether the written generation is not observed yet.
    pub(super) fn is_ahead_of(&self, snapshot: &Snapshot) -> bool {
        snapshot.generation < self.mark.generation
    }

    /// Whether it is over: the workload is complete, or was, and has unavailable pods since.
    pub(super) fn is_over(&self, snapshot: &Snapshot) -> bool {
        // A failed rollout is fixed by pods that work, not by the absence of pods.
        let is_complete =
            if self.has_failed { snapshot.is_proven() } else { snapshot.progress == Progress::Complete };
        is_complete || self.was_complete(snapshot)
    }

    /// Until when it keeps its slot though it is over.
    pub(super) fn kept_until(&self) -> Timestamp {
        let is_kept = self.may_roll_out_elsewhere && !self.has_failed;
        if is_kept { later(self.started, ELSEWHERE_TTL) } else { self.started }
    }

    /// Whether the workload was complete, and has unavailable pods since, which is not a rollout.
    fn was_complete(&self, snapshot: &Snapshot) -> bool {
        let is_of_this = self.condition_before.is_none_or(|before| snapshot.condition != Some(before));
        snapshot.progress == Progress::Rolling && snapshot.was_complete && is_of_this
    }

    /// Records its progress.
    pub(super) fn observe(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let Some(counts) = snapshot.counts else { return };
        // Another generation with fewer updated replicas is a restart, or scaled down.
        let is_restarted = |best: &ReplicaCounts| {
            snapshot.generation > self.best_generation && counts.updated < best.updated
        };
        let best = self.best.filter(|best| !is_restarted(best));
        self.best_generation = snapshot.generation;
        let Some(best) = best else {
            (self.best, self.progressed) = (Some(counts), now);
            return;
        };
        if counts.improves(best) {
            self.progressed = now;
        }
        self.best = Some(best.best(counts));
    }

    /// When it fails unless it makes progress before, or when it releases its slot if it is over.
    pub(super) fn deadline(&self, snapshot: &Snapshot) -> Timestamp {
        if !self.is_ahead_of(snapshot) && self.is_over(snapshot) {
            return self.kept_until();
        }
        later(self.progressed, self.progress_deadline(snapshot)).min(self.end(snapshot))
    }

    /// Why it has failed, if it has.
    pub(super) fn failure(&self, snapshot: &Snapshot, now: Timestamp) -> Option<RolloutFailureReason> {
        // A rollout to an older ReplicaSet first has the condition of the previous rollout.
        let is_of_this = self.condition_before.is_none() || snapshot.condition != self.condition_before;
        let is_reported = snapshot.progress == Progress::Failed && is_of_this && !self.is_ahead_of(snapshot);
        if is_reported || now >= later(self.progressed, self.progress_deadline(snapshot)) {
            return Some(if snapshot.replica_failure {
                RolloutFailureReason::ReplicaFailure
            } else {
                RolloutFailureReason::ProgressDeadlineExceeded
            });
        }
        (now >= self.end(snapshot)).then_some(RolloutFailureReason::TotalTimeExceeded)
    }

    fn progress_deadline(&self, snapshot: &Snapshot) -> Duration {
        snapshot.progress_deadline.max(self.progress_deadline)
    }

    /// When its total time is over: its progress deadline for each replica and once more, at most [`LONGEST`].
    fn end(&self, snapshot: &Snapshot) -> Timestamp {
        let replicas = self.best.map_or(1, |best| u32::try_from(best.desired.max(1)).unwrap_or(u32::MAX));
        let progress_deadline = self.progress_deadline(snapshot);
        let most =
            progress_deadline.saturating_mul(replicas.saturating_add(1)).min(LONGEST).max(progress_deadline);
        later(self.started, most)
    }
}
