//! The rollout of one workload: for which policies it is, whether adieu began it, and whether it failed.

use std::{collections::BTreeSet, time::Duration};

use kube::core::DynamicObject;
use tokio::time::Instant;

use super::{
    keys::{Key, PolicyKey},
    stalled::stalled_by,
};
use crate::{
    index::{Evaluation, RolloutProgress, progress::Progress},
    plan::Surroundings,
};

/// A rollout that goes on, or has failed.
pub(super) struct Rollout {
    /// Whether it was begun here, in turn.
    pub(super) ours: bool,
    /// The policies that it is for.
    pub(super) policies: BTreeSet<PolicyKey>,
    /// Another of the same name has another.
    pub(super) uid: Option<String>,
    /// The plan that was written, as a hash, where it was written here.
    pub(super) planned: Option<u64>,
    /// How long the pods that it replaces may take, as [`patience`] has it.
    before: Duration,
    /// The generation that was written, which the watch may not have brought yet.
    generation: i64,
    /// What was said of the rollout before, as a hash. It still is where pods of an older ReplicaSet come up again
    /// once none are left (`syncRolloutStatus` of the Deployment controller).
    said_before: Option<u64>,
    /// How far it was when last looked at, as a hash, and since when it is no further.
    reached: u64,
    since: Instant,
    /// Whether who led before saw that it had failed.
    given_up: bool,
}

impl Rollout {
    fn new(evaluation: &Evaluation, ours: bool, policies: BTreeSet<PolicyKey>) -> Self {
        let Evaluation { decision, rollout } = evaluation;
        Self {
            ours,
            policies,
            uid: decision.uid.clone(),
            planned: None,
            before: Duration::ZERO,
            generation: rollout.generation.unwrap_or(0),
            said_before: None,
            reached: rollout.reached,
            since: Instant::now(),
            given_up: false,
        }
    }

    /// One that is about to begin here.
    pub(super) fn planned(evaluation: &Evaluation, policies: BTreeSet<PolicyKey>) -> Self {
        let RolloutProgress { patience, said, .. } = evaluation.rollout;
        let planned = evaluation.decision.planned;
        Self { planned, before: patience, said_before: said, ..Self::new(evaluation, true, policies) }
    }

    /// It has begun, by what was written.
    pub(super) fn begun(self, written: &DynamicObject) -> Self {
        Self { generation: written.metadata.generation.unwrap_or(0), since: Instant::now(), ..self }
    }

    /// Whether the watch has yet to bring what was written.
    pub(super) fn is_ahead_of(&self, now: &RolloutProgress) -> bool {
        now.generation < Some(self.generation)
    }

    fn look(self, now: &RolloutProgress) -> Self {
        if now.reached == self.reached {
            return self;
        }
        Self { reached: now.reached, since: Instant::now(), given_up: false, ..self }
    }

    /// Whether it has come no further for longer than it may.
    pub(super) fn is_stuck(&self, now: &RolloutProgress) -> bool {
        self.given_up || self.since.elapsed() > now.patience.max(self.before)
    }
}

/// A managed workload, as a look finds it.
pub(super) struct Found<'a> {
    pub(super) key: &'a Key,
    pub(super) evaluation: &'a Evaluation,
    /// Its namespace's policies, if it isn't known whether adieu began its rollout.
    pub(super) around: Option<&'a Surroundings>,
}

impl Found<'_> {
    /// The rollout that it is in the middle of, if any, and whether that failed.
    pub(super) fn rollout(&self, known: Option<Rollout>) -> Option<(Rollout, bool)> {
        let at = &self.evaluation.rollout;
        let known = known.map(|known| known.look(at));
        let behind = known.as_ref().is_some_and(|known| known.is_ahead_of(at));
        let now = if behind { Progress::Rolling } else { at.progress };
        if now == Progress::Complete {
            return None;
        }
        let mut rollout = known.unwrap_or_else(|| self.not_known(now));
        let says_so = rollout.said_before.is_none_or(|before| at.said != Some(before));
        // Of a DaemonSet's pods on many nodes one is always away.
        let was_complete = at.was_complete && says_so || at.is_updated && !rollout.ours;
        let broken = now == Progress::Rolling && !behind && was_complete;
        rollout.ours &= !broken;
        if !rollout.ours {
            rollout.policies = self.evaluation.decision.rolled_out_by.iter().cloned().collect();
        }
        // The Deployment controller doesn't always notice, and the others never do.
        let failed = broken || now == Progress::Failed || rollout.is_stuck(at);
        Some((rollout, failed))
    }

    /// A rollout that nobody knew of. Whoever led before may have begun it, and seen it fail.
    fn not_known(&self, now: Progress) -> Rollout {
        let Self { key, evaluation, around } = *self;
        let unseen = around.is_some();
        let stalled = around.map(|around| stalled_by(key, around, false)).unwrap_or_default();
        let carries = evaluation.decision.planned.is_none();
        // As far as the API server filled nothing in.
        let planned = carries.then_some(evaluation.decision.template);
        if !stalled.is_empty() {
            return Rollout { planned, given_up: true, ..Rollout::new(evaluation, true, stalled) };
        }
        let ours = unseen && carries && now == Progress::Rolling && !evaluation.rollout.is_updated;
        let policies = evaluation.decision.rolled_out_by.iter().cloned().collect();
        Rollout { planned, ..Rollout::new(evaluation, ours, policies) }
    }
}
