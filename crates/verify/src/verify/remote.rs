//! The output of a load that runs on another machine, and the conversion of its times.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{connections::Observation, sample::Sample};

/// A line of a remote load's output, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    /// The requests that have ended since the last line. A line is written several times a second, even without
    /// samples, because the clock offset is learned from it.
    Samples {
        /// When the line was written, in microseconds from the load's origin.
        now_micros: u64,
        /// In times from that origin.
        samples: Vec<Sample>,
    },
    /// Observations on connections since the last line, in times from that origin.
    Observations(Vec<Observation>),
    /// The last line: none is missing.
    End,
}

/// The load's origin on the local clock.
///
/// The clocks need not be synchronized, they must only run at the same speed. A line contains the time from the
/// remote origin to when it was written, so from when it was received the origin follows, too late by the line's
/// transit time. The fastest line has the smallest error, some milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alignment(Option<Duration>);

impl Alignment {
    /// Learns from a line, written `written` after the remote origin and received at `received`.
    pub fn learn(&mut self, written: Duration, received: Duration) {
        let origin = received.saturating_sub(written);
        self.0 = Some(self.0.map_or(origin, |known| known.min(origin)));
    }

    /// Converts samples and observations to the local clock. Call it after the last line has been learned.
    pub fn apply(self, samples: &mut [Sample], observations: &mut [Observation]) {
        let origin = self.0.unwrap_or_default();
        for sample in samples {
            sample.due += origin;
        }
        for observation in observations {
            observation.shift(origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::verify::{ConnectionKind, Ending, HeldConnection, IdleOutcome, IdleProbe, Outcome};

    proptest! {
        #[test]
        fn the_fastest_line_determines_the_remote_origin(
            origin in 0..100_000_u64,
            delays in prop::collection::vec(1..5_000_u64, 1..50),
        ) {
            let mut alignment = Alignment::default();
            for (number, delay) in delays.iter().enumerate() {
                let written = Duration::from_millis(100 * number as u64);
                alignment.learn(written, written + Duration::from_millis(origin + delay));
            }
            let mut samples = [Sample {
                due: Duration::from_millis(250),
                took: Duration::ZERO,
                connecting: Duration::ZERO,
                outcome: Outcome::Answered(200),
                pod: None,
                peer: None,
            }];
            alignment.apply(&mut samples, &mut []);
            let fastest = delays.iter().min().unwrap();
            prop_assert_eq!(samples[0].due, Duration::from_millis(250 + origin + fastest));
        }
    }

    #[test]
    fn observations_are_converted_to_the_local_clock() {
        let at = Duration::from_millis;
        let held = |opened, announced, ended| {
            Observation::Held(HeldConnection {
                kind: ConnectionKind::Busy,
                opened: at(opened),
                pod: None,
                peer: None,
                has_several_pods: false,
                announced: Some(at(announced)),
                ended: Some((at(ended), Ending::Closed)),
            })
        };
        let mut alignment = Alignment::default();
        alignment.learn(at(100), at(1100));
        let mut observations = [held(1, 2, 3)];
        alignment.apply(&mut [], &mut observations);
        assert_eq!(observations, [held(1001, 1002, 1003)]);
    }

    #[test]
    fn a_line_round_trips_as_json() {
        let line = Line::Samples {
            now_micros: 7,
            samples: vec![Sample {
                due: Duration::from_micros(1),
                took: Duration::from_micros(2),
                connecting: Duration::from_micros(1),
                outcome: Outcome::Lost(crate::verify::Cause::ServerError(503)),
                pod: Some("web-0".into()),
                peer: Some([10, 0, 0, 1].into()),
            }],
        };
        let held = HeldConnection {
            kind: ConnectionKind::WebSocket,
            opened: Duration::from_micros(3),
            pod: None,
            peer: Some([10, 0, 0, 1].into()),
            has_several_pods: false,
            announced: None,
            ended: Some((Duration::from_micros(4), Ending::Cut)),
        };
        let probe = IdleProbe {
            idle: Duration::from_secs(8),
            outcome: IdleOutcome::Closed(Duration::from_secs(5)),
            advertised_seconds: Some(5),
        };
        let observations = Line::Observations(vec![
            Observation::Held(held),
            Observation::Idle(probe),
            Observation::NotOpened { kind: ConnectionKind::Grpc, reason: "status 404".to_owned() },
        ]);
        for line in [line, observations, Line::End] {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
    }
}
