use adieu_core::api::{TerminationOutcome as Outcome, WorkloadKind as Kind};

use super::*;
use crate::{
    CauseEvidence,
    tests::{current, ended, observe, time},
};

#[test]
fn a_profile_sums_up_terminations_and_survives_a_restart() {
    let slow = observe(&ended(137, 30), current()).unwrap();
    let good =
        observe(&ended(0, 4), CauseEvidence { is_current_revision: Some(false), ..current() }).unwrap();
    let mut profile = Profile::new(&slow);
    for _ in 0..9 {
        profile.add(&good);
    }
    let status = profile.status();
    assert_eq!((status.terminations, status.outcomes.completed, status.outcomes.killed), (10, 9, 1));
    assert_eq!((status.causes.deletion, status.causes.rollout), (1, 9));
    assert_eq!(status.problem.as_deref(), Some("too slow, killed (1 of 10)"));
    let quantiles = status.shutdown_seconds.unwrap();
    assert_eq!((quantiles.p50, quantiles.p90, quantiles.max), (4, 4, 30));
    let [recent] = status.recent.as_slice() else { panic!("{:?}", status.recent) };
    assert_eq!((recent.pod.as_str(), recent.outcome), ("web-7d4b9-x2x", Outcome::Killed));
    assert_eq!(recent.reason, "killed at the end of the grace period of 30 s");
    assert_eq!(status.last_termination_time, time(30), "the latest end, in any order");
    assert_eq!(status.last_outcome, Some(Outcome::Killed), "the outcome of that one");

    let stored = serde_json::to_value(&status).unwrap();
    let mut restored = Profile::of(serde_json::from_value(stored).unwrap());
    assert_eq!(restored, profile);
    for _ in 0..20 {
        restored.add(&slow);
    }
    assert_eq!((restored.status().terminations, restored.status().recent.len()), (30, 5));
}

#[test]
fn the_last_outcome_is_that_of_the_latest_end_and_the_worst_of_its_second() {
    let last = |codes_and_ends: &[(i32, i64)]| {
        let observed =
            codes_and_ends.iter().map(|(code, end)| observe(&ended(*code, *end), current()).unwrap());
        let terminations: Vec<_> = observed.collect();
        let mut profile = Profile::new(&terminations[0]);
        terminations[1..].iter().for_each(|termination| profile.add(termination));
        profile.status().last_outcome
    };
    assert_eq!(last(&[(0, 4)]), Some(Outcome::Completed));
    assert_eq!(last(&[(1, 4), (0, 5)]), Some(Outcome::Completed));
    assert_eq!(last(&[(0, 5), (1, 4)]), Some(Outcome::Completed));
    assert_eq!(last(&[(1, 4), (0, 4)]), Some(Outcome::Crashed));
    let mut older = Profile::new(&observe(&ended(1, 4), current()).unwrap()).status();
    older.last_outcome = None;
    assert_eq!(Profile::of(older.clone()).status(), older, "a profile of an older version has none");
}

#[test]
fn evidence_is_about_the_times_that_pods_have_now() {
    let killed = observe(&ended(137, 30), current()).unwrap();
    let mut profile = Profile::new(&killed);
    (0..30).for_each(|_| profile.add(&killed));
    let mut longer = observe(&ended(0, 4), current()).unwrap();
    longer.requested.grace_period_seconds = 60;
    (0..20).for_each(|_| profile.add(&longer));
    let status = profile.status();
    assert_eq!((status.outcomes.killed, status.current_outcomes.killed, status.problem), (31, 0, None));
    assert_eq!(status.shutdown_seconds.unwrap().max, 4);
    let summary = status.recommendation.unwrap().summary;
    assert_eq!(
        summary,
        "terminationGracePeriodSeconds 60 -> 30: p99 of 20 terminations is 4 s, the longest of all took 30 s"
    );
    // The kubelet ended it before the last one, and it is deleted now.
    let outdated = Termination { end: longer.end, used_seconds: None, shutdown_seconds: None, ..killed };
    profile.add(&outdated);
    let later = profile.status();
    assert_eq!((later.outcomes.killed, later.current_outcomes), (32, status.current_outcomes));
    assert_eq!(later.requested, Some(longer.requested));
    let stored = serde_json::to_value(profile.status()).unwrap();
    assert_eq!(Profile::of(serde_json::from_value(stored).unwrap()), profile);
}

#[test]
fn an_application_that_ignores_sigterm_differs_from_a_slow_one() {
    let killed = observe(&ended(137, 30), current()).unwrap();
    let mut profile = Profile::new(&killed);
    assert_eq!(profile.status().problem.as_deref(), Some("too slow, killed (1 of 1)"), "once can be chance");
    (0..30).for_each(|_| profile.add(&killed));
    let status = profile.status();
    assert_eq!(status.problem.as_deref(), Some("ignores SIGTERM, killed (31 of 31)"));
    assert_eq!(status.recommendation, None, "no time is enough");
}

#[test]
fn the_name_of_a_profile_is_not_longer_than_a_name_may_be() {
    assert_eq!(profile_name(Kind::StatefulSet, "db"), "statefulset-db");
    let [long, other] = ["a", "b"].map(|last| profile_name(Kind::Deployment, &("x".repeat(252) + last)));
    assert!(long.len() <= limits::OBJECT_NAME_LENGTH && long != other, "{long}");
}
