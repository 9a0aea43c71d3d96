//! What the loads have observed so far: when to delete the next canary, and when its observation is over.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::{
    calibration::{Connections, Mark, Stream, is_marked},
    verify::Sample,
};

/// Responses of canaries in a row after which a way works.
const SETTLED_RESPONSES: u64 = 20;
/// The time without another outcome after which a way works.
const SETTLED: Duration = Duration::from_secs(2);
/// A canary from which a response came so recently receives requests.
const RECENT: Duration = Duration::from_secs(2);

/// The requests of a stream so far.
#[derive(Clone, Debug, Default)]
struct StreamState {
    /// Those that ended.
    requests: u64,
    /// Why the last one failed that no canary answered.
    failure: Option<String>,
    failed_at: Option<Instant>,
    /// Responses of canaries since.
    in_a_row: u64,
    /// When the last response of each canary came.
    responses: BTreeMap<String, Instant>,
}

/// The requests of all streams so far.
#[derive(Clone, Debug, Default)]
pub struct StreamStates {
    /// By way, on new and on kept connections.
    ways: Vec<[StreamState; 2]>,
}

impl StreamState {
    fn add(&mut self, sample: &Sample, now: Instant) {
        self.requests += 1;
        if !is_marked(sample) {
            self.in_a_row = 0;
            self.failed_at = Some(now);
            self.failure = Some(
                sample
                    .loss()
                    .map_or_else(|| "the response is not a canary's".to_owned(), |cause| cause.to_string()),
            );
            return;
        }
        self.in_a_row += 1;
        if let Some(mark) = sample.pod.as_deref().and_then(Mark::parse) {
            self.responses.insert(mark.pod, now);
        }
    }

    fn is_settled(&self, now: Instant) -> bool {
        let is_past = self.failed_at.is_none_or(|failed| now.saturating_duration_since(failed) >= SETTLED);
        is_past && self.in_a_row >= SETTLED_RESPONSES
    }

    /// When the last response of a canary came, or `from` if that is later.
    fn last(&self, pod: &str, from: Instant) -> Instant {
        self.responses.get(pod).map_or(from, |last| from.max(*last))
    }
}

impl StreamStates {
    /// No requests through so many ways.
    #[must_use]
    pub fn new(ways: usize) -> Self {
        Self { ways: vec![<[StreamState; 2]>::default(); ways] }
    }

    /// Adds a request that ended.
    pub fn add(&mut self, stream: Stream, sample: &Sample, now: Instant) {
        let Some([new, kept]) = self.ways.get_mut(stream.way) else { return };
        match stream.connections {
            Connections::New => new.add(sample, now),
            Connections::Kept => kept.add(sample, now),
        }
    }

    /// The number of requests that ended.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.ways.iter().flatten().map(|state| state.requests).sum()
    }

    /// Whether requests reach canaries through every way.
    #[must_use]
    pub fn are_settled(&self, now: Instant) -> bool {
        self.ways.iter().flatten().all(|state| state.is_settled(now))
    }

    /// The ways through which requests don't reach canaries, each with the reason.
    #[must_use]
    pub fn unsettled(&self, now: Instant) -> Vec<(usize, String)> {
        let unsettled = |states: &[StreamState; 2]| {
            let state = states.iter().find(|state| !state.is_settled(now))?;
            Some(state.failure.clone().unwrap_or_else(|| "no response".to_owned()))
        };
        self.ways.iter().enumerate().filter_map(|(way, states)| Some((way, unsettled(states)?))).collect()
    }

    /// Whether a canary receives requests on new connections through every way.
    #[must_use]
    pub fn reach(&self, pod: &str, now: Instant) -> bool {
        self.ways.iter().all(|[new, _]| {
            new.responses.get(pod).is_some_and(|last| now.saturating_duration_since(*last) < RECENT)
        })
    }

    /// Whether no way sends requests to a canary any more that was deleted at `deleted`: none arrived for `quiet`. Kept
    /// connections that still led to it twice that time after the last new one are not awaited.
    #[must_use]
    pub fn are_over(&self, pod: &str, deleted: Instant, quiet: Duration, now: Instant) -> bool {
        self.ways.iter().all(|states| {
            let [new, kept] = states.each_ref().map(|state| state.last(pod, deleted));
            let is_quiet = |last: Instant| now.saturating_duration_since(last) >= quiet;
            is_quiet(new) && (is_quiet(kept) || kept.saturating_duration_since(new) >= quiet * 2)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Cause, Outcome};

    const QUIET: Duration = Duration::from_secs(5);

    fn sample(outcome: Outcome, pod: Option<&str>) -> Sample {
        Sample {
            due: Duration::ZERO,
            took: Duration::ZERO,
            connecting: Duration::ZERO,
            outcome,
            pod: pod.map(str::to_owned),
            peer: None,
        }
    }

    fn answered(pod: &str) -> Sample {
        sample(Outcome::Answered(200), Some(pod))
    }

    /// Streams of one way, and the time to which the seconds of tests refer.
    fn streams() -> ([Stream; 2], Instant) {
        (Connections::ALL.map(|connections| Stream { way: 0, connections }), Instant::now())
    }

    #[test]
    fn a_way_works_after_responses_of_canaries_in_a_row() {
        let ([new, kept], start) = streams();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut states = StreamStates::new(1);
        assert_eq!(states.unsettled(start), [(0, "no response".to_owned())]);
        states.add(new, &sample(Outcome::Lost(Cause::Refused), None), start);
        states.add(kept, &sample(Outcome::Answered(404), None), start);
        assert_eq!(states.requests(), 2);
        assert_eq!(states.unsettled(start), [(0, "connection refused".to_owned())]);
        for _ in 0..SETTLED_RESPONSES {
            states.add(new, &answered("a"), at(1));
            states.add(kept, &answered("a"), at(1));
        }
        assert!(!states.are_settled(at(1)) && states.are_settled(at(2)));
        states.add(kept, &sample(Outcome::Answered(404), None), at(3));
        assert!(!states.are_settled(at(9)));
        assert_eq!(states.unsettled(at(9)), [(0, "the response is not a canary's".to_owned())]);
    }

    #[test]
    fn a_canary_receives_requests_while_responses_come_from_it() {
        let ([new, kept], start) = streams();
        let mut states = StreamStates::new(1);
        states.add(kept, &answered("a"), start);
        assert!(!states.reach("a", start), "not on new connections");
        states.add(new, &answered("a"), start);
        assert!(states.reach("a", start) && !states.reach("b", start));
        assert!(!states.reach("a", start + RECENT));
    }

    #[test]
    fn an_observation_is_over_when_no_request_arrives_any_more() {
        for (what, new_until, kept_until, now, expected) in [
            ("no arrival", None, None, 5, true),
            ("too early", None, None, 4, false),
            ("new connections", Some(2), None, 6, false),
            ("quiet", Some(2), Some(2), 7, true),
            ("kept connections may follow", Some(2), Some(6), 7, false),
            ("kept connections followed", Some(2), Some(6), 11, true),
            ("kept connections don't end", Some(2), Some(12), 12, true),
            ("kept connections didn't end, and another way may continue", Some(2), Some(12), 16, true),
            ("kept connections may have ended", Some(2), Some(9), 12, false),
        ] {
            let ([new, kept], start) = streams();
            let at = |seconds| start + Duration::from_secs(seconds);
            let mut states = StreamStates::new(1);
            for (stream, until) in [(new, new_until), (kept, kept_until)] {
                states.add(stream, &answered("a;terminating-ms=1"), at(until.unwrap_or_default()));
            }
            assert_eq!(states.are_over("a", start, QUIET, at(now)), expected, "{what}");
            assert!(states.are_over("b", start, QUIET, at(5)), "{what}: another canary");
        }
    }
}
