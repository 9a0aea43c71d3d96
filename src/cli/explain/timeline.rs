//! The two timelines of a pod's termination, network and pod, in seconds from its start.

use std::{
    fmt::{self, Display, Formatter},
    iter::once,
};

use super::exposures::{ExplainedExposure, drain_seconds};
use crate::{
    api::{Quantiles, TerminationProfileStatus},
    plan::Termination,
};

/// The grace periods that the axis has at most. Terminations that took longer would leave no room for the phases.
const MAX_GRACE_PERIODS: i64 = 4;

/// The timelines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Timelines {
    /// The end of the grace period, of what was observed or of the longest drain that is needed, whichever is last; of
    /// what was observed, at most `MAX_GRACE_PERIODS` grace periods.
    pub(super) end: i64,
    /// When requests stop to arrive: a row for what was observed, and one for each exposure.
    pub(super) network: Vec<Vec<Span>>,
    /// What the pod does.
    pub(super) pod: Vec<Span>,
    /// When the containers of the pods ended that were observed.
    pub(super) ends: Option<Quantiles>,
}

/// A part of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) phase: Phase,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The withdrawal of the endpoint, as observed.
    Withdrawal,
    /// After the withdrawal.
    Withdrawn,
    /// Requests arrive through the exposure of this name, as is to be expected.
    Exposed(&'static str),
    /// They arrive after SIGTERM, because the drain is too short.
    ExposedTooLong(&'static str),
    /// No exposure is known.
    Unexposed,
    /// The preStop hooks run.
    Drain,
    /// From SIGTERM on.
    Shutdown,
    /// The regular containers have ended.
    Sidecars,
    /// The reserve before SIGKILL.
    Margin,
}

impl Phase {
    /// The name of its row.
    pub(super) fn row(self) -> String {
        match self {
            Self::Exposed(name) | Self::ExposedTooLong(name) => format!("network: {name}"),
            Self::Withdrawal | Self::Withdrawn | Self::Unexposed => "network".to_owned(),
            Self::Drain | Self::Shutdown | Self::Sidecars | Self::Margin => "pod".to_owned(),
        }
    }
}

impl Display for Phase {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Withdrawal => "the endpoint is withdrawn (p99 of what was observed), requests still arrive",
            Self::Withdrawn => "EndpointSlices have the pod as not ready; proxies and load balancers follow",
            Self::Exposed(name) => return write!(f, "{name}: requests still arrive"),
            Self::ExposedTooLong(name) => {
                return write!(f, "{name}: requests still arrive after SIGTERM, the drain is too short");
            }
            Self::Unexposed => "no exposure is known; whether requests still arrive was not observed",
            Self::Drain => "drain: preStop hooks, requests still arrive",
            Self::Shutdown => "shutdown: SIGTERM, requests in progress are completed",
            Self::Sidecars => "native sidecars: SIGTERM one after the other",
            Self::Margin => "margin, then SIGKILL",
        };
        f.write_str(text)
    }
}

impl Timelines {
    pub(super) fn of(
        termination: &Termination,
        observed: Option<&TerminationProfileStatus>,
        exposures: &[ExplainedExposure],
    ) -> Self {
        let grace = termination.grace_period_seconds.max(1);
        let drain = drain_seconds(termination);
        let shutdown = termination.shutdown_timeout_seconds;
        let shutdown = shutdown.map_or(grace, |seconds| drain.saturating_add(seconds)).min(grace);
        let sidecars = termination.sidecars_end_seconds(shutdown).min(grace);
        let pod = [
            (0, drain, Phase::Drain),
            (drain, shutdown, Phase::Shutdown),
            (shutdown, sidecars, Phase::Sidecars),
            (sidecars, grace, Phase::Margin),
        ];
        let withdrawal = observed.and_then(|observed| observed.endpoint_withdrawal_seconds);
        let mut network = vec![match withdrawal.map(|quantiles| quantiles.p99.min(grace)) {
            // Less than a second is drawn as one.
            Some(p99) => spans([(0, p99.max(1), Phase::Withdrawal), (p99.max(1), grace, Phase::Withdrawn)]),
            None if exposures.is_empty() => spans([(0, drain, Phase::Unexposed)]),
            None => vec![],
        }];
        for row in exposures.iter().map(|exposure| exposed(exposure, drain)) {
            // Several objects may be exposures of the same kind.
            if !network.contains(&row) {
                network.push(row);
            }
        }
        // The pods that were observed may have had another hook than the present template.
        let pre_stop =
            observed.and_then(|observed| observed.requested).map_or(0, |given| given.pre_stop_seconds);
        let after_drain = |seconds: i64| seconds.saturating_add(pre_stop);
        // The schema bounds each quantile, but not their order.
        let ends = observed.and_then(|observed| observed.shutdown_seconds).map(|seconds| Quantiles {
            p50: after_drain(seconds.p50),
            p90: after_drain(seconds.p90),
            p99: after_drain(seconds.p99),
            max: after_drain(seconds.max.max(seconds.p99).max(seconds.p50)),
        });
        let last = ends.map_or(0, |ends| ends.max).min(grace.saturating_mul(MAX_GRACE_PERIODS));
        let needed = exposures.iter().map(|exposure| exposure.drain_seconds).max();
        let end = grace.max(last).max(needed.unwrap_or(0));
        Self { end, network, pod: spans(pod), ends }
    }

    /// The rows of both timelines, each with its name.
    pub(super) fn rows(&self) -> impl Iterator<Item = (String, &[Span])> {
        let rows = self.network.iter().chain(once(&self.pod));
        rows.filter_map(|spans| Some((spans.first()?.phase.row(), spans.as_slice())))
    }
}

/// The row of an exposure of pods with this drain.
fn exposed(exposure: &ExplainedExposure, drain: i64) -> Vec<Span> {
    let ExplainedExposure { name, drain_seconds: needed, drain_too_short, .. } = *exposure;
    let covered = if drain_too_short { drain } else { needed };
    spans([(0, covered, Phase::Exposed(name)), (covered, needed, Phase::ExposedTooLong(name))])
}

/// Without those that take no time.
fn spans(spans: impl IntoIterator<Item = (i64, i64, Phase)>) -> Vec<Span> {
    let spans = spans.into_iter().filter(|(from, to, _)| to > from);
    spans.map(|(from, to, phase)| Span { from, to, phase }).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use adieu_exposures::ObjectName;

    use super::*;
    use crate::{
        api::{OutcomeCounts, RequestedTimes},
        plan::ContainerTermination,
    };

    /// A drain of 10 s, a shutdown timeout of 30 s, and a margin of 5 s.
    pub(in crate::cli::explain) fn termination() -> Termination {
        let web = ContainerTermination {
            name: "web".into(),
            native_sidecar: false,
            pre_stop_seconds: 10,
            is_exact: true,
        };
        Termination {
            grace_period_seconds: 45,
            shutdown_timeout_seconds: Some(30),
            sidecar_seconds: Some(5),
            containers: vec![web],
        }
    }

    /// An exposure of pods with a drain of 10 s.
    pub(in crate::cli::explain) fn exposure(name: &'static str, needed: i64) -> ExplainedExposure {
        ExplainedExposure {
            name,
            object: ObjectName::new("Service", "shop", "web"),
            class: None,
            drain_seconds: needed,
            reason: "it was measured".into(),
            source: "a test".into(),
            drain_too_short: needed > 10,
        }
    }

    pub(in crate::cli::explain) fn observed() -> TerminationProfileStatus {
        TerminationProfileStatus {
            terminations: 300,
            current_outcomes: OutcomeCounts { completed: 214, ..OutcomeCounts::default() },
            requested: Some(RequestedTimes { pre_stop_seconds: 10, ..RequestedTimes::default() }),
            shutdown_seconds: Some(Quantiles { p50: 3, p90: 6, p99: 9, max: 12 }),
            endpoint_withdrawal_seconds: Some(Quantiles { p50: 0, p90: 1, p99: 2, max: 2 }),
            ..TerminationProfileStatus::default()
        }
    }

    #[test]
    fn what_was_observed_is_on_the_scale_of_the_grace_period() {
        let span = |from, to, phase| Span { from, to, phase };
        let pod = [span(0, 10, Phase::Drain), span(10, 40, Phase::Shutdown), span(40, 45, Phase::Margin)];
        let plain = Timelines::of(&termination(), None, &[]);
        assert_eq!((plain.pod.as_slice(), plain.end, plain.ends), (&pod[..], 45, None));
        assert_eq!(plain.network, [[span(0, 10, Phase::Unexposed)]]);
        let timelines = Timelines::of(&termination(), Some(&observed()), &[]);
        assert_eq!(timelines.network, [[span(0, 2, Phase::Withdrawal), span(2, 45, Phase::Withdrawn)]]);
        assert_eq!(timelines.ends, Some(Quantiles { p50: 13, p90: 16, p99: 19, max: 22 }));
        let mut slow = observed();
        slow.shutdown_seconds = Some(Quantiles { p50: 3, p90: 6, p99: 9, max: 50 });
        assert_eq!(Timelines::of(&termination(), Some(&slow), &[]).end, 60);
        slow.shutdown_seconds = Some(Quantiles { p50: 3, p90: 6, p99: 9, max: 604_800 });
        assert_eq!(Timelines::of(&termination(), Some(&slow), &[]).end, 180);
    }

    #[test]
    fn each_exposure_has_a_row_on_the_same_scale() {
        let span = |from, to, phase| Span { from, to, phase };
        let exposures = [exposure("cluster-ip", 10), exposure("aws-nlb-ip", 300), exposure("cluster-ip", 10)];
        let timelines = Timelines::of(&termination(), None, &exposures);
        let exposed = span(0, 10, Phase::Exposed("cluster-ip"));
        let too_long =
            [span(0, 10, Phase::Exposed("aws-nlb-ip")), span(10, 300, Phase::ExposedTooLong("aws-nlb-ip"))];
        assert_eq!(timelines.network, [vec![], vec![exposed], too_long.to_vec()]);
        assert_eq!(timelines.end, 300);
        let names: Vec<_> = timelines.rows().map(|(name, _)| name).collect();
        assert_eq!(names, ["network: cluster-ip", "network: aws-nlb-ip", "pod"]);
        let timelines = Timelines::of(&termination(), Some(&observed()), &exposures);
        assert_eq!(timelines.rows().next().map(|(name, _)| name).as_deref(), Some("network"));
        assert_eq!(timelines.network.len(), 3);
    }

    #[test]
    fn native_sidecars_stop_before_the_margin() {
        let mut termination = termination();
        let mut proxy = termination.containers[0].clone();
        (proxy.native_sidecar, proxy.pre_stop_seconds) = (true, 0);
        termination.containers.push(proxy);
        termination.grace_period_seconds = 50;
        let phases = |termination: &Termination| {
            let pod = Timelines::of(termination, None, &[]).pod;
            pod.iter().map(|span| (span.to, span.phase)).collect::<Vec<_>>()
        };
        let ends = [(10, Phase::Drain), (40, Phase::Shutdown), (45, Phase::Sidecars), (50, Phase::Margin)];
        assert_eq!(phases(&termination), ends);
        termination.containers[1].pre_stop_seconds = i64::MAX;
        assert_eq!(phases(&termination), [ends[0], ends[1], (50, Phase::Sidecars)]);
    }

    #[test]
    fn phases_that_take_no_time_are_left_out() {
        let mut termination = termination();
        termination.containers[0].pre_stop_seconds = 0;
        termination.shutdown_timeout_seconds = None;
        let timelines = Timelines::of(&termination, None, &[]);
        assert_eq!(timelines.pod, [Span { from: 0, to: 45, phase: Phase::Shutdown }]);
        assert_eq!(timelines.rows().count(), 1);
    }
}
