//! Which pod a request was lost at.

use std::time::Duration;

use serde::Serialize;

use super::{Life, Sample};

/// How much later than the kubelet we may be told of a termination.
const NEWS: Duration = Duration::from_millis(500);

/// A pod that a request may have been lost at.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tie {
    /// Its name.
    pub pod: String,
    /// Seconds from the start of its termination to when the request was due; negative where that began while
    /// the request was under way, absent where we were not told of one by its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_termination_seconds: Option<f64>,
    /// Whether it is known to be this one, by the pod's own word or its address.
    pub exact: bool,
    /// Its place among the recorded lives.
    #[serde(skip)]
    pub life: usize,
}

/// The pods that a request may have met: the one that it names or whose address it went to; otherwise those
/// that were terminating while it was under way; where none was, the one that was gone last before it, which
/// something in front may still have sent to.
#[must_use]
pub fn ties(sample: &Sample, lives: &[Life]) -> Vec<Tie> {
    if let Some(life) = met(sample, lives) {
        return vec![tie(sample, lives, life, true)];
    }
    let under_way: Vec<_> = (0..lives.len())
        .filter(|&life| lives[life].terminates_between(sample.due, sample.done()))
        .map(|life| tie(sample, lives, life, false))
        .collect();
    if !under_way.is_empty() {
        return under_way;
    }
    let gone = (0..lives.len()).filter_map(|life| Some((lives[life].gone?, life)));
    let last = gone.filter(|(gone, _)| *gone <= sample.due).max();
    let told = (0..lives.len()).filter_map(|life| Some((lives[life].terminating?, life)));
    let soon = sample.done()..=sample.done().saturating_add(NEWS);
    let next = told.filter(|(told, _)| soon.contains(told)).min();
    last.into_iter().chain(next).map(|(_, life)| tie(sample, lives, life, false)).collect()
}

/// The pod that a request certainly met.
pub(super) fn met(sample: &Sample, lives: &[Life]) -> Option<usize> {
    let named = |life: &Life| match &sample.pod {
        Some(pod) => life.name == *pod,
        None => sample.peer.is_some() && life.ip == sample.peer,
    };
    // A StatefulSet's name, and an address, goes from one pod to the next: the last that had it by then.
    (0..lives.len())
        .rev()
        .find(|&life| named(&lives[life]) && (lives[life].before || lives[life].seen <= sample.done()))
}

fn tie(sample: &Sample, lives: &[Life], life: usize, exact: bool) -> Tie {
    let terminating = lives[life].terminating.filter(|began| *began <= sample.done());
    Tie {
        pod: lives[life].name.clone(),
        after_termination_seconds: terminating.and_then(|_| lives[life].terminating_for(sample.due)),
        exact,
        life,
    }
}
