//! One workload: what it waits for, the slot that it holds, its rollout, and what failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use adieu_core::{
    api::RolloutFailureReason,
    keys::{PolicyKey, WorkloadKey},
};
use k8s_openapi::jiff::Timestamp;

use super::{
    failure::FailedRollout,
    progress::RolloutState,
    rollout::{Rollout, WrittenRevision},
    slot_request::SlotRequest,
    slots::{ConcurrencyLimits, EntrySummary, QueuedWorkload},
    snapshot::Snapshot,
    time::later,
};

/// How long a slot is kept for a workload that doesn't reserve it.
pub(super) const OFFER_TTL: Duration = Duration::from_secs(10);
/// How long a slot is kept for a workload that may have been written, until it is observed.
pub(super) const OUTCOME_UNKNOWN_TTL: Duration = Duration::from_mins(1);
/// How long a workload is offered no slot after it was not written. It may reserve one before.
pub(super) const RETRY_DELAY: Duration = Duration::from_mins(1);

/// The slot that a workload holds before its rollout does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SlotState {
    None,
    /// The workload may reserve it.
    Offered {
        until: Timestamp,
    },
    /// The workload is being written.
    Reserved {
        number: u64,
        rollout: Box<Rollout>,
    },
    /// The workload may have been written.
    OutcomeUnknown {
        until: Timestamp,
        policies: BTreeSet<PolicyKey>,
    },
}

/// A workload that waits, rolls out or failed.
#[derive(Clone, Debug)]
pub(super) struct ScheduledWorkload {
    pub(super) snapshot: Snapshot,
    pub(super) slot_state: SlotState,
    /// Its rollout, if it was started here. Boxed, because most workloads only wait.
    pub(super) rollout: Option<Box<Rollout>>,
    /// A rollout that may have been started here: the outcome of the write is unknown.
    unconfirmed_rollout: Option<Box<Rollout>>,
    /// The policies that its rollout failed for. They may outlast the rollout, which is not retried.
    pub(super) failures: BTreeMap<PolicyKey, FailedRollout>,
    /// Something rejects or reverts its writes.
    is_blocked: bool,
    /// It was not written, or did not reserve the slot that it was offered. It is offered none before this time, but
    /// may reserve one.
    retry_after: Option<Timestamp>,
}

impl ScheduledWorkload {
    /// A new workload. `from_previous_leader`: a previous leader may have started its rollout, whose failures it
    /// recorded until `failures_recorded_until`.
    pub(super) fn new(
        snapshot: Snapshot,
        restored: Vec<(PolicyKey, FailedRollout)>,
        from_previous_leader: bool,
        failures_recorded_until: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let mut entry = Self {
            snapshot,
            slot_state: SlotState::None,
            rollout: None,
            unconfirmed_rollout: None,
            failures: BTreeMap::new(),
            is_blocked: false,
            retry_after: None,
        };
        entry.restore(restored, now);
        let snapshot = &entry.snapshot;
        let is_rolling = match snapshot.rollout_state {
            RolloutState::Complete => false,
            RolloutState::Progressing => !snapshot.is_updated,
            // It failed while no leader observed it.
            RolloutState::Failed => {
                failures_recorded_until.is_some_and(|until| snapshot.failed_since > Some(until))
            }
        };
        if from_previous_leader && entry.rollout.is_none() && is_rolling && snapshot.is_started_by_adieu {
            let policies: BTreeSet<_> = snapshot.rolled_out_by.iter().cloned().collect();
            // Another policy's rollout may fix what failed.
            let others: BTreeSet<_> =
                policies.iter().filter(|policy| !entry.failures.contains_key(policy)).cloned().collect();
            let policies = if others.is_empty() { policies } else { others };
            entry.rollout = Some(Rollout::of(snapshot, policies, now).into());
        }
        entry
    }

    /// Takes over failures that the status of policies records.
    pub(super) fn restore(&mut self, restored: Vec<(PolicyKey, FailedRollout)>, now: Timestamp) {
        self.failures.extend(restored);
        let Self { snapshot, rollout, failures, .. } = self;
        let is_failed_template = failures.values().any(|failure| failure.is_of(snapshot));
        if rollout.is_none() && is_failed_template && !snapshot.has_working_pods() {
            let mut failed = Rollout::of(snapshot, failures.keys().cloned().collect(), now);
            failed.has_failed = true;
            failed.desired_template = failures.values().find_map(|failure| failure.desired_template);
            *rollout = Some(failed.into());
        }
    }

    /// Whether the snapshot is of this workload, and not of another of that name.
    pub(super) fn is_of(&self, snapshot: &Snapshot) -> bool {
        self.snapshot.uid == snapshot.uid
    }

    pub(super) fn set_snapshot(&mut self, snapshot: Snapshot) {
        let is_same = self.snapshot.generation == snapshot.generation
            && self.snapshot.desired_template == snapshot.desired_template
            && self.snapshot.requested_by == snapshot.requested_by
            && self.snapshot.namespace_limit == snapshot.namespace_limit;
        if !is_same {
            // A writer that had the new version was denied a slot.
            self.withdraw();
        }
        self.snapshot = snapshot;
    }

    /// Whether a writer would write what was evaluated.
    pub(super) fn accepts(&self, request: SlotRequest<'_>) -> bool {
        let Snapshot { uid, generation, desired_template, .. } = &self.snapshot;
        let is_same = uid.as_deref() == request.uid && *generation == request.generation;
        is_same && *desired_template == Some(request.desired_template) && self.may_start()
    }

    /// Whether it waits, but not in the queue.
    pub(super) fn is_backing_off(&self) -> bool {
        self.is_blocked || self.retry_after.is_some()
    }

    /// Whether a workload that may be written holds a slot for its last rollout, and may use it again. That rollout is
    /// over, or it has failed and holds none.
    pub(super) fn may_reuse_slot(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| {
            let is_for = |policy| rollout.policies.contains(policy);
            rollout.holds_slot() && self.snapshot.requested_by.keys().all(is_for)
        })
    }

    pub(super) fn offer(&mut self, now: Timestamp) {
        self.slot_state = SlotState::Offered { until: later(now, OFFER_TTL) };
    }

    /// Withdraws an offer.
    pub(super) fn withdraw(&mut self) {
        if matches!(self.slot_state, SlotState::Offered { .. }) {
            self.slot_state = SlotState::None;
        }
    }

    pub(super) fn reserve(&mut self, number: u64, now: Timestamp) {
        let policies = self.snapshot.requested_by.keys().cloned().collect();
        let rollout = Rollout::started(&self.snapshot, policies, now).into();
        self.slot_state = SlotState::Reserved { number, rollout };
        self.retry_after = None;
    }

    pub(super) fn commit(&mut self, written: WrittenRevision, now: Timestamp) {
        if let SlotState::Reserved { rollout, .. } = std::mem::replace(&mut self.slot_state, SlotState::None)
        {
            self.rollout = Some(rollout.committed(written, now).into());
            self.unconfirmed_rollout = None;
        }
        if let Some(rollout) = &self.rollout {
            self.failures.retain(|policy, _| !rollout.policies.contains(policy));
        }
    }

    pub(super) fn release(&mut self, now: Timestamp) {
        self.slot_state = SlotState::None;
        self.retry_after = Some(later(now, RETRY_DELAY));
    }

    /// It was denied a slot, and waits for an offer, also if it was blocked.
    pub(super) fn queue(&mut self) {
        self.retry_after = None;
        self.is_blocked = false;
    }

    pub(super) fn outcome_unknown(&mut self, now: Timestamp) {
        if let SlotState::Reserved { rollout, .. } = std::mem::replace(&mut self.slot_state, SlotState::None)
        {
            self.slot_state = SlotState::OutcomeUnknown {
                until: later(now, OUTCOME_UNKNOWN_TTL),
                policies: rollout.policies.clone(),
            };
            self.unconfirmed_rollout = Some(rollout);
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
        if self.retry_after.is_some_and(|until| until <= now) {
            self.retry_after = None;
        }
        match self.slot_state {
            SlotState::Offered { until } | SlotState::OutcomeUnknown { until, .. } if until > now => {}
            SlotState::Offered { .. } => self.release(now),
            SlotState::OutcomeUnknown { .. } => {
                (self.slot_state, self.unconfirmed_rollout) = (SlotState::None, None);
            }
            SlotState::None | SlotState::Reserved { .. } => {}
        }
    }

    /// Updates its rollout and its failures. `generation_of`: the generation of a policy, if it is known.
    pub(super) fn update(
        &mut self,
        key: &WorkloadKey,
        now: Timestamp,
        generation_of: impl Fn(&PolicyKey) -> Option<i64>,
    ) {
        self.update_unconfirmed(now);
        if let Some((rollout, reason)) = self.update_rollout(now) {
            let failure = |generation| FailedRollout {
                workload: key.clone(),
                uid: self.snapshot.uid.clone(),
                generation,
                desired_template: rollout.desired_template.or(Some(rollout.written.template)),
                template: Some(rollout.written.template),
                reason,
                time: now,
            };
            let policies = rollout.policies.iter();
            let failures = policies.map(|policy| (policy.clone(), failure(generation_of(policy))));
            self.failures.extend(failures.collect::<Vec<_>>());
        }
        let Self { snapshot, rollout, failures, .. } = self;
        failures.retain(|policy, failure| match rollout {
            Some(rollout) if rollout.has_failed => true,
            // Another policy's rollout may fix it.
            Some(rollout) if !rollout.policies.contains(policy) => true,
            _ => {
                let is_ahead = rollout.as_ref().is_some_and(|rollout| rollout.is_ahead_of(snapshot));
                let is_requested = !is_ahead && snapshot.requested_by.contains_key(policy);
                let is_wanted = is_requested && failure.is_wanted_again(snapshot, generation_of(policy));
                // Another version of adieu may have computed another hash.
                failure.desired_template = failure.desired_template.or(snapshot.desired_template);
                is_wanted
            }
        });
        if !self.may_start() {
            self.withdraw();
        }
    }

    /// Decides whether a workload that may have been written was, once it is observed.
    fn update_unconfirmed(&mut self, now: Timestamp) {
        let Snapshot { generation, current_template, desired_template, .. } = self.snapshot;
        let is_past = |rollout: &mut Box<Rollout>| rollout.written.generation < generation;
        if matches!(self.slot_state, SlotState::Reserved { .. }) {
            return;
        }
        if let Some(rollout) = self.unconfirmed_rollout.take_if(is_past) {
            if desired_template.is_none() {
                let written = WrittenRevision { generation, template: current_template };
                self.rollout = Some(rollout.committed(written, now).into());
            }
            self.slot_state = SlotState::None;
        }
    }

    /// Updates the rollout. The reason of its failure, if it failed just now.
    fn update_rollout(&mut self, now: Timestamp) -> Option<(Rollout, RolloutFailureReason)> {
        let snapshot = &self.snapshot;
        let rollout = self.rollout.as_mut()?;
        if !rollout.is_ahead_of(snapshot) {
            let is_replaced = rollout.written.template != snapshot.current_template;
            if is_replaced && rollout.has_failed && matches!(self.slot_state, SlotState::Reserved { .. }) {
                // It may be the write in progress: its commit decides which failures stay.
                return None;
            }
            let is_over = rollout.is_over(snapshot);
            if is_replaced || is_over && now >= rollout.kept_until() {
                self.rollout = None;
                return None;
            }
            if is_over {
                return None;
            }
            rollout.observe(snapshot, now);
        }
        if rollout.has_failed {
            return None;
        }
        let reason = rollout.failure(snapshot, now)?;
        rollout.has_failed = true;
        Some((Rollout::clone(rollout), reason))
    }

    /// Whether a policy requests another template in place of the one that failed. Its failure stays recorded until
    /// that is written, but no longer counts.
    pub(super) fn is_superseded(&self, policy: &PolicyKey) -> bool {
        let Self { snapshot, rollout, .. } = self;
        let is_failed =
            rollout.as_ref().is_some_and(|rollout| rollout.has_failed && !rollout.is_ahead_of(snapshot));
        is_failed && snapshot.desired_template.is_some() && snapshot.requested_by.contains_key(policy)
    }

    /// Whether it may be written: it is queued, no rollout is in progress except one that failed here, and its desired
    /// template is not the one that failed before.
    fn may_start(&self) -> bool {
        let Self { snapshot, rollout, failures, .. } = self;
        let is_ahead = rollout.as_ref().is_some_and(|rollout| rollout.is_ahead_of(snapshot));
        let has_failed = rollout.as_ref().is_some_and(|rollout| rollout.has_failed);
        let is_free = !is_ahead && (has_failed || snapshot.rollout_state == RolloutState::Complete);
        let stops =
            |policy: &PolicyKey| snapshot.requested_by.contains_key(policy) && !self.is_superseded(policy);
        snapshot.is_queued && is_free && !failures.keys().any(stops)
    }

    /// Whether it can be dropped: it waits for nothing, and nothing failed.
    pub(super) fn is_done(&self) -> bool {
        self.snapshot.is_idle()
            && self.slot_state == SlotState::None
            && self.rollout.is_none()
            && self.failures.is_empty()
    }

    pub(super) fn summary(&self) -> EntrySummary {
        let of_rollout = self.rollout.as_ref().filter(|rollout| !rollout.has_failed);
        let with_slot = self.rollout.as_ref().filter(|rollout| rollout.holds_slot());
        let slot = match &self.slot_state {
            SlotState::Offered { .. } => Some(self.snapshot.requested_by.keys().cloned().collect()),
            SlotState::Reserved { rollout, .. } => Some(rollout.policies.clone()),
            SlotState::OutcomeUnknown { policies, .. } => Some(policies.clone()),
            SlotState::None => with_slot.map(|rollout| rollout.policies.clone()),
        };
        let of_slot = match &self.slot_state {
            SlotState::Offered { until } | SlotState::OutcomeUnknown { until, .. } => Some(*until),
            SlotState::None | SlotState::Reserved { .. } => None,
        };
        let of_rollout = of_rollout.map(|rollout| rollout.deadline(&self.snapshot));
        let is_waiting = slot.is_none() && !self.is_blocked && self.may_start();
        let is_queued = is_waiting && self.retry_after.is_none();
        let (superseded, failed) =
            self.failures.keys().cloned().partition(|policy| self.is_superseded(policy));
        let waiting = || QueuedWorkload {
            limits: ConcurrencyLimits::of(&self.snapshot),
            may_be_canary_source: self.snapshot.may_be_canary_source(),
            created: self.snapshot.created,
        };
        EntrySummary {
            is_offered: matches!(self.slot_state, SlotState::Offered { .. }),
            failed,
            superseded,
            is_waiting,
            queued: is_queued.then(waiting),
            deadline: [of_slot, of_rollout, self.retry_after].into_iter().flatten().min(),
            slot,
        }
    }
}
