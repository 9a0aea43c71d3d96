//! Tests by histories: steps, and the decisions that the scheduler is expected to take.

use super::{
    check::{check, run},
    failure_data::{self, FAILED},
    history::History,
    leaders_data, progress_data, sharing_data, slots_data,
    words::{policy, workload},
    writes_data,
};
use crate::{
    RolloutCounts, Snapshot, WrittenRevision, progress::RolloutState, rollout_scheduler::REMEMBERED_OFFERS,
};

#[test]
fn slots_are_shared_among_namespaces_and_policies() {
    run(sharing_data::SHARING);
}

#[test]
fn only_new_maxima_are_progress() {
    run(progress_data::PROGRESS);
}

#[test]
fn a_failure_stops_its_policy_within_limits() {
    run(sharing_data::LIMITS);
}

#[test]
fn a_failure_lasts_until_it_is_fixed() {
    let mut histories = vec![];
    for &(name, end, failures, may) in failure_data::ENDS {
        for (when, history) in [
            ("the same leader", format!("{FAILED}\n{end}\nfailed a/p {failures}\n{may}")),
            (
                "another leader after the failure",
                format!("{FAILED}\nrestart\n{end}\nfailed a/p {failures}\n{may}"),
            ),
            ("another leader in the end", format!("{FAILED}\n{end}\nrestart\nfailed a/p {failures}\n{may}")),
        ] {
            histories.push((format!("{name}: {when}"), history));
        }
    }
    let histories: Vec<_> = histories.iter().map(|(name, text)| (name.as_str(), 8, text.as_str())).collect();
    run(&histories);
}

#[test]
fn the_oldest_offers_are_forgotten() {
    let mut history = History::new(1);
    history.step("policy all max=1");
    for number in 0..2 * REMEMBERED_OFFERS {
        let workload = format!("{number}/web");
        history.step(&format!("wait {workload} all"));
        history.step(&format!("may {workload}"));
        history.step(&format!("delete {workload}"));
    }
    let offers = &history.scheduler.last_offers;
    assert_eq!(offers.len(), REMEMBERED_OFFERS);
    let last = 2 * REMEMBERED_OFFERS - 1;
    assert!(offers.contains_key(&last.to_string()) && !offers.contains_key("0"));
}

#[test]
fn slots_are_held_by_rollouts_in_progress() {
    run(slots_data::SLOTS);
}

#[test]
fn rollouts_are_counted_while_they_are_in_progress_and_while_they_wait() {
    let mut history = History::new(2);
    for (line, counts) in [
        ("policy a/p max=1", [0, 0, 0, 0]),
        ("wait a/1 a/p", [0, 1, 0, 0]),
        ("wait a/2 a/p", [0, 2, 0, 0]),
        // The rollout of a workload that is offered a slot hasn't started.
        ("may a/1", [0, 2, 0, 0]),
        ("start a/1", [1, 1, 0, 0]),
        ("complete a/1", [0, 1, 0, 0]),
        // It is to be tried again.
        ("rejected a/2", [0, 1, 0, 0]),
        ("blocked a/2", [0, 0, 0, 0]),
        ("unblocked a/2", [0, 1, 0, 0]),
        ("unknown a/2", [1, 0, 0, 0]),
        ("after 60", [0, 1, 0, 0]),
        ("start a/2", [1, 0, 0, 0]),
        ("wait a/1 a/p template=3", [1, 1, 0, 0]),
        // The other one waits until the failure is fixed.
        ("reported a/2", [0, 1, 1, 1]),
        ("later a/1", [0, 0, 0, 1]),
        ("delete a/2", [0, 0, 0, 0]),
    ] {
        history.step(line);
        let RolloutCounts { in_progress, queued, stalled, failed } = history.scheduler.counts();
        assert_eq!([in_progress, queued, stalled, failed], counts, "{line}");
        check(&history);
    }
}

#[test]
fn a_writer_gets_a_slot_for_what_was_observed() {
    run(writes_data::WRITES);
}

#[test]
fn a_new_leader_takes_over_the_rollouts_that_adieu_started() {
    run(leaders_data::IN_PROGRESS);
}

#[test]
fn recorded_failures_are_restored_while_they_apply() {
    run(leaders_data::RECORDED);
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

/// Two workloads that wait for slots.
fn waiting(history: &mut History) {
    for line in ["policy a/p max=1", "policy b/p max=1", "wait a/1 a/p", "wait b/1 b/p"] {
        history.step(line);
    }
}

#[test]
fn a_slot_of_an_earlier_term_commits_nothing() {
    let mut history = History::new(2);
    waiting(&mut history);
    let key = workload("a/1");
    let earlier = history.reserve(&key).unwrap();
    history.scheduler.reset();
    history.scheduler.activate();
    waiting(&mut history);
    let revision = WrittenRevision { generation: 2, template: 2 };
    history.scheduler.commit(&earlier, revision, history.now);
    // Both hold an offer.
    for line in ["may a/1 b/1", "held 2", "after 10", "held 0", "after 60", "may a/1 b/1"] {
        history.step(line);
    }
    let slot = history.reserve(&key).unwrap();
    history.scheduler.release(&earlier, history.now);
    history.step("reserve a/1 denied");
    history.scheduler.commit(&slot, revision, history.now);
    history.scheduler.commit(&slot, revision, history.now);
    check(&history);
    for line in ["after 10", "held 1"] {
        history.step(line);
    }
}

#[test]
fn a_slot_is_not_valid_for_a_recreated_workload() {
    let mut history = History::new(2);
    waiting(&mut history);
    let deleted = history.reserve(&workload("a/1")).unwrap();
    for line in ["delete a/1", "wait a/1 a/p", "reserve a/1 granted"] {
        history.step(line);
    }
    history.scheduler.release(&deleted, history.now);
    for line in ["reserve a/1 denied", "commit a/1", "held 2"] {
        history.step(line);
        check(&history);
    }
}

#[test]
fn no_slot_is_offered_or_reserved_before_the_scheduler_is_active() {
    let mut history = History::new(2);
    history.scheduler.reset();
    waiting(&mut history);
    assert!(!history.scheduler.is_active());
    // A blocked workload is offered none, and may reserve one.
    for line in ["runnable", "reserve a/1 denied", "blocked a/1", "reserve a/1 denied"] {
        history.step(line);
    }
    history.scheduler.activate();
    history.step("runnable b/1");
    history.step("reserve a/1 granted");
}

#[test]
fn failures_of_a_policy_that_is_deleted_meanwhile_are_not_restored() {
    let mut history = History::new(2);
    for line in ["policy a/p max=1", "policy a/q max=1", "wait a/1 a/p,a/q", "start a/1", "reported a/1"] {
        history.step(line);
    }
    let failures = history.scheduler.failures_of(&policy("a/p")).current;
    history.scheduler.reset();
    for name in ["a/p", "a/q"] {
        history.scheduler.restore(&policy(name), failures.clone(), history.now);
    }
    for line in ["remove a/p", "reported a/1", "failed a/p", "failed a/q a/1=ProgressDeadlineExceeded"] {
        history.step(line);
    }
}

#[test]
fn failures_that_another_version_recorded_last_while_no_other_template_is_wanted() {
    for (change, remaining) in [
        ("reported a/1", "a/1=ProgressDeadlineExceeded"),
        ("wait a/1 a/p template=3", "a/1=superseded"),
        ("complete a/1", ""),
    ] {
        let mut history = History::new(2);
        for line in ["policy a/p max=1", "wait a/1 a/p", "start a/1", "reported a/1"] {
            history.step(line);
        }
        let mut failures = history.scheduler.failures_of(&policy("a/p")).current;
        // It may compute other hashes.
        (failures[0].desired_template, failures[0].template) = (None, None);
        history.scheduler.reset();
        history.step("policy a/p max=1");
        history.scheduler.restore(&policy("a/p"), failures, history.now);
        history.step("reported a/1");
        history.scheduler.activate();
        history.step(change);
        history.step(&format!("failed a/p {remaining}"));
        check(&history);
    }
}

#[test]
fn a_rollout_takes_seven_days_at_most() {
    const MAX_ROLLOUT_SECONDS: u64 = 7 * 24 * 60 * 60;
    let mut history = History::new(2);
    for line in ["policy a/p max=1", "wait a/1 a/p", "start a/1", "counts a/1 0 0 5000 desired=5000"] {
        history.step(line);
    }
    // It makes progress until the end.
    let steps = MAX_ROLLOUT_SECONDS / 500;
    for updated in 1..=steps {
        history.step("after 500");
        history.step(&format!("counts a/1 {updated} 0 5000 desired=5000"));
    }
    history.step(&format!("after {}", MAX_ROLLOUT_SECONDS - steps * 500 - 1));
    for line in ["failed a/p", "after 1", "failed a/p a/1=TotalTimeExceeded"] {
        history.step(line);
    }
}

#[test]
fn idle_workloads_are_dropped() {
    let mut history = History::new(2);
    for line in ["policy a/p max=1", "wait a/1 a/p", "start a/1", "complete a/1"] {
        history.step(line);
    }
    assert!(history.scheduler.entries.is_empty());
}

#[test]
fn policies_whose_failures_change_are_reported_once() {
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

/// Runs the last of these steps, and prints all of them if it fails.
fn run_last(history: &mut History, seed: u64, steps: &[String]) {
    let run = std::panic::AssertUnwindSafe(|| {
        history.step(&steps[steps.len() - 1]);
        check(history);
    });
    if let Err(cause) = std::panic::catch_unwind(run) {
        eprintln!("seed {seed}:\n{}", steps.join("\n"));
        std::panic::resume_unwind(cause);
    }
}

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
            done.push(line);
            run_last(history, seed, &done);
        };
        for policy in ["all", "a/p", "b/p", "c/p"] {
            let (most, per_namespace) = (1 + random(4), 1 + random(3));
            let limit = if policy == "all" { format!("perNamespace={per_namespace}") } else { String::new() };
            step(&mut history, format!("policy {policy} max={most} {limit} generation=1"));
        }
        for number in 0..9 {
            let namespace = ["a", "b", "c"][number % 3];
            let requested_by = [format!("{namespace}/p"), "all".into(), format!("all,{namespace}/p")];
            step(
                &mut history,
                format!("wait {namespace}/{number} {}", requested_by[usize::try_from(random(3)).unwrap()]),
            );
        }
        for _ in 0..60 {
            let offered: Vec<_> = history.offered().into_iter().collect();
            let keys: Vec<_> = history.workloads.keys().cloned().collect();
            let any = &keys[usize::try_from(random(keys.len() as u64)).unwrap()];
            let Snapshot { rollout_state, current_template: template, desired_template, .. } =
                &history.workloads[any];
            let is_waiting = desired_template.is_some();
            let (is_rolling, is_failed) =
                (*rollout_state == RolloutState::Progressing, *rollout_state == RolloutState::Failed);
            let another = format!("{}/p template={}", any.namespace, template + 1);
            let any = format!("{}/{}", any.namespace, any.name);
            match random(8) {
                0..=2 if !offered.is_empty() => {
                    let key = &offered[usize::try_from(random(offered.len() as u64)).unwrap()];
                    step(&mut history, format!("start {}/{}", key.namespace, key.name));
                }
                3 if is_rolling => step(&mut history, format!("complete {any}")),
                4 if is_rolling => step(&mut history, format!("reported {any}")),
                5 if is_rolling => step(&mut history, format!("counts {any} {} 3 {}", random(3), random(3))),
                6 if !is_rolling && !is_failed && !is_waiting => step(&mut history, format!("owner {any}")),
                6 if is_failed => step(&mut history, format!("wait {any} {another}")),
                7 => step(&mut history, format!("after {}", random(300))),
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
