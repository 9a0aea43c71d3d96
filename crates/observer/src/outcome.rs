//! How a termination went, by the ends of its containers.

use adieu_core::api::TerminationOutcome as Outcome;

use crate::pod::{ContainerEnd, ContainerState, TerminatingPod};

/// The exit codes of SIGKILL and SIGTERM: 128 and the number of the signal.
const SIGKILL: i32 = 137;
const SIGTERM: i32 = 143;
/// Seconds that the kubelet adds to the grace period if a preStop hook used all of it (`minimumGracePeriodInSeconds`).
const EXTENSION: i64 = 2;

/// The worst container of a pod, with its outcome; `None` if none was running.
pub(crate) fn worst(pod: &TerminatingPod, pre_stop_failed: bool) -> Option<(&ContainerState, Outcome)> {
    let running = pod.containers.iter().filter(|container| container.ran_at(pod.start));
    let outcomes = running.map(|container| (container, outcome(pod, container, pre_stop_failed)));
    // Of equals the first: main containers come before sidecars.
    outcomes.reduce(|worst, next| if next.1 > worst.1 { next } else { worst })
}

fn outcome(pod: &TerminatingPod, container: &ContainerState, pre_stop_failed: bool) -> Outcome {
    let Some(end) = &container.end else { return Outcome::CutShort };
    match end.exit_code {
        _ if end.out_of_memory => Outcome::Crashed,
        SIGKILL if is_cut_short(pod, end) => Outcome::CutShort,
        SIGKILL => Outcome::Killed,
        _ if used(pod, end) > pod.requested.grace_period_seconds + EXTENSION => Outcome::Killed,
        _ if pre_stop_failed => Outcome::PreStopFailed,
        0 => Outcome::Completed,
        SIGTERM => Outcome::DefaultAction,
        _ => Outcome::Crashed,
    }
}

/// Whether it was killed before the end of the grace period, because the node had less time or the pod was deleted again.
fn is_cut_short(pod: &TerminatingPod, end: &ContainerEnd) -> bool {
    // Times are whole seconds.
    used(pod, end) + 1 < pod.requested.grace_period_seconds
        && (pod.is_shortened || pod.disruption.as_deref() == Some("TerminationByKubelet"))
}

/// The seconds from the start of the termination.
pub(crate) fn used(pod: &TerminatingPod, end: &ContainerEnd) -> i64 {
    (end.at.as_second() - pod.start.as_second()).max(0)
}

/// The seconds from SIGTERM to the end of the last main container; `None` if its end is unknown.
pub(crate) fn shutdown_seconds(pod: &TerminatingPod) -> Option<i64> {
    let main = pod.containers.iter().filter(|container| !container.is_sidecar && container.ran_at(pod.start));
    let seconds =
        main.map(|container| container.end.as_ref().map(|end| (used(pod, end) - container.pre_stop).max(0)));
    seconds.collect::<Option<Vec<_>>>()?.into_iter().max()
}
