//! A scheduler that a history drives, and the steps of a history, one a line:
//!
//! - `policy NS/NAME max=N [perNamespace=N] [failures=N|N%] [generation=N] [matched=N]`; a cluster policy has no
//!   namespace; `remove POLICY`: it is deleted
//! - `wait NS/NAME POLICY[,POLICY] [template=N]`: the workload is complete, and waits to be written; `later NS/NAME`:
//!   it waits for its next update instead of a slot
//! - `may NS/NAME ...`: exactly these hold an offer; `runnable NS/NAME ...`: exactly these are requeued
//! - `start NS/NAME [stored=N]`: it is written, and rolls out; the API server stores this template instead of the
//!   desired one. `write`: it is written, and not observed; `applied`: it is observed as written, whether or not it was
//!   written here
//! - `reserve NS/NAME granted|denied [uid=TEXT] [generation=N] [template=N]`: a writer wants to write this; then
//!   `commit NS/NAME`: it is written, and rolls out
//! - `counts NS/NAME UPDATED AVAILABLE OLD [desired=N]`: its replicas; `rolling`, `reported` (failed), `complete NS/NAME`
//! - `condition NS/NAME NUMBER`: its condition `Progressing`; `progress-deadline NS/NAME SECONDS`: the time without
//!   progress after which it fails
//! - `rejected`, `unknown NS/NAME`: its write is released, or its outcome is unknown; `blocked`, `unblocked NS/NAME`
//! - `owner NS/NAME`: its owner writes another template; `undo NS/NAME`: the previous one; `again`: it is created again
//! - `scale NS/NAME`: another generation of the same template; `zero`, `pause`, `up NS/NAME`; `delete NS/NAME`;
//!   `unmanaged NS/NAME`: its policy is unknown
//! - `after SECONDS`; `deadline SECONDS`: the time until the next deadline, or `none`
//! - `restart [POLICY]`: another leader, which can't decode the policy; `decoded POLICY`: now it can; `crash`: until a
//!   restart there is no leader
//! - `failed POLICY [NS/NAME=REASON ...]`: exactly these failed; `held N`: this many slots are held
//! - `stops POLICY everywhere|nowhere|NS [limit=N]`: where failures stop it, and how many stop it everywhere

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use adieu_core::keys::{PolicyKey, WorkloadKey};
use k8s_openapi::jiff::Timestamp;

use super::words::{number, option, policy, workload};
use crate::{
    FailedRollout, FailureLimit, PolicyFailures, RolloutScheduler, SlotRequest, SlotReservation, Snapshot,
    WrittenRevision,
    progress::{ReplicaCounts, RolloutState, Suspended},
    scheduled_workload::SlotState,
    time::later,
};

/// A history: its name, the slots of the cluster, and the steps.
pub(super) type Data = (&'static str, usize, &'static str);

/// The progress deadline of the workloads.
const DEFAULT_PROGRESS_DEADLINE: Duration = Duration::from_mins(10);

pub(super) struct History {
    pub(super) slots: usize,
    pub(super) scheduler: RolloutScheduler,
    pub(super) now: Timestamp,
    pub(super) policies: BTreeMap<PolicyKey, Policy>,
    pub(super) workloads: BTreeMap<WorkloadKey, Snapshot>,
    /// The workloads before their rollouts.
    before: BTreeMap<WorkloadKey, Snapshot>,
    /// Slots that writers reserved.
    reserved: BTreeMap<WorkloadKey, SlotReservation>,
    /// Recorded failures of policies that can't be decoded.
    pub(super) undecoded: BTreeMap<PolicyKey, Vec<FailedRollout>>,
    /// Since when there is no leader.
    crashed: Option<Timestamp>,
}

#[derive(Clone, Copy)]
pub(super) struct Policy {
    pub(super) max_concurrent: usize,
    per_namespace: Option<usize>,
    failures: FailureLimit,
    generation: Option<i64>,
    matched: usize,
}

/// A workload once its desired template, or what the API server `stored` instead, is its template.
fn written(before: &Snapshot, stored: Option<u64>) -> Snapshot {
    Snapshot {
        generation: before.generation + 1,
        current_template: stored.or(before.desired_template).unwrap(),
        desired_template: None,
        is_queued: false,
        requested_by: BTreeMap::new().into(),
        is_started_by_adieu: true,
        rollout_state: RolloutState::Progressing,
        ..before.clone()
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
            reserved: BTreeMap::new(),
            undecoded: BTreeMap::new(),
            crashed: None,
        }
    }

    pub(super) fn step(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        let workloads = || words[1..].iter().map(|text| workload(text)).collect::<BTreeSet<_>>();
        match words[0] {
            "policy" => self.add_policy(&words),
            "remove" => {
                self.policies.remove(&policy(words[1]));
                self.scheduler.remove_policy(&policy(words[1]), self.now);
            }
            "wait" => self.wait(&workload(words[1]), words[2], number(&words, "template").unwrap_or(2)),
            "may" => assert_eq!(self.offered(), workloads()),
            "runnable" => assert_eq!(self.scheduler.take_runnable(self.now), workloads()),
            "after" => self.advance(words[1].parse().unwrap()),
            "deadline" => {
                let left = self.scheduler.next_deadline().map(|time| time.duration_since(self.now).as_secs());
                assert_eq!(left.map_or("none".into(), |left| left.to_string()), words[1]);
            }
            "crash" => self.crashed = Some(self.now),
            "restart" => self.restart(words.get(1).map(|text| policy(text)).as_ref()),
            "decoded" => {
                let failures = self.undecoded.remove(&policy(words[1])).unwrap();
                self.set_policy(&policy(words[1]));
                self.scheduler.restore(&policy(words[1]), failures, self.now);
            }
            "failed" => {
                let expected: BTreeSet<_> = words[2..].iter().map(|&text| text.to_owned()).collect();
                assert_eq!(self.failed(&policy(words[1])), expected);
            }
            "stops" => {
                let found = self.scheduler.failures_of(&policy(words[1]));
                let in_namespace = |namespace| self.scheduler.is_stopped(&policy(words[1]), namespace);
                let expected = [words[2] == "everywhere", !["everywhere", "nowhere"].contains(&words[2])];
                let is_stopped = [found.is_limit_reached, !found.is_limit_reached && in_namespace(words[2])];
                assert_eq!((is_stopped, in_namespace("another")), (expected, expected[0]));
                assert_eq!(number(&words, "limit").unwrap_or(found.limit), found.limit);
            }
            "held" => assert_eq!(self.held(), words[1].parse::<usize>().unwrap()),
            "start" | "write" | "commit" | "applied" | "reserve" | "rejected" | "unknown" => {
                self.write(&words, &workload(words[1]));
            }
            _ => self.change(&words),
        }
    }

    fn add_policy(&mut self, words: &[&str]) {
        let failures = |text: &str| match text.strip_suffix('%') {
            Some(percent) => FailureLimit::Percent(percent.parse().unwrap()),
            None => FailureLimit::Count(text.parse().unwrap()),
        };
        let settings = Policy {
            max_concurrent: number(words, "max").unwrap_or(1),
            per_namespace: number(words, "perNamespace"),
            failures: option(words, "failures").map_or(FailureLimit::Default, failures),
            generation: number(words, "generation"),
            matched: number(words, "matched").unwrap_or(0),
        };
        self.policies.insert(policy(words[1]), settings);
        self.set_policy(&policy(words[1]));
    }

    fn advance(&mut self, seconds: u64) {
        self.now = later(self.now, Duration::from_secs(seconds));
        if self.crashed.is_none() {
            self.scheduler.expire(self.now);
            // Otherwise the timer for the next deadline would never sleep.
            assert!(self.scheduler.next_deadline().is_none_or(|time| time > self.now));
        }
    }

    /// The steps of a writer.
    fn write(&mut self, words: &[&str], key: &WorkloadKey) {
        match words[0] {
            "start" => {
                let slot = self.reserve(key).unwrap_or_else(|| panic!("{key:?} has no slot"));
                self.reserved.insert(key.clone(), slot);
                let written = self.commit(key, number(words, "stored"));
                self.observe(key, |now| *now = written);
            }
            "write" => {
                let slot = self.reserve(key).unwrap_or_else(|| panic!("{key:?} has no slot"));
                self.reserved.insert(key.clone(), slot);
                self.commit(key, None);
            }
            "commit" => {
                let written = self.commit(key, None);
                self.observe(key, |now| *now = written);
            }
            "applied" => {
                let written = written(&self.workloads[key], None);
                self.observe(key, |now| *now = written);
            }
            "reserve" => {
                let Snapshot { uid, generation, desired_template, .. } = &self.workloads[key];
                let request = SlotRequest {
                    uid: option(words, "uid").or(uid.as_deref()),
                    generation: number(words, "generation").unwrap_or(*generation),
                    desired_template: number(words, "template").or(*desired_template).unwrap(),
                };
                let slot = self.scheduler.reserve(key, request, self.now);
                assert_eq!(slot.is_some(), words[2] == "granted");
                self.reserved.extend(slot.map(|slot| (key.clone(), slot)));
            }
            "rejected" => {
                let slot = self.reserve(key).unwrap();
                self.scheduler.release(&slot, self.now);
            }
            "unknown" => {
                let slot = self.reserve(key).unwrap();
                self.scheduler.outcome_unknown(&slot, self.now);
            }
            word => panic!("{word}"),
        }
    }

    /// The failed rollouts of a policy, with their reasons.
    fn failed(&self, policy: &PolicyKey) -> BTreeSet<String> {
        let failures = self.scheduler.failures_of(policy);
        let text = |failure: &FailedRollout, reason: &str| {
            let WorkloadKey { namespace, name, .. } = &failure.workload;
            format!("{namespace}/{name}={reason}")
        };
        let failed = failures.current.iter().map(|failure| text(failure, &format!("{:?}", failure.reason)));
        failed.chain(failures.superseded.iter().map(|failure| text(failure, "superseded"))).collect()
    }

    /// Changes a workload.
    fn change(&mut self, words: &[&str]) {
        let key = workload(words[1]);
        let nth = |index: usize| words[index].parse::<i64>().unwrap();
        match words[0] {
            "counts" => self.observe(&key, |now| {
                let [updated, available, old] = [nth(2), nth(3), nth(4)];
                let desired = number(words, "desired").unwrap_or(3);
                now.counts = Some(ReplicaCounts { desired, updated, available, old });
            }),
            "progress-deadline" => {
                self.observe(&key, |now| now.progress_deadline = Duration::from_secs(nth(2).unsigned_abs()));
            }
            "later" => self.observe(&key, |now| now.is_queued = false),
            "rolling" => self.observe(&key, |now| now.rollout_state = RolloutState::Progressing),
            "complete" => self.observe(&key, |now| now.rollout_state = RolloutState::Complete),
            "reported" => {
                let since = Some(self.now);
                self.observe(&key, |now| {
                    (now.rollout_state, now.failed_since) = (RolloutState::Failed, since);
                });
            }
            "condition" => self.observe(&key, |now| now.condition = Some(nth(2).unsigned_abs())),
            "quota" => self.observe(&key, |now| now.replica_failure = true),
            "broken" => self.observe(&key, |now| {
                (now.rollout_state, now.was_complete) = (RolloutState::Progressing, true);
            }),
            "scale" => self.observe(&key, |now| now.generation += 1),
            "zero" => self.observe(&key, |now| {
                now.suspended = Some(Suspended::ScaledToZeroWithService);
            }),
            "pause" => self.observe(&key, |now| now.suspended = Some(Suspended::Paused)),
            "up" => self.observe(&key, |now| {
                now.suspended = None;
                (now.generation, now.rollout_state) = (now.generation + 1, RolloutState::Progressing);
            }),
            "owner" => self.observe(&key, |now| {
                (now.current_template, now.desired_template, now.is_queued) =
                    (now.current_template + 100, None, false);
                (now.generation, now.rollout_state) = (now.generation + 1, RolloutState::Progressing);
                now.is_started_by_adieu = false;
            }),
            "undo" => {
                let before = self.before[&key].clone();
                let generation = self.workloads[&key].generation + 1;
                self.observe(&key, |now| {
                    *now = Snapshot { generation, rollout_state: RolloutState::Progressing, ..before }
                });
            }
            "again" => self.observe(&key, |now| now.uid = Some("again".into())),
            "unmanaged" => self.scheduler.remove(&key),
            "blocked" | "unblocked" => self.scheduler.set_blocked(&key, words[0] == "blocked", self.now),
            "delete" => {
                self.workloads.remove(&key);
                if self.crashed.is_none() {
                    self.scheduler.remove(&key);
                }
            }
            word => panic!("{word}"),
        }
    }

    fn wait(&mut self, key: &WorkloadKey, requested_by: &str, desired: u64) {
        let age = i64::try_from(self.workloads.len()).unwrap();
        let keys: Vec<_> = requested_by.split(',').map(policy).collect();
        let requested_by: BTreeMap<_, _> =
            keys.iter().map(|policy| (policy.clone(), self.policies[policy].max_concurrent)).collect();
        let cluster_policies = self.policies.iter().filter(|(policy, _)| policy.is_cluster_scoped());
        let namespace_limit = cluster_policies.filter_map(|(_, settings)| settings.per_namespace).min();
        let new = Snapshot {
            uid: Some(format!("{}-{age}", key.name)),
            generation: 1,
            created: Timestamp::from_second(age).ok(),
            current_template: 1,
            desired_template: None,
            is_queued: false,
            requested_by: BTreeMap::new().into(),
            namespace_limit: None,
            rolled_out_by: vec![],
            is_started_by_adieu: false,
            rollout_state: RolloutState::Complete,
            failed_since: None,
            counts: None,
            progress_deadline: DEFAULT_PROGRESS_DEADLINE,
            condition: None,
            was_complete: false,
            is_updated: false,
            suspended: None,
            replica_failure: false,
        };
        let snapshot = self.workloads.entry(key.clone()).or_insert(new);
        (snapshot.desired_template, snapshot.is_queued) = (Some(desired), true);
        (snapshot.requested_by, snapshot.rolled_out_by) = (requested_by.into(), keys);
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

    pub(super) fn reserve(&mut self, key: &WorkloadKey) -> Option<SlotReservation> {
        let Snapshot { uid, generation, desired_template, .. } = &self.workloads[key];
        let request = SlotRequest {
            uid: uid.as_deref(),
            generation: *generation,
            desired_template: desired_template.unwrap(),
        };
        self.scheduler.reserve(key, request, self.now)
    }

    /// Commits the slot that was reserved. The snapshot of the written workload.
    fn commit(&mut self, key: &WorkloadKey, stored: Option<u64>) -> Snapshot {
        let before = self.workloads[key].clone();
        let written = written(&before, stored);
        let revision = WrittenRevision { generation: written.generation, template: written.current_template };
        self.scheduler.commit(&self.reserved.remove(key).unwrap(), revision, self.now);
        self.before.insert(key.clone(), before);
        written
    }

    /// Another leader, which restores its state from the API but for a policy that it can't decode.
    fn restart(&mut self, undecodable: Option<&PolicyKey>) {
        let previous = std::mem::replace(&mut self.scheduler, RolloutScheduler::new(self.slots));
        self.scheduler.set_failures_recorded_until(Some(self.crashed.take().unwrap_or(self.now)));
        for policy in self.policies.keys().cloned().collect::<Vec<_>>() {
            let failures = previous.failures_of(&policy);
            let failures = failures.current.into_iter().chain(failures.superseded);
            if undecodable == Some(&policy) {
                self.undecoded.insert(policy, failures.collect());
                continue;
            }
            self.set_policy(&policy);
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
        let offered = entries.filter(|(_, entry)| matches!(entry.slot_state, SlotState::Offered { .. }));
        offered.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn held(&self) -> usize {
        self.scheduler.entries.values().filter(|entry| entry.summary().slot.is_some()).count()
    }

    /// The failures of each policy, and the rollouts that hold a slot.
    pub(super) fn decisions(&self) -> (Vec<PolicyFailures>, Vec<WorkloadKey>) {
        let failures = self.policies.keys().map(|policy| self.scheduler.failures_of(policy));
        let entries = self.scheduler.entries.iter();
        let rolling =
            entries.filter(|(_, entry)| entry.rollout.as_ref().is_some_and(|rollout| !rollout.has_failed));
        (failures.collect(), rolling.map(|(key, _)| key.clone()).collect())
    }
}
