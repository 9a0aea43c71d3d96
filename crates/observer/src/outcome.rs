//! How a termination went, by the ends of its containers.

use std::collections::HashSet;

use adieu_core::api::TerminationOutcome as Outcome;

use crate::pod::{BY_KUBELET, ContainerEnd, ContainerState, TerminatingPod};

/// The exit codes of SIGKILL and SIGTERM: 128 and the number of the signal.
const SIGKILL: i32 = 137;
const SIGTERM: i32 = 143;
/// Seconds that the kubelet adds to the grace period if a preStop hook used all of it (`minimumGracePeriodInSeconds`).
const EXTENSION: i64 = 2;

/// The containers whose preStop hook failed.
#[derive(Debug, Default)]
pub(crate) struct FailedHooks(HashSet<String>);

impl FailedHooks {
    pub(crate) fn insert(&mut self, container: String) {
        self.0.insert(container);
    }

    fn include(&self, container: &str) -> bool {
        self.0.contains(container)
    }
}

/// The worst container of a pod, with its outcome; `None` if none was running.
pub(crate) fn worst<'a>(
    pod: &'a TerminatingPod,
    failed: &FailedHooks,
) -> Option<(&'a ContainerState, Outcome)> {
    let running = pod.containers.iter().filter(|container| container.ran_at(pod.start));
    let outcomes = running.map(|container| (container, outcome(pod, container, failed)));
    // Of equals the first: main containers come before sidecars.
    outcomes.reduce(|worst, next| if next.1 > worst.1 { next } else { worst })
}

fn outcome(pod: &TerminatingPod, container: &ContainerState, failed: &FailedHooks) -> Outcome {
    let Some(end) = &container.end else { return Outcome::CutShort };
    // Times are whole seconds.
    let (used, asked) = (used(pod, end).unwrap_or_default(), pod.requested.grace_period_seconds);
    match end.exit_code {
        _ if end.out_of_memory => Outcome::Crashed,
        SIGKILL if used + 1 >= asked => Outcome::Killed,
        SIGKILL if is_cut_short(pod, used) => Outcome::CutShort,
        _ if used > asked.max(pod.granted_seconds) + EXTENSION => Outcome::Killed,
        _ if failed.include(&container.name) => Outcome::PreStopFailed,
        0 => Outcome::Completed,
        SIGTERM => Outcome::DefaultAction,
        _ => Outcome::Crashed,
    }
}

/// Whether a container that was killed had less time than the pod asks for: the node had less, or the deletion gave it
/// less.
fn is_cut_short(pod: &TerminatingPod, used: i64) -> bool {
    let granted = pod.granted_seconds;
    (0 < granted && granted < pod.requested.grace_period_seconds && used + 1 >= granted)
        || pod.disruption.as_deref() == Some(BY_KUBELET)
}

/// The seconds from the start of the termination; `None` if that is not known.
pub(crate) fn used(pod: &TerminatingPod, end: &ContainerEnd) -> Option<i64> {
    pod.is_start_known().then(|| (end.at.as_second() - pod.start.as_second()).max(0))
}

/// The seconds from SIGTERM to the end of the last main container; `None` if one of them is unknown. A hook that failed
/// took no time.
pub(crate) fn shutdown_seconds(pod: &TerminatingPod, failed: &FailedHooks) -> Option<i64> {
    let main = pod.containers.iter().filter(|container| !container.is_sidecar && container.ran_at(pod.start));
    let seconds = main.map(|container| {
        let pre_stop = if failed.include(&container.name) { 0 } else { container.pre_stop };
        container.end.as_ref().and_then(|end| used(pod, end)).map(|used| (used - pre_stop).max(0))
    });
    seconds.collect::<Option<Vec<_>>>()?.into_iter().max()
}
