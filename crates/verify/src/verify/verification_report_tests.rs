use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::verify::{Basis, Cause, Outcome};

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

/// A preexisting pod, with the times of its termination in milliseconds.
fn timeline(name: &str, terminating: u64, withdrawn: u64, gone: u64) -> PodTimeline {
    PodTimeline {
        name: name.into(),
        is_preexisting: true,
        drain_seconds: Some(0),
        ready: Some(at(0)),
        terminating: Some(at(terminating)),
        withdrawn: Some(at(withdrawn)),
        gone: Some(at(gone)),
        ..PodTimeline::default()
    }
}

/// The report of these requests, after one that is answered at the beginning.
fn report_of(samples: Vec<Sample>, timelines: Vec<PodTimeline>) -> VerificationReport {
    let samples = [sample(0, Outcome::Answered(200))].into_iter().chain(samples).collect();
    let run = RunDescription {
        workload: "Deployment/web".into(),
        namespace: "shop".into(),
        disruption: "restart".into(),
        url: "http://web".into(),
        rate: 100,
    };
    VerificationReport::of(run, &Recording::new(samples, timelines, Some((at(1000), at(5000)))))
}

#[test]
fn requests_are_counted_by_outcome() {
    let report = report_of(
        vec![
            sample(30, Outcome::Lost(Cause::ServerError(503))),
            sample(10, Outcome::Answered(404)),
            sample(20, LOST),
            sample(40, Outcome::NotSent),
        ],
        vec![],
    );
    assert_eq!(report.requests, Requests { sent: 4, answered: 2, lost: 2, not_sent: 1 });
    let causes: Vec<_> = report.causes.iter().map(|(cause, count)| (cause.as_str(), *count)).collect();
    assert_eq!(causes, [("connection refused", 1), ("status 503", 1)]);
    let order: Vec<_> = report.losses.iter().map(|loss| loss.at_seconds).collect();
    assert_eq!(order, [0.02, 0.03], "ordered by due time");
    assert!((report.duration_seconds - 0.044).abs() < 1e-9);
    assert!(!report.is_lossless());
}

#[test]
fn times_count_from_the_first_request() {
    let timelines = vec![PodTimeline { first_seen: at(500), ..timeline("a", 3000, 3100, 4000) }];
    let samples = vec![sample(2500, LOST), sample(2000, Outcome::Answered(200))];
    let recording = Recording::new(samples, timelines, Some((at(2800), at(4100))));
    assert_eq!(recording.samples[1].due, at(500));
    assert_eq!(recording.disruption, Some((at(800), at(2100))));
    let timeline = &recording.timelines[0];
    assert_eq!(
        (timeline.first_seen, timeline.terminating, timeline.gone),
        (at(0), Some(at(1000)), Some(at(2000)))
    );
}

#[test]
fn a_run_with_unsent_requests_is_not_lossless() {
    let report = report_of(vec![sample(10, Outcome::Answered(200)), sample(20, Outcome::NotSent)], vec![]);
    assert_eq!(report.requests.lost, 0);
    assert!(!report.is_lossless());
}

#[test]
fn a_loss_is_attributed_to_the_pods_terminating_at_that_time() {
    let timelines =
        [timeline("a", 1000, 1100, 3000), timeline("b", 2000, 2100, 4000), timeline("c", 2500, 2600, 5000)];
    let names = |due| {
        let found = attributions(&sample(due, LOST), &timelines);
        found.iter().map(|attribution| attribution.pod.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(400), "", "no pod was terminating");
    assert_eq!(names(500), "a", "observed within half a second");
    assert_eq!(names(1500), "a");
    assert_eq!(names(2400), "a b");
    assert_eq!(names(3500), "b c");
    assert_eq!(names(9000), "c", "the one deleted last");
    let attribution = attributions(&sample(1500, LOST), &timelines).remove(0);
    assert_eq!((attribution.after_termination_seconds, attribution.exact), (Some(0.5), false));
    assert_eq!(
        attributions(&sample(500, LOST), &timelines)[0].after_termination_seconds,
        None,
        "not observed by then"
    );
    let later =
        [timeline("a", 1000, 1100, 3000), timeline("b", 3600, 3700, 4000), timeline("c", 3650, 3700, 4000)];
    let either = attributions(&sample(3500, LOST), &later);
    assert_eq!(
        either.iter().map(|attribution| attribution.pod.as_str()).collect::<Vec<_>>(),
        ["a", "b"],
        "either is possible"
    );
    // The termination began during the request.
    let slow = Sample { took: at(200), ..sample(900, LOST) };
    let attribution = attributions(&slow, &timelines).remove(0);
    assert!((attribution.after_termination_seconds.unwrap() + 0.1).abs() < 1e-9);
}

#[test]
fn a_pod_named_by_the_answer_or_reached_by_address_is_exact() {
    let mut timelines = vec![timeline("a", 1000, 1100, 3000), timeline("b", 1000, 1100, 3000)];
    timelines[1].ip = Some([10, 0, 0, 2].into());
    let broken = Sample { outcome: Outcome::Lost(Cause::ServerError(500)), ..named(1500, "b") };
    let direct = Sample { peer: Some([10, 0, 0, 2].into()), ..sample(1500, LOST) };
    for sample in [broken, direct] {
        let found = attributions(&sample, &timelines);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].pod.as_str(), found[0].exact), ("b", true));
    }
    let healthy = attributions(&Sample { outcome: LOST, ..named(500, "b") }, &timelines);
    assert_eq!(healthy[0].after_termination_seconds, None, "it was not terminating");
}

#[test]
fn a_reused_pod_name_means_the_pod_that_had_it_at_that_time() {
    let next = PodTimeline {
        first_seen: at(3100),
        is_preexisting: false,
        ..PodTimeline { name: "db-0".into(), ..PodTimeline::default() }
    };
    let timelines = vec![timeline("db-0", 1000, 1100, 3000), next];
    let report = report_of(vec![named(1500, "db-0"), named(3500, "db-0"), named(4000, "db-0")], timelines);
    assert_eq!([report.pods[0].answered, report.pods[1].answered], [1, 2]);
    assert_eq!(report.pods[0].last_request_after_seconds, Some(0.5));
    assert_eq!(report.pods[1].last_request_after_seconds, None);
}

#[test]
fn the_worst_moment_is_the_second_with_the_most_losses() {
    let samples = (0..500).map(|number| {
        let due = number * 10;
        sample(due, if (2000..2100).contains(&due) || due == 100 { LOST } else { Outcome::Answered(200) })
    });
    let report = report_of(samples.collect(), vec![timeline("a", 1500, 1600, 3000)]);
    let worst = report.worst.unwrap();
    assert!((worst.at_seconds - 2.0).abs() < 1e-9);
    assert_eq!(
        worst.explanation,
        "10 of 100 requests that were due within one second were lost, while a (for 0.5 s) was terminating"
    );
}

#[test]
fn without_a_loss_the_worst_is_the_slowest_answer() {
    let slow = Sample { took: at(900), ..named(1600, "a") };
    let report = report_of(vec![named(100, "a"), slow], vec![timeline("a", 1500, 1600, 3000)]);
    let explanation = report.worst.unwrap().explanation;
    assert_eq!(explanation, "the slowest answer of a took 900 ms, while a (for 0.1 s) was terminating");
}

#[test]
fn the_slowest_answer_includes_its_wait_for_the_connection() {
    let slow = Sample { took: at(2046), connecting: at(1041), ..named(1600, "a") };
    let explanation = report_of(vec![named(100, "a"), slow], vec![]).worst.unwrap().explanation;
    assert_eq!(
        explanation,
        "the slowest answer of a took 2046 ms, of which it waited 1041 ms for its connection, when no pod was terminating"
    );
}

#[test]
fn the_drain_covers_the_last_request_that_reached_a_terminating_pod() {
    let samples = vec![named(500, "b"), named(1900, "a"), named(2100, "a"), named(2200, "b")];
    let timelines = vec![PodTimeline { drain_seconds: Some(10), ..timeline("a", 1000, 1100, 12_000) }];
    let drain = report_of(samples.clone(), timelines).drain.unwrap();
    assert_eq!((drain.seconds, drain.basis), (2, Basis::Exact), "{drain:?}");
    assert!((drain.measured_seconds - 1.104).abs() < 1e-9, "including the latency of the answer");
    let broken = Sample { outcome: Outcome::Lost(Cause::ServerError(503)), ..named(2150, "a") };
    let samples = samples.into_iter().chain([broken]).collect();
    let drain = report_of(samples, vec![timeline("a", 1000, 1100, 3000)]).drain.unwrap();
    assert!(drain.advice.contains("adieu.dev/graceful=true"), "{}", drain.advice);
}

#[test]
fn without_losses_the_current_drain_was_enough() {
    let slow = Sample { took: at(900), ..named(5900, "a") };
    let had = |seconds, gone: Option<u64>| {
        let a = timeline("a", 1000, 1100, 9000);
        vec![PodTimeline { drain_seconds: seconds, gone: gone.map(at), ..a }]
    };
    for (seconds, expected, advice) in [
        (5, (5, Basis::UpperBound), "the pods' drain of 5 s was enough"),
        (10, (6, Basis::Exact), "the pods' drain of 10 s was enough"),
        (0, (0, Basis::UpperBound), "no request was lost without a drain"),
    ] {
        let drain = report_of(vec![slow.clone()], had(Some(seconds), Some(9000))).drain.unwrap();
        assert_eq!((drain.seconds, drain.basis), expected, "{drain:?}");
        assert_eq!(drain.advice, advice);
    }
    let unsent = vec![slow.clone(), sample(6000, Outcome::NotSent)];
    for (samples, timelines) in [
        (unsent, had(Some(5), Some(9000))),
        (vec![slow.clone()], had(Some(5), None)),
        (vec![slow.clone()], had(None, Some(9000))),
    ] {
        let drain = report_of(samples, timelines).drain.unwrap();
        assert_eq!(drain.seconds, 6, "that proves nothing: {drain:?}");
    }
}

#[test]
fn ambiguous_attributions_make_the_estimate_an_upper_bound() {
    let timelines = vec![timeline("a", 1000, 1100, 6000), timeline("b", 3000, 3100, 6000)];
    let drain = report_of(vec![sample(3500, LOST)], timelines).drain.unwrap();
    assert_eq!((drain.seconds, drain.basis), (3, Basis::UpperBound));
    let gone = report_of(vec![sample(9000, LOST)], vec![timeline("a", 1000, 1100, 2000)]).drain.unwrap();
    assert_eq!(
        (gone.seconds, gone.basis),
        (9, Basis::UpperBound),
        "the pod was already gone, so it may have been another"
    );
}

#[test]
fn only_exact_attributions_make_the_estimate_exact() {
    let timelines = || vec![timeline("a", 1000, 1100, 3000)];
    let basis = |samples| report_of(samples, timelines()).drain.unwrap().basis;
    let exact = Sample { outcome: Outcome::Lost(Cause::ServerError(503)), ..named(1500, "a") };
    assert_eq!(basis(vec![sample(1500, LOST)]), Basis::UpperBound, "the only pod that was terminating");
    assert_eq!(basis(vec![named(1200, "a"), sample(1500, LOST)]), Basis::UpperBound);
    assert_eq!(basis(vec![exact]), Basis::Exact);
    assert_eq!(basis(vec![sample(400, LOST)]), Basis::LowerBound, "no terminating pod was reached");
}

#[test]
fn without_known_pods_the_endpoint_withdrawal_is_a_lower_bound() {
    let timelines = vec![PodTimeline { drain_seconds: None, ..timeline("a", 1000, 1300, 6000) }];
    let drain = report_of(vec![sample(500, Outcome::Answered(200))], timelines.clone()).drain.unwrap();
    assert_eq!((drain.seconds, drain.basis), (1, Basis::LowerBound));
    assert!(drain.certainty.contains("--pod-header"));
    let covered =
        timelines.into_iter().map(|timeline| PodTimeline { drain_seconds: Some(10), ..timeline }).collect();
    let drain = report_of(vec![sample(500, Outcome::Answered(200))], covered).drain.unwrap();
    assert_eq!(drain.advice, "the pods' drain of 10 s was enough");
}

#[test]
fn without_a_termination_there_is_no_drain_to_estimate() {
    let alive = PodTimeline { name: "a".into(), is_preexisting: true, ..PodTimeline::default() };
    let report = report_of(vec![sample(500, LOST)], vec![alive]);
    assert_eq!(report.drain, None);
    assert_eq!(
        report.worst.unwrap().explanation,
        "1 of 1 requests that were due within one second were lost, when no pod was terminating"
    );
}

#[test]
fn the_report_is_serialized_in_seconds_and_counts() {
    let report = report_of(vec![named(1500, "a"), sample(1600, LOST)], vec![timeline("a", 1000, 1100, 3000)]);
    let json: Value = serde_json::to_value(&report).unwrap();
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

fn any_timeline(name: &'static str) -> impl Strategy<Value = PodTimeline> {
    (0..8000_u64, 0..500_u64, 0..5000_u64).prop_map(move |(terminating, withdrawn, gone)| {
        timeline(name, terminating, terminating + withdrawn, terminating + withdrawn + gone)
    })
}

proptest! {
    #[test]
    fn every_request_is_counted_once_and_the_drain_covers_every_loss(
        samples in prop::collection::vec(any_sample(), 1..60),
        a in any_timeline("a"),
        b in any_timeline("b"),
    ) {
        let timelines = vec![a, b];
        let report = report_of(samples.clone(), timelines.clone());
        let requests = report.requests;
        prop_assert_eq!(requests.sent + requests.not_sent, samples.len() as u64 + 1);
        prop_assert_eq!(requests.sent, requests.answered + requests.lost);
        prop_assert_eq!(report.losses.len() as u64, requests.lost);
        prop_assert_eq!(report.causes.values().sum::<u64>(), requests.lost);
        let exact: u64 = report.pods.iter().map(|pod| pod.lost).sum();
        prop_assert!(exact <= requests.lost);
        // With this drain on every pod, no lost request would have been lost.
        let seconds = f64::from(u32::try_from(report.drain.as_ref().unwrap().seconds).unwrap());
        for attribution in report.losses.iter().flat_map(|loss| &loss.pods) {
            prop_assert!(attribution.after_termination_seconds.unwrap_or_default() <= seconds);
        }
        // Without losses the current drain was enough, however long the pods were reached.
        for pod in report.pods.iter().filter(|_| !report.is_lossless()) {
            prop_assert!(pod.last_request_after_seconds.unwrap_or_default() <= seconds);
            prop_assert!(pod.endpoint_not_ready_after_seconds.unwrap_or_default() <= seconds);
        }
    }

    #[test]
    fn the_order_of_samples_does_not_matter(samples in prop::collection::vec(any_sample(), 1..30), a in any_timeline("a")) {
        let mut seen = std::collections::BTreeSet::new();
        let samples: Vec<_> = samples.into_iter().filter(|sample| seen.insert(sample.due)).collect();
        let backwards = samples.iter().rev().cloned().collect();
        let [one, other] = [samples, backwards].map(|samples| {
            serde_json::to_value(report_of(samples, vec![a.clone()])).unwrap()
        });
        prop_assert_eq!(one, other);
    }
}
