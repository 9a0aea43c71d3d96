//! Estimates the required drain.

use std::time::Duration;

use serde::Serialize;

use super::findings::{Loss, PodFinding};

/// The shortest drain that would have covered a run, and how certain that is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Estimate {
    /// The drain, in whole seconds; at most the pods' current drain if no request was lost with it.
    pub seconds: u64,
    /// The value before rounding: the longest time that a terminating pod still got requests, plus the latency of most
    /// requests.
    pub measured_seconds: f64,
    /// Its basis.
    pub basis: Basis,
    /// The pods' current drain, if it is known from their hooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present_seconds: Option<i64>,
    /// A sentence about its certainty.
    pub certainty: String,
    /// A sentence of advice.
    pub advice: String,
}

/// The basis of an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Basis {
    /// The pod of every lost and every answered request is known.
    Exact,
    /// Some losses can't be attributed to one pod: the terminating pod whose termination began first is assumed. Or no
    /// request was lost with a drain shorter than measured.
    UpperBound,
    /// It is unknown which requests reached a terminating pod: only its endpoint's withdrawal is known.
    LowerBound,
}

impl Estimate {
    /// The estimate in a few words.
    #[must_use]
    pub fn headline(&self) -> String {
        match self.basis {
            Basis::Exact | Basis::UpperBound => format!("{} s would have been enough", self.seconds),
            Basis::LowerBound => format!("at least {} s", self.seconds),
        }
    }
}

/// The input of an estimate.
pub(super) struct EstimateInput<'a> {
    pub(super) pods: &'a [PodFinding],
    pub(super) losses: &'a [Loss],
    /// Whether every request that was due was sent and answered.
    pub(super) is_lossless: bool,
    /// Whether answers name their pod.
    pub(super) pods_are_named: bool,
    /// The 99th percentile of latency.
    pub(super) usual_answer: Duration,
    /// The terminated pods' drain.
    pub(super) current: Option<i64>,
}

/// The estimate; `None` if no pod terminated.
pub(super) fn estimate(input: &EstimateInput<'_>) -> Option<Estimate> {
    let terminated = || input.pods.iter().filter(|pod| pod.terminating_seconds.is_some());
    terminated().next()?;
    let withdrawn = terminated().filter_map(|pod| pod.endpoint_not_ready_after_seconds);
    let reached = terminated().filter_map(|pod| pod.last_request_after_seconds);
    // Of several possible pods, the one that had been terminating longest: a drain that covers it covers the others.
    let attributions = input.losses.iter().flat_map(|loss| &loss.pods);
    let lost = attributions.filter_map(|attribution| attribution.after_termination_seconds);
    let sent = reached.chain(lost).reduce(f64::max);
    // The last request that was sent still needs an answer.
    let answered = sent.map(|after| after.max(0.0) + input.usual_answer.as_secs_f64());
    let measured = withdrawn.chain(answered).fold(0.0, f64::max);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some seconds, not negative")]
    let seconds = (measured.ceil() as u64).max(1);
    // A pod that isn't gone may still lose requests.
    let proven = input.is_lossless && terminated().all(|pod| pod.gone_after_seconds.is_some());
    let enough = input.current.filter(|_| proven).and_then(|current| u64::try_from(current).ok());
    let shorter = enough.filter(|enough| *enough < seconds);
    let seconds = shorter.unwrap_or(seconds);

    let is_ambiguous = |loss: &&Loss| loss.pods.iter().any(|attribution| !attribution.exact);
    let ambiguous = input.losses.iter().filter(is_ambiguous).count();
    let basis = if ambiguous > 0 || shorter.is_some() {
        Basis::UpperBound
    } else if sent.is_some() && input.pods_are_named {
        Basis::Exact
    } else {
        Basis::LowerBound
    };
    Some(Estimate {
        seconds,
        measured_seconds: measured,
        basis,
        present_seconds: input.current,
        certainty: certainty(basis, ambiguous, shorter.is_some()),
        advice: match enough {
            Some(0) => "no request was lost without a drain".to_owned(),
            Some(enough) => format!("the pods' drain of {enough} s was enough"),
            None => advice(seconds, input.current, basis, !input.losses.is_empty()),
        },
    })
}

fn certainty(basis: Basis, ambiguous: usize, is_current_enough: bool) -> String {
    match basis {
        Basis::Exact => "measured in this run: the pod of every request is known; a busier cluster or another load \
                         balancer takes longer"
            .to_owned(),
        Basis::UpperBound if is_current_enough => "an upper bound for this run: no request was lost with the pods' \
                                                   current drain; a busier cluster or another load balancer takes \
                                                   longer"
            .to_owned(),
        Basis::UpperBound => format!(
            "an upper bound for this run: {ambiguous} lost requests cannot be attributed to a single pod, so the pod \
             that had been terminating longest is assumed"
        ),
        Basis::LowerBound => "a lower bound: only the endpoint's withdrawal was observed, and load balancers follow \
                              later; with --pod-header the pods are known"
            .to_owned(),
    }
}

fn advice(seconds: u64, current: Option<i64>, basis: Basis, has_losses: bool) -> String {
    let set = format!("annotate the workload: adieu.dev/drain-seconds={seconds}");
    let covers = |current: i64| u64::try_from(current).is_ok_and(|current| current >= seconds);
    match current {
        Some(0) => format!(
            "the pods have no drain: annotate the workload with adieu.dev/graceful=true (drain {} s), and also with \
             adieu.dev/drain-seconds={seconds} for the measured drain",
            adieu_core::api::defaults::DRAIN_SECONDS
        ),
        Some(current) if covers(current) && !has_losses => {
            format!("the pods' drain of {current} s covers it")
        }
        Some(current) if covers(current) => format!(
            "the pods' drain of {current} s should cover it: check why requests were lost, a longer drain may not help"
        ),
        Some(current) => format!("the pods' drain of {current} s is shorter: {set}"),
        None if basis == Basis::LowerBound => {
            format!("the drain of the pods' preStop hooks is unknown; they need at least {seconds} s")
        }
        None => format!("the drain of the pods' preStop hooks is unknown; if it is shorter, {set}"),
    }
}
