//! The two timelines of a pod's termination, network and pod, in seconds from its start.

use crate::{
    api::{Quantiles, TerminationProfileStatus},
    plan::Termination,
};

/// The timelines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Timelines {
    /// The end of the grace period, or of what was observed, if that is later.
    pub(super) end: i64,
    /// When requests stop to arrive.
    pub(super) network: Vec<Span>,
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
    /// The same, for which the drain leaves time.
    UnobservedWithdrawal,
    /// After the withdrawal.
    Withdrawn,
    /// The preStop hooks run.
    Drain,
    /// From SIGTERM on.
    Shutdown,
    /// The reserve before SIGKILL.
    Margin,
}

impl Phase {
    /// The phase in words.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Withdrawal => "the endpoint is withdrawn (p99 of what was observed), requests still arrive",
            Self::UnobservedWithdrawal => {
                "proxies and load balancers stop sending; how long that takes was not observed"
            }
            Self::Withdrawn => "EndpointSlices have the pod as not ready; proxies and load balancers follow",
            Self::Drain => "drain: preStop hooks, requests still arrive",
            Self::Shutdown => "shutdown: SIGTERM, requests in progress are completed",
            Self::Margin => "margin, then SIGKILL",
        }
    }
}

impl Timelines {
    pub(super) fn of(termination: &Termination, observed: Option<&TerminationProfileStatus>) -> Self {
        let grace = termination.grace_period_seconds.max(1);
        let drain = termination.drain_seconds().min(grace);
        let shutdown = termination.shutdown_timeout_seconds;
        let shutdown = shutdown.map_or(grace, |seconds| drain.saturating_add(seconds)).min(grace);
        let pod =
            [(0, drain, Phase::Drain), (drain, shutdown, Phase::Shutdown), (shutdown, grace, Phase::Margin)];
        let withdrawal = observed.and_then(|observed| observed.endpoint_withdrawal_seconds);
        let network = match withdrawal.map(|quantiles| quantiles.p99.min(grace)) {
            // Less than a second is drawn as one.
            Some(p99) => {
                vec![(0, p99.max(1), Phase::Withdrawal), (p99.max(1), grace, Phase::Withdrawn)]
            }
            None => vec![(0, drain, Phase::UnobservedWithdrawal)],
        };
        // The pods that were observed may have had another hook than the present template.
        let pre_stop =
            observed.and_then(|observed| observed.requested).map_or(0, |given| given.pre_stop_seconds);
        let after_drain = |seconds: i64| seconds.saturating_add(pre_stop);
        let ends = observed.and_then(|observed| observed.shutdown_seconds).map(|seconds| Quantiles {
            p50: after_drain(seconds.p50),
            p90: after_drain(seconds.p90),
            p99: after_drain(seconds.p99),
            max: after_drain(seconds.max),
        });
        let end = grace.max(ends.map_or(0, |ends| ends.max));
        Self { end, network: spans(network), pod: spans(pod), ends }
    }
}

/// Without those that take no time.
fn spans(spans: impl IntoIterator<Item = (i64, i64, Phase)>) -> Vec<Span> {
    let spans = spans.into_iter().filter(|(from, to, _)| to > from);
    spans.map(|(from, to, phase)| Span { from, to, phase }).collect()
}

#[cfg(test)]
pub(super) mod tests {
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
        Termination { grace_period_seconds: 45, shutdown_timeout_seconds: Some(30), containers: vec![web] }
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
        let plain = Timelines::of(&termination(), None);
        assert_eq!((plain.pod.as_slice(), plain.end, plain.ends), (&pod[..], 45, None));
        assert_eq!(plain.network, [span(0, 10, Phase::UnobservedWithdrawal)]);
        let timelines = Timelines::of(&termination(), Some(&observed()));
        assert_eq!(timelines.network, [span(0, 2, Phase::Withdrawal), span(2, 45, Phase::Withdrawn)]);
        assert_eq!(timelines.ends, Some(Quantiles { p50: 13, p90: 16, p99: 19, max: 22 }));
        let mut slow = observed();
        slow.shutdown_seconds = Some(Quantiles { p50: 3, p90: 6, p99: 9, max: 50 });
        assert_eq!(Timelines::of(&termination(), Some(&slow)).end, 60);
    }

    #[test]
    fn phases_that_take_no_time_are_left_out() {
        let mut termination = termination();
        termination.containers[0].pre_stop_seconds = 0;
        termination.shutdown_timeout_seconds = None;
        let timelines = Timelines::of(&termination, None);
        assert_eq!(timelines.pod, [Span { from: 0, to: 45, phase: Phase::Shutdown }]);
        assert!(timelines.network.is_empty());
    }
}
