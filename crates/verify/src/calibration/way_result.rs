//! The result for one way: the last arrivals, the drain that follows, and how certain it is.

use std::time::Duration;

use adieu_core::text::counted;
use serde::Serialize;

use super::{confidence, observation::Observation};
use crate::verify::{Latency, Requests};

/// What frequent losses mean.
const DROPS: &str = "this way drops connections when it withdraws a pod instead of draining them, and no drain of the \
                     pod prevents that";
/// What rare losses mean.
const MAY_DROP: &str =
    "too rare to show that the withdrawal of a pod is the cause: repeat with more --terminations";

/// A way that is measured.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WayDescription {
    /// The name of its drain profile: `cluster-ip`, `IngressClass/nginx`.
    pub exposure: String,
    /// Where requests were sent.
    pub url: String,
    /// The version of the proxy and of Kubernetes.
    pub version: String,
}

/// Requests that a way lost while every canary served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Losses {
    /// How many.
    pub requests: u64,
    /// In how many terminations.
    pub terminations: u32,
}

/// The result for one way.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WayResult {
    /// The way.
    #[serde(flatten)]
    pub way: WayDescription,
    /// The requests that were sent through it. Those that were lost when canaries were killed count as well.
    pub requests: Requests,
    /// The measured terminations: those of canaries that requests had reached through it.
    pub terminations: u32,
    /// The median of the last arrivals, in seconds from SIGTERM.
    pub p50_seconds: f64,
    /// Their 99th percentile.
    pub p99_seconds: f64,
    /// Their maximum.
    pub max_seconds: f64,
    /// The drain that pods behind it need, in seconds; absent if a last arrival is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<i64>,
    /// How certain the maximum is.
    pub confidence: String,
    /// The requests that were lost during terminations, although every canary served.
    pub lost_during_terminations: Losses,
    /// In how many terminations kept connections still led to the canary at the end.
    pub keeps_connections: u32,
    /// In how many terminations requests still arrived at the end, so that the last arrival is unknown.
    pub cut: u32,
    /// What else follows, as sentences.
    pub findings: Vec<String>,
    /// Each termination.
    pub observations: Vec<Observation>,
}

impl WayResult {
    /// The result of these observations, each of which lasted at most for `window`.
    #[must_use]
    pub fn of(
        way: WayDescription,
        requests: Requests,
        observations: Vec<Observation>,
        window: Duration,
    ) -> Self {
        let terminations = size(observations.iter());
        let last = observations.iter().map(|seen| Duration::from_secs_f64(seen.last_arrival_seconds));
        let Latency { p50, p99, max, .. } = Latency::of(last.collect());
        let losses = Losses {
            requests: observations.iter().map(|seen| seen.lost).sum(),
            terminations: size(observations.iter().filter(|seen| seen.lost > 0)),
        };
        let mut result = Self {
            way,
            requests,
            terminations,
            p50_seconds: p50,
            p99_seconds: p99,
            max_seconds: max,
            drain_seconds: None,
            confidence: String::new(),
            lost_during_terminations: losses,
            keeps_connections: size(observations.iter().filter(|seen| seen.keeps_connections)),
            cut: size(observations.iter().filter(|seen| seen.is_cut)),
            findings: Vec::new(),
            observations,
        };
        if terminations > 0 && result.cut == 0 {
            result.drain_seconds = Some(confidence::drain_seconds(max, terminations));
            result.confidence = confidence::in_words(terminations);
        }
        result.findings = result.find(window);
        result
    }

    /// The drain in words.
    #[must_use]
    pub fn drain(&self) -> String {
        self.drain_seconds.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds} s"))
    }

    /// How the drain follows from the maximum; `None` if it is unknown.
    #[must_use]
    pub fn drain_reason(&self) -> Option<String> {
        self.drain_seconds?;
        let factor = confidence::reserve(self.terminations);
        Some(format!("{:.2} s × {factor:.2}, rounded up", self.max_seconds))
    }

    /// Whether the way loses requests so often that the withdrawal of a pod is the cause: in a tenth of terminations.
    #[must_use]
    pub fn drops_connections(&self) -> bool {
        let Losses { terminations, .. } = self.lost_during_terminations;
        terminations > 1 && terminations.saturating_mul(10) >= self.terminations
    }

    fn find(&self, window: Duration) -> Vec<String> {
        let mut findings = Vec::new();
        if self.terminations == 0 {
            let nothing = "no request reached a canary that was then deleted: nothing was measured";
            findings.push(nothing.to_owned());
        }
        if self.cut > 0 {
            findings.push(format!(
                "requests still arrived {} s after the deletion in {}, so the drain is longer: repeat with a longer \
                 --window",
                window.as_secs(),
                counted_terminations(self.cut, self.terminations)
            ));
        }
        let Losses { requests, terminations } = self.lost_during_terminations;
        if requests > 0 {
            findings.push(format!(
                "{} lost in {}, although every canary served: {}",
                if requests == 1 { "1 request was".to_owned() } else { format!("{requests} requests were") },
                counted_terminations(terminations, self.terminations),
                if self.drops_connections() { DROPS } else { MAY_DROP }
            ));
        }
        if self.keeps_connections > 0 {
            findings.push(format!(
                "kept connections still led to the terminating pod in {}: a longer drain doesn't move them, the \
                 application must close them when it shuts down (Connection: close, or GOAWAY)",
                counted_terminations(self.keeps_connections, self.terminations)
            ));
        }
        findings
    }
}

fn size<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

fn counted_terminations(part: u32, all: u32) -> String {
    let all = counted(usize::try_from(all).unwrap_or(usize::MAX), "termination");
    format!("{part} of {all}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    fn seen(last_arrival_seconds: f64) -> Observation {
        Observation {
            pod: "canary".to_owned(),
            last_arrival_seconds,
            is_cut: false,
            keeps_connections: false,
            lost: 0,
        }
    }

    fn result(observations: Vec<Observation>) -> WayResult {
        WayResult::of(WayDescription::default(), Requests::default(), observations, WINDOW)
    }

    #[test]
    fn the_drain_follows_from_the_longest_of_the_last_arrivals() {
        let result = result((1..=20).map(|tenths| seen(f64::from(tenths) / 10.0)).collect());
        assert_eq!((result.terminations, result.drain_seconds), (20, Some(3)));
        for (value, expected) in
            [(result.p50_seconds, 1.0), (result.p99_seconds, 2.0), (result.max_seconds, 2.0)]
        {
            assert!((value - expected).abs() < 1e-9, "{value} {expected}");
        }
        assert!(result.confidence.contains("at most 14 % of terminations"), "{}", result.confidence);
        assert_eq!(result.drain_reason().as_deref(), Some("2.00 s × 1.16, rounded up"));
        assert_eq!(result.drain(), "3 s");
        assert!(result.findings.is_empty(), "{:?}", result.findings);
    }

    #[test]
    fn what_a_drain_does_not_solve_is_a_finding() {
        let cut = Observation { is_cut: true, ..seen(59.0) };
        let keeps = Observation { keeps_connections: true, ..seen(1.0) };
        let drops = |lost| Observation { lost, ..seen(1.0) };
        for (observations, drain, part) in [
            (vec![], None, "nothing was measured"),
            (vec![seen(1.0), cut], None, "still arrived 60 s after the deletion in 1 of 2 terminations"),
            (vec![keeps], Some(20), "still led to the terminating pod in 1 of 1 termination"),
            (vec![drops(1), seen(1.0)], Some(5), "1 request was lost in 1 of 2 terminations"),
            (vec![drops(3), seen(1.0)], Some(5), "too rare to show"),
            (vec![drops(3), drops(4)], Some(5), "7 requests were lost in 2 of 2 terminations"),
            (vec![drops(3), drops(4)], Some(5), "no drain of the pod prevents that"),
        ] {
            let result = result(observations);
            assert_eq!(result.drain_seconds, drain, "{part}");
            assert!(result.findings.concat().contains(part), "{part}: {:?}", result.findings);
            assert_eq!(result.drain_reason().is_some(), drain.is_some());
        }
    }
}
