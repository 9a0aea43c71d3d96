//! A rollout that was started here: its progress, and whether it failed.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::jiff::Timestamp;

use super::{Snapshot, entry::later};
use crate::{
    api::RolloutFailureReason,
    index::{
        PolicyKey,
        progress::{Progress, ReplicaCounts},
    },
};

/// The longest that a rollout may take in all, however many replicas it has.
const LONGEST: Duration = Duration::from_hours(7 * 24);

/// What the API server answered when a workload was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutMark {
    /// Its `metadata.generation`.
    pub generation: i64,
    /// The stored pod template, as a hash.
    pub template: u64,
}

/// A rollout that was started here and isn't complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rollout {
    /// The policies that it is for.
    pub(super) policies: BTreeSet<PolicyKey>,
    /// The template that was written, as a hash, as far as it is known.
    pub(super) plan: Option<u64>,
    pub(super) mark: RolloutMark,
    /// Whether it has failed.
    pub(super) has_failed: bool,
    /// How long it may make no progress, by the workload as it was before: the pods that it replaces may take longer
    /// to end than the new ones.
    patience: Duration,
    /// What the controller said of the rollout before, as a hash. It still says so while pods of an older ReplicaSet
    /// come up again once none are left (`syncRolloutStatus` of the Deployment controller).
    said_before: Option<u64>,
    started: Timestamp,
    progressed: Timestamp,
    best: Option<ReplicaCounts>,
}

impl Rollout {
    /// One that `snapshot` is in the middle of.
    pub(super) fn of(snapshot: &Snapshot, policies: BTreeSet<PolicyKey>, now: Timestamp) -> Self {
        Self {
            policies,
            plan: None,
            mark: RolloutMark { generation: snapshot.generation, template: snapshot.template },
            has_failed: false,
            patience: Duration::ZERO,
            said_before: None,
            started: now,
            progressed: now,
            best: None,
        }
    }

    /// One that starts by writing what `before` waited for.
    pub(super) fn started(before: &Snapshot, policies: BTreeSet<PolicyKey>, now: Timestamp) -> Self {
        let (plan, patience, said_before) = (before.plan, before.patience, before.said);
        Self { plan, patience, said_before, ..Self::of(before, policies, now) }
    }

    /// The same, once the API server has answered.
    pub(super) fn written(self, mark: RolloutMark, now: Timestamp) -> Self {
        Self { mark, started: now, progressed: now, ..self }
    }

    /// Whether the watch has yet to bring what was written.
    pub(super) fn is_ahead_of(&self, snapshot: &Snapshot) -> bool {
        snapshot.generation < self.mark.generation
    }

    /// Whether the workload was complete, and what isn't available since then is no rollout.
    pub(super) fn was_complete(&self, snapshot: &Snapshot) -> bool {
        let says_so = self.said_before.is_none_or(|before| snapshot.said != Some(before));
        snapshot.progress == Progress::Rolling && snapshot.was_complete && says_so
    }

    /// Notes how far it has come.
    pub(super) fn observe(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let Some(counts) = snapshot.counts else { return };
        let Some(best) = self.best else {
            (self.best, self.progressed) = (Some(counts), now);
            return;
        };
        let better = ReplicaCounts {
            desired: best.desired.max(counts.desired),
            updated: best.updated.max(counts.updated),
            available: best.available.max(counts.available),
            old: best.old.min(counts.old),
        };
        let is_better = ReplicaCounts { desired: best.desired, ..better } != best;
        if is_better {
            self.progressed = now;
        }
        self.best = Some(better);
    }

    /// When it fails, unless it makes progress before.
    pub(super) fn deadline(&self, snapshot: &Snapshot) -> Timestamp {
        later(self.progressed, self.patience(snapshot)).min(self.end(snapshot))
    }

    /// Why it has failed, if it has.
    pub(super) fn failure(&self, snapshot: &Snapshot, now: Timestamp) -> Option<RolloutFailureReason> {
        // Of a rollout back to an older ReplicaSet the controller first says what it said of the one before.
        let is_of_this = self.said_before.is_none() || snapshot.said != self.said_before;
        let is_reported = snapshot.progress == Progress::Failed && is_of_this && !self.is_ahead_of(snapshot);
        if is_reported || now >= later(self.progressed, self.patience(snapshot)) {
            return Some(if snapshot.replica_failure {
                RolloutFailureReason::ReplicaFailure
            } else {
                RolloutFailureReason::ProgressDeadlineExceeded
            });
        }
        (now >= self.end(snapshot)).then_some(RolloutFailureReason::TotalTimeExceeded)
    }

    fn patience(&self, snapshot: &Snapshot) -> Duration {
        snapshot.patience.max(self.patience)
    }

    /// When its total time is over: each replica may take as long as progress may.
    fn end(&self, snapshot: &Snapshot) -> Timestamp {
        let replicas = self.best.map_or(1, |best| u32::try_from(best.desired.max(1)).unwrap_or(u32::MAX));
        let patience = self.patience(snapshot);
        let most = patience.saturating_mul(replicas.saturating_add(1)).min(LONGEST).max(patience);
        later(self.started, most)
    }
}
