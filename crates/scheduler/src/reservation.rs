//! Reserves slots for writers, and follows what becomes of them.

use adieu_core::keys::WorkloadKey;
use k8s_openapi::jiff::Timestamp;

use super::{
    rollout::WrittenRevision,
    rollout_scheduler::RolloutScheduler,
    scheduled_workload::{ScheduledWorkload, SlotState},
    slot_request::{SlotRequest, SlotReservation},
};

impl RolloutScheduler {
    /// Reserves a slot for writing a workload. `None` if there is none for it now, or if it differs from the last
    /// observation: it becomes runnable later.
    pub fn reserve(
        &mut self,
        key: &WorkloadKey,
        request: SlotRequest<'_>,
        now: Timestamp,
    ) -> Option<SlotReservation> {
        self.offer(now);
        let entry = self.entries.get(key).filter(|entry| self.is_active && entry.accepts(request))?;
        let may_reserve = match &entry.slot_state {
            // Its policy may have stopped since the offer.
            SlotState::Offered { .. } | SlotState::OutcomeUnknown { .. } => {
                !self.waits_for_stopped(key, entry)
            }
            SlotState::Reserved { .. } => false,
            SlotState::None if entry.may_reuse_slot() => !self.waits_for_stopped(key, entry),
            // A workload that is blocked or had a conflict is in no queue.
            SlotState::None => entry.is_backing_off() && self.has_free_slot(key, entry),
        };
        if !may_reserve {
            self.update(key, now, ScheduledWorkload::queue);
            return None;
        }
        self.last_reservation += 1;
        let number = self.last_reservation;
        self.update(key, now, |entry| entry.reserve(number, now));
        Some(SlotReservation { key: key.clone(), number })
    }

    /// The workload was written.
    pub fn commit(&mut self, reservation: &SlotReservation, written: WrittenRevision, now: Timestamp) {
        self.update_reserved(reservation, now, |entry| entry.commit(written, now));
    }

    /// The workload was not written. It may reserve another slot, and is offered one after a while.
    pub fn release(&mut self, reservation: &SlotReservation, now: Timestamp) {
        self.update_reserved(reservation, now, |entry| entry.release(now));
    }

    /// The outcome of the write is unknown. The workload keeps the slot for a while, until it is observed.
    pub fn outcome_unknown(&mut self, reservation: &SlotReservation, now: Timestamp) {
        self.update_reserved(reservation, now, |entry| entry.outcome_unknown(now));
    }

    fn update_reserved(
        &mut self,
        reservation: &SlotReservation,
        now: Timestamp,
        change: impl FnOnce(&mut ScheduledWorkload),
    ) {
        let is_held = |entry: &ScheduledWorkload| matches!(entry.slot_state, SlotState::Reserved { number, .. } if number == reservation.number);
        // Of an earlier term, or of a workload that was deleted and created again.
        if self.entries.get(&reservation.key).is_some_and(|entry| is_held(entry)) {
            self.update(&reservation.key, now, change);
        }
    }
}
