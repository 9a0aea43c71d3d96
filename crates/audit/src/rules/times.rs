//! Times: whether the grace period is long enough, and whether others allow it.

use adieu_core::text::counted;

use crate::{
    Finding, Rule, Severity, container::Container, pod::DEFAULT_GRACE_PERIOD_SECONDS, subject::Subject,
};

const GRACE_PERIOD: &str = "terminationGracePeriodSeconds";
/// What an application needs at least to stop, in seconds, if nothing says more.
const SHUTDOWN: i64 = 5;
/// What each native sidecar needs to stop, in seconds: they stop one after the other.
const SIDECAR: i64 = 5;

/// The container whose preStop hook has the longest known duration, and that duration in seconds.
fn longest<'s, 'a>(subject: &'s Subject<'a>) -> Option<(&'s Container<'a>, i64)> {
    let containers = subject.pod.containers.iter();
    let known = containers.filter_map(|container| Some((container, container.pre_stop_seconds()?)));
    known.filter(|(_, seconds)| *seconds > 0).max_by_key(|(_, seconds)| *seconds)
}

/// preStop hooks count against the grace period, and SIGKILL ends it.
pub(super) fn grace_too_short(subject: &Subject<'_>) -> Option<Finding> {
    let grace = subject.pod.grace_period_seconds()?;
    let path = subject.pod.path(GRACE_PERIOD);
    let (container, hook) = longest(subject)?;
    let shutdown = subject.workload.shutdown_timeout_seconds.unwrap_or(SHUTDOWN);
    let left = grace - hook;
    // An exec hook ends with the container.
    let may_end_before = grace > 0 && container.is_stopped_by_hook();
    let severity = if left <= 0 && !may_end_before { Severity::Error } else { Severity::Warning };
    let sidecars = i64::try_from(subject.pod.native_sidecars.len()).unwrap_or_default();
    let needed = hook + shutdown + sidecars * SIDECAR;
    let message = if grace == 0 {
        format!(
            "the grace period is 0 s: the container is killed immediately, and its preStop hook of {hook} s does not run"
        )
    } else if left <= 0 && may_end_before {
        format!(
            "the preStop hook takes {hook} s of a grace period of {grace} s: the container is killed unless the \
             application, which the hook stops, has exited before"
        )
    } else if left <= 0 {
        format!(
            "the preStop hook takes {hook} s of a grace period of {grace} s: the container has 2 s to stop after its \
             SIGTERM, and is then killed"
        )
    } else if left < shutdown {
        format!(
            "the preStop hook takes {hook} s of a grace period of {grace} s: {left} s are left after SIGTERM, less than \
             the {shutdown} s of the shutdown"
        )
    } else {
        return None;
    };
    let remedy =
        format!("set {GRACE_PERIOD} to at least {needed}, or annotate the workload for adieu to compute it");
    Some(subject.finding(Rule::GraceTooShort, severity, path).in_container(container).says(message, remedy))
}

/// Native sidecars get SIGTERM once all other containers have exited (KEP-753), so no request needs them then.
pub(super) fn native_sidecar_starved(subject: &Subject<'_>) -> Option<Finding> {
    let grace = subject.pod.grace_period_seconds()?;
    let sidecars = &subject.pod.native_sidecars;
    let own = sidecars.iter().filter_map(|sidecar| Some((sidecar, sidecar.pre_stop_seconds()?)));
    if let Some((sidecar, hook)) = own.filter(|(_, hook)| *hook >= grace).max_by_key(|(_, hook)| *hook) {
        let path = sidecar.path("lifecycle.preStop");
        let found =
            subject.finding(Rule::NativeSidecarStarved, Severity::Warning, path).in_container(sidecar);
        return Some(found.says(
            format!(
                "the preStop hook of this native sidecar takes {hook} s, and the grace period is {grace} s: each \
                 termination lasts that long, and the sidecar is killed 2 s after its SIGTERM"
            ),
            format!("set {GRACE_PERIOD} above {hook}, or shorten the hook"),
        ));
    }
    let (_, hook) = longest(subject)?;
    let count = i64::try_from(sidecars.len()).ok().filter(|count| *count > 0)?;
    let shutdown = subject.workload.shutdown_timeout_seconds.unwrap_or(SHUTDOWN);
    let left = grace - hook - shutdown;
    // With less, `grace-too-short` reports it.
    if left < 0 || left >= count * SIDECAR {
        return None;
    }
    let found =
        subject.finding(Rule::NativeSidecarStarved, Severity::Warning, subject.pod.path(GRACE_PERIOD));
    Some(found.says(
        format!(
            "of a grace period of {grace} s, {left} s are left for {} to stop after a preStop hook of {hook} s and a \
             shutdown of {shutdown} s",
            counted(sidecars.len(), "native sidecar")
        ),
        format!("set {GRACE_PERIOD} to at least {}", hook + shutdown + count * SIDECAR),
    ))
}

/// Nodes and autoscalers end pods after a time of their own.
pub(super) fn grace_over_limit(subject: &Subject<'_>) -> Vec<Finding> {
    let Some(grace) = subject.pod.grace_period_seconds() else { return vec![] };
    // Pods have the default whatever time they need; only a hook shows that one needs it.
    let needed = if grace == DEFAULT_GRACE_PERIOD_SECONDS {
        longest(subject).map_or(0, |(_, hook)| hook)
    } else {
        grace
    };
    let exceeded = subject.options.limits.iter().filter(|limit| needed > limit.seconds);
    exceeded
        .map(|limit| {
            let path = subject.pod.path(GRACE_PERIOD);
            subject.finding(Rule::GraceOverLimit, Severity::Warning, path).says(
                format!("the grace period is {grace} s, and {} {} s", limit.consequence(), limit.seconds),
                format!("lower {GRACE_PERIOD}, or {}", limit.remedy()),
            )
        })
        .collect()
}

/// A probe's own grace period replaces the pod's if the probe restarts the container, and the preStop hook counts
/// against it. Liveness and startup probes don't run while a pod terminates.
pub(super) fn liveness_kills_during_drain(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for container in &subject.pod.containers {
        let Some(hook) = container.pre_stop_seconds().filter(|hook| *hook > 0) else { continue };
        for probe in ["livenessProbe", "startupProbe"] {
            let own = container.probe(probe).and_then(|probe| probe[GRACE_PERIOD].as_i64());
            let Some(own) = own.filter(|own| *own <= hook) else { continue };
            let path = container.path(&format!("{probe}.{GRACE_PERIOD}"));
            let found = subject.finding(Rule::LivenessKillsDuringDrain, Severity::Warning, path);
            findings.push(found.in_container(container).says(
                format!(
                    "{probe} allows {own} s when it restarts the container, and the preStop hook takes {hook} s: it is \
                     cut off, and the container is killed 2 s after its SIGTERM"
                ),
                format!("raise it above {hook}, or remove it: the pod's grace period applies then"),
            ));
        }
    }
    findings
}
