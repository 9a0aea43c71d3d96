//! The scheduler: which workloads are offered a slot, by the events so far.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use adieu_core::keys::{PolicyKey, WorkloadKey};
use k8s_openapi::jiff::Timestamp;

use super::{
    failure::{FailedRollout, FailureLimit, PolicyFailures},
    scheduled_workload::ScheduledWorkload,
    slots::{ConcurrencyLimits, EntrySummary, PolicyFailureSettings, RolloutCounts, SlotAccounting},
    snapshot::Snapshot,
};

/// How many offers are remembered: a namespace that was offered a slot earlier counts as one that was offered none.
pub(super) const REMEMBERED_OFFERS: usize = 4096;

/// See the [crate](crate).
#[derive(Clone, Debug, Default)]
pub struct RolloutScheduler {
    /// Boxed, because nodes of a map have room for eleven entries, and half of that is often unused.
    pub(super) entries: BTreeMap<WorkloadKey, Box<ScheduledWorkload>>,
    policies: BTreeMap<PolicyKey, PolicyFailureSettings>,
    pub(super) accounting: SlotAccounting,
    /// Recorded failures of workloads that are not observed yet.
    restored: HashMap<WorkloadKey, Vec<(PolicyKey, FailedRollout)>>,
    /// Until when the previous leader recorded failures.
    failures_recorded_until: Option<Timestamp>,
    pub(super) is_active: bool,
    /// Whether anything changed that an offer depends on since slots were last offered. Finding the next one reads
    /// all queues, and most events change nothing.
    may_offer: bool,
    /// The number of the last reservation. A reset keeps it, so that no writer of an earlier term can commit one of
    /// this one.
    pub(super) last_reservation: u64,
    /// How many slots were offered, and which offer was the last in each namespace: of namespaces that hold as many
    /// slots, the one that was offered none for longest gets the next.
    offers: u64,
    pub(super) last_offers: HashMap<String, u64>,
    /// Workloads that are offered a slot.
    offered: BTreeSet<WorkloadKey>,
    /// Those of them that were offered one since [`take_runnable`](Self::take_runnable).
    runnable: BTreeSet<WorkloadKey>,
    /// Policies whose failures changed since [`take_changed`](Self::take_changed).
    changed: BTreeSet<PolicyKey>,
}

impl RolloutScheduler {
    /// A scheduler with this many slots for the whole cluster.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self { accounting: SlotAccounting::new(slots), ..Self::default() }
    }

    /// Drops all state: another replica leads.
    pub fn reset(&mut self) {
        *self = Self { last_reservation: self.last_reservation, ..Self::new(self.accounting.slots()) };
    }

    /// Sets until when the previous leader recorded failures, if it is known. A rollout that failed later counts as one
    /// that was in progress then. Before the first workload is observed.
    pub fn set_failures_recorded_until(&mut self, time: Option<Timestamp>) {
        self.failures_recorded_until = time;
    }

    /// Restores the failures that the status of a policy records: for each policy before the first workload is
    /// observed, and for a policy that could not be decoded then.
    pub fn restore(
        &mut self,
        policy: &PolicyKey,
        failures: impl IntoIterator<Item = FailedRollout>,
        now: Timestamp,
    ) {
        for failure in failures {
            let key = failure.workload.clone();
            let is_same = |entry: &ScheduledWorkload| entry.snapshot.uid == failure.uid;
            if self.entries.get(&key).is_some_and(|entry| is_same(entry)) {
                self.update(&key, now, |entry| entry.restore(vec![(policy.clone(), failure)], now));
            } else {
                self.restored.entry(key).or_default().push((policy.clone(), failure));
            }
        }
    }

    /// Every policy is restored and every workload observed: from here on slots are offered, and a rollout that
    /// was not committed here was started by another client.
    pub fn activate(&mut self) {
        self.release_excess_slots();
        self.is_active = true;
        self.may_offer = true;
        self.restored.clear();
    }

    /// Leaves rollouts of the previous leader no more slots than it could have given them, to each namespace and in all. A
    /// user may write workloads that look as if adieu were rolling them out.
    fn release_excess_slots(&mut self) {
        let mut ranks: BTreeMap<&str, usize> = BTreeMap::new();
        let holders = self.entries.iter().filter(|(_, entry)| entry.summary().slot.is_some());
        let mut ranked: Vec<_> = holders
            .map(|(key, _)| {
                let rank = ranks.entry(&key.namespace).or_default();
                *rank += 1;
                (*rank, key.clone())
            })
            .collect();
        ranked.sort();
        let (slots, share) = (self.accounting.slots(), self.accounting.share_of_namespace());
        for (number, (rank, key)) in ranked.into_iter().enumerate() {
            let Some(entry) = self.entries.get_mut(&key).filter(|_| number >= slots || rank > share) else {
                continue;
            };
            self.accounting.remove(&key, &entry.summary());
            if let Some(rollout) = &mut entry.rollout {
                rollout.is_without_slot = true;
            }
            self.accounting.add(&key, &entry.summary());
        }
    }

    /// Whether slots are offered.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.is_active
    }

    /// Whether a policy was [set](Self::set_policy).
    #[must_use]
    pub fn has_policy(&self, policy: &PolicyKey) -> bool {
        self.policies.contains_key(policy)
    }

    /// A policy was written: its generation, and how many of its rollouts may fail.
    pub fn set_policy(
        &mut self,
        policy: &PolicyKey,
        generation: Option<i64>,
        failure_limit: FailureLimit,
        now: Timestamp,
    ) {
        let settings = self.policies.entry(policy.clone()).or_default();
        let is_changed = (settings.generation, settings.failure_limit) != (generation, failure_limit);
        (settings.generation, settings.failure_limit) = (generation, failure_limit);
        if is_changed {
            self.may_offer = true;
            for key in self.recorded(policy) {
                self.changed.insert(policy.clone());
                self.update(&key, now, |_| {});
            }
        }
    }

    /// How many workloads a policy matches, of which a percentage may fail.
    pub fn set_matched(&mut self, policy: &PolicyKey, matched: usize) {
        if let Some(settings) = self.policies.get_mut(policy).filter(|settings| settings.matched != matched) {
            settings.matched = matched;
            self.may_offer = true;
        }
    }

    /// A policy was deleted.
    pub fn remove_policy(&mut self, policy: &PolicyKey, now: Timestamp) {
        self.policies.remove(policy);
        self.may_offer = true;
        for restored in self.restored.values_mut() {
            restored.retain(|(of, _)| of != policy);
        }
        for key in self.recorded(policy) {
            self.update(&key, now, |entry| drop(entry.failures.remove(policy)));
        }
    }

    /// A workload was evaluated.
    pub fn observe(&mut self, key: &WorkloadKey, snapshot: Snapshot, now: Timestamp) {
        let restored = self.restored.remove(key).unwrap_or_default();
        if self.entries.get(key).is_some_and(|entry| !entry.is_of(&snapshot)) {
            self.remove(key);
        }
        if !self.entries.contains_key(key) {
            let same = |(_, failure): &(_, FailedRollout)| failure.uid == snapshot.uid;
            let restored: Vec<_> = restored.into_iter().filter(same).collect();
            if snapshot.is_idle() && restored.is_empty() {
                // The usual case.
                return;
            }
            let entry = ScheduledWorkload::new(
                snapshot.clone(),
                restored,
                !self.is_active,
                self.failures_recorded_until,
                now,
            );
            self.accounting.add(key, &entry.summary());
            self.entries.insert(key.clone(), Box::new(entry));
            self.may_offer = true;
        }
        self.update(key, now, |entry| entry.set_snapshot(snapshot));
    }

    /// A workload was deleted, or is no longer managed.
    pub fn remove(&mut self, key: &WorkloadKey) {
        if let Some(entry) = self.entries.remove(key) {
            let summary = entry.summary();
            self.changed.extend(summary.failed.union(&summary.superseded).cloned());
            self.accounting.remove(key, &summary);
            self.may_offer = true;
        }
        self.restored.remove(key);
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

    /// Whether something rejects or reverts the writes of a workload. While it does, the workload is offered no slot. Once
    /// it is to be tried again, it may [reserve](Self::reserve) one; if there is none, it waits for an offer.
    pub fn set_blocked(&mut self, key: &WorkloadKey, is_blocked: bool, now: Timestamp) {
        self.update(key, now, |entry| entry.set_blocked(is_blocked));
    }

    /// When to call [`expire`](Self::expire) next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.accounting.next_deadline()
    }

    /// Applies the deadlines that have passed.
    pub fn expire(&mut self, now: Timestamp) {
        for key in self.accounting.expired(now) {
            self.update(&key, now, |entry| entry.expire(now));
        }
    }

    /// The failed rollouts of a policy, and whether they stop it.
    #[must_use]
    pub fn failures_of(&self, policy: &PolicyKey) -> PolicyFailures {
        let failure = |key| self.entries.get(key)?.failures.get(policy).cloned();
        let mut current: Vec<_> = self.accounting.failed(policy).filter_map(failure).collect();
        let mut superseded: Vec<_> = self.accounting.superseded(policy).filter_map(failure).collect();
        for failures in [&mut current, &mut superseded] {
            failures.sort_by(|a, b| (a.time, &a.workload).cmp(&(b.time, &b.workload)));
        }
        let limit = self.settings_of(policy).max_failures(policy);
        let is_limit_reached = self.accounting.counted_failures(policy) >= limit;
        PolicyFailures { current, superseded, limit, is_limit_reached }
    }

    /// The policies that a rollout failed for, and the workloads.
    #[must_use]
    pub fn with_failures(&self) -> (BTreeSet<PolicyKey>, BTreeSet<WorkloadKey>) {
        let policies = self.accounting.all_failed().map(|(policy, _)| policy.clone());
        (
            policies.collect(),
            self.accounting.all_failed().flat_map(|(_, workloads)| workloads).cloned().collect(),
        )
    }

    /// Whether a rollout of the workload failed.
    #[must_use]
    pub fn has_failures(&self, key: &WorkloadKey) -> bool {
        self.entries.get(key).is_some_and(|entry| !entry.failures.is_empty())
    }

    /// Whether failures stop a policy in a namespace.
    #[must_use]
    pub fn is_stopped(&self, policy: &PolicyKey, namespace: &str) -> bool {
        self.accounting.is_stopped(policy, namespace, self.settings_of(policy))
    }

    /// How many rollouts are in progress, wait, and failed.
    #[must_use]
    pub fn counts(&self) -> RolloutCounts {
        self.accounting.counts(&self.policies)
    }

    /// The workloads with a recorded failure of a policy.
    fn recorded(&self, policy: &PolicyKey) -> Vec<WorkloadKey> {
        self.accounting.failed(policy).chain(self.accounting.superseded(policy)).cloned().collect()
    }

    fn settings_of(&self, policy: &PolicyKey) -> PolicyFailureSettings {
        self.policies.get(policy).copied().unwrap_or_default()
    }

    /// Whether the cluster, the namespace and the policies that request a rollout of a workload have a slot for it.
    pub(super) fn has_free_slot(&self, key: &WorkloadKey, entry: &ScheduledWorkload) -> bool {
        self.accounting.has_free_slot(&key.namespace, &ConcurrencyLimits::of(&entry.snapshot), &self.policies)
    }

    /// Whether failures stop a policy that requests a rollout of a workload.
    pub(super) fn waits_for_stopped(&self, key: &WorkloadKey, entry: &ScheduledWorkload) -> bool {
        entry.snapshot.requested_by.keys().any(|policy| self.is_stopped(policy, &key.namespace))
    }

    /// Offers the free slots, and withdraws offers for policies that stopped since.
    pub(super) fn offer(&mut self, now: Timestamp) {
        if !self.is_active || !self.may_offer {
            return;
        }
        let is_stopped = |key: &&WorkloadKey| {
            self.entries.get(*key).is_some_and(|entry| self.waits_for_stopped(key, entry))
        };
        for key in self.offered.iter().filter(is_stopped).cloned().collect::<Vec<_>>() {
            self.update(&key, now, ScheduledWorkload::withdraw);
        }
        while let Some(key) = self.accounting.next(&self.policies, &self.last_offers) {
            self.offers += 1;
            self.last_offers.insert(key.namespace.clone(), self.offers);
            self.update(&key, now, |entry| entry.offer(now));
            self.runnable.insert(key);
        }
        if self.last_offers.len() > REMEMBERED_OFFERS {
            let oldest = self.offers.saturating_sub(REMEMBERED_OFFERS as u64);
            self.last_offers.retain(|_, last| *last > oldest);
        }
        self.may_offer = false;
    }

    /// Changes an entry, updates its rollout and failures, and keeps the accounting up to date.
    pub(super) fn update(
        &mut self,
        key: &WorkloadKey,
        now: Timestamp,
        change: impl FnOnce(&mut ScheduledWorkload),
    ) {
        let Some(entry) = self.entries.get_mut(key).map(|entry| &mut **entry) else { return };
        let before = entry.summary();
        change(entry);
        let policies = &self.policies;
        entry.update(key, now, |policy| policies.get(policy)?.generation);
        let after = if entry.is_done() { EntrySummary::default() } else { entry.summary() };
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
        self.changed.extend(before.superseded.symmetric_difference(&after.superseded).cloned());
        self.accounting.remove(key, &before);
        self.accounting.add(key, &after);
        self.may_offer = true;
    }
}
