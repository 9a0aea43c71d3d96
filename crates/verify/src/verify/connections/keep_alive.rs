//! The keep-alive timeout of a server.

use std::time::Duration;

use serde::Serialize;

use super::observation::{IdleOutcome, IdleProbe};

/// The shortest idle time that is tested.
const FIRST: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(1);

/// The keep-alive timeout of a server, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeepAlive {
    /// The longest idle time that was tested.
    pub limit_seconds: f64,
    /// The shortest idle time after which a connection had ended; absent if none ended within the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_after_seconds: Option<f64>,
    /// How that connection ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<IdleEnd>,
    /// The longest idle time after which a request was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers_after_seconds: Option<f64>,
    /// The timeout that the server gives in the header `Keep-Alive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertised_seconds: Option<u64>,
    /// Tested connections.
    pub connections: usize,
    /// Connections that ended with their first response.
    pub not_kept: usize,
    /// Connections without a first response.
    pub failed: usize,
}

/// How an idle connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum IdleEnd {
    /// The server closed it.
    Closed,
    /// The server reset it.
    Reset,
    /// It was dropped without notice: the next request got no response.
    Dropped,
}

/// The idle times to test, from the shortest to `limit`: each doubling, bisected twice. All are tested at the same time.
#[must_use]
pub fn idle_times(limit: Duration) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut start = FIRST.min(limit / 4).max(SHORTEST);
    while start < limit {
        let quarters = (0..4_u32).map(|quarter| start + start * quarter / 4);
        times.extend(quarters.filter(|time| *time < limit));
        start *= 2;
    }
    times.push(limit);
    times
}

impl KeepAlive {
    /// Evaluates probes; `None` without one.
    #[must_use]
    pub fn of<'a>(probes: impl IntoIterator<Item = &'a IdleProbe>) -> Option<Self> {
        let mut found: Option<Self> = None;
        let mut first_end: Option<(Duration, IdleEnd)> = None;
        for probe in probes {
            let found = found.get_or_insert_with(Self::none);
            found.connections += 1;
            found.limit_seconds = found.limit_seconds.max(probe.idle.as_secs_f64());
            found.advertised_seconds = found.advertised_seconds.or(probe.advertised_seconds);
            let end = match probe.outcome {
                IdleOutcome::Answered => {
                    let known = found.answers_after_seconds.unwrap_or_default();
                    found.answers_after_seconds = Some(known.max(probe.idle.as_secs_f64()));
                    continue;
                }
                IdleOutcome::NotKept => {
                    found.not_kept += 1;
                    continue;
                }
                IdleOutcome::Failed => {
                    found.failed += 1;
                    continue;
                }
                IdleOutcome::Closed(after) => (after, IdleEnd::Closed),
                IdleOutcome::Reset(after) => (after, IdleEnd::Reset),
                IdleOutcome::Lost => (probe.idle, IdleEnd::Dropped),
            };
            if first_end.is_none_or(|known| end.0 < known.0) {
                first_end = Some(end);
            }
        }
        let mut found = found?;
        found.ends_after_seconds = first_end.map(|(after, _)| after.as_secs_f64());
        found.ended_by = first_end.map(|(_, end)| end);
        Some(found)
    }

    fn none() -> Self {
        Self {
            limit_seconds: 0.0,
            ends_after_seconds: None,
            ended_by: None,
            answers_after_seconds: None,
            advertised_seconds: None,
            connections: 0,
            not_kept: 0,
            failed: 0,
        }
    }

    /// Whether no connection was kept open for another request.
    #[must_use]
    pub fn keeps_none(&self) -> bool {
        self.not_kept > 0 && self.not_kept + self.failed == self.connections
    }

    /// The result in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { limit_seconds, connections, failed, .. } = self;
        if failed == connections {
            return "not measured: no request was answered".to_owned();
        }
        if self.keeps_none() {
            return "the server ends each connection with its first response".to_owned();
        }
        let advertised = self.advertised_seconds;
        let advertised = advertised.map(|seconds| format!(", and announces {seconds} s")).unwrap_or_default();
        match (self.ends_after_seconds, self.ended_by) {
            (Some(after), Some(IdleEnd::Dropped)) => format!(
                "idle connections are dropped without notice between {:.1} and {after:.1} s",
                self.answers_after_seconds.unwrap_or_default()
            ),
            (Some(after), Some(IdleEnd::Reset)) => {
                format!("the server resets idle connections after {after:.1} s{advertised}")
            }
            (Some(after), _) => format!("the server closes idle connections after {after:.1} s{advertised}"),
            (None, _) => {
                format!("the server keeps idle connections for at least {limit_seconds:.1} s{advertised}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn probe(idle: u64, outcome: IdleOutcome) -> IdleProbe {
        IdleProbe { idle: seconds(idle), outcome, advertised_seconds: None }
    }

    #[test]
    fn idle_times_double_and_are_bisected_up_to_the_limit() {
        let times: Vec<_> = idle_times(seconds(10)).iter().map(Duration::as_millis).collect();
        let expected = [1000, 1250, 1500, 1750, 2000, 2500, 3000, 3500, 4000, 5000, 6000, 7000, 8000, 10000];
        assert_eq!(times, expected);
        for limit in [1, 500, 1000, 130_000].map(Duration::from_millis) {
            let times = idle_times(limit);
            assert_eq!(times.last(), Some(&limit));
            assert!(times.is_sorted() && times.len() <= 32, "{times:?}");
        }
    }

    #[test]
    fn the_timeout_is_the_shortest_time_after_which_a_connection_ended() {
        use IdleOutcome::{Answered, Closed, Failed, Lost, NotKept, Reset};
        for (probes, ends, end, answers, sentence) in [
            (
                vec![probe(4, Answered), probe(5, Closed(seconds(5))), probe(8, Closed(seconds(6)))],
                Some(5.0),
                Some(IdleEnd::Closed),
                Some(4.0),
                "closes idle connections after 5.0 s",
            ),
            (
                vec![probe(8, Reset(seconds(3))), probe(2, Answered)],
                Some(3.0),
                Some(IdleEnd::Reset),
                Some(2.0),
                "resets idle connections after 3.0 s",
            ),
            (
                vec![probe(8, Lost), probe(4, Answered), probe(16, Lost)],
                Some(8.0),
                Some(IdleEnd::Dropped),
                Some(4.0),
                "dropped without notice between 4.0 and 8.0 s",
            ),
            (vec![probe(8, Answered), probe(16, Answered)], None, None, Some(16.0), "for at least 16.0 s"),
            (vec![probe(1, NotKept), probe(2, Failed)], None, None, None, "with its first response"),
            (vec![probe(1, Failed), probe(2, Failed)], None, None, None, "no request was answered"),
        ] {
            let found = KeepAlive::of(&probes).unwrap();
            assert_eq!(found.ends_after_seconds, ends, "{probes:?}");
            assert_eq!(found.ended_by, end, "{probes:?}");
            assert_eq!(found.answers_after_seconds, answers, "{probes:?}");
            assert!(found.sentence().contains(sentence), "{probes:?}: {}", found.sentence());
        }
        assert_eq!(KeepAlive::of(&[]), None);
        let advertised = IdleProbe { advertised_seconds: Some(5), ..probe(8, Closed(seconds(6))) };
        let found = KeepAlive::of([&advertised]).unwrap();
        assert_eq!(found.sentence(), "the server closes idle connections after 6.0 s, and announces 5 s");
    }
}
