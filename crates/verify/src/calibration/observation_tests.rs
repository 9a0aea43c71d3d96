use super::*;
use crate::verify::{Cause, Outcome};

const QUIET: Duration = Duration::from_secs(5);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn sample(due: u64, outcome: Outcome, pod: Option<&str>) -> Sample {
    Sample {
        due: millis(due),
        took: millis(10),
        connecting: Duration::ZERO,
        outcome,
        pod: pod.map(str::to_owned),
        peer: None,
    }
}

/// A request that is due at 10 s plus `after` and arrives at the canary `a`, whose SIGTERM is at 10.1 s.
fn arrival(after: u64) -> Sample {
    sample(10_000 + after, Outcome::Answered(200), Some(&format!("a;terminating-ms={}", after - 100)))
}

/// Requests to `a` before its deletion, and requests that arrive at `a` at these times, and then at `b`.
fn arrivals(after: &[u64]) -> Vec<Sample> {
    let before = [sample(9000, Outcome::Answered(200), Some("a"))];
    let others = (1..=30).map(|second| sample(10_000 + second * 1000, Outcome::Answered(200), Some("b")));
    before.into_iter().chain(after.iter().copied().map(arrival)).chain(others).collect()
}

/// `a` is deleted at 10 s, and observed until `ended`.
fn termination(ended: u64) -> CanaryTermination {
    CanaryTermination { pod: "a".to_owned(), deleted: millis(10_000), ended: millis(ended), log: vec![] }
}

/// The times of arrivals, one each second, until `end`.
fn until(end: u64) -> Vec<u64> {
    (1..=end / 1000).map(|second| second * 1000).collect()
}

#[test]
fn the_last_arrival_follows_from_new_and_kept_connections() {
    for (what, new, kept, ended, (last, is_cut, keeps)) in [
        ("no arrival after SIGTERM", vec![], vec![], 20_000, (0.0, false, false)),
        ("new connections", vec![500, 1200], vec![], 20_000, (1.1, false, false)),
        ("kept ones last longer", vec![500], vec![500, 2500], 20_000, (2.4, false, false)),
        ("kept ones are never moved", vec![500], until(10_000), 20_000, (0.4, false, true)),
        ("new ones at the end", until(10_000), until(10_000), 20_000, (9.9, true, false)),
        ("quiet at the end", vec![5500], vec![], 20_500, (5.4, false, false)),
        ("not quiet for long enough", vec![5700], vec![], 20_500, (5.6, true, false)),
    ] {
        let samples = WaySamples { new: arrivals(&new), kept: arrivals(&kept) };
        let observed = termination(ended).observe(0, &samples, QUIET).unwrap();
        assert!((observed.last_arrival_seconds - last).abs() < 1e-9, "{what}: {observed:?}");
        assert_eq!((observed.is_cut, observed.keeps_connections), (is_cut, keeps), "{what}: {observed:?}");
        assert_eq!(observed.lost, 0, "{what}");
    }
}

#[test]
fn a_way_that_did_not_reach_the_canary_is_not_observed() {
    let samples = WaySamples { new: arrivals(&[])[1..].to_vec(), kept: vec![] };
    assert_eq!(termination(20_000).observe(0, &samples, QUIET), None);
    let other = CanaryTermination { pod: "c".to_owned(), ..termination(20_000) };
    assert_eq!(other.observe(0, &WaySamples { new: arrivals(&[500]), kept: vec![] }, QUIET), None);
}

#[test]
fn the_log_adds_arrivals_whose_responses_were_lost() {
    let logged = |way, connections, after_millis| LoggedArrival {
        stream: Stream { way, connections },
        after_millis,
        time: "2026-01-31T12:00:00Z".to_owned(),
        from: [10, 0, 0, 1].into(),
    };
    let log = vec![logged(0, Connections::New, 1700), logged(1, Connections::New, 2200)];
    let termination = CanaryTermination { log, ..termination(20_000) };
    let samples = WaySamples { new: arrivals(&[500]), kept: vec![] };
    for (way, last) in [(0, 1.7), (1, 2.2), (2, 0.4)] {
        let observed = termination.observe(way, &samples, QUIET).unwrap();
        assert!((observed.last_arrival_seconds - last).abs() < 1e-9, "{way}: {observed:?}");
    }
}

#[test]
fn losses_count_while_the_canary_served() {
    let lost = Outcome::Lost(Cause::Reset);
    for (what, sample, expected) in [
        ("before the deletion", sample(9990, lost, None), 0),
        ("after the withdrawal", sample(11_000, lost, None), 1),
        ("another server's answer", sample(11_000, Outcome::Answered(404), None), 1),
        ("an error of another server", sample(11_000, Outcome::Lost(Cause::ServerError(503)), None), 1),
        ("when the canary is killed", sample(19_995, lost, None), 0),
        ("not sent", sample(11_000, Outcome::NotSent, None), 0),
    ] {
        let mut kept = arrivals(&[500]);
        kept.push(sample);
        let samples = WaySamples { new: arrivals(&[500]), kept };
        let observed = termination(20_000).observe(0, &samples, QUIET).unwrap();
        assert_eq!(observed.lost, expected, "{what}");
    }
}

#[test]
fn the_answer_of_another_server_is_a_lost_request() {
    let foreign = sample(1000, Outcome::Answered(404), None);
    let answered = sample(1000, Outcome::Answered(200), Some("a"));
    let samples = WaySamples { new: vec![foreign, answered], kept: vec![] };
    let requests = samples.requests();
    assert_eq!((requests.sent, requests.answered, requests.lost), (2, 1, 1));
}
