//! What all workloads hold, wait for and failed at, kept in step with the entries.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::jiff::Timestamp;

use super::{FailureLimit, Footprint};
use crate::{
    api::{WorkloadKind as Kind, defaults},
    index::{PolicyKey, WorkloadKey},
};

/// What a policy says, beside how many rollouts it has at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PolicyLimits {
    pub(super) generation: Option<i64>,
    pub(super) failures: FailureLimit,
    /// How many workloads it matches.
    pub(super) matched: usize,
}

impl PolicyLimits {
    /// How many rollouts of `policy` may fail before no other starts.
    pub(super) fn failure_limit(self, policy: &PolicyKey) -> usize {
        let default =
            if policy.is_of_cluster() { defaults::MAX_FAILURES_OF_CLUSTER } else { defaults::MAX_FAILURES };
        self.failures.number(self.matched, default)
    }
}

type Limits = BTreeMap<PolicyKey, PolicyLimits>;

/// The policies that ask for a workload, and how many rollouts each has at a time.
type AskedBy = BTreeMap<PolicyKey, usize>;

/// The workloads of a namespace that wait for the same policies, the oldest first.
type Queue = BTreeSet<(Option<Timestamp>, WorkloadKey)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ledger {
    slots: usize,
    held: usize,
    /// The slots that are held, by namespace and by policy.
    held_in: HashMap<String, usize>,
    held_for: BTreeMap<PolicyKey, usize>,
    failed: BTreeMap<PolicyKey, BTreeSet<WorkloadKey>>,
    queues: BTreeMap<(String, AskedBy), Queue>,
    deadlines: BTreeSet<(Timestamp, WorkloadKey)>,
}

impl Ledger {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots,
            held: 0,
            held_in: HashMap::new(),
            held_for: BTreeMap::new(),
            failed: BTreeMap::new(),
            queues: BTreeMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn add(&mut self, key: &WorkloadKey, footprint: &Footprint) {
        if let Some(policies) = &footprint.slot {
            self.held += 1;
            *self.held_in.entry(key.namespace.clone()).or_default() += 1;
            for policy in policies {
                *self.held_for.entry(policy.clone()).or_default() += 1;
            }
        }
        for policy in &footprint.failed {
            self.failed.entry(policy.clone()).or_default().insert(key.clone());
        }
        if let Some((created, asked_by)) = &footprint.waits {
            let queue = self.queues.entry((key.namespace.clone(), asked_by.clone())).or_default();
            queue.insert((*created, key.clone()));
        }
        if let Some(deadline) = footprint.deadline {
            self.deadlines.insert((deadline, key.clone()));
        }
    }

    pub(super) fn remove(&mut self, key: &WorkloadKey, footprint: &Footprint) {
        if let Some(policies) = &footprint.slot {
            self.held -= 1;
            if let Some(held) = self.held_in.get_mut(&key.namespace) {
                *held -= 1;
                if *held == 0 {
                    self.held_in.remove(&key.namespace);
                }
            }
            for policy in policies {
                if let Some(held) = self.held_for.get_mut(policy) {
                    *held -= 1;
                    if *held == 0 {
                        self.held_for.remove(policy);
                    }
                }
            }
        }
        for policy in &footprint.failed {
            if let Some(failed) = self.failed.get_mut(policy) {
                failed.remove(key);
                if failed.is_empty() {
                    self.failed.remove(policy);
                }
            }
        }
        if let Some((created, asked_by)) = &footprint.waits {
            let queue = (key.namespace.clone(), asked_by.clone());
            if let Some(waiting) = self.queues.get_mut(&queue) {
                waiting.remove(&(*created, key.clone()));
                if waiting.is_empty() {
                    self.queues.remove(&queue);
                }
            }
        }
        if let Some(deadline) = footprint.deadline {
            self.deadlines.remove(&(deadline, key.clone()));
        }
    }

    /// The workload that a free slot is for. `last_offers`: the number of the last offer in each namespace.
    pub(super) fn next(&self, limits: &Limits, last_offers: &HashMap<String, u64>) -> Option<WorkloadKey> {
        if self.held >= self.slots {
            return None;
        }
        let queues = self
            .queues
            .iter()
            .filter(|((namespace, asked_by), _)| self.has_room(namespace, asked_by, limits));
        let first = queues.filter_map(|((namespace, asked_by), queue)| {
            let first = queue.first()?;
            let last = last_offers.get(namespace).copied().unwrap_or_default();
            Some((self.held_in(namespace), self.held_for_any(asked_by), last, first))
        });
        first.min().map(|(.., (_, key))| key.clone())
    }

    /// Whether there is a slot for a workload in `namespace`, of the cluster's and for each policy that asks for it.
    pub(super) fn has_room(&self, namespace: &str, asked_by: &AskedBy, limits: &Limits) -> bool {
        let free = self.slots.saturating_sub(self.held);
        let holds_none = || self.held_in(namespace) == 0 && self.held_for_any(asked_by) == 0;
        let has_slot = free > self.reserve() || free > 0 && holds_none();
        has_slot
            && asked_by.iter().all(|(policy, most)| {
                let of_policy = limits.get(policy).copied().unwrap_or_default();
                self.held_for(policy) < *most && !self.is_stopped(policy, namespace, of_policy)
            })
    }

    /// How many of the free slots are for namespaces and policies that hold none.
    fn reserve(&self) -> usize {
        if self.slots < 2 { 0 } else { (self.slots / 4).max(1) }
    }

    fn held_in(&self, namespace: &str) -> usize {
        self.held_in.get(namespace).copied().unwrap_or_default()
    }

    fn held_for(&self, policy: &PolicyKey) -> usize {
        self.held_for.get(policy).copied().unwrap_or_default()
    }

    /// The most slots that one of these policies holds.
    fn held_for_any(&self, asked_by: &AskedBy) -> usize {
        asked_by.keys().map(|policy| self.held_for(policy)).max().unwrap_or_default()
    }

    /// The workloads whose rollout failed for a policy, by namespace.
    pub(super) fn failed(&self, policy: &PolicyKey) -> impl Iterator<Item = &WorkloadKey> {
        self.failed.get(policy).into_iter().flatten()
    }

    /// How many failures count towards the limit of a policy: of the cluster's one in each namespace, so that no
    /// namespace alone stops it everywhere.
    pub(super) fn failures(&self, policy: &PolicyKey) -> usize {
        let failed = self.failed(policy);
        if policy.is_of_cluster() {
            failed.map(|key| &key.namespace).collect::<BTreeSet<_>>().len()
        } else {
            failed.count()
        }
    }

    pub(super) fn failed_rollouts(&self) -> usize {
        self.failed.values().map(BTreeSet::len).sum()
    }

    /// Whether failures stop a policy in a namespace.
    pub(super) fn is_stopped(&self, policy: &PolicyKey, namespace: &str, limits: PolicyLimits) -> bool {
        let Some(failed) = self.failed.get(policy) else { return false };
        let first = WorkloadKey { namespace: namespace.to_owned(), kind: Kind::ALL[0], name: String::new() };
        let is_inside = |key: &WorkloadKey| key.namespace == namespace;
        let failed_here = || failed.range(first..).next().is_some_and(is_inside);
        self.failures(policy) >= limits.failure_limit(policy) || policy.is_of_cluster() && failed_here()
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
