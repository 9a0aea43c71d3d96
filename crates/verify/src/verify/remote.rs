//! A load that runs on another machine: what it writes, and how its times become ours.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Sample;

/// A line of a remote load's output, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    /// What has come to an end since the last line. Such a line is written several times a second, also
    /// without samples: the times are learned from them.
    Samples {
        /// When the line was written, in microseconds from the load's own origin.
        now_micros: u64,
        /// In times from that origin.
        samples: Vec<Sample>,
    },
    /// Nothing comes after it: no line is missing.
    End,
}

/// The remote origin, on our clock.
///
/// The two machines' clocks are never compared. Each line says how long after the remote origin it was
/// written, and we know when we received it, so each tells when the origin was, too late by the time that the
/// line took. The line that came fastest is off by its own way only, some milliseconds; two clocks need only
/// run at the same speed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alignment(Option<Duration>);

impl Alignment {
    /// Learns from a line that was written `written` after the remote origin and received at `received`.
    pub fn learn(&mut self, written: Duration, received: Duration) {
        let origin = received.saturating_sub(written);
        self.0 = Some(self.0.map_or(origin, |known| known.min(origin)));
    }

    /// Puts samples on our clock; only once every line has been learned from.
    pub fn apply(self, samples: &mut [Sample]) {
        let origin = self.0.unwrap_or_default();
        for sample in samples {
            sample.due += origin;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::verify::Outcome;

    proptest! {
        #[test]
        fn the_fastest_line_decides_when_the_remote_origin_was(
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
            alignment.apply(&mut samples);
            let fastest = delays.iter().min().unwrap();
            prop_assert_eq!(samples[0].due, Duration::from_millis(250 + origin + fastest));
        }
    }

    #[test]
    fn a_line_survives_its_way_as_json() {
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
        for line in [line, Line::End] {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
    }
}
