//! The rollout of one workload: for which policies it is, whether adieu began it, and whether it failed.

use std::{collections::BTreeSet, time::Duration};

use kube::{ResourceExt as _, core::DynamicObject};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    keys::{PolicyKey, policy_key},
    progress::{Progress, is_updated, patience, progress, progressing, reached, was_complete},
    stalled::stalled_by,
};
use crate::{
    plan::{self, Convergence, Kind, Surroundings, Workload},
    runtime::caches::hash_of,
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
    fn new(kind: Kind, object: &DynamicObject, ours: bool, policies: BTreeSet<PolicyKey>) -> Self {
        let (generation, reached) = (object.metadata.generation.unwrap_or(0), reached(kind, object));
        let uid = object.uid();
        Self {
            ours,
            policies,
            uid,
            planned: None,
            before: Duration::ZERO,
            generation,
            said_before: None,
            reached,
            since: Instant::now(),
            given_up: false,
        }
    }

    /// One that is about to begin here.
    pub(super) fn planned(
        kind: Kind,
        object: &DynamicObject,
        plan: Option<&Value>,
        policies: BTreeSet<PolicyKey>,
    ) -> Self {
        let (planned, before) = (plan.map(hash_of), patience(kind, object));
        Self { planned, before, said_before: said(object), ..Self::new(kind, object, true, policies) }
    }

    /// It has begun, by what was written.
    pub(super) fn begun(self, written: &DynamicObject) -> Self {
        Self { generation: written.metadata.generation.unwrap_or(0), since: Instant::now(), ..self }
    }

    /// Whether the watch has yet to bring what was written.
    pub(super) fn is_ahead_of(&self, object: &DynamicObject) -> bool {
        object.metadata.generation < Some(self.generation)
    }

    fn look(self, kind: Kind, object: &DynamicObject) -> Self {
        let reached = reached(kind, object);
        if reached == self.reached {
            return self;
        }
        Self { reached, since: Instant::now(), given_up: false, ..self }
    }

    /// Whether it has come no further for longer than it may.
    pub(super) fn is_stuck(&self, kind: Kind, object: &DynamicObject) -> bool {
        self.given_up || self.since.elapsed() > patience(kind, object).max(self.before)
    }
}

/// A managed workload, as a look finds it.
pub(super) struct Found<'a> {
    pub(super) kind: Kind,
    pub(super) object: &'a DynamicObject,
    pub(super) convergence: Convergence,
    pub(super) around: &'a Surroundings,
}

impl Found<'_> {
    /// The rollout that it is in the middle of, if any, and whether that failed.
    pub(super) fn rollout(&self, known: Option<Rollout>, unseen: bool) -> Option<(Rollout, bool)> {
        let Self { kind, object, .. } = *self;
        let known = known.map(|known| known.look(kind, object));
        let behind = known.as_ref().is_some_and(|known| known.is_ahead_of(object));
        let now = if behind { Progress::Rolling } else { progress(kind, object) };
        if now == Progress::Complete {
            return None;
        }
        let mut rollout = known.unwrap_or_else(|| self.not_known(unseen, now));
        let says_so = rollout.said_before.is_none_or(|before| said(object) != Some(before));
        // Of a DaemonSet's pods on many nodes one is always away.
        let was_complete = was_complete(kind, object) && says_so || is_updated(kind, object) && !rollout.ours;
        let broken = now == Progress::Rolling && !behind && was_complete;
        rollout.ours &= !broken;
        if !rollout.ours {
            rollout.policies = self.concerning();
        }
        // The Deployment controller doesn't always notice, and the others never do.
        let failed = broken || now == Progress::Failed || rollout.is_stuck(kind, object);
        Some((rollout, failed))
    }

    /// A rollout that nobody knew of. Whoever led before may have begun it, and seen it fail.
    fn not_known(&self, unseen: bool, now: Progress) -> Rollout {
        let Self { kind, object, .. } = *self;
        let stalled = if unseen { stalled_by(object, self.around, false) } else { BTreeSet::new() };
        let carries = self.convergence.template.is_none();
        // As far as the API server filled nothing in.
        let planned = carries.then(|| hash_of(&object.data["spec"]["template"]));
        if !stalled.is_empty() {
            return Rollout { planned, given_up: true, ..Rollout::new(kind, object, true, stalled) };
        }
        let ours = unseen && carries && now == Progress::Rolling && !is_updated(kind, object);
        Rollout { planned, ..Rollout::new(kind, object, ours, self.concerning()) }
    }

    fn concerning(&self) -> BTreeSet<PolicyKey> {
        let namespace = self.object.namespace().unwrap_or_default();
        let policies = plan::concerning(&Workload::of(self.kind, self.object), &self.convergence);
        policies.iter().map(|policy| policy_key(&namespace, policy)).collect()
    }
}

/// What the workload's controller says of its rollout, for comparisons.
fn said(object: &DynamicObject) -> Option<u64> {
    progressing(object).map(hash_of)
}
