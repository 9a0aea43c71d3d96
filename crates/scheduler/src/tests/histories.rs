//! Tests by histories: steps, and the decisions that the scheduler is expected to take.

use super::{
    failure_data::{self, FAILED},
    history::{History, check, policy, run, workload},
    progress_data, sharing_data, slots_data,
};
use crate::{RolloutMark, Snapshot, progress::Progress};

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
            let history = match (name, when) {
                // A new leader counts the rollout of an injected workload, also if its owner started it.
                ("its owner changes the template", "another leader in the end") => {
                    format!("{FAILED}\n{end}\nrestart\nfailed a/p\nmay\ncomplete a/1\nmay a/2")
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
fn slots_are_held_by_rollouts_in_progress() {
    run(slots_data::SLOTS);
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
            let Snapshot { progress, template, .. } = &history.workloads[any];
            let (is_rolling, is_failed) = (*progress == Progress::Rolling, *progress == Progress::Failed);
            let another = format!("{}/p plan={}", any.namespace, template + 1);
            let any = format!("{}/{}", any.namespace, any.name);
            match random(8) {
                0..=2 if !offered.is_empty() => {
                    let key = &offered[usize::try_from(random(offered.len() as u64)).unwrap()];
                    step(&mut history, format!("start {}/{}", key.namespace, key.name));
                }
                3 if is_rolling => step(&mut history, format!("complete {any}")),
                4 if is_rolling => step(&mut history, format!("reported {any}")),
                5 if is_rolling => step(&mut history, format!("counts {any} {} 3 {}", random(3), random(3))),
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
