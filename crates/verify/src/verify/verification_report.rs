//! The result of a run: lost requests with time and pod, latency, and the required drain.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    attribution::{attributions, known_pod},
    connections::ConnectionReport,
    drain::{self, Estimate, EstimateInput},
    findings::{Loss, PodFinding, Requests, RunDescription, Worst},
    latency::Latency,
    recording::Recording,
    sample::Sample,
    timelines::PodTimeline,
};

/// The result of a run. Times are in seconds from its first request unless documented otherwise.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationReport {
    /// The workload, disruption and load.
    #[serde(flatten)]
    pub run: RunDescription,
    /// When the last request was over.
    pub duration_seconds: f64,
    /// When the disruption began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disruption_at_seconds: Option<f64>,
    /// How long it took, until every removed pod was deleted and every new one available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disruption_took_seconds: Option<f64>,
    /// Why the run is incomplete, or what could not be restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// Request counts.
    pub requests: Requests,
    /// Lost requests by cause.
    pub causes: BTreeMap<String, u64>,
    /// Latency of answers.
    pub latency_seconds: Latency,
    /// The second with the most lost requests, or the slowest answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst: Option<Worst>,
    /// Every lost request, ordered by due time.
    pub losses: Vec<Loss>,
    /// The workload's pods, ordered by when they were first seen.
    pub pods: Vec<PodFinding>,
    /// The required drain; absent if no pod terminated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<Estimate>,
    /// How connections that stay open end; absent if none were observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<ConnectionReport>,
}

impl VerificationReport {
    /// Evaluates a recording.
    #[must_use]
    pub fn of(run: RunDescription, recording: &Recording) -> Self {
        let Recording { samples, timelines, disruption } = recording;
        let losses: Vec<_> = samples.iter().filter_map(|sample| loss(sample, timelines)).collect();
        let mut causes = BTreeMap::new();
        for loss in &losses {
            *causes.entry(loss.cause.clone()).or_default() += 1;
        }
        let answers = samples.iter().filter(|sample| sample.is_answered());
        let latency = Latency::of(answers.map(|sample| sample.took).collect());
        let pods = pods(samples, timelines, &losses);
        let requests = Requests::of(samples);
        let drain = drain::estimate(&EstimateInput {
            pods: &pods,
            losses: &losses,
            is_lossless: requests.is_lossless(),
            pods_are_named: samples.iter().any(|sample| known_pod(sample, timelines).is_some()),
            usual_answer: Duration::from_secs_f64(latency.p99),
            current: current_drain(timelines),
        });
        let ended = samples.iter().map(Sample::done).max().unwrap_or_default();
        Self {
            run,
            duration_seconds: ended.as_secs_f64(),
            disruption_at_seconds: disruption.map(|(from, _)| from.as_secs_f64()),
            disruption_took_seconds: disruption.map(|(from, to)| to.saturating_sub(from).as_secs_f64()),
            incomplete: None,
            requests,
            causes,
            latency_seconds: latency,
            worst: worst_second(samples, timelines).or_else(|| slowest(samples, timelines)),
            losses,
            pods,
            drain,
            connections: None,
        }
    }

    /// Whether every request that was due was sent and answered.
    #[must_use]
    pub fn is_lossless(&self) -> bool {
        self.requests.is_lossless()
    }
}

fn loss(sample: &Sample, timelines: &[PodTimeline]) -> Option<Loss> {
    Some(Loss {
        at_seconds: sample.due.as_secs_f64(),
        took_seconds: sample.took.as_secs_f64(),
        cause: sample.loss()?.to_string(),
        pods: attributions(sample, timelines),
    })
}

fn pods(samples: &[Sample], timelines: &[PodTimeline], losses: &[Loss]) -> Vec<PodFinding> {
    let seconds = |time: Duration| time.as_secs_f64();
    let mut pods: Vec<_> = timelines
        .iter()
        .map(|timeline| PodFinding {
            name: timeline.name.clone(),
            node: timeline.node.clone(),
            started_seconds: (!timeline.is_preexisting).then(|| seconds(timeline.first_seen)),
            ready_seconds: timeline.ready.map(seconds),
            terminating_seconds: timeline.terminating.map(seconds),
            endpoint_not_ready_after_seconds: timeline.withdrawn.and_then(|at| timeline.terminating_for(at)),
            last_request_after_seconds: None,
            gone_after_seconds: timeline.gone.and_then(|at| timeline.terminating_for(at)),
            answered: 0,
            lost: 0,
            perhaps_lost: 0,
        })
        .collect();
    for sample in samples {
        let Some(index) = known_pod(sample, timelines) else { continue };
        pods[index].answered += u64::from(sample.is_answered());
        let after = timelines[index].terminating_for(sample.due);
        // Samples are ordered by due time, so the last one stays.
        pods[index].last_request_after_seconds = after.or(pods[index].last_request_after_seconds);
    }
    for attribution in losses.iter().flat_map(|loss| &loss.pods) {
        let count = if attribution.exact {
            &mut pods[attribution.index].lost
        } else {
            &mut pods[attribution.index].perhaps_lost
        };
        *count += 1;
    }
    pods
}

/// The shortest drain of the terminated pods; `None` if one is unknown.
fn current_drain(timelines: &[PodTimeline]) -> Option<i64> {
    let terminated = timelines.iter().filter(|timeline| timeline.terminating.is_some());
    terminated.map(|timeline| timeline.drain_seconds).collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// The second with the most lost requests.
fn worst_second(samples: &[Sample], timelines: &[PodTimeline]) -> Option<Worst> {
    const SECOND: Duration = Duration::from_secs(1);
    let within = |from: Duration| {
        let first = samples.partition_point(|sample| sample.due < from);
        samples.iter().skip(first).take_while(move |sample| sample.due < from + SECOND)
    };
    let lost = |from: Duration| within(from).filter(|sample| sample.loss().is_some()).count();
    let starts = samples.iter().filter(|sample| sample.loss().is_some()).map(|sample| sample.due);
    // The first of equal ones.
    let worst = starts.rev().max_by_key(|start| lost(*start))?;
    Some(Worst {
        at_seconds: worst.as_secs_f64(),
        explanation: format!(
            "{} of {} requests that were due within one second were lost, {}",
            lost(worst),
            within(worst).count(),
            situation(timelines, worst, worst + SECOND)
        ),
    })
}

fn slowest(samples: &[Sample], timelines: &[PodTimeline]) -> Option<Worst> {
    let slowest = samples.iter().filter(|sample| sample.is_answered()).max_by_key(|sample| sample.took)?;
    let pod = slowest.pod.as_ref().map(|pod| format!(" of {pod}")).unwrap_or_default();
    let [took, connecting] = [slowest.took, slowest.connecting].map(|time| time.as_secs_f64() * 1000.0);
    let waited = if connecting > took / 2.0 {
        format!(", of which it waited {connecting:.0} ms for its connection")
    } else {
        String::new()
    };
    Some(Worst {
        at_seconds: slowest.due.as_secs_f64(),
        explanation: format!(
            "the slowest answer{pod} took {took:.0} ms{waited}, {}",
            situation(timelines, slowest.due, slowest.done())
        ),
    })
}

/// Which pods were terminating between two times, in words.
fn situation(timelines: &[PodTimeline], from: Duration, to: Duration) -> String {
    let terminating: Vec<_> = timelines
        .iter()
        .filter(|timeline| timeline.terminates_between(from, to))
        .map(|timeline| match timeline.terminating_for(from) {
            Some(after) if after >= 0.0 => format!("{} (for {after:.1} s)", timeline.name),
            _ => format!("{} (starting then)", timeline.name),
        })
        .collect();
    let verb = if terminating.len() == 1 { "was" } else { "were" };
    if !terminating.is_empty() {
        return format!("while {} {verb} terminating", terminating.join(", "));
    }
    let gone = timelines.iter().filter_map(|timeline| Some((timeline.gone?, &timeline.name)));
    match gone.filter(|(gone, _)| *gone <= from).max() {
        Some((gone, name)) => {
            format!("{:.1} s after {name} was deleted", from.saturating_sub(gone).as_secs_f64())
        }
        None => "when no pod was terminating".to_owned(),
    }
}

#[cfg(test)]
#[path = "verification_report_tests.rs"]
mod tests;
