//! Attributes lost requests to pods.

use std::time::Duration;

use serde::Serialize;

use super::{sample::Sample, timelines::PodTimeline};

/// How much later than the kubelet the watch may report a termination.
const WATCH_LATENCY: Duration = Duration::from_millis(500);

/// A pod at which a request may have been lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attribution {
    /// Its name.
    pub pod: String,
    /// Seconds from the start of its termination to when the request was due; negative if the termination began during
    /// the request, absent if none was observed before the request ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_termination_seconds: Option<f64>,
    /// Whether the pod is certain: the answer names it, or the request went to its address.
    pub exact: bool,
    /// Its index among the recorded timelines.
    #[serde(skip)]
    pub index: usize,
}

/// The pods that a request may have reached: the one that the answer names or whose address it went to; otherwise
/// those that were terminating during the request; otherwise the one deleted last before it, to which a proxy may
/// still have sent it, and the next to terminate.
#[must_use]
pub fn attributions(sample: &Sample, timelines: &[PodTimeline]) -> Vec<Attribution> {
    if let Some(index) = known_pod(sample, timelines) {
        return vec![attribution(sample, timelines, index, true)];
    }
    let terminating: Vec<_> = (0..timelines.len())
        .filter(|&index| timelines[index].terminates_between(sample.due, sample.done()))
        .map(|index| attribution(sample, timelines, index, false))
        .collect();
    if !terminating.is_empty() {
        return terminating;
    }
    let gone = (0..timelines.len()).filter_map(|index| Some((timelines[index].gone?, index)));
    let last = gone.filter(|(gone, _)| *gone <= sample.due).max();
    let terminated = (0..timelines.len()).filter_map(|index| Some((timelines[index].terminating?, index)));
    let soon = sample.done()..=sample.done().saturating_add(WATCH_LATENCY);
    let next = terminated.filter(|(at, _)| soon.contains(at)).min();
    last.into_iter().chain(next).map(|(_, index)| attribution(sample, timelines, index, false)).collect()
}

/// The pod that a request certainly reached.
pub(super) fn known_pod(sample: &Sample, timelines: &[PodTimeline]) -> Option<usize> {
    let matches = |timeline: &PodTimeline| match &sample.pod {
        Some(pod) => timeline.name == *pod,
        None => sample.peer.is_some() && timeline.ip == sample.peer,
    };
    let exists = |timeline: &PodTimeline| timeline.is_preexisting || timeline.first_seen <= sample.done();
    // Names of StatefulSet pods and addresses are reused: this is the last pod that had it by then.
    timelines.iter().rposition(|timeline| matches(timeline) && exists(timeline))
}

fn attribution(sample: &Sample, timelines: &[PodTimeline], index: usize, exact: bool) -> Attribution {
    let timeline = &timelines[index];
    let terminating = timeline.terminating.filter(|began| *began <= sample.done());
    Attribution {
        pod: timeline.name.clone(),
        after_termination_seconds: terminating.and_then(|_| timeline.terminating_for(sample.due)),
        exact,
        index,
    }
}
