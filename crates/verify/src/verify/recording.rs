//! The recording of one run.

use std::time::Duration;

use super::{connections::Observation, sample::Sample, timelines::PodTimeline};

/// What was measured from the client's side, in times from one origin.
#[derive(Clone, Debug, Default)]
pub struct Measurements {
    /// Every request of the load.
    pub samples: Vec<Sample>,
    /// The observations on connections that stay open.
    pub observations: Vec<Observation>,
}

/// The recording of one run, in times from its first request.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// Every request, ordered by due time.
    pub samples: Vec<Sample>,
    /// The workload's pods, ordered by when they were first seen.
    pub timelines: Vec<PodTimeline>,
    /// When the disruption began and when it was complete.
    pub disruption: Option<(Duration, Duration)>,
}

impl Recording {
    /// Samples may come in any order. All times are from one origin; those before the first request count as its due
    /// time.
    #[must_use]
    pub fn new(
        mut samples: Vec<Sample>,
        mut timelines: Vec<PodTimeline>,
        disruption: Option<(Duration, Duration)>,
    ) -> Self {
        samples.sort_by_key(|sample| sample.due);
        let first = samples.first().map(|sample| sample.due).unwrap_or_default();
        let from_first = |time: Duration| time.saturating_sub(first);
        for sample in &mut samples {
            sample.due = from_first(sample.due);
        }
        for timeline in &mut timelines {
            timeline.first_seen = from_first(timeline.first_seen);
            let PodTimeline { ready, terminating, withdrawn, gone, .. } = timeline;
            for moment in [ready, terminating, withdrawn, gone] {
                *moment = moment.map(from_first);
            }
        }
        let disruption = disruption.map(|(from, to)| (from_first(from), from_first(to)));
        Self { samples, timelines, disruption }
    }
}
