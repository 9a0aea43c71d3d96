//! Histories as data: what happens, and what the scheduler is expected to say.
//!
//! One step a line:
//!
//! - `policy NS/NAME max=N [failures=N|N%] [generation=N] [matched=N]`; without a namespace it is of the cluster
//! - `wait NS/NAME POLICY[,POLICY] [plan=N]`: it is complete, and waits for a plan
//! - `may NS/NAME ...`: exactly these are offered a slot, or hold an offer
//! - `start NS/NAME`: it is written, and rolls out; `write` leaves out what the watch brings
//! - `counts NS/NAME UPDATED AVAILABLE OLD`: how far it is; `rolling`, `reported`, `complete NS/NAME`
//! - `says NS/NAME NUMBER`: what its controller says of the rollout
//! - `refused`, `unknown NS/NAME`: its write is released, or its outcome is unknown; `blocked`, `unblocked NS/NAME`
//! - `owner NS/NAME`: its owner writes another template, which needs nothing; `undo NS/NAME`: the one from before
//! - `scale NS/NAME`: another generation of the same template; `delete NS/NAME`
//! - `after SECONDS`; `restart`: another leader
//! - `failed POLICY [NS/NAME=REASON ...]`: exactly these failed; `held N`: so many slots are held

use std::time::Duration;

use super::{entry::later, *};
use crate::{
    index::{
        policy_key,
        progress::{Progress, ReplicaCounts},
    },
    plan::{Kind, Source},
};

#[path = "histories_data.rs"]
mod data;

/// What a Deployment's progress deadline is here.
const PATIENCE: Duration = Duration::from_mins(10);

struct History {
    slots: usize,
    scheduler: RolloutScheduler,
    now: Timestamp,
    policies: BTreeMap<PolicyKey, Policy>,
    workloads: BTreeMap<WorkloadKey, Snapshot>,
    /// The templates before the rollout, and what was waited for.
    before: BTreeMap<WorkloadKey, Snapshot>,
}

#[derive(Clone, Copy)]
struct Policy {
    most: usize,
    failures: FailureLimit,
    generation: Option<i64>,
    matched: usize,
}

fn workload(text: &str) -> WorkloadKey {
    let (namespace, name) = text.split_once('/').unwrap();
    WorkloadKey { namespace: namespace.into(), kind: Kind::Deployment, name: name.into() }
}

fn policy(text: &str) -> PolicyKey {
    match text.split_once('/') {
        Some((namespace, name)) => policy_key(namespace, &Source::Policy(name.into())),
        None => policy_key("", &Source::ClusterPolicy(text.into())),
    }
}

impl History {
    fn new(slots: usize) -> Self {
        let mut scheduler = RolloutScheduler::new(slots);
        scheduler.activate();
        Self {
            slots,
            scheduler,
            now: "2026-01-01T12:00:00Z".parse().unwrap(),
            policies: BTreeMap::new(),
            workloads: BTreeMap::new(),
            before: BTreeMap::new(),
        }
    }

    fn step(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        let option = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        match words[0] {
            "policy" => {
                let percent = |text: &str| match text.strip_suffix('%') {
                    Some(percent) => FailureLimit::Percent(percent.parse().unwrap()),
                    None => FailureLimit::Count(text.parse().unwrap()),
                };
                let said = Policy {
                    most: option("max").map_or(1, |most| most.parse().unwrap()),
                    failures: option("failures").map_or(FailureLimit::Default, percent),
                    generation: option("generation").map(|generation| generation.parse().unwrap()),
                    matched: option("matched").map_or(0, |matched| matched.parse().unwrap()),
                };
                self.policies.insert(policy(words[1]), said);
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
                self.scheduler.expire(self.now);
            }
            "restart" => self.restart(),
            "failed" => {
                let failures = self.scheduler.status_of(&policy(words[1])).failures;
                let text = |failure: &FailedRollout| {
                    let WorkloadKey { namespace, name, .. } = &failure.workload;
                    format!("{namespace}/{name}={:?}", failure.reason)
                };
                let found: BTreeSet<_> = failures.iter().map(text).collect();
                assert_eq!(found, words[2..].iter().map(|&text| text.to_owned()).collect());
            }
            "held" => assert_eq!(self.held(), words[1].parse::<usize>().unwrap()),
            _ => self.change(&words),
        }
    }

    /// What becomes of a workload.
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
            "reported" => self.observe(&key, |now| now.progress = Progress::Failed),
            "says" => self.observe(&key, |now| now.said = Some(number(2).unsigned_abs())),
            "quota" => self.observe(&key, |now| now.replica_failure = true),
            "broken" => self.observe(&key, |now| {
                (now.progress, now.was_complete) = (Progress::Rolling, true);
            }),
            "scale" => self.observe(&key, |now| now.generation += 1),
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
            "asks" => assert_eq!(self.reserve(&key).is_some(), words[2] == "granted"),
            "blocked" | "unblocked" => self.scheduler.set_blocked(&key, words[0] == "blocked", self.now),
            "delete" => {
                self.workloads.remove(&key);
                self.scheduler.remove(&key);
            }
            word => panic!("{word}"),
        }
    }

    fn wait(&mut self, key: &WorkloadKey, asked_by: &str, plan: u64) {
        let age = i64::try_from(self.workloads.len()).unwrap();
        let keys: Vec<_> = asked_by.split(',').map(policy).collect();
        let asked_by = keys.iter().map(|policy| (policy.clone(), self.policies[policy].most)).collect();
        let new = Snapshot {
            uid: Some(format!("{}-{age}", key.name)),
            generation: 1,
            created: Timestamp::from_second(age).ok(),
            template: 1,
            plan: None,
            is_queued: false,
            asked_by: BTreeMap::new(),
            rolled_out_by: vec![],
            progress: Progress::Complete,
            counts: None,
            patience: PATIENCE,
            said: None,
            was_complete: false,
            is_updated: false,
            replica_failure: false,
        };
        let snapshot = self.workloads.entry(key.clone()).or_insert(new);
        (snapshot.plan, snapshot.is_queued) = (Some(plan), true);
        (snapshot.asked_by, snapshot.rolled_out_by) = (asked_by, keys);
        self.observe(key, |_| {});
    }

    fn observe(&mut self, key: &WorkloadKey, change: impl FnOnce(&mut Snapshot)) {
        let snapshot = self.workloads.get_mut(key).unwrap();
        change(snapshot);
        self.scheduler.observe(key, snapshot.clone(), self.now);
    }

    fn set_policy(&mut self, key: &PolicyKey) {
        let Policy { failures, generation, matched, .. } = self.policies[key];
        self.scheduler.set_policy(key, generation, failures, self.now);
        self.scheduler.set_matched(key, matched);
    }

    fn reserve(&mut self, key: &WorkloadKey) -> Option<Slot> {
        let Snapshot { uid, generation, plan, .. } = &self.workloads[key];
        let request = Request { uid: uid.as_deref(), generation: *generation, plan: plan.unwrap() };
        self.scheduler.reserve(key, request, self.now)
    }

    /// Writes it. What the watch is to bring.
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
            asked_by: BTreeMap::new(),
            progress,
            ..before
        }
    }

    fn start(&mut self, key: &WorkloadKey) {
        let written = self.write(key);
        self.observe(key, |now| *now = written);
    }

    /// Another leader, which knows what the API server has.
    fn restart(&mut self) {
        let mut next = RolloutScheduler::new(self.slots);
        std::mem::swap(&mut next, &mut self.scheduler);
        let previous = next;
        for policy in self.policies.keys().cloned().collect::<Vec<_>>() {
            self.set_policy(&policy);
            let failures = previous.status_of(&policy).failures;
            // Its times have seconds.
            self.scheduler.restore(&policy, failures);
        }
        for (key, snapshot) in &self.workloads {
            self.scheduler.observe(key, snapshot.clone(), self.now);
        }
        self.scheduler.activate();
    }

    fn offered(&mut self) -> BTreeSet<WorkloadKey> {
        self.scheduler.take_runnable(self.now);
        let entries = self.scheduler.entries.iter();
        let offered = entries.filter(|(_, entry)| matches!(entry.hold, Hold::Offered { .. }));
        offered.map(|(key, _)| key.clone()).collect()
    }

    fn held(&self) -> usize {
        self.scheduler.entries.values().filter(|entry| entry.footprint().slot.is_some()).count()
    }
}

/// Runs each history, and says where one went wrong.
fn run(histories: &[(&str, usize, &str)]) {
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

/// What holds at any time.
fn check(history: &History) {
    let (scheduler, held) = (&history.scheduler, history.held());
    assert!(held <= history.slots, "{held} slots are held");
    // The ledger is what the entries add up to.
    let mut ledger = Ledger::new(history.slots);
    for (key, entry) in &scheduler.entries {
        ledger.add(key, &entry.footprint());
    }
    assert_eq!(ledger, scheduler.ledger);
    for (policy, said) in &history.policies {
        let of_policy = |entry: &&Entry| entry.footprint().slot.is_some_and(|slot| slot.contains(policy));
        let of_policy = scheduler.entries.values().filter(of_policy).count();
        assert!(of_policy <= said.most, "{policy:?} holds {of_policy} slots");
    }
    // A slot is held for a time: until a deadline, or while it is being written.
    for (key, entry) in &scheduler.entries {
        let footprint = entry.footprint();
        let is_written = matches!(entry.hold, Hold::Reserved { .. });
        assert!(footprint.slot.is_none() || footprint.deadline.is_some() || is_written, "{key:?}");
    }
}

#[test]
fn slots_are_shared_among_namespaces_and_policies() {
    run(data::SHARING);
}

#[test]
fn only_new_maxima_are_progress() {
    run(data::PROGRESS);
}

#[test]
fn a_failure_stops_its_policy_within_limits() {
    run(data::LIMITS);
}

#[test]
fn a_failure_lasts_until_it_is_fixed() {
    let failed = "
            policy a/p max=1 generation=1
            wait a/1 a/p
            wait a/2 a/p
            start a/1
            reported a/1
            failed a/p a/1=ProgressDeadlineExceeded";
    let ends = [
        ("it completes", "complete a/1", "", "may a/2"),
        ("it is deleted", "delete a/1", "", "may a/2"),
        ("its owner changes the template", "owner a/1", "", "may a/2"),
        ("its policy asks for another template", "wait a/1 a/p plan=3", "", "may a/1"),
        (
            "another generation of the policy that changes nothing",
            "policy a/p max=1 generation=2",
            "a/1=ProgressDeadlineExceeded",
            "may",
        ),
        ("it is scaled", "scale a/1", "a/1=ProgressDeadlineExceeded", "may"),
        ("it makes progress again", "rolling a/1", "a/1=ProgressDeadlineExceeded", "may"),
        ("time passes", "after 100000", "a/1=ProgressDeadlineExceeded", "may"),
        ("its owner undoes it", "undo a/1", "a/1=ProgressDeadlineExceeded", "may"),
        (
            "its owner undoes it, which completes",
            "undo a/1\ncomplete a/1",
            "a/1=ProgressDeadlineExceeded",
            "may",
        ),
        (
            "the policy changes after it was undone",
            "undo a/1\ncomplete a/1\npolicy a/p max=1 generation=2",
            "",
            "may a/1",
        ),
        (
            "the policy asks for another template after it was undone",
            "undo a/1\ncomplete a/1\nwait a/1 a/p plan=3",
            "",
            "may a/1",
        ),
        (
            "the policy asks for that once more later",
            "undo a/1\ncomplete a/1\nwait a/1 a/p plan=3\nwait a/1 a/p plan=2",
            "",
            "may a/1",
        ),
    ];
    let mut histories = vec![];
    for (name, end, failures, may) in ends {
        // With a change of leader after any step.
        for (when, history) in [
            ("the same leader", format!("{failed}\n{end}\nfailed a/p {failures}\n{may}")),
            (
                "another leader after the failure",
                format!("{failed}\nrestart\n{end}\nfailed a/p {failures}\n{may}"),
            ),
            ("another leader in the end", format!("{failed}\n{end}\nrestart\nfailed a/p {failures}\n{may}")),
        ] {
            let history = match (name, when) {
                // A new leader can't tell whose rollout it is of an injected workload, and counts it.
                ("its owner changes the template", "another leader in the end") => {
                    format!("{failed}\n{end}\nrestart\nfailed a/p\nmay\ncomplete a/1\nmay a/2")
                }
                // Nor of one that waits, which is its owner's to fix.
                ("its policy asks for another template", "another leader in the end") => {
                    format!("{failed}\n{end}\nrestart\nfailed a/p\nmay a/2\ncomplete a/1\nmay a/2")
                }
                _ => history,
            };
            histories.push((format!("{name}: {when}"), history));
        }
    }
    let histories: Vec<_> = histories.iter().map(|(name, text)| (name.as_str(), 8, text.as_str())).collect();
    run(&histories);
}

#[test]
fn a_slot_is_held_by_what_rolls_out_and_nothing_else() {
    run(data::SLOTS);
}

#[test]
fn offers_are_withdrawn_once_a_lowered_limit_is_observed() {
    let mut history = History::new(8);
    let steps = ["policy a/p max=2", "wait a/1 a/p", "wait a/2 a/p", "may a/1 a/2", "policy a/p max=1"];
    // Both are evaluated by the changed policy before the next decision.
    for step in steps.into_iter().chain(["wait a/1 a/p", "wait a/2 a/p", "may a/1"]) {
        history.step(step);
    }
    check(&history);
}

/// A slot of an earlier term is worth nothing.
#[test]
fn a_slot_of_an_earlier_term_commits_nothing() {
    let mut history = History::new(4);
    for line in ["policy a/p max=1", "wait a/1 a/p"] {
        history.step(line);
    }
    let key = workload("a/1");
    let slot = history.reserve(&key).unwrap();
    history.scheduler.reset();
    history.scheduler.activate();
    for line in ["policy a/p max=1", "wait a/1 a/p"] {
        history.step(line);
    }
    let mark = RolloutMark { generation: 2, template: 2 };
    history.scheduler.commit(&slot, mark, history.now);
    assert_eq!(history.held(), 0);
    let slot = history.reserve(&key).unwrap();
    history.scheduler.commit(&slot, mark, history.now);
    history.scheduler.commit(&slot, mark, history.now);
    assert_eq!(history.held(), 1);
}

#[test]
fn policies_whose_failures_change_are_told_once() {
    let mut history = History::new(4);
    for line in ["policy a/p max=1", "wait a/1 a/p", "start a/1"] {
        history.step(line);
    }
    history.scheduler.take_changed();
    history.step("rolling a/1");
    assert!(history.scheduler.take_changed().is_empty());
    for line in ["reported a/1", "complete a/1"] {
        history.step(line);
        assert_eq!(history.scheduler.take_changed(), [policy("a/p")].into());
        assert!(history.scheduler.take_changed().is_empty());
    }
}

/// Any history, of which a new leader makes the same as the old one, at any time.
#[test]
fn any_leader_decides_the_same_at_any_time() {
    for seed in 1..=200_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut history = History::new(usize::try_from(1 + random(8)).unwrap());
        let mut done = vec![];
        let mut step = |history: &mut History, line: String| {
            done.push(line.clone());
            let run = std::panic::AssertUnwindSafe(|| {
                history.step(&line);
                check(history);
            });
            if let Err(cause) = std::panic::catch_unwind(run) {
                eprintln!("seed {seed}:\n{}", done.join("\n"));
                std::panic::resume_unwind(cause);
            }
        };
        for policy in ["all", "a/p", "b/p", "c/p"] {
            step(&mut history, format!("policy {policy} max={} generation=1", 1 + random(4)));
        }
        for number in 0..9 {
            let namespace = ["a", "b", "c"][number % 3];
            let asked_by = [format!("{namespace}/p"), "all".into(), format!("all,{namespace}/p")];
            step(
                &mut history,
                format!("wait {namespace}/{number} {}", asked_by[usize::try_from(random(3)).unwrap()]),
            );
        }
        for _ in 0..60 {
            let offered: Vec<_> = history.offered().into_iter().collect();
            let keys: Vec<_> = history.workloads.keys().cloned().collect();
            let any = &keys[usize::try_from(random(keys.len() as u64)).unwrap()];
            let is_rolling = history.workloads[any].progress == Progress::Rolling;
            let any = format!("{}/{}", any.namespace, any.name);
            match random(8) {
                0..=2 if !offered.is_empty() => {
                    let key = &offered[usize::try_from(random(offered.len() as u64)).unwrap()];
                    step(&mut history, format!("start {}/{}", key.namespace, key.name));
                }
                3 if is_rolling => step(&mut history, format!("complete {any}")),
                4 if is_rolling => step(&mut history, format!("reported {any}")),
                5 if is_rolling => step(&mut history, format!("counts {any} {} 3 {}", random(3), random(3))),
                6 => step(&mut history, format!("after {}", random(300))),
                _ => {}
            }
            let [before, after] = [history.decisions(), {
                step(&mut history, "restart".into());
                history.decisions()
            }];
            assert_eq!(before, after, "seed {seed}");
        }
    }
}

impl History {
    /// What failed for each policy, and which rollouts hold a slot.
    fn decisions(&self) -> (Vec<Vec<FailedRollout>>, Vec<WorkloadKey>) {
        let failures = self.policies.keys().map(|policy| self.scheduler.status_of(policy).failures);
        let entries = self.scheduler.entries.iter();
        let rolling =
            entries.filter(|(_, entry)| entry.rollout.as_ref().is_some_and(|rollout| !rollout.has_failed));
        (failures.collect(), rolling.map(|(key, _)| key.clone()).collect())
    }
}
