//! What one way did when one canary terminated.

use std::time::Duration;

use serde::Serialize;

use super::{
    mark::{LoggedArrival, Mark},
    stream::{Connections, Stream},
};
use crate::verify::{Requests, Sample};

/// The samples of the loads through one way. The pod of a sample is the canary's [`Mark`].
#[derive(Clone, Debug, Default)]
pub struct WaySamples {
    /// On new connections.
    pub new: Vec<Sample>,
    /// On kept connections.
    pub kept: Vec<Sample>,
}

/// A canary that was deleted, in times from the origin of the samples.
#[derive(Clone, Debug)]
pub struct CanaryTermination {
    /// Its pod.
    pub pod: String,
    /// When it was deleted.
    pub deleted: Duration,
    /// Until when it was observed; it served at least until then.
    pub ended: Duration,
    /// The arrivals after its SIGTERM, from its log.
    pub log: Vec<LoggedArrival>,
}

/// What one way did when one canary terminated.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// The canary.
    pub pod: String,
    /// Seconds from its SIGTERM to the last arrival: 0 if there was none. Without those on kept connections if the way
    /// keeps such connections.
    pub last_arrival_seconds: f64,
    /// Whether requests still arrived at the end of the observation, so that the last arrival is unknown.
    pub is_cut: bool,
    /// Whether kept connections still led to it, long after new ones did not.
    pub keeps_connections: bool,
    /// The requests that were lost during its termination, although every canary served.
    pub lost: u64,
}

impl WaySamples {
    fn of(&self, connections: Connections) -> &[Sample] {
        match connections {
            Connections::New => &self.new,
            Connections::Kept => &self.kept,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Sample> {
        self.new.iter().chain(&self.kept)
    }

    /// The number of requests. An answer that isn't a canary's counts as lost.
    #[must_use]
    pub fn requests(&self) -> Requests {
        let mut requests = Requests::default();
        for sample in self.all() {
            requests.count(sample.outcome);
        }
        let foreign = self.all().filter(|sample| sample.is_answered() && !is_marked(sample)).count();
        let foreign = u64::try_from(foreign).unwrap_or(u64::MAX);
        requests.answered = requests.answered.saturating_sub(foreign);
        requests.lost = requests.lost.saturating_add(foreign);
        requests
    }
}

impl CanaryTermination {
    /// What a way did; `None` if no request reached the canary through it before the deletion. If no request arrives for
    /// `quiet`, none follows.
    #[must_use]
    pub fn observe(&self, way: usize, samples: &WaySamples, quiet: Duration) -> Option<Observation> {
        if !samples.all().any(|sample| sample.due < self.deleted && self.is_at(sample)) {
            return None;
        }
        let last = |connections| self.last_arrival(Stream { way, connections }, samples.of(connections));
        let [new, kept] = Connections::ALL.map(last);
        let observed = self.ended.saturating_sub(self.deleted);
        let continues = |last: Option<Duration>| last.is_some_and(|last| last + quiet > observed);
        let is_cut = continues(new);
        let keeps_connections = !is_cut && continues(kept);
        let last = if is_cut || keeps_connections { new } else { new.max(kept) };
        let lost = samples.all().filter(|sample| self.is_lost_meanwhile(sample)).count();
        Some(Observation {
            pod: self.pod.clone(),
            last_arrival_seconds: last.unwrap_or_default().as_secs_f64(),
            is_cut,
            keeps_connections,
            lost: u64::try_from(lost).unwrap_or(u64::MAX),
        })
    }

    /// Whether a request arrived at this canary.
    fn is_at(&self, sample: &Sample) -> bool {
        mark(sample).is_some_and(|mark| mark.pod == self.pod)
    }

    /// The last arrival, from responses and from the log; `None` if none was after SIGTERM.
    fn last_arrival(&self, stream: Stream, samples: &[Sample]) -> Option<Duration> {
        let marks = samples.iter().filter_map(mark).filter(|mark| mark.pod == self.pod);
        let answered = marks.filter_map(|mark| mark.terminating_for);
        let of_stream = self.log.iter().filter(|arrival| arrival.stream == stream);
        let logged = of_stream.map(|arrival| Duration::from_millis(arrival.after_millis));
        answered.chain(logged).max()
    }

    /// Whether a request was lost during the observation.
    fn is_lost_meanwhile(&self, sample: &Sample) -> bool {
        let is_lost = sample.loss().is_some() || (sample.is_answered() && !is_marked(sample));
        is_lost && sample.due >= self.deleted && sample.done() <= self.ended
    }
}

fn mark(sample: &Sample) -> Option<Mark> {
    sample.pod.as_deref().and_then(Mark::parse)
}

/// Whether a canary answered a request. Otherwise it was lost, or another server answered it, such as a proxy that knows
/// no backend.
#[must_use]
pub fn is_marked(sample: &Sample) -> bool {
    sample.is_answered() && mark(sample).is_some()
}

#[cfg(test)]
#[path = "observation_tests.rs"]
mod tests;
