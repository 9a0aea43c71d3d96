use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::verify::{Basis, Cause, ties as tied};

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn sample(due: u64, outcome: Outcome) -> Sample {
    Sample { due: at(due), took: at(4), connecting: at(1), outcome, pod: None, peer: None }
}

fn named(due: u64, pod: &str) -> Sample {
    Sample { pod: Some(pod.into()), ..sample(due, Outcome::Answered(200)) }
}

const LOST: Outcome = Outcome::Lost(Cause::Refused);

/// A pod that was there before, with these moments of its termination in milliseconds.
fn life(name: &str, terminating: u64, withdrawn: u64, gone: u64) -> Life {
    Life {
        name: name.into(),
        before: true,
        drain_seconds: Some(0),
        ready: Some(at(0)),
        terminating: Some(at(terminating)),
        withdrawn: Some(at(withdrawn)),
        gone: Some(at(gone)),
        ..Life::default()
    }
}

/// What is found where these requests follow one that is answered at the very beginning.
fn find(samples: Vec<Sample>, lives: Vec<Life>) -> Findings {
    let samples = [sample(0, Outcome::Answered(200))].into_iter().chain(samples).collect();
    let subject = Subject {
        workload: "Deployment/web".into(),
        namespace: "shop".into(),
        disruption: "restart".into(),
        url: "http://web".into(),
        rate: 100,
    };
    Findings::of(subject, &Recording::new(samples, lives, Some((at(1000), at(5000)))))
}

#[test]
fn requests_are_counted_by_what_became_of_them() {
    let found = find(
        vec![
            sample(30, Outcome::Lost(Cause::ServerError(503))),
            sample(10, Outcome::Answered(404)),
            sample(20, LOST),
            sample(40, Outcome::NotSent),
        ],
        vec![],
    );
    assert_eq!(found.requests, Requests { sent: 4, answered: 2, lost: 2, not_sent: 1 });
    let causes: Vec<_> = found.causes.iter().map(|(cause, count)| (cause.as_str(), *count)).collect();
    assert_eq!(causes, [("connection refused", 1), ("status 503", 1)]);
    let order: Vec<_> = found.losses.iter().map(|loss| loss.at_seconds).collect();
    assert_eq!(order, [0.02, 0.03], "in the order in which they were due");
    assert!((found.duration_seconds - 0.044).abs() < 1e-9);
    assert!(!found.nothing_is_lost());
}

#[test]
fn times_count_from_the_first_request() {
    let lives = vec![Life { seen: at(500), ..life("a", 3000, 3100, 4000) }];
    let samples = vec![sample(2500, LOST), sample(2000, Outcome::Answered(200))];
    let recording = Recording::new(samples, lives, Some((at(2800), at(4100))));
    assert_eq!(recording.samples[1].due, at(500));
    assert_eq!(recording.disruption, Some((at(800), at(2100))));
    let life = &recording.lives[0];
    assert_eq!((life.seen, life.terminating, life.gone), (at(0), Some(at(1000)), Some(at(2000))));
}

#[test]
fn what_was_not_sent_is_no_clean_run() {
    let found = find(vec![sample(10, Outcome::Answered(200)), sample(20, Outcome::NotSent)], vec![]);
    assert_eq!(found.requests.lost, 0);
    assert!(!found.nothing_is_lost());
}

#[test]
fn a_loss_is_tied_to_the_pods_that_were_terminating_then() {
    let lives = [life("a", 1000, 1100, 3000), life("b", 2000, 2100, 4000), life("c", 2500, 2600, 5000)];
    let names = |due| {
        let ties = tied(&sample(due, LOST), &lives);
        ties.iter().map(|tie| tie.pod.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(400), "", "nobody was terminating");
    assert_eq!(names(500), "a", "told of within half a second");
    assert_eq!(names(1500), "a");
    assert_eq!(names(2400), "a b");
    assert_eq!(names(3500), "b c");
    assert_eq!(names(9000), "c", "the one that was gone last");
    let tie = tied(&sample(1500, LOST), &lives).remove(0);
    assert_eq!((tie.after_termination_seconds, tie.exact), (Some(0.5), false));
    assert_eq!(tied(&sample(500, LOST), &lives)[0].after_termination_seconds, None, "not told of by then");
    let later = [life("a", 1000, 1100, 3000), life("b", 3600, 3700, 4000), life("c", 3650, 3700, 4000)];
    let ties = tied(&sample(3500, LOST), &later);
    assert_eq!(ties.iter().map(|tie| tie.pod.as_str()).collect::<Vec<_>>(), ["a", "b"], "either may be it");
    // The termination began while it was under way.
    let slow = Sample { took: at(200), ..sample(900, LOST) };
    let tie = tied(&slow, &lives).remove(0);
    assert!((tie.after_termination_seconds.unwrap() + 0.1).abs() < 1e-9);
}

#[test]
fn a_pod_that_names_itself_or_whose_address_was_asked_is_known_exactly() {
    let mut lives = vec![life("a", 1000, 1100, 3000), life("b", 1000, 1100, 3000)];
    lives[1].ip = Some([10, 0, 0, 2].into());
    let broken = Sample { outcome: Outcome::Lost(Cause::ServerError(500)), ..named(1500, "b") };
    let direct = Sample { peer: Some([10, 0, 0, 2].into()), ..sample(1500, LOST) };
    for sample in [broken, direct] {
        let ties = tied(&sample, &lives);
        assert_eq!(ties.len(), 1);
        assert_eq!((ties[0].pod.as_str(), ties[0].exact), ("b", true));
    }
    let healthy = tied(&Sample { outcome: LOST, ..named(500, "b") }, &lives);
    assert_eq!(healthy[0].after_termination_seconds, None, "it was not terminating");
}

#[test]
fn a_name_that_went_to_a_new_pod_means_the_one_that_had_it_then() {
    let next = Life { seen: at(3100), before: false, ..Life { name: "db-0".into(), ..Life::default() } };
    let lives = vec![life("db-0", 1000, 1100, 3000), next];
    let found = find(vec![named(1500, "db-0"), named(3500, "db-0"), named(4000, "db-0")], lives);
    assert_eq!([found.pods[0].answered, found.pods[1].answered], [1, 2]);
    assert_eq!(found.pods[0].last_request_after_seconds, Some(0.5));
    assert_eq!(found.pods[1].last_request_after_seconds, None);
}

#[test]
fn the_worst_moment_is_the_second_in_which_most_was_lost() {
    let samples = (0..500).map(|number| {
        let due = number * 10;
        sample(due, if (2000..2100).contains(&due) || due == 100 { LOST } else { Outcome::Answered(200) })
    });
    let found = find(samples.collect(), vec![life("a", 1500, 1600, 3000)]);
    let worst = found.worst.unwrap();
    assert!((worst.at_seconds - 2.0).abs() < 1e-9);
    assert_eq!(
        worst.explanation,
        "10 of 100 requests that were due within one second were lost, while a (for 0.5 s) was terminating"
    );
}

#[test]
fn without_a_loss_the_worst_is_the_slowest_answer() {
    let slow = Sample { took: at(900), ..named(1600, "a") };
    let found = find(vec![named(100, "a"), slow], vec![life("a", 1500, 1600, 3000)]);
    let said = found.worst.unwrap().explanation;
    assert_eq!(said, "the slowest answer of a took 900 ms, while a (for 0.1 s) was terminating");
}

#[test]
fn the_slowest_answer_tells_that_it_waited_for_its_connection() {
    let slow = Sample { took: at(2046), connecting: at(1041), ..named(1600, "a") };
    let said = find(vec![named(100, "a"), slow], vec![]).worst.unwrap().explanation;
    assert_eq!(
        said,
        "the slowest answer of a took 2046 ms, of which it waited 1041 ms for its connection, when no pod was terminating"
    );
}

#[test]
fn the_drain_is_the_longest_that_a_terminating_pod_was_still_reached() {
    let samples = vec![named(500, "b"), named(1900, "a"), named(2100, "a"), named(2200, "b")];
    let lives = vec![Life { drain_seconds: Some(10), ..life("a", 1000, 1100, 12_000) }];
    let drain = find(samples.clone(), lives).drain.unwrap();
    assert_eq!((drain.seconds, drain.basis), (2, Basis::Exact), "{drain:?}");
    assert!((drain.measured_seconds - 1.104).abs() < 1e-9, "with the time that the answer takes");
    let broken = Sample { outcome: Outcome::Lost(Cause::ServerError(503)), ..named(2150, "a") };
    let samples = samples.into_iter().chain([broken]).collect();
    let drain = find(samples, vec![life("a", 1000, 1100, 3000)]).drain.unwrap();
    assert!(drain.advice.contains("adieu.dev/graceful=true"), "{}", drain.advice);
}

#[test]
fn where_nothing_was_lost_the_drain_that_the_pods_had_was_enough() {
    let slow = Sample { took: at(900), ..named(5900, "a") };
    let had = |seconds, gone: Option<u64>| {
        let a = life("a", 1000, 1100, 9000);
        vec![Life { drain_seconds: seconds, gone: gone.map(at), ..a }]
    };
    for (seconds, expected, advice) in [
        (5, (5, Basis::UpperBound), "the pods' drain of 5 s was enough"),
        (10, (6, Basis::Exact), "the pods' drain of 10 s was enough"),
        (0, (0, Basis::UpperBound), "nothing was lost without a drain"),
    ] {
        let drain = find(vec![slow.clone()], had(Some(seconds), Some(9000))).drain.unwrap();
        assert_eq!((drain.seconds, drain.basis), expected, "{drain:?}");
        assert_eq!(drain.advice, advice);
    }
    let unsent = vec![slow.clone(), sample(6000, Outcome::NotSent)];
    for (samples, lives) in [
        (unsent, had(Some(5), Some(9000))),
        (vec![slow.clone()], had(Some(5), None)),
        (vec![slow.clone()], had(None, Some(9000))),
    ] {
        let drain = find(samples, lives).drain.unwrap();
        assert_eq!(drain.seconds, 6, "nothing is proven by that: {drain:?}");
    }
}

#[test]
fn losses_that_may_belong_to_several_pods_make_it_an_upper_bound() {
    let lives = vec![life("a", 1000, 1100, 6000), life("b", 3000, 3100, 6000)];
    let drain = find(vec![sample(3500, LOST)], lives).drain.unwrap();
    assert_eq!((drain.seconds, drain.basis), (3, Basis::UpperBound));
    let gone = find(vec![sample(9000, LOST)], vec![life("a", 1000, 1100, 2000)]).drain.unwrap();
    assert_eq!((gone.seconds, gone.basis), (9, Basis::UpperBound), "who was gone already may not be it");
}

#[test]
fn only_losses_that_are_tied_exactly_make_it_exact() {
    let lives = || vec![life("a", 1000, 1100, 3000)];
    let basis = |samples| find(samples, lives()).drain.unwrap().basis;
    let exact = Sample { outcome: Outcome::Lost(Cause::ServerError(503)), ..named(1500, "a") };
    assert_eq!(basis(vec![sample(1500, LOST)]), Basis::UpperBound, "the only pod that was terminating");
    assert_eq!(basis(vec![named(1200, "a"), sample(1500, LOST)]), Basis::UpperBound);
    assert_eq!(basis(vec![exact]), Basis::Exact);
    assert_eq!(basis(vec![sample(400, LOST)]), Basis::LowerBound, "that was at no terminating pod");
}

#[test]
fn where_no_pod_is_known_the_endpoint_alone_is_a_lower_bound() {
    let lives = vec![Life { drain_seconds: None, ..life("a", 1000, 1300, 6000) }];
    let drain = find(vec![sample(500, Outcome::Answered(200))], lives.clone()).drain.unwrap();
    assert_eq!((drain.seconds, drain.basis), (1, Basis::LowerBound));
    assert!(drain.certainty.contains("--pod-header"));
    let covered = lives.into_iter().map(|life| Life { drain_seconds: Some(10), ..life }).collect();
    let drain = find(vec![sample(500, Outcome::Answered(200))], covered).drain.unwrap();
    assert_eq!(drain.advice, "the pods' drain of 10 s was enough");
}

#[test]
fn without_a_termination_there_is_no_drain_to_estimate() {
    let alive = Life { name: "a".into(), before: true, ..Life::default() };
    let found = find(vec![sample(500, LOST)], vec![alive]);
    assert_eq!(found.drain, None);
    assert_eq!(
        found.worst.unwrap().explanation,
        "1 of 1 requests that were due within one second were lost, when no pod was terminating"
    );
}

#[test]
fn findings_are_written_in_seconds_and_counts() {
    let found = find(vec![named(1500, "a"), sample(1600, LOST)], vec![life("a", 1000, 1100, 3000)]);
    let json: Value = serde_json::to_value(&found).unwrap();
    assert_eq!(json["workload"], "Deployment/web");
    assert_eq!(json["requests"]["lost"], 1);
    assert_eq!(json["losses"][0]["atSeconds"], 1.6);
    assert_eq!(json["losses"][0]["pods"][0]["pod"], "a");
    assert_eq!(json["pods"][0]["endpointNotReadyAfterSeconds"], 0.1);
    assert_eq!(json["pods"][0]["lastRequestAfterSeconds"], 0.5);
    assert_eq!(json["disruptionTookSeconds"], 4.0);
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let outcome = prop_oneof![Just(Outcome::Answered(200)), Just(LOST), Just(Outcome::NotSent)];
    let pod = prop::option::of(prop_oneof![Just("a".to_owned()), Just("b".to_owned())]);
    (0..9000_u64, 0..3000_u64, outcome, pod).prop_map(|(due, took, outcome, pod)| Sample {
        due: at(due),
        took: at(took),
        connecting: at(took / 2),
        outcome,
        pod,
        peer: None,
    })
}

fn any_life(name: &'static str) -> impl Strategy<Value = Life> {
    (0..8000_u64, 0..500_u64, 0..5000_u64).prop_map(move |(terminating, withdrawn, gone)| {
        life(name, terminating, terminating + withdrawn, terminating + withdrawn + gone)
    })
}

proptest! {
    #[test]
    fn every_request_is_counted_once_and_the_drain_covers_every_loss(
        samples in prop::collection::vec(any_sample(), 1..60),
        a in any_life("a"),
        b in any_life("b"),
    ) {
        let lives = vec![a, b];
        let found = find(samples.clone(), lives.clone());
        let requests = found.requests;
        prop_assert_eq!(requests.sent + requests.not_sent, samples.len() as u64 + 1);
        prop_assert_eq!(requests.sent, requests.answered + requests.lost);
        prop_assert_eq!(found.losses.len() as u64, requests.lost);
        prop_assert_eq!(found.causes.values().sum::<u64>(), requests.lost);
        let exact: u64 = found.pods.iter().map(|pod| pod.lost).sum();
        prop_assert!(exact <= requests.lost);
        // Had every pod served for so long, no request that was lost would have been.
        let seconds = f64::from(u32::try_from(found.drain.as_ref().unwrap().seconds).unwrap());
        for tie in found.losses.iter().flat_map(|loss| &loss.pods) {
            prop_assert!(tie.after_termination_seconds.unwrap_or_default() <= seconds);
        }
        // Where none was, what they had was enough, however long they were reached.
        for pod in found.pods.iter().filter(|_| !found.nothing_is_lost()) {
            prop_assert!(pod.last_request_after_seconds.unwrap_or_default() <= seconds);
            prop_assert!(pod.endpoint_not_ready_after_seconds.unwrap_or_default() <= seconds);
        }
    }

    #[test]
    fn the_order_of_samples_does_not_matter(samples in prop::collection::vec(any_sample(), 1..30), a in any_life("a")) {
        let mut seen = std::collections::BTreeSet::new();
        let samples: Vec<_> = samples.into_iter().filter(|sample| seen.insert(sample.due)).collect();
        let backwards = samples.iter().rev().cloned().collect();
        let [one, other] = [samples, backwards].map(|samples| {
            serde_json::to_value(find(samples, vec![a.clone()])).unwrap()
        });
        prop_assert_eq!(one, other);
    }
}
