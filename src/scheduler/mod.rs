//! Which workload may roll out now. Pure: events and the time come in, decisions go out.
//!
//! A policy change reaches many workloads, and each of them is a rollout. [`RolloutScheduler`] keeps them within the
//! slots of the cluster and the limits of their policies:
//!
//! - A rollout holds a slot from its offer until it completes or fails, in the cluster and for each policy that asks
//!   for it. Rollouts that others start hold none; adieu writes such a workload once they are complete.
//! - A free slot goes to the namespace that holds the fewest, then to the policies that hold the fewest, then to the
//!   namespace that was offered none for longest, then to the oldest workload. About a quarter of the slots is for namespaces and policies that hold none.
//! - Progress is a new maximum of updated or available replicas, or a new minimum of old ones. A rollout that makes
//!   none for its deadline fails, also if its replicas come and go, and so does one that takes too long in all.
//! - A failed rollout stops its policy in the namespace, and everywhere after as many as the policy's
//!   [`FailureLimit`] says. It stays failed until the workload completes, is deleted or gets another template, or the
//!   policy asks for another one.
//!
//! The writer [reserves](RolloutScheduler::reserve) a slot before it writes, and
//! [commits](RolloutScheduler::commit) or [releases](RolloutScheduler::release) it afterwards. A new leader
//! [restores](RolloutScheduler::restore) what failed from the status of the policies, [observes](RolloutScheduler::observe)
//! every workload, and [activates](RolloutScheduler::activate) the scheduler.

mod entry;
mod failure;
mod ledger;
mod rollout;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entry::{Entry, Hold};
pub use failure::{FailedRollout, FailureLimit, PolicyStatus};
use k8s_openapi::jiff::Timestamp;
use ledger::{Ledger, PolicyLimits};
pub use rollout::RolloutMark;
pub use snapshot::Snapshot;

use crate::index::{PolicyKey, WorkloadKey};

/// The right to write one workload, until it is committed or released.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot {
    key: WorkloadKey,
    number: u64,
}

/// The pod template that a writer is about to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The workload's uid.
    pub uid: Option<&'a str>,
    /// The workload's `metadata.generation`.
    pub generation: i64,
    /// The pod template, as a hash.
    pub plan: u64,
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct RolloutScheduler {
    entries: BTreeMap<WorkloadKey, Entry>,
    policies: BTreeMap<PolicyKey, PolicyLimits>,
    ledger: Ledger,
    /// Failures that the previous leader recorded, of workloads that have yet to be observed.
    restored: HashMap<WorkloadKey, Vec<(PolicyKey, FailedRollout)>>,
    is_active: bool,
    /// Whether anything changed that an offer depends on since slots were last offered. Finding the next one looks at
    /// all queues, and most events change nothing.
    may_offer: bool,
    /// The number of the last slot. It is kept when everything else is dropped, so that no writer of an earlier term
    /// can commit a slot of this one.
    last_slot: u64,
    /// How many slots were offered, and which offer was the last in each namespace: of namespaces that hold as many
    /// slots, the one that was offered none for longest gets the next.
    offers: u64,
    last_offers: HashMap<String, u64>,
    /// Workloads that are offered a slot.
    offered: BTreeSet<WorkloadKey>,
    /// Those of them that were offered it since they were last taken.
    runnable: BTreeSet<WorkloadKey>,
    /// Policies whose failures changed since they were last taken.
    changed: BTreeSet<PolicyKey>,
}

impl RolloutScheduler {
    /// A scheduler with so many slots for the whole cluster.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            policies: BTreeMap::new(),
            ledger: Ledger::new(slots),
            restored: HashMap::new(),
            is_active: false,
            may_offer: false,
            last_slot: 0,
            offers: 0,
            last_offers: HashMap::new(),
            offered: BTreeSet::new(),
            runnable: BTreeSet::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Forgets everything: another replica leads.
    pub fn reset(&mut self) {
        *self = Self { last_slot: self.last_slot, ..Self::new(self.ledger.slots()) };
    }

    /// Takes over the failures that the status of a policy records. To be called for each policy before the first
    /// workload is observed.
    pub fn restore(&mut self, policy: &PolicyKey, failures: impl IntoIterator<Item = FailedRollout>) {
        for failure in failures {
            let of_workload = self.restored.entry(failure.workload.clone()).or_default();
            of_workload.push((policy.clone(), failure));
        }
    }

    /// Every policy has been restored and every workload observed: from here on slots are offered, and a rollout that
    /// starts is another's unless it was committed here.
    pub fn activate(&mut self) {
        self.is_active = true;
        self.may_offer = true;
        self.restored.clear();
    }

    /// Whether slots are offered.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.is_active
    }

    /// A policy was written: its generation, and how many of its rollouts may fail.
    pub fn set_policy(
        &mut self,
        policy: &PolicyKey,
        generation: Option<i64>,
        failures: FailureLimit,
        now: Timestamp,
    ) {
        let limits = self.policies.entry(policy.clone()).or_default();
        let is_changed = (limits.generation, limits.failures) != (generation, failures);
        (limits.generation, limits.failures) = (generation, failures);
        if is_changed {
            self.may_offer = true;
            for key in self.ledger.failed(policy).cloned().collect::<Vec<_>>() {
                self.changed.insert(policy.clone());
                self.update(&key, now, |_| {});
            }
        }
    }

    /// How many workloads a policy matches, of which a percentage may fail.
    pub fn set_matched(&mut self, policy: &PolicyKey, matched: usize) {
        if let Some(limits) = self.policies.get_mut(policy).filter(|limits| limits.matched != matched) {
            limits.matched = matched;
            self.may_offer = true;
        }
    }

    /// A policy was deleted.
    pub fn remove_policy(&mut self, policy: &PolicyKey, now: Timestamp) {
        self.policies.remove(policy);
        self.may_offer = true;
        for key in self.ledger.failed(policy).cloned().collect::<Vec<_>>() {
            self.update(&key, now, |entry| drop(entry.failures.remove(policy)));
        }
    }

    /// A workload is so now.
    pub fn observe(&mut self, key: &WorkloadKey, snapshot: Snapshot, now: Timestamp) {
        if self.entries.get(key).is_some_and(|entry| !entry.is_of(&snapshot)) {
            self.remove(key);
        }
        let restored = self.restored.remove(key).unwrap_or_default();
        if !self.entries.contains_key(key) {
            let same = |(_, failure): &(_, FailedRollout)| failure.uid == snapshot.uid;
            let restored: Vec<_> = restored.into_iter().filter(same).collect();
            if snapshot.is_settled() && restored.is_empty() {
                // As a rule there is nothing more to see.
                return;
            }
            let entry = Entry::new(snapshot.clone(), restored, !self.is_active, now);
            self.ledger.add(key, &entry.footprint());
            self.entries.insert(key.clone(), entry);
            self.may_offer = true;
        }
        self.update(key, now, |entry| entry.set_snapshot(snapshot));
    }

    /// A workload was deleted, or adieu has nothing to do with it any more.
    pub fn remove(&mut self, key: &WorkloadKey) {
        if let Some(entry) = self.entries.remove(key) {
            let footprint = entry.footprint();
            self.changed.extend(footprint.failed.iter().cloned());
            self.ledger.remove(key, &footprint);
            self.may_offer = true;
        }
        self.offered.remove(key);
        self.runnable.remove(key);
    }

    /// The workloads that may roll out now, each once. Its slot is kept for it until it is
    /// [reserved](Self::reserve), or the offer expires.
    pub fn take_runnable(&mut self, now: Timestamp) -> BTreeSet<WorkloadKey> {
        self.offer(now);
        std::mem::take(&mut self.runnable)
    }

    /// The policies whose failures changed, each once.
    pub fn take_changed(&mut self) -> BTreeSet<PolicyKey> {
        std::mem::take(&mut self.changed)
    }

    /// The slot for writing a workload. `None` if there is none for it now, or if it is not as it was last observed:
    /// it becomes runnable later.
    pub fn reserve(&mut self, key: &WorkloadKey, request: Request<'_>, now: Timestamp) -> Option<Slot> {
        self.offer(now);
        let entry = self.entries.get(key).filter(|entry| self.is_active && entry.accepts(request))?;
        let may_reserve = match &entry.hold {
            // Its policy may have been stopped since it was offered the slot.
            Hold::Offered { .. } | Hold::Tried { .. } => !self.waits_for_stopped(key, entry),
            Hold::Reserved { .. } => false,
            // A workload that is blocked or lost a conflict waits in no queue, and asks by itself.
            Hold::None => entry.waits_aside() && self.has_room(key, entry),
        };
        if !may_reserve {
            self.update(key, now, Entry::queue);
            return None;
        }
        self.last_slot += 1;
        let number = self.last_slot;
        self.update(key, now, |entry| entry.reserve(number, now));
        Some(Slot { key: key.clone(), number })
    }

    /// The workload was written.
    pub fn commit(&mut self, slot: &Slot, mark: RolloutMark, now: Timestamp) {
        self.update_slot(slot, now, |entry| entry.commit(mark, now));
    }

    /// The workload was not written. It asks for another slot by itself, or is offered one after it did so in vain.
    pub fn release(&mut self, slot: &Slot, now: Timestamp) {
        self.update_slot(slot, now, |entry| entry.release(now));
    }

    /// It is not known whether the workload was written. It keeps the slot for a while, until it is observed.
    pub fn outcome_unknown(&mut self, slot: &Slot, now: Timestamp) {
        self.update_slot(slot, now, |entry| entry.outcome_unknown(now));
    }

    /// Something refuses or undoes the writes of a workload, or does so no more. While it does, the workload is
    /// offered no slot; it may [reserve](Self::reserve) one when there is room.
    pub fn set_blocked(&mut self, key: &WorkloadKey, is_blocked: bool, now: Timestamp) {
        self.update(key, now, |entry| entry.set_blocked(is_blocked));
    }

    /// When to call [`expire`](Self::expire) next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.ledger.next_deadline()
    }

    /// Applies the deadlines that have passed.
    pub fn expire(&mut self, now: Timestamp) {
        for key in self.ledger.expired(now) {
            self.update(&key, now, |entry| entry.expire(now));
        }
    }

    /// What failed of a policy, and where it is stopped because of that.
    #[must_use]
    pub fn status_of(&self, policy: &PolicyKey) -> PolicyStatus {
        let failed = self.ledger.failed(policy);
        let mut failures: Vec<_> =
            failed.filter_map(|key| self.entries.get(key)?.failures.get(policy).cloned()).collect();
        failures.sort_by(|a, b| (a.time, &a.workload).cmp(&(b.time, &b.workload)));
        let limit = self.limits(policy).failure_limit(policy);
        PolicyStatus { is_stopped: self.ledger.failures(policy) >= limit, limit, failures }
    }

    /// Whether failures stop a policy in a namespace.
    #[must_use]
    pub fn is_stopped(&self, policy: &PolicyKey, namespace: &str) -> bool {
        self.ledger.is_stopped(policy, namespace, self.limits(policy))
    }

    /// How many rollouts failed, over all policies.
    #[must_use]
    pub fn failed_rollouts(&self) -> usize {
        self.ledger.failed_rollouts()
    }

    fn limits(&self, policy: &PolicyKey) -> PolicyLimits {
        self.policies.get(policy).copied().unwrap_or_default()
    }

    /// Whether the policies that ask for a workload, and the cluster, have a slot for it.
    fn has_room(&self, key: &WorkloadKey, entry: &Entry) -> bool {
        self.ledger.has_room(&key.namespace, &entry.snapshot.asked_by, &self.policies)
    }

    /// Whether failures stop a policy that asks for a workload.
    fn waits_for_stopped(&self, key: &WorkloadKey, entry: &Entry) -> bool {
        entry.snapshot.asked_by.keys().any(|policy| self.is_stopped(policy, &key.namespace))
    }

    /// Offers the free slots. What was offered for a policy that was stopped since is withdrawn.
    fn offer(&mut self, now: Timestamp) {
        if !self.is_active || !self.may_offer {
            return;
        }
        let is_stopped = |key: &&WorkloadKey| {
            self.entries.get(*key).is_some_and(|entry| self.waits_for_stopped(key, entry))
        };
        for key in self.offered.iter().filter(is_stopped).cloned().collect::<Vec<_>>() {
            self.update(&key, now, Entry::withdraw);
        }
        while let Some(key) = self.ledger.next(&self.policies, &self.last_offers) {
            self.offers += 1;
            self.last_offers.insert(key.namespace.clone(), self.offers);
            self.update(&key, now, |entry| entry.offer(now));
            self.runnable.insert(key);
        }
        self.may_offer = false;
    }

    fn update_slot(&mut self, slot: &Slot, now: Timestamp, change: impl FnOnce(&mut Entry)) {
        let is_held =
            |entry: &Entry| matches!(entry.hold, Hold::Reserved { number, .. } if number == slot.number);
        // Of an earlier term, or of a workload that was deleted and created again.
        if self.entries.get(&slot.key).is_some_and(is_held) {
            self.update(&slot.key, now, change);
        }
    }

    /// Changes an entry, judges it, and keeps the ledger in step.
    fn update(&mut self, key: &WorkloadKey, now: Timestamp, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let before = entry.footprint();
        change(entry);
        let policies = &self.policies;
        entry.judge(key, now, |policy| policies.get(policy)?.generation);
        let after = if entry.is_done() { Footprint::default() } else { entry.footprint() };
        if entry.is_done() {
            self.entries.remove(key);
        }
        if after.is_offered {
            self.offered.insert(key.clone());
        } else if before.is_offered {
            self.offered.remove(key);
            self.runnable.remove(key);
        }
        if before == after {
            return;
        }
        self.changed.extend(before.failed.symmetric_difference(&after.failed).cloned());
        self.ledger.remove(key, &before);
        self.ledger.add(key, &after);
        self.may_offer = true;
    }
}

/// What an entry counts for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Footprint {
    /// The policies that its slot is for, if it holds one.
    slot: Option<BTreeSet<PolicyKey>>,
    /// Whether that slot is offered, and not reserved yet.
    is_offered: bool,
    /// The policies that its rollout failed for.
    failed: BTreeSet<PolicyKey>,
    /// How it waits for a slot, if it does: when it was created, and how many rollouts each policy that asks for it
    /// has at a time.
    waits: Option<(Option<Timestamp>, BTreeMap<PolicyKey, usize>)>,
    /// When it is to be judged again.
    deadline: Option<Timestamp>,
}

#[cfg(test)]
#[path = "evaluated_tests.rs"]
mod evaluated;
#[cfg(test)]
#[path = "histories_tests.rs"]
mod histories;
