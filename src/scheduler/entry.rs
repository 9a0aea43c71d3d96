//! One workload: what it waits for, the slot that it holds, its rollout, and what failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;

use super::{FailedRollout, Footprint, Request, RolloutMark, Snapshot, rollout::Rollout};
use crate::{
    api::RolloutFailureReason,
    index::{PolicyKey, WorkloadKey, progress::Progress},
};

/// How long a slot is kept for a workload that doesn't reserve it.
pub(super) const OFFER_TTL: Duration = Duration::from_secs(10);
/// How long a slot is kept for a workload that may have been written, until the watch tells.
pub(super) const TRIED_TTL: Duration = Duration::from_mins(1);
/// How long a workload is offered no slot after it was not written, unless it asks before.
pub(super) const ASIDE: Duration = Duration::from_mins(1);

/// The slot that a workload holds before its rollout does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    None,
    /// It may reserve it.
    Offered {
        until: Timestamp,
    },
    /// It is being written.
    Reserved {
        number: u64,
        rollout: Rollout,
    },
    /// It may have been written.
    Tried {
        until: Timestamp,
        policies: BTreeSet<PolicyKey>,
    },
}

/// A workload that waits, rolls out or failed.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) snapshot: Snapshot,
    pub(super) hold: Hold,
    /// Its rollout, if it was started here.
    pub(super) rollout: Option<Rollout>,
    /// A rollout that may have been started here: it is not known whether it was written.
    tried: Option<Rollout>,
    /// The policies that its rollout failed for. They may outlast the rollout: it is not tried again.
    pub(super) failures: BTreeMap<PolicyKey, FailedRollout>,
    /// Something refuses or undoes its writes.
    is_blocked: bool,
    /// It was not written, or reserved no slot that it was offered. It may ask by itself, and is offered none before
    /// this time.
    aside_until: Option<Timestamp>,
}

/// A time after another.
pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

impl Entry {
    /// A workload that wasn't known. `is_unseen`: a previous leader may have started its rollout.
    pub(super) fn new(
        snapshot: Snapshot,
        restored: Vec<(PolicyKey, FailedRollout)>,
        is_unseen: bool,
        now: Timestamp,
    ) -> Self {
        let failures: BTreeMap<_, _> = restored.into_iter().collect();
        let is_failed_template = snapshot.progress != Progress::Complete
            && failures.values().any(|failure| failure.is_of(&snapshot));
        let is_rolling = snapshot.progress == Progress::Rolling && !snapshot.is_updated;
        let policies = if is_failed_template {
            Some(failures.keys().cloned().collect::<BTreeSet<_>>())
        } else {
            // The record in its template is what the policies want.
            let is_ours = is_unseen && is_rolling && snapshot.plan.is_none();
            is_ours.then(|| snapshot.rolled_out_by.iter().cloned().collect())
        };
        let mut rollout = policies.map(|policies| Rollout::of(&snapshot, policies, now));
        if let Some(rollout) = &mut rollout {
            rollout.has_failed = is_failed_template;
            rollout.plan = failures.values().find_map(|failure| failure.plan);
        }
        let hold = Hold::None;
        Self { snapshot, hold, rollout, tried: None, failures, is_blocked: false, aside_until: None }
    }

    /// Whether the snapshot is of this workload, and not of another of that name.
    pub(super) fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.snapshot.uid == snapshot.uid
    }

    pub(super) fn set_snapshot(&mut self, snapshot: Snapshot) {
        let Snapshot { generation, plan, asked_by, .. } = &self.snapshot;
        let is_same =
            (generation, plan, asked_by) == (&snapshot.generation, &snapshot.plan, &snapshot.asked_by);
        if !is_same {
            // A writer that came with what it is now was turned away.
            self.withdraw();
        }
        self.snapshot = snapshot;
    }

    /// Whether a writer would write what was evaluated.
    pub(super) fn accepts(&self, request: Request<'_>) -> bool {
        let Snapshot { uid, generation, plan, .. } = &self.snapshot;
        let is_same = uid.as_deref() == request.uid && *generation == request.generation;
        is_same && *plan == Some(request.plan) && self.may_start()
    }

    /// Whether it waits, but not in the queue.
    pub(super) fn waits_aside(&self) -> bool {
        self.is_blocked || self.aside_until.is_some()
    }

    pub(super) fn offer(&mut self, now: Timestamp) {
        self.hold = Hold::Offered { until: later(now, OFFER_TTL) };
    }

    /// Takes an offer back.
    pub(super) fn withdraw(&mut self) {
        if matches!(self.hold, Hold::Offered { .. }) {
            self.hold = Hold::None;
        }
    }

    pub(super) fn reserve(&mut self, number: u64, now: Timestamp) {
        let policies = self.snapshot.asked_by.keys().cloned().collect();
        self.hold = Hold::Reserved { number, rollout: Rollout::started(&self.snapshot, policies, now) };
        self.aside_until = None;
    }

    pub(super) fn commit(&mut self, mark: RolloutMark, now: Timestamp) {
        if let Hold::Reserved { rollout, .. } = std::mem::replace(&mut self.hold, Hold::None) {
            self.rollout = Some(rollout.written(mark, now));
            self.tried = None;
            self.failures.clear();
        }
    }

    pub(super) fn release(&mut self, now: Timestamp) {
        self.hold = Hold::None;
        self.aside_until = Some(later(now, ASIDE));
    }

    /// It asked in vain, and waits for an offer.
    pub(super) fn queue(&mut self) {
        self.aside_until = None;
    }

    pub(super) fn outcome_unknown(&mut self, now: Timestamp) {
        if let Hold::Reserved { rollout, .. } = std::mem::replace(&mut self.hold, Hold::None) {
            self.hold = Hold::Tried { until: later(now, TRIED_TTL), policies: rollout.policies.clone() };
            self.tried = Some(rollout);
        }
    }

    pub(super) fn set_blocked(&mut self, is_blocked: bool) {
        self.is_blocked = is_blocked;
        if is_blocked {
            self.withdraw();
        }
    }

    /// Applies the deadlines that have passed, but for that of the rollout.
    pub(super) fn expire(&mut self, now: Timestamp) {
        if self.aside_until.is_some_and(|until| until <= now) {
            self.aside_until = None;
        }
        match self.hold {
            Hold::Offered { until } if until <= now => self.release(now),
            Hold::Tried { until, .. } if until <= now => (self.hold, self.tried) = (Hold::None, None),
            _ => {}
        }
    }

    /// Judges what became of its rollout and of what failed. `generation_of`: that of a policy, if it is known.
    pub(super) fn judge(
        &mut self,
        key: &WorkloadKey,
        now: Timestamp,
        generation_of: impl Fn(&PolicyKey) -> Option<i64>,
    ) {
        self.judge_tried(now);
        if let Some((rollout, reason)) = self.judge_rollout(now) {
            let failure = |generation| FailedRollout {
                workload: key.clone(),
                uid: self.snapshot.uid.clone(),
                generation,
                plan: rollout.plan.or(Some(rollout.mark.template)),
                template: Some(rollout.mark.template),
                reason,
                time: now,
            };
            let policies = rollout.policies.iter();
            let failures = policies.map(|policy| (policy.clone(), failure(generation_of(policy))));
            self.failures.extend(failures.collect::<Vec<_>>());
        }
        let Self { snapshot, rollout, failures, .. } = self;
        let is_on_failed = rollout.as_ref().is_some_and(|rollout| rollout.has_failed);
        let is_ahead = rollout.as_ref().is_some_and(|rollout| rollout.is_ahead_of(snapshot));
        failures.retain(|policy, failure| {
            let asks = !is_ahead && snapshot.plan.is_some() && snapshot.asked_by.contains_key(policy);
            if is_on_failed {
                // A policy that asks for another template may fix what it broke.
                return !asks;
            }
            // Of another version of adieu the hash may differ.
            let is_wanted = asks && failure.is_wanted_again(snapshot, generation_of(policy));
            failure.plan = failure.plan.or(snapshot.plan);
            is_wanted
        });
        if !self.may_start() {
            self.withdraw();
        }
    }

    /// Takes a workload that may have been written for one that was, once the watch says so.
    fn judge_tried(&mut self, now: Timestamp) {
        let Snapshot { generation, template, plan, .. } = self.snapshot;
        let is_past = |rollout: &mut Rollout| rollout.mark.generation < generation;
        if matches!(self.hold, Hold::Reserved { .. }) {
            return;
        }
        if let Some(rollout) = self.tried.take_if(is_past) {
            if plan.is_none() {
                self.rollout = Some(rollout.written(RolloutMark { generation, template }, now));
            }
            self.hold = Hold::None;
        }
    }

    /// Judges the rollout. Why it failed, if it did so just now.
    fn judge_rollout(&mut self, now: Timestamp) -> Option<(Rollout, RolloutFailureReason)> {
        let snapshot = &self.snapshot;
        let rollout = self.rollout.as_mut()?;
        if !rollout.is_ahead_of(snapshot) {
            let is_replaced = rollout.mark.template != snapshot.template;
            if is_replaced || snapshot.progress == Progress::Complete || rollout.was_complete(snapshot) {
                self.rollout = None;
                return None;
            }
            rollout.observe(snapshot, now);
        }
        if rollout.has_failed {
            return None;
        }
        let reason = rollout.failure(snapshot, now)?;
        rollout.has_failed = true;
        Some((rollout.clone(), reason))
    }

    /// Whether it may be written: it waits for that, is in the middle of no rollout but one that failed here, and would
    /// not roll out what failed before.
    fn may_start(&self) -> bool {
        let Self { snapshot, rollout, failures, .. } = self;
        let is_ahead = rollout.as_ref().is_some_and(|rollout| rollout.is_ahead_of(snapshot));
        let has_failed = rollout.as_ref().is_some_and(|rollout| rollout.has_failed);
        let is_free = !is_ahead && (has_failed || snapshot.progress == Progress::Complete);
        snapshot.is_queued && is_free && !failures.keys().any(|policy| snapshot.asked_by.contains_key(policy))
    }

    /// Whether there is nothing more to see.
    pub(super) fn is_done(&self) -> bool {
        self.snapshot.is_settled()
            && self.hold == Hold::None
            && self.rollout.is_none()
            && self.failures.is_empty()
    }

    pub(super) fn footprint(&self) -> Footprint {
        let of_rollout = self.rollout.as_ref().filter(|rollout| !rollout.has_failed);
        let slot = match &self.hold {
            Hold::Offered { .. } => Some(self.snapshot.asked_by.keys().cloned().collect()),
            Hold::Reserved { rollout, .. } => Some(rollout.policies.clone()),
            Hold::Tried { policies, .. } => Some(policies.clone()),
            Hold::None => of_rollout.map(|rollout| rollout.policies.clone()),
        };
        let of_hold = match &self.hold {
            Hold::Offered { until } | Hold::Tried { until, .. } => Some(*until),
            Hold::None | Hold::Reserved { .. } => None,
        };
        let of_rollout = of_rollout.map(|rollout| rollout.deadline(&self.snapshot));
        let waits = slot.is_none() && !self.waits_aside() && self.may_start();
        Footprint {
            is_offered: matches!(self.hold, Hold::Offered { .. }),
            failed: self.failures.keys().cloned().collect(),
            waits: waits.then(|| (self.snapshot.created, self.snapshot.asked_by.clone())),
            deadline: [of_hold, of_rollout, self.aside_until].into_iter().flatten().min(),
            slot,
        }
    }
}
