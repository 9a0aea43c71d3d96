//! What was lost, when and at which pod.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    Estimate, Latency, Life, Outcome, Recording, Sample, Tie,
    drain::{self, Seen},
    ties::{self, met},
};

/// What a run was about.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Its kind and name, such as `Deployment/web`.
    pub workload: String,
    /// Its namespace.
    pub namespace: String,
    /// What was done to it, as it is asked for.
    pub disruption: String,
    /// Where requests were sent.
    pub url: String,
    /// Requests per second.
    pub rate: u32,
}

/// What a run showed. Times are in seconds from its first request, unless they say from where.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// What it was about.
    #[serde(flatten)]
    pub subject: Subject,
    /// When the last request was over.
    pub duration_seconds: f64,
    /// When the disruption began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disruption_at_seconds: Option<f64>,
    /// How long it took, until every pod that it removed was gone and every new one available.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disruption_took_seconds: Option<f64>,
    /// Why the run didn't come to its end, and what could not be put back after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// How many requests there were.
    pub requests: Requests,
    /// The lost ones by cause.
    pub causes: BTreeMap<String, u64>,
    /// How long answers took.
    pub latency_seconds: Latency,
    /// The moment at which most was lost, or the slowest answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst: Option<Worst>,
    /// Every lost request, in the order in which they were due.
    pub losses: Vec<Loss>,
    /// The workload's pods, in the order in which they were seen.
    pub pods: Vec<PodFinding>,
    /// The drain that would have been enough; absent where no pod terminated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<Estimate>,
}

/// How many requests there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// Those that were sent: the answered and the lost.
    pub sent: u64,
    /// Those that got an answer with a status below 500.
    pub answered: u64,
    /// Those that got none, or a server's error.
    pub lost: u64,
    /// Those that were due and not sent, because as many as may be were waiting for their answers.
    pub not_sent: u64,
}

/// A lost request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// When it was due.
    pub at_seconds: f64,
    /// How long after that it was lost.
    pub took_seconds: f64,
    /// Refused, reset and the like.
    pub cause: String,
    /// Where it may have been lost; none where no pod was terminating then, before or right after.
    pub pods: Vec<Tie>,
}

/// The worst moment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Worst {
    /// When it began.
    pub at_seconds: f64,
    /// What happened then, in a sentence.
    pub explanation: String,
}

/// What a pod went through.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodFinding {
    /// Its name.
    pub name: String,
    /// The node that it was on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// When it was first seen; absent where it was there before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_seconds: Option<f64>,
    /// When it was first ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_seconds: Option<f64>,
    /// When its termination began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating_seconds: Option<f64>,
    /// How long after that no EndpointSlice named it ready any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_not_ready_after_seconds: Option<f64>,
    /// How long after the start of its termination the last request was due that reached it, by its own
    /// word; negative where that was before, absent where no request is known to have reached it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_request_after_seconds: Option<f64>,
    /// How long after the start of its termination it was gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone_after_seconds: Option<f64>,
    /// Requests that it is known to have answered.
    pub answered: u64,
    /// Requests that are known to have been lost at it.
    pub lost: u64,
    /// Requests that may have been lost at it, or at another.
    pub perhaps_lost: u64,
}

impl Findings {
    /// What a recording shows.
    #[must_use]
    pub fn of(subject: Subject, recording: &Recording) -> Self {
        let Recording { samples, lives, disruption } = recording;
        let losses: Vec<_> = samples.iter().filter_map(|sample| loss(sample, lives)).collect();
        let mut causes = BTreeMap::new();
        for loss in &losses {
            *causes.entry(loss.cause.clone()).or_default() += 1;
        }
        let answers = samples.iter().filter(|sample| sample.is_answered());
        let latency = Latency::of(answers.map(|sample| sample.took).collect());
        let pods = pods(samples, lives, &losses);
        let requests = Requests::of(samples);
        let drain = drain::estimate(&Seen {
            pods: &pods,
            losses: &losses,
            nothing_is_lost: requests.nothing_is_lost(),
            pods_are_named: samples.iter().any(|sample| met(sample, lives).is_some()),
            usual_answer: Duration::from_secs_f64(latency.p99),
            present: present_drain(lives),
        });
        let ended = samples.iter().map(Sample::done).max().unwrap_or_default();
        Self {
            subject,
            duration_seconds: ended.as_secs_f64(),
            disruption_at_seconds: disruption.map(|(from, _)| from.as_secs_f64()),
            disruption_took_seconds: disruption.map(|(from, to)| to.saturating_sub(from).as_secs_f64()),
            incomplete: None,
            requests,
            causes,
            latency_seconds: latency,
            worst: worst_second(samples, lives).or_else(|| slowest(samples, lives)),
            losses,
            pods,
            drain,
        }
    }

    /// Whether every request that was due was sent and answered.
    #[must_use]
    pub fn nothing_is_lost(&self) -> bool {
        self.requests.nothing_is_lost()
    }
}

impl Requests {
    /// Counts them.
    #[must_use]
    pub fn of(samples: &[Sample]) -> Self {
        let mut requests = Self::default();
        for sample in samples {
            requests.count(sample.outcome);
        }
        requests
    }

    /// Whether every one that was due was sent and answered.
    #[must_use]
    pub fn nothing_is_lost(&self) -> bool {
        self.lost == 0 && self.not_sent == 0
    }

    /// Counts one more.
    pub fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answered(_) => self.answered += 1,
            Outcome::Lost(_) => self.lost += 1,
            Outcome::NotSent => self.not_sent += 1,
        }
        self.sent = self.answered + self.lost;
    }
}

fn loss(sample: &Sample, lives: &[Life]) -> Option<Loss> {
    Some(Loss {
        at_seconds: sample.due.as_secs_f64(),
        took_seconds: sample.took.as_secs_f64(),
        cause: sample.loss()?.to_string(),
        pods: ties::ties(sample, lives),
    })
}

fn pods(samples: &[Sample], lives: &[Life], losses: &[Loss]) -> Vec<PodFinding> {
    let seconds = |time: Duration| time.as_secs_f64();
    let mut pods: Vec<_> = lives
        .iter()
        .map(|life| PodFinding {
            name: life.name.clone(),
            node: life.node.clone(),
            started_seconds: (!life.before).then(|| seconds(life.seen)),
            ready_seconds: life.ready.map(seconds),
            terminating_seconds: life.terminating.map(seconds),
            endpoint_not_ready_after_seconds: life.withdrawn.and_then(|at| life.terminating_for(at)),
            last_request_after_seconds: None,
            gone_after_seconds: life.gone.and_then(|at| life.terminating_for(at)),
            answered: 0,
            lost: 0,
            perhaps_lost: 0,
        })
        .collect();
    for sample in samples {
        let Some(life) = met(sample, lives) else { continue };
        pods[life].answered += u64::from(sample.is_answered());
        let after = lives[life].terminating_for(sample.due);
        // In the order in which they were due: the last one stays.
        pods[life].last_request_after_seconds = after.or(pods[life].last_request_after_seconds);
    }
    for tie in losses.iter().flat_map(|loss| &loss.pods) {
        let count = if tie.exact { &mut pods[tie.life].lost } else { &mut pods[tie.life].perhaps_lost };
        *count += 1;
    }
    pods
}

/// The shortest drain that a pod had whose termination was seen; `None` where one can't be read.
fn present_drain(lives: &[Life]) -> Option<i64> {
    let terminated = lives.iter().filter(|life| life.terminating.is_some());
    terminated.map(|life| life.drain_seconds).collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// The second in which most requests were lost.
fn worst_second(samples: &[Sample], lives: &[Life]) -> Option<Worst> {
    const SECOND: Duration = Duration::from_secs(1);
    let within = |from: Duration| {
        let first = samples.partition_point(|sample| sample.due < from);
        samples.iter().skip(first).take_while(move |sample| sample.due < from + SECOND)
    };
    let lost = |from: Duration| within(from).filter(|sample| sample.loss().is_some()).count();
    let starts = samples.iter().filter(|sample| sample.loss().is_some()).map(|sample| sample.due);
    // Of equal ones the first.
    let worst = starts.rev().max_by_key(|start| lost(*start))?;
    Some(Worst {
        at_seconds: worst.as_secs_f64(),
        explanation: format!(
            "{} of {} requests that were due within one second were lost, {}",
            lost(worst),
            within(worst).count(),
            situation(lives, worst, worst + SECOND)
        ),
    })
}

fn slowest(samples: &[Sample], lives: &[Life]) -> Option<Worst> {
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
            situation(lives, slowest.due, slowest.done())
        ),
    })
}

/// What the pods did between two times.
fn situation(lives: &[Life], from: Duration, to: Duration) -> String {
    let terminating: Vec<_> = lives
        .iter()
        .filter(|life| life.terminates_between(from, to))
        .map(|life| match life.terminating_for(from) {
            Some(after) if after >= 0.0 => format!("{} (for {after:.1} s)", life.name),
            _ => format!("{} (from then on)", life.name),
        })
        .collect();
    let verb = if terminating.len() == 1 { "was" } else { "were" };
    if !terminating.is_empty() {
        return format!("while {} {verb} terminating", terminating.join(", "));
    }
    let gone = lives.iter().filter_map(|life| Some((life.gone?, &life.name)));
    match gone.filter(|(gone, _)| *gone <= from).max() {
        Some((gone, name)) => {
            format!("{:.1} s after {name} was gone", from.saturating_sub(gone).as_secs_f64())
        }
        None => "when no pod was terminating".to_owned(),
    }
}

#[cfg(test)]
#[path = "findings_tests.rs"]
mod tests;
