//! A scheduler that a history drives, and the steps of a history.
//!
//! One step a line:
//!
//! - `policy NS/NAME max=N [perNamespace=N] [failures=N|N%] [generation=N] [matched=N]`; a cluster policy has no
//!   namespace
//! - `wait NS/NAME POLICY[,POLICY] [plan=N]`: the workload is complete, and waits for a plan
//! - `may NS/NAME ...`: exactly these hold an offer
//! - `start NS/NAME`: it is written, and rolls out; `write`: it is written, and not observed
//! - `counts NS/NAME UPDATED AVAILABLE OLD`: its replicas; `rolling`, `reported` (failed), `complete NS/NAME`
//! - `condition NS/NAME NUMBER`: the message of its condition `Progressing`
//! - `refused`, `unknown NS/NAME`: its write is released, or its outcome is unknown; `blocked`, `unblocked NS/NAME`
//! - `owner NS/NAME`: its owner writes another template; `undo NS/NAME`: the previous one
//! - `scale NS/NAME`: another generation of the same template; `zero`, `pause`, `up NS/NAME`; `delete NS/NAME`
//! - `after SECONDS`; `restart`: another leader; `crash`: until a restart there is no leader
//! - `failed POLICY [NS/NAME=REASON ...]`: exactly these failed; `held N`: this many slots are held

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use adieu_core::{
    keys::{PolicyKey, WorkloadKey, policy_key},
    plan::{Kind, Source},
};
use k8s_openapi::jiff::Timestamp;

use crate::{
    FailedRollout, FailureLimit, PolicyStatus, Request, RolloutMark, RolloutScheduler, Slot, Snapshot,
    entry::{Entry, Hold},
    ledger::Ledger,
    progress::{Progress, ReplicaCounts, Suspended},
    time::later,
};

/// A history: its name, the slots of the cluster, and the steps.
pub(super) type Data = (&'static str, usize, &'static str);

/// The progress deadline of the workloads.
const PATIENCE: Duration = Duration::from_mins(10);

pub(super) struct History {
    slots: usize,
    pub(super) scheduler: RolloutScheduler,
    pub(super) now: Timestamp,
    policies: BTreeMap<PolicyKey, Policy>,
    pub(super) workloads: BTreeMap<WorkloadKey, Snapshot>,
    /// The workloads before their rollouts.
    before: BTreeMap<WorkloadKey, Snapshot>,
    /// Since when there is no leader.
    crashed: Option<Timestamp>,
}

#[derive(Clone, Copy)]
struct Policy {
    most: usize,
    per_namespace: Option<usize>,
    failures: FailureLimit,
    generation: Option<i64>,
    matched: usize,
}

pub(super) fn workload(text: &str) -> WorkloadKey {
    let (namespace, name) = text.split_once('/').unwrap();
    WorkloadKey { namespace: namespace.into(), kind: Kind::Deployment, name: name.into() }
}

pub(super) fn policy(text: &str) -> PolicyKey {
    match text.split_once('/') {
        Some((namespace, name)) => policy_key(namespace, &Source::Policy(name.into())),
        None => policy_key("", &Source::ClusterPolicy(text.into())),
    }
}

impl History {
    pub(super) fn new(slots: usize) -> Self {
        let mut scheduler = RolloutScheduler::new(slots);
        scheduler.activate();
        Self {
            slots,
            scheduler,
            now: "2026-01-01T12:00:00Z".parse().unwrap(),
            policies: BTreeMap::new(),
            workloads: BTreeMap::new(),
            before: BTreeMap::new(),
            crashed: None,
        }
    }

    pub(super) fn step(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        let option = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        match words[0] {
            "policy" => {
                let percent = |text: &str| match text.strip_suffix('%') {
                    Some(percent) => FailureLimit::Percent(percent.parse().unwrap()),
                    None => FailureLimit::Count(text.parse().unwrap()),
                };
                let settings = Policy {
                    most: option("max").map_or(1, |most| most.parse().unwrap()),
                    per_namespace: option("perNamespace").map(|limit| limit.parse().unwrap()),
                    failures: option("failures").map_or(FailureLimit::Default, percent),
                    generation: option("generation").map(|generation| generation.parse().unwrap()),
                    matched: option("matched").map_or(0, |matched| matched.parse().unwrap()),
                };
                self.policies.insert(policy(words[1]), settings);
                self.set_policy(&policy(words[1]));
            }
            "wait" => {
                let plan = option("plan").map_or(2, |plan| plan.parse().unwrap());
                self.wait(&workload(words[1]), words[2], plan);
            }
            "may" => assert_eq!(self.offered(), words[1..].iter().map(|text| workload(text)).collect()),
            "start" => self.start(&workload(words[1])),
            "write" => drop(self.write(&workload(words[1]))),
            "after" => {
                self.now = later(self.now, Duration::from_secs(words[1].parse().unwrap()));
                if self.crashed.is_none() {
                    self.scheduler.expire(self.now);
                }
            }
            "crash" => self.crashed = Some(self.now),
            "restart" => self.restart(),
            "failed" => {
                let expected: BTreeSet<_> = words[2..].iter().map(|&text| text.to_owned()).collect();
                assert_eq!(self.failed(&policy(words[1])), expected);
            }
            "held" => assert_eq!(self.held(), words[1].parse::<usize>().unwrap()),
            _ => self.change(&words),
        }
    }

    /// The failed rollouts of a policy, with their reasons.
    fn failed(&self, policy: &PolicyKey) -> BTreeSet<String> {
        let status = self.scheduler.status_of(policy);
        let text = |failure: &FailedRollout, reason: &str| {
            let WorkloadKey { namespace, name, .. } = &failure.workload;
            format!("{namespace}/{name}={reason}")
        };
        let failed = status.failures.iter().map(|failure| text(failure, &format!("{:?}", failure.reason)));
        failed.chain(status.superseded.iter().map(|failure| text(failure, "superseded"))).collect()
    }

    /// Changes a workload.
    fn change(&mut self, words: &[&str]) {
        let key = workload(words[1]);
        let number = |index: usize| words[index].parse::<i64>().unwrap();
        match words[0] {
            "counts" => self.observe(&key, |now| {
                let [updated, available, old] = [number(2), number(3), number(4)];
                now.counts = Some(ReplicaCounts { desired: 3, updated, available, old });
            }),
            "rolling" => self.observe(&key, |now| now.progress = Progress::Rolling),
            "complete" => self.observe(&key, |now| now.progress = Progress::Complete),
            "reported" => {
                let since = Some(self.now);
                self.observe(&key, |now| (now.progress, now.failed_since) = (Progress::Failed, since));
            }
            "condition" => self.observe(&key, |now| now.condition = Some(number(2).unsigned_abs())),
            "quota" => self.observe(&key, |now| now.replica_failure = true),
            "broken" => self.observe(&key, |now| {
                (now.progress, now.was_complete) = (Progress::Rolling, true);
            }),
            "scale" => self.observe(&key, |now| now.generation += 1),
            "zero" => self.observe(&key, |now| {
                now.suspended = Some(Suspended::ScaledToZeroWithService);
            }),
            "pause" => self.observe(&key, |now| now.suspended = Some(Suspended::Paused)),
            "up" => self.observe(&key, |now| {
                now.suspended = None;
                (now.generation, now.progress) = (now.generation + 1, Progress::Rolling);
            }),
            "owner" => self.observe(&key, |now| {
                (now.template, now.plan, now.is_queued) = (now.template + 100, None, false);
                (now.generation, now.progress) = (now.generation + 1, Progress::Rolling);
            }),
            "undo" => {
                let before = self.before[&key].clone();
                let generation = self.workloads[&key].generation + 1;
                self.observe(&key, |now| {
                    *now = Snapshot { generation, progress: Progress::Rolling, ..before }
                });
            }
            "refused" => {
                let slot = self.reserve(&key).unwrap();
                self.scheduler.release(&slot, self.now);
            }
            "unknown" => {
                let slot = self.reserve(&key).unwrap();
                self.scheduler.outcome_unknown(&slot, self.now);
            }
            "reserve" => assert_eq!(self.reserve(&key).is_some(), words[2] == "granted"),
            "blocked" | "unblocked" => self.scheduler.set_blocked(&key, words[0] == "blocked", self.now),
            "delete" => {
                self.workloads.remove(&key);
                self.scheduler.remove(&key);
            }
            word => panic!("{word}"),
        }
    }

    fn wait(&mut self, key: &WorkloadKey, requested_by: &str, plan: u64) {
        let age = i64::try_from(self.workloads.len()).unwrap();
        let keys: Vec<_> = requested_by.split(',').map(policy).collect();
        let requested_by = keys.iter().map(|policy| (policy.clone(), self.policies[policy].most)).collect();
        let cluster_policies = self.policies.iter().filter(|(policy, _)| policy.is_of_cluster());
        let namespace_limit = cluster_policies.filter_map(|(_, settings)| settings.per_namespace).min();
        let new = Snapshot {
            uid: Some(format!("{}-{age}", key.name)),
            generation: 1,
            created: Timestamp::from_second(age).ok(),
            template: 1,
            plan: None,
            is_queued: false,
            requested_by: BTreeMap::new(),
            namespace_limit: None,
            rolled_out_by: vec![],
            progress: Progress::Complete,
            failed_since: None,
            counts: None,
            patience: PATIENCE,
            condition: None,
            was_complete: false,
            is_updated: false,
            suspended: None,
            replica_failure: false,
        };
        let snapshot = self.workloads.entry(key.clone()).or_insert(new);
        (snapshot.plan, snapshot.is_queued) = (Some(plan), true);
        (snapshot.requested_by, snapshot.rolled_out_by) = (requested_by, keys);
        snapshot.namespace_limit = namespace_limit;
        self.observe(key, |_| {});
    }

    fn observe(&mut self, key: &WorkloadKey, change: impl FnOnce(&mut Snapshot)) {
        let snapshot = self.workloads.get_mut(key).unwrap();
        change(snapshot);
        if self.crashed.is_none() {
            self.scheduler.observe(key, snapshot.clone(), self.now);
        }
    }

    fn set_policy(&mut self, key: &PolicyKey) {
        let Policy { failures, generation, matched, .. } = self.policies[key];
        self.scheduler.set_policy(key, generation, failures, self.now);
        self.scheduler.set_matched(key, matched);
    }

    pub(super) fn reserve(&mut self, key: &WorkloadKey) -> Option<Slot> {
        let Snapshot { uid, generation, plan, .. } = &self.workloads[key];
        let request = Request { uid: uid.as_deref(), generation: *generation, plan: plan.unwrap() };
        self.scheduler.reserve(key, request, self.now)
    }

    /// Writes it. The snapshot of the written workload.
    fn write(&mut self, key: &WorkloadKey) -> Snapshot {
        let slot = self.reserve(key).unwrap_or_else(|| panic!("{key:?} has no slot"));
        let before = self.workloads[key].clone();
        let (generation, template) = (before.generation + 1, before.plan.unwrap());
        self.scheduler.commit(&slot, RolloutMark { generation, template }, self.now);
        self.before.insert(key.clone(), before.clone());
        let progress = Progress::Rolling;
        Snapshot {
            generation,
            template,
            plan: None,
            is_queued: false,
            requested_by: BTreeMap::new(),
            progress,
            ..before
        }
    }

    fn start(&mut self, key: &WorkloadKey) {
        let written = self.write(key);
        self.observe(key, |now| *now = written);
    }

    /// Another leader, which restores its state from the API.
    fn restart(&mut self) {
        let mut next = RolloutScheduler::new(self.slots);
        std::mem::swap(&mut next, &mut self.scheduler);
        let previous = next;
        self.scheduler.set_recorded_until(Some(self.crashed.take().unwrap_or(self.now)));
        for policy in self.policies.keys().cloned().collect::<Vec<_>>() {
            self.set_policy(&policy);
            let status = previous.status_of(&policy);
            let failures = status.failures.into_iter().chain(status.superseded);
            self.scheduler.restore(&policy, failures, self.now);
        }
        for (key, snapshot) in &self.workloads {
            self.scheduler.observe(key, snapshot.clone(), self.now);
        }
        self.scheduler.activate();
    }

    pub(super) fn offered(&mut self) -> BTreeSet<WorkloadKey> {
        self.scheduler.take_runnable(self.now);
        let entries = self.scheduler.entries.iter();
        let offered = entries.filter(|(_, entry)| matches!(entry.hold, Hold::Offered { .. }));
        offered.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn held(&self) -> usize {
        self.scheduler.entries.values().filter(|entry| entry.slot_usage().slot.is_some()).count()
    }

    /// The failures of each policy, and the rollouts that hold a slot.
    pub(super) fn decisions(&self) -> (Vec<PolicyStatus>, Vec<WorkloadKey>) {
        let failures = self.policies.keys().map(|policy| self.scheduler.status_of(policy));
        let entries = self.scheduler.entries.iter();
        let rolling =
            entries.filter(|(_, entry)| entry.rollout.as_ref().is_some_and(|rollout| !rollout.has_failed));
        (failures.collect(), rolling.map(|(key, _)| key.clone()).collect())
    }
}

/// Runs each history, and prints the step that fails.
pub(super) fn run(histories: &[(&str, usize, &str)]) {
    for (name, slots, text) in histories {
        let mut history = History::new(*slots);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let step = std::panic::AssertUnwindSafe(|| history.step(line));
            if let Err(cause) = std::panic::catch_unwind(step) {
                eprintln!("in the history {name:?}, at {line:?}");
                std::panic::resume_unwind(cause);
            }
            check(&history);
        }
    }
}

/// Checks the invariants of the scheduler.
pub(super) fn check(history: &History) {
    let (scheduler, held) = (&history.scheduler, history.held());
    assert!(held <= history.slots, "{held} slots are held");
    // The ledger is the sum of the entries.
    let mut ledger = Ledger::new(history.slots);
    for (key, entry) in &scheduler.entries {
        ledger.add(key, &entry.slot_usage());
    }
    assert_eq!(ledger, scheduler.ledger);
    let mut used_by_namespace = BTreeMap::<_, usize>::new();
    for (key, entry) in scheduler.entries.iter().filter(|(_, entry)| entry.slot_usage().slot.is_some()) {
        let held = used_by_namespace.entry(&key.namespace).or_default();
        *held += 1;
        assert!(entry.snapshot.namespace_limit.is_none_or(|limit| *held <= limit), "{key:?}");
    }
    for (policy, settings) in &history.policies {
        let of_policy = |entry: &&Entry| entry.slot_usage().slot.is_some_and(|slot| slot.contains(policy));
        let of_policy = scheduler.entries.values().filter(of_policy).count();
        assert!(of_policy <= settings.most, "{policy:?} holds {of_policy} slots");
    }
    // A slot is held until a deadline, or while the workload is being written.
    for (key, entry) in &scheduler.entries {
        let slot_usage = entry.slot_usage();
        let is_written = matches!(entry.hold, Hold::Reserved { .. });
        assert!(slot_usage.slot.is_none() || slot_usage.deadline.is_some() || is_written, "{key:?}");
    }
}
