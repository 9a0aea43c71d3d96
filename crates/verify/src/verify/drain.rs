//! How long a drain would have been long enough.

use std::time::Duration;

use serde::Serialize;

use super::{Loss, PodFinding};

/// The smallest drain that would have covered a run, and how much that is worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Estimate {
    /// The drain, in whole seconds; no longer than the pods' own where nothing was lost with that.
    pub seconds: u64,
    /// What it is rounded up from: the longest that a terminating pod was still sent requests, and what most
    /// requests take on top.
    pub measured_seconds: f64,
    /// What it rests on.
    pub basis: Basis,
    /// The drain that the pods had, where it can be read from their hooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present_seconds: Option<i64>,
    /// How certain it is, in a sentence.
    pub certainty: String,
    /// What follows from it, in a sentence.
    pub advice: String,
}

/// What an estimate rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Basis {
    /// Every loss and every answer names its pod.
    Exact,
    /// Some losses may belong to one pod or another: of those that were terminating, the one whose termination
    /// began first is assumed. Or nothing was lost with a shorter drain than what was measured.
    UpperBound,
    /// Nothing tells which requests reached a terminating pod: only its endpoint is known.
    LowerBound,
}

impl Estimate {
    /// What it comes to, in a few words.
    #[must_use]
    pub fn headline(&self) -> String {
        match self.basis {
            Basis::Exact | Basis::UpperBound => format!("{} s would have been enough", self.seconds),
            Basis::LowerBound => format!("at least {} s", self.seconds),
        }
    }
}

/// What the estimate is made of.
pub(super) struct Seen<'a> {
    pub(super) pods: &'a [PodFinding],
    pub(super) losses: &'a [Loss],
    /// Whether every request that was due was sent and answered.
    pub(super) nothing_is_lost: bool,
    /// Whether answers say which pod they are from.
    pub(super) pods_are_named: bool,
    /// What 99 in 100 answers took no longer than.
    pub(super) usual_answer: Duration,
    /// The drain that the terminating pods had.
    pub(super) present: Option<i64>,
}

/// The estimate; `None` where no pod terminated.
pub(super) fn estimate(seen: &Seen<'_>) -> Option<Estimate> {
    let terminated = || seen.pods.iter().filter(|pod| pod.terminating_seconds.is_some());
    terminated().next()?;
    let withdrawn = terminated().filter_map(|pod| pod.endpoint_not_ready_after_seconds);
    let reached = terminated().filter_map(|pod| pod.last_request_after_seconds);
    // Of several pods that a loss may belong to, the one that had been terminating for longest: a drain that
    // covers that one covers the others.
    let ties = seen.losses.iter().flat_map(|loss| &loss.pods);
    let lost = ties.filter_map(|tie| tie.after_termination_seconds);
    let sent = reached
        .chain(lost)
        .fold(None, |longest: Option<f64>, after| Some(longest.map_or(after, |longest| longest.max(after))));
    // What is sent last still has to be answered.
    let answered = sent.map(|after| after.max(0.0) + seen.usual_answer.as_secs_f64());
    let measured = withdrawn.chain(answered).fold(0.0, f64::max);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some seconds, not negative")]
    let seconds = (measured.ceil() as u64).max(1);
    // A pod that isn't gone may still lose what is sent to it.
    let proven = seen.nothing_is_lost && terminated().all(|pod| pod.gone_after_seconds.is_some());
    let enough = seen.present.filter(|_| proven).and_then(|present| u64::try_from(present).ok());
    let shorter = enough.filter(|enough| *enough < seconds);
    let seconds = shorter.unwrap_or(seconds);

    let ambiguous = seen.losses.iter().filter(|loss| loss.pods.iter().any(|tie| !tie.exact)).count();
    let basis = if ambiguous > 0 || shorter.is_some() {
        Basis::UpperBound
    } else if sent.is_some() && seen.pods_are_named {
        Basis::Exact
    } else {
        Basis::LowerBound
    };
    let certainty = match basis {
        Basis::Exact => "measured in this run: requests and losses are known by their pod; a busier \
                         cluster or another load balancer takes longer"
            .to_owned(),
        Basis::UpperBound if shorter.is_some() => "an upper bound for this run: nothing was lost with the \
                                                   pods' own; a busier cluster or another load balancer \
                                                   takes longer"
            .to_owned(),
        Basis::UpperBound => format!(
            "an upper bound for this run: {ambiguous} losses may belong to one pod or another, and the one \
             that had been terminating for longest is assumed"
        ),
        Basis::LowerBound => "a lower bound: only the endpoint's withdrawal was seen, and what is in front \
                              of the pods follows later; --pod-header tells which pods were reached"
            .to_owned(),
    };
    let advice = match enough {
        Some(0) => "nothing was lost without a drain".to_owned(),
        Some(enough) => format!("the pods' drain of {enough} s was enough"),
        None => advice(seconds, seen.present, basis, !seen.losses.is_empty()),
    };
    let present_seconds = seen.present;
    Some(Estimate { seconds, measured_seconds: measured, basis, present_seconds, certainty, advice })
}

fn advice(seconds: u64, present: Option<i64>, basis: Basis, lost: bool) -> String {
    let set = format!("annotate the workload: adieu.dev/drain-seconds={seconds}");
    let covers = |present: i64| u64::try_from(present).is_ok_and(|present| present >= seconds);
    match present {
        Some(0) => format!(
            "the pods have no drain: annotate the workload with adieu.dev/graceful=true (drain {}), or more \
             closely with adieu.dev/drain-seconds={seconds}",
            adieu_core::api::defaults::DRAIN_SECONDS
        ),
        Some(present) if covers(present) && !lost => format!("the pods' drain of {present} s covers it"),
        Some(present) if covers(present) => format!(
            "the pods' drain of {present} s should cover it: look at what was lost, a longer one may not help"
        ),
        Some(present) => format!("the pods' drain of {present} s is shorter: {set}"),
        None if basis == Basis::LowerBound => {
            format!("the pods' own preStop can't be read; at least {seconds} s")
        }
        None => format!("the pods' own preStop can't be read; {set} where it is shorter"),
    }
}
