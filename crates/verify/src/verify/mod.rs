//! What a disruption did to the requests that were sent meanwhile. Pure: everything is passed in as it was
//! recorded, nothing is looked up, nothing waits.
//!
//! A [`Recording`] is a load's [`Sample`]s and the [`Lives`] of the workload's pods, all in times from one
//! origin. [`Findings`] tell what was lost and when, [`ties`] at which pod, and the [`Estimate`] which drain
//! would have been enough.

mod drain;
mod findings;
mod latency;
mod lives;
mod remote;
mod sample;
mod schedule;
mod ties;

pub use drain::{Basis, Estimate};
pub use findings::{Findings, Loss, PodFinding, Requests, Subject, Worst};
pub use latency::Latency;
pub use lives::{Life, Lives, is_ready};
pub use remote::{Alignment, Line};
pub use sample::{Cause, Outcome, Sample};
pub use schedule::Schedule;
pub use ties::{Tie, ties};

use std::time::Duration;

/// What was recorded of one run, in times from its first request.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// Every request, in the order in which they were due.
    pub samples: Vec<Sample>,
    /// The workload's pods, in the order in which they were seen.
    pub lives: Vec<Life>,
    /// When the disruption began and when it was complete, where there was one.
    pub disruption: Option<(Duration, Duration)>,
}

impl Recording {
    /// A recording of samples that come in any order, with everything in times from one origin. What was
    /// before the first request counts as having been when that was due.
    #[must_use]
    pub fn new(
        mut samples: Vec<Sample>,
        mut lives: Vec<Life>,
        disruption: Option<(Duration, Duration)>,
    ) -> Self {
        samples.sort_by_key(|sample| sample.due);
        let first = samples.first().map(|sample| sample.due).unwrap_or_default();
        let from_first = |time: Duration| time.saturating_sub(first);
        for sample in &mut samples {
            sample.due = from_first(sample.due);
        }
        for life in &mut lives {
            life.seen = from_first(life.seen);
            let Life { ready, terminating, withdrawn, gone, .. } = life;
            for moment in [ready, terminating, withdrawn, gone] {
                *moment = moment.map(from_first);
            }
        }
        let disruption = disruption.map(|(from, to)| (from_first(from), from_first(to)));
        Self { samples, lives, disruption }
    }
}
