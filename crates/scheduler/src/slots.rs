//! The slots that workloads hold, the queues that they wait in and their failures, kept in step with the entries.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use adieu_core::{
    api::{WorkloadKind as Kind, defaults},
    keys::{PolicyKey, WorkloadKey},
};
use k8s_openapi::jiff::Timestamp;

use super::{failure::FailureLimit, snapshot::Snapshot};

/// From this many slots on, the reserved ones are also kept from policies that hold some.
const SLOTS_FOR_POLICIES: usize = 4;

/// The settings of a policy that limit its failures.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PolicyFailureSettings {
    pub(super) generation: Option<i64>,
    pub(super) failure_limit: FailureLimit,
    /// How many workloads it matches.
    pub(super) matched: usize,
}

impl PolicyFailureSettings {
    /// How many rollouts of `policy` may fail before no other starts.
    pub(super) fn max_failures(self, policy: &PolicyKey) -> usize {
        let default =
            if policy.is_cluster_scoped() { defaults::CLUSTER_MAX_FAILURES } else { defaults::MAX_FAILURES };
        self.failure_limit.max_failures(self.matched, default)
    }
}

type Policies = BTreeMap<PolicyKey, PolicyFailureSettings>;

/// The limits of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConcurrencyLimits {
    /// The policies that request it, and how many rollouts each has at a time.
    requested_by: Arc<BTreeMap<PolicyKey, usize>>,
    /// How many workloads of the namespace may roll out at a time.
    namespace_limit: Option<usize>,
}

impl ConcurrencyLimits {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self { requested_by: snapshot.requested_by.clone(), namespace_limit: snapshot.namespace_limit }
    }
}

/// A workload that is queued for a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueuedWorkload {
    pub(super) limits: ConcurrencyLimits,
    /// Whether a canary tool may roll out its template: such workloads come last.
    pub(super) may_be_canary_source: bool,
    pub(super) created: Option<Timestamp>,
}

impl QueuedWorkload {
    fn queue_key(&self, key: &WorkloadKey) -> QueueKey {
        (self.may_be_canary_source, self.created, key.clone())
    }
}

/// How many rollouts for policies there are. Those because of annotations, and of other clients, don't count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolloutCounts {
    /// Those that hold a slot. A slot that is only offered doesn't count.
    pub in_progress: usize,
    /// Workloads that wait for a slot or for another attempt, without those whose writes are rejected or reverted.
    pub queued: usize,
    /// Those of them that wait for a slot of a policy that failures stop.
    pub stalled: usize,
    /// Failed ones, over all policies.
    pub failed: usize,
}

/// The accounting of an entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EntrySummary {
    /// The policies that its slot is for, if it holds one.
    pub(super) slot: Option<BTreeSet<PolicyKey>>,
    /// Whether that slot is offered, and not reserved yet.
    pub(super) is_offered: bool,
    /// The policies that its rollout failed for.
    pub(super) failed: BTreeSet<PolicyKey>,
    /// The policies that its rollout failed for, and that have since requested another template.
    pub(super) superseded: BTreeSet<PolicyKey>,
    /// Whether it waits for a slot or for another attempt.
    pub(super) is_waiting: bool,
    /// Its place in a queue, if it is queued.
    pub(super) queued: Option<QueuedWorkload>,
    /// When it has to be updated again.
    pub(super) deadline: Option<Timestamp>,
}

/// The order in a queue: the oldest first.
type QueueKey = (bool, Option<Timestamp>, WorkloadKey);

/// The workloads of a namespace that have the same limits.
type Queues = BTreeMap<(String, ConcurrencyLimits), BTreeSet<QueueKey>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotAccounting {
    slots: usize,
    held: usize,
    /// How many of the slots that are held are only offered.
    offered: usize,
    /// How many workloads wait.
    waiting: usize,
    /// The slots that are held, by namespace and by policy.
    used_by_namespace: BTreeMap<String, usize>,
    used_by_policy: BTreeMap<PolicyKey, usize>,
    failed: BTreeMap<PolicyKey, BTreeSet<WorkloadKey>>,
    superseded: BTreeMap<PolicyKey, BTreeSet<WorkloadKey>>,
    queues: Queues,
    deadlines: BTreeSet<(Timestamp, WorkloadKey)>,
}

impl SlotAccounting {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots, ..Self::default() }
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn counts(&self, policies: &Policies) -> RolloutCounts {
        RolloutCounts {
            in_progress: self.held - self.offered,
            queued: self.waiting + self.offered,
            stalled: self.stalled(policies),
            failed: self.failed.values().map(BTreeSet::len).sum(),
        }
    }

    /// How many workloads are queued for a slot of a policy that failures stop.
    fn stalled(&self, policies: &Policies) -> usize {
        if self.failed.is_empty() {
            // The usual case, and there may be many queues.
            return 0;
        }
        let is_stopped = |policy: &PolicyKey, namespace: &str| {
            let settings = || policies.get(policy).copied().unwrap_or_default();
            self.failed.contains_key(policy) && self.is_stopped(policy, namespace, settings())
        };
        let stalled = self.queues.iter().filter(|((namespace, limits), _)| {
            limits.requested_by.keys().any(|policy| is_stopped(policy, namespace))
        });
        stalled.map(|(_, queue)| queue.len()).sum()
    }

    pub(super) fn add(&mut self, key: &WorkloadKey, summary: &EntrySummary) {
        self.offered += usize::from(summary.is_offered);
        self.waiting += usize::from(summary.is_waiting);
        if let Some(policies) = &summary.slot {
            self.held += 1;
            *self.used_by_namespace.entry(key.namespace.clone()).or_default() += 1;
            for policy in policies {
                *self.used_by_policy.entry(policy.clone()).or_default() += 1;
            }
        }
        for policy in &summary.failed {
            self.failed.entry(policy.clone()).or_default().insert(key.clone());
        }
        for policy in &summary.superseded {
            self.superseded.entry(policy.clone()).or_default().insert(key.clone());
        }
        if let Some(waiting) = &summary.queued {
            let queue = self.queues.entry((key.namespace.clone(), waiting.limits.clone())).or_default();
            queue.insert(waiting.queue_key(key));
        }
        if let Some(deadline) = summary.deadline {
            self.deadlines.insert((deadline, key.clone()));
        }
    }

    pub(super) fn remove(&mut self, key: &WorkloadKey, summary: &EntrySummary) {
        self.offered -= usize::from(summary.is_offered);
        self.waiting -= usize::from(summary.is_waiting);
        if let Some(policies) = &summary.slot {
            self.held -= 1;
            decrement(&mut self.used_by_namespace, &key.namespace);
            for policy in policies {
                decrement(&mut self.used_by_policy, policy);
            }
        }
        for policy in &summary.failed {
            remove_from(&mut self.failed, policy, key);
        }
        for policy in &summary.superseded {
            remove_from(&mut self.superseded, policy, key);
        }
        if let Some(waiting) = &summary.queued {
            let queue = (key.namespace.clone(), waiting.limits.clone());
            remove_from(&mut self.queues, &queue, &waiting.queue_key(key));
        }
        if let Some(deadline) = summary.deadline {
            self.deadlines.remove(&(deadline, key.clone()));
        }
    }

    /// The workload that a free slot is for. `last_offers`: the number of the last offer in each namespace.
    ///
    /// Reads the first workload of each queue, and looks up the policies in its limits. There is a queue for each namespace
    /// and set of limits: about one for each namespace and policy, and at most one for each queued workload. It is called
    /// about twice for each rollout, but not for its progress (`RolloutScheduler::may_offer`). A rollout takes several
    /// requests to the API server, each of which takes longer than reading hundreds of queues. A sorted index would save
    /// little: the slots that a policy holds rank its queues in all namespaces, so each change of a slot would sort them
    /// again.
    pub(super) fn next(
        &self,
        policies: &Policies,
        last_offers: &HashMap<String, u64>,
    ) -> Option<WorkloadKey> {
        if self.held >= self.slots {
            return None;
        }
        let queues = self
            .queues
            .iter()
            .filter(|((namespace, limits), _)| self.has_free_slot(namespace, limits, policies));
        let first = queues.filter_map(|((namespace, limits), queue)| {
            let first = queue.first()?;
            let last = last_offers.get(namespace).copied().unwrap_or_default();
            let comes_last = first.0;
            Some((comes_last, self.used_by_namespace(namespace), self.held_for_any(limits), last, first))
        });
        first.min().map(|(.., (.., key))| key.clone())
    }

    /// Whether the cluster, the namespace and each policy that requests it have a slot for a workload in `namespace`.
    pub(super) fn has_free_slot(
        &self,
        namespace: &str,
        limits: &ConcurrencyLimits,
        policies: &Policies,
    ) -> bool {
        let free = self.slots.saturating_sub(self.held);
        let may_use_reserved = || {
            let is_policy_free = self.slots < SLOTS_FOR_POLICIES || self.held_for_any(limits) == 0;
            self.used_by_namespace(namespace) == 0 && is_policy_free
        };
        let has_slot = free > self.reserved() || free > 0 && may_use_reserved();
        let is_below_limit =
            limits.namespace_limit.is_none_or(|limit| self.used_by_namespace(namespace) < limit);
        has_slot
            && is_below_limit
            && limits.requested_by.iter().all(|(policy, max_concurrent)| {
                let settings = policies.get(policy).copied().unwrap_or_default();
                self.used_by_policy(policy) < *max_concurrent && !self.is_stopped(policy, namespace, settings)
            })
    }

    /// How many slots a namespace may hold.
    pub(super) fn share_of_namespace(&self) -> usize {
        self.slots - self.reserved()
    }

    /// How many of the free slots are for namespaces and policies that hold none.
    fn reserved(&self) -> usize {
        if self.slots < 2 { 0 } else { (self.slots / 4).max(1) }
    }

    fn used_by_namespace(&self, namespace: &str) -> usize {
        self.used_by_namespace.get(namespace).copied().unwrap_or_default()
    }

    fn used_by_policy(&self, policy: &PolicyKey) -> usize {
        self.used_by_policy.get(policy).copied().unwrap_or_default()
    }

    /// The most slots that one of the policies holds.
    fn held_for_any(&self, limits: &ConcurrencyLimits) -> usize {
        limits.requested_by.keys().map(|policy| self.used_by_policy(policy)).max().unwrap_or_default()
    }

    /// The policies that a rollout failed for, and the workloads.
    pub(super) fn all_failed(&self) -> impl Iterator<Item = (&PolicyKey, &BTreeSet<WorkloadKey>)> {
        self.failed.iter().chain(&self.superseded)
    }

    /// The workloads whose rollout failed for a policy, by namespace.
    pub(super) fn failed(&self, policy: &PolicyKey) -> impl Iterator<Item = &WorkloadKey> {
        self.failed.get(policy).into_iter().flatten()
    }

    /// The workloads whose rollout failed for a policy that has since requested another template.
    pub(super) fn superseded(&self, policy: &PolicyKey) -> impl Iterator<Item = &WorkloadKey> {
        self.superseded.get(policy).into_iter().flatten()
    }

    /// How many failures count towards the limit of a policy: for a cluster policy one in each namespace, so that no
    /// namespace alone stops it everywhere.
    pub(super) fn counted_failures(&self, policy: &PolicyKey) -> usize {
        let failed = self.failed(policy);
        if policy.is_cluster_scoped() {
            failed.map(|key| &key.namespace).collect::<BTreeSet<_>>().len()
        } else {
            failed.count()
        }
    }

    /// Whether failures stop a policy in a namespace: its limit is reached, or a rollout of a cluster policy failed there.
    pub(super) fn is_stopped(
        &self,
        policy: &PolicyKey,
        namespace: &str,
        settings: PolicyFailureSettings,
    ) -> bool {
        let Some(failed) = self.failed.get(policy) else { return false };
        let first = WorkloadKey { namespace: namespace.to_owned(), kind: Kind::ALL[0], name: String::new() };
        let is_inside = |key: &WorkloadKey| key.namespace == namespace;
        let failed_here = || failed.range(first..).next().is_some_and(is_inside);
        let is_limit_reached = self.counted_failures(policy) >= settings.max_failures(policy);
        is_limit_reached || policy.is_cluster_scoped() && failed_here()
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The workloads whose deadline has passed.
    pub(super) fn expired(&self, now: Timestamp) -> Vec<WorkloadKey> {
        let passed = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        passed.map(|(_, key)| key.clone()).collect()
    }
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

fn remove_from<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
