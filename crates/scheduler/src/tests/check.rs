//! Runs histories, and checks the invariants of the scheduler after each step.

use std::collections::{BTreeMap, BTreeSet};

use super::{history::History, words::policy};
use crate::{scheduled_workload::SlotState, slots::SlotAccounting};

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
    check_slots(history);
    check_failures(history);
}

/// Slots are counted and limited, and end.
fn check_slots(history: &History) {
    let (scheduler, held) = (&history.scheduler, history.held());
    assert!(held <= history.slots, "{held} slots are held");
    // The accounting is the sum of the summaries of the entries.
    let mut accounting = SlotAccounting::new(history.slots);
    for (key, entry) in &scheduler.entries {
        accounting.add(key, &entry.summary());
    }
    assert_eq!(accounting, scheduler.accounting);
    let mut used_by_namespace = BTreeMap::<_, usize>::new();
    for (key, entry) in scheduler.entries.iter().filter(|(_, entry)| entry.summary().slot.is_some()) {
        let held = used_by_namespace.entry(&key.namespace).or_default();
        *held += 1;
        assert!(entry.snapshot.namespace_limit.is_none_or(|limit| *held <= limit), "{key:?}");
    }
    for (policy, settings) in &history.policies {
        let slots = scheduler.entries.values().filter_map(|entry| entry.summary().slot);
        let of_policy = slots.filter(|slot| slot.contains(policy)).count();
        assert!(of_policy <= settings.max_concurrent, "{policy:?} holds {of_policy} slots");
    }
    // A slot is held until a deadline, or while the workload is being written.
    for (key, entry) in &scheduler.entries {
        let summary = entry.summary();
        let is_written = matches!(entry.slot_state, SlotState::Reserved { .. });
        assert!(summary.slot.is_none() || summary.deadline.is_some() || is_written, "{key:?}");
    }
    let deadlines = scheduler.entries.values().filter_map(|entry| entry.summary().deadline);
    assert_eq!(scheduler.next_deadline(), deadlines.min());
}

/// The reported failures are the sum of those of the policies.
fn check_failures(history: &History) {
    let scheduler = &history.scheduler;
    assert!(scheduler.is_active() && !scheduler.has_policy(&policy("none/none")));
    let (mut count, mut policies, mut workloads) = (0, BTreeSet::new(), BTreeSet::new());
    for policy in history.policies.keys() {
        let failures = scheduler.failures_of(policy);
        assert_ne!(scheduler.has_policy(policy), history.undecoded.contains_key(policy), "{policy:?}");
        assert!(!failures.is_limit_reached || !failures.current.is_empty(), "{policy:?} is stopped");
        count += failures.current.len();
        let failures: Vec<_> = failures.current.iter().chain(&failures.superseded).collect();
        if !failures.is_empty() {
            policies.insert(policy.clone());
        }
        workloads.extend(failures.into_iter().map(|failure| failure.workload.clone()));
    }
    assert_eq!(scheduler.counts().failed, count);
    for key in history.workloads.keys() {
        assert_eq!(scheduler.has_failures(key), workloads.contains(key), "{key:?}");
    }
    assert_eq!(scheduler.with_failures(), (policies, workloads));
}
