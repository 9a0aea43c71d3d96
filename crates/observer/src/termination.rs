//! One termination.

use adieu_core::api::{RequestedTimes, TerminationCause as Cause, TerminationOutcome as Outcome};
use k8s_openapi::jiff::Timestamp;

use crate::{
    cause::{CauseEvidence, cause},
    outcome::{FailedHooks, shutdown_seconds, used, worst},
    pod::{PodOwner, TerminatingPod},
};

/// The termination of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Termination {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's controller.
    pub owner: PodOwner,
    /// When its last container ended, as far as that is known.
    pub end: Timestamp,
    /// How it went: the worst of its containers.
    pub outcome: Outcome,
    /// That container.
    pub container: String,
    /// Its exit code, if it is known.
    pub exit_code: Option<i32>,
    /// Why the pod terminated.
    pub cause: Cause,
    /// Seconds of the grace period that it used.
    pub used_seconds: Option<i64>,
    /// Seconds from SIGTERM to the end of its last main container.
    pub shutdown_seconds: Option<i64>,
    /// Seconds until no EndpointSlice had it as ready.
    pub withdrawal_seconds: Option<i64>,
    /// The times that it was given.
    pub requested: RequestedTimes,
}

impl Termination {
    /// The termination of a pod that is gone; `None` if no container was running.
    pub(crate) fn of(
        pod: TerminatingPod,
        evidence: CauseEvidence,
        failed: &FailedHooks,
        withdrawn: Option<Timestamp>,
    ) -> Option<Self> {
        let (container, outcome) = worst(&pod, failed)?;
        let ends = || pod.containers.iter().filter_map(|container| container.end.as_ref());
        let last = ends().max_by_key(|end| end.at);
        Some(Self {
            end: last.map_or(pod.start, |end| end.at),
            outcome,
            container: container.name.clone(),
            exit_code: container.end.as_ref().map(|end| end.exit_code),
            cause: cause(&pod, evidence),
            used_seconds: last.and_then(|end| used(&pod, end)),
            shutdown_seconds: shutdown_seconds(&pod, failed),
            withdrawal_seconds: withdrawn
                .filter(|_| pod.is_start_known())
                .map(|at| (at.as_second() - pod.start.as_second()).max(0)),
            requested: pod.requested,
            namespace: pod.namespace,
            pod: pod.name,
            owner: pod.owner,
        })
    }

    /// Seconds from the end of its preStop hook until all containers had ended, native sidecars too, as far as that is known.
    pub(crate) fn seconds_after_pre_stop(&self) -> i64 {
        let used = self.used_seconds.map(|used| used - self.requested.pre_stop_seconds);
        used.max(self.shutdown_seconds).unwrap_or_default().max(0)
    }

    /// Whether SIGTERM ended it without a handler while requests were probably still sent to it: immediately, without a
    /// preStop hook, and in an EndpointSlice.
    #[must_use]
    pub fn is_sigterm_unhandled(&self) -> bool {
        let is_immediate = self.shutdown_seconds.is_some_and(|seconds| seconds <= 1);
        let is_served = self.withdrawal_seconds.is_some() && self.requested.pre_stop_seconds == 0;
        self.outcome == Outcome::DefaultAction && is_immediate && is_served
    }

    /// A line about a termination that went wrong.
    #[must_use]
    pub fn reason(&self) -> String {
        let grace = self.requested.grace_period_seconds;
        match self.outcome {
            Outcome::Completed => "exited with 0".to_owned(),
            Outcome::DefaultAction => {
                "exited with 143: SIGTERM ended it without a handler, or it exits so after its own cleanup"
                    .to_owned()
            }
            Outcome::Killed if self.exit_code == Some(137) => {
                format!("killed at the end of the grace period of {grace} s")
            }
            Outcome::Killed => format!("ended after the grace period of {grace} s"),
            Outcome::Crashed => format!("exited with {} after SIGTERM", self.exit_code.unwrap_or_default()),
            Outcome::PreStopFailed => "the preStop hook failed: does the image have its command?".to_owned(),
            Outcome::CutShort => match (self.used_seconds, self.exit_code) {
                (Some(used), _) => format!("killed after {used} s of a grace period of {grace} s"),
                (None, Some(_)) => format!("killed by the kubelet within its grace period of {grace} s"),
                (None, None) => {
                    "gone without a report of its end: its node is gone, or the pod was deleted by force"
                        .to_owned()
                }
            },
        }
    }

    /// Whether something went wrong.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        !matches!(self.outcome, Outcome::Completed | Outcome::DefaultAction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{current, ended, observe};

    #[test]
    fn a_pod_behind_a_service_that_exits_immediately_without_a_hook_does_not_handle_sigterm() {
        let exited = |code: i32, second: i64| {
            let found = observe(&ended(code, second), current()).unwrap();
            Termination { withdrawal_seconds: Some(0), ..found }
        };
        let is_unhandled = [exited(143, 0), exited(143, 1), exited(143, 2), exited(0, 0), exited(137, 30)]
            .map(|found| found.is_sigterm_unhandled());
        assert_eq!(is_unhandled, [true, true, false, false, false]);
        let mut drained = exited(143, 0);
        drained.requested.pre_stop_seconds = 10;
        let unexposed = Termination { withdrawal_seconds: None, ..exited(143, 0) };
        assert!(!drained.is_sigterm_unhandled() && !unexposed.is_sigterm_unhandled());
    }
}
