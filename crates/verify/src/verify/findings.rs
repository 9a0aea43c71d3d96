//! The parts of a verification report.

use serde::Serialize;

use super::{
    attribution::Attribution,
    sample::{Outcome, Sample},
};

/// The workload, disruption and load of a run.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunDescription {
    /// Its kind and name, such as `Deployment/web`.
    pub workload: String,
    /// Its namespace.
    pub namespace: String,
    /// The disruption, as in `--disrupt`.
    pub disruption: String,
    /// Where requests were sent.
    pub url: String,
    /// Requests per second.
    pub rate: u32,
}

/// Request counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// Sent: answered or lost.
    pub sent: u64,
    /// Answered with a status below 500.
    pub answered: u64,
    /// Without an answer, or with a status of 500 or more.
    pub lost: u64,
    /// Due but not sent, because the limit of requests in flight was reached.
    pub not_sent: u64,
}

/// A lost request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// When it was due.
    pub at_seconds: f64,
    /// From then until it was lost.
    pub took_seconds: f64,
    /// Such as `connection refused`.
    pub cause: String,
    /// The pods at which it may have been lost; empty if no pod was terminating then, before or right after.
    pub pods: Vec<Attribution>,
}

/// The worst moment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Worst {
    /// When it began.
    pub at_seconds: f64,
    /// A sentence that describes it.
    pub explanation: String,
}

/// The timeline and the requests of a pod.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodFinding {
    /// Its name.
    pub name: String,
    /// Its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// When it was first seen; absent if it existed before the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_seconds: Option<f64>,
    /// When it was first ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_seconds: Option<f64>,
    /// When its termination began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating_seconds: Option<f64>,
    /// Seconds from then until no EndpointSlice listed it as ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_not_ready_after_seconds: Option<f64>,
    /// Seconds from the start of its termination to when the last request known to reach it was due; negative if that
    /// was earlier, absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_request_after_seconds: Option<f64>,
    /// Seconds from the start of its termination to its deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone_after_seconds: Option<f64>,
    /// Requests that it certainly answered.
    pub answered: u64,
    /// Requests that were certainly lost at it.
    pub lost: u64,
    /// Requests that were lost at it or at another pod.
    pub perhaps_lost: u64,
}

impl Requests {
    /// Counts samples by outcome.
    #[must_use]
    pub fn of(samples: &[Sample]) -> Self {
        let mut requests = Self::default();
        for sample in samples {
            requests.count(sample.outcome);
        }
        requests
    }

    /// Whether every request that was due was sent and answered.
    #[must_use]
    pub fn is_lossless(&self) -> bool {
        self.lost == 0 && self.not_sent == 0
    }

    /// Counts one request.
    pub fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answered(_) => self.answered += 1,
            Outcome::Lost(_) => self.lost += 1,
            Outcome::NotSent => self.not_sent += 1,
        }
        self.sent = self.answered + self.lost;
    }
}
