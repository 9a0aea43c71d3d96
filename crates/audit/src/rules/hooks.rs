//! preStop hooks: missing ones, and those that can't run.

use adieu_core::plan::is_windows;

use crate::{
    Finding, Rule, Severity,
    container::{Container, ISTIO_PROXY},
    images,
    subject::Subject,
};

const PRE_STOP: &str = "lifecycle.preStop";
const ANNOTATE: &str =
    "annotate it with adieu.dev/graceful: \"true\", or add lifecycle.preStop.sleep.seconds: 10";

/// While endpoints, kube-proxy and load balancers still send to a terminating pod, its containers have SIGTERM already.
pub(super) fn no_prestop_behind_service(subject: &Subject<'_>) -> Vec<Finding> {
    // Without another pod a hook only lengthens the outage. A grace period of 0 runs no hook.
    if subject.has_no_successor() || subject.pod.grace_period_seconds() == Some(0) {
        return vec![];
    }
    let receivers = subject.receivers().into_iter().filter(|(container, received)| {
        container.pre_stop().is_none()
            && !container.may_serve_after_sigterm()
            && !subject.serves_until_killed(container)
            && !container.is_collector()
            // Their clients lose connections with or without a hook, and connect again.
            && !received.keeps_connections()
    });
    receivers
        .map(|(container, received)| {
            // What an unknown application does on SIGTERM is unknown too.
            let is_certain = subject.severity_of_stopping_early(container) == Severity::Error
                && subject.closes_when_stopped(container);
            let (severity, consequence) = if is_certain {
                (Severity::Error, "rejects them")
            } else {
                (Severity::Warning, "loses them unless it continues to serve")
            };
            let found = subject.finding(Rule::NoPrestopBehindService, severity, container.path(PRE_STOP));
            found.in_container(container).says(
                format!(
                    "Service {} routes traffic to port {} of this container, which has no preStop hook: it gets SIGTERM while \
                     requests still arrive, and {consequence}",
                    received.service_name(),
                    received.port.port
                ),
                ANNOTATE,
            )
        })
        .collect()
}

/// A hook that fails is skipped, and SIGTERM follows immediately.
pub(super) fn prestop_needs_binary(subject: &Subject<'_>) -> Vec<Finding> {
    let windows = subject.pod.spec.as_object().is_some_and(is_windows);
    let all = subject.pod.containers.iter().chain(&subject.pod.native_sidecars);
    all.filter_map(|container| {
        let program = *container.pre_stop_command().first()?;
        let missing = if windows {
            ["sh", "bash", "sleep"].contains(&program.rsplit('/').next().unwrap_or_default())
        } else {
            images::is_tool(program) && images::is_without_shell(container.image())
        };
        let place = if windows { "Windows" } else { container.image() };
        missing.then(|| {
            let path = container.path("lifecycle.preStop.exec.command");
            let severity = subject.severity_of_stopping_early(container);
            subject.finding(Rule::PrestopNeedsBinary, severity, path).in_container(container).says(
                format!(
                    "the preStop hook runs {program:?}, which {place} does not have: the hook fails, and SIGTERM follows \
                     immediately"
                ),
                "use the native action, lifecycle.preStop.sleep.seconds (Kubernetes 1.30 or later)",
            )
        })
    })
    .collect()
}

/// Proxies by the names of their containers. Other sidecars may end before the application without harm.
const PROXIES: [&str; 8] = [
    "cloud-sql-proxy",
    "cloudsql-proxy",
    "envoy",
    "envoy-sidecar",
    ISTIO_PROXY,
    "linkerd-proxy",
    "oauth2-proxy",
    "pgbouncer",
];

/// A proxy that is a regular container gets SIGTERM immediately, while the application waits in its preStop hook and
/// still needs it.
pub(super) fn legacy_sidecar_without_prestop(subject: &Subject<'_>) -> Vec<Finding> {
    let containers = &subject.pod.containers;
    let is_proxy = |container: &&Container<'_>| PROXIES.contains(&container.name);
    let waits = |container: &&Container<'_>| container.pre_stop_seconds() != Some(0) && !is_proxy(container);
    let Some(waiting) = containers.iter().find(waits) else { return vec![] };
    let severity = |container: &Container<'_>| match waiting.pre_stop_seconds() {
        Some(_) if container.name != ISTIO_PROXY => subject.severity_of_stopping_early(waiting),
        // A hook of unknown duration may end as early.
        _ => Severity::Warning,
    };
    let receivers = subject.receivers();
    // A proxy that Services send to is one of `no-prestop-behind-service`.
    let receives =
        |container: &&Container<'_>| receivers.iter().any(|(other, _)| other.name == container.name);
    let unprepared =
        containers.iter().filter(|container| is_proxy(container) && container.pre_stop().is_none());
    unprepared
        .filter(|container| {
            !receives(container) && !container.is_placeholder() && !drains_by_itself(subject, container)
        })
        .map(|container| {
            let path = container.path(PRE_STOP);
            let found = subject.finding(Rule::LegacySidecarWithoutPrestop, severity(container), path);
            found.in_container(container).says(
                format!(
                    "this proxy has no preStop hook and gets SIGTERM immediately, while container {:?} still serves in its \
                     preStop hook and needs it",
                    waiting.name
                ),
                "make it a native sidecar (an init container with restartPolicy: Always), or give it a preStop hook at \
                 least as long",
            )
        })
        .collect()
}

/// Whether a proxy is configured to wait: by an annotation for Istio or Linkerd, or by its arguments or variables.
fn drains_by_itself(subject: &Subject<'_>, container: &Container<'_>) -> bool {
    let annotations = &subject.workload.template["metadata"]["annotations"];
    let annotated = ["proxy.istio.io/config", "config.alpha.linkerd.io/proxy-wait-before-exit-seconds"];
    annotated.iter().any(|key| !annotations[*key].is_null()) || container.may_serve_after_sigterm()
}
