//! Warnings about the preStop hooks of a template. The API server cuts a warning at 256 characters.

use serde_json::{Map, Value, json};

use super::{
    command_duration::HookDuration,
    hook_duration::pre_stop_duration,
    hooks::{Hook, Hooks, containers, name, own_hook, sidecars},
    warnings::Warnings,
    windows,
};
use crate::api::PreStopMethod;

/// Adds the warnings about the hooks of a template.
pub(super) fn on_template(hooks: Hooks<'_>, spec: &Map<String, Value>, warnings: &mut Warnings) {
    let settings = hooks.settings;
    let method = &settings.pre_stop_method;
    if method.value == PreStopMethod::HttpGet && settings.http_get.value.is_none() {
        warnings.push(format!(
            "the preStop method is HTTPGet ({}), but no policy sets its path and port: the drain is a sleep",
            method.from
        ));
    }
    warnings.extend(undeclared_port(hooks, spec));
    let mut due = containers(spec).filter(|container| hooks.needs_hook(container)).peekable();
    if method.value == PreStopMethod::Sleep && !hooks.native_sleep && due.peek().is_some() {
        warnings.push(format!(
            "the preStop method is Sleep ({}), which not all kubelets support (Kubernetes 1.30 and \
             later): it may be rejected or dropped; use Auto or Exec",
            method.from
        ));
    }
    // On Windows, an exec prevents the injection.
    if !windows::is_windows(spec) && due.any(|container| hooks.is_exec(container)) {
        let (why, remedy) = match (method.value, hooks.native_sleep) {
            (PreStopMethod::Exec, true) => (format!("the method is Exec ({})", method.from), ", or use Auto"),
            (PreStopMethod::Exec, false) => (format!("the method is Exec ({})", method.from), ""),
            _ => ("Kubernetes before 1.30 has no native one".to_owned(), ""),
        };
        warnings.push(format!(
            "the preStop hook runs the command sleep, because {why}: in an image without that command the hook fails and \
             the container does not drain; check the images{remedy}"
        ));
    }
    if windows::is_windows(spec) {
        warnings.extend(windows::linux_hook_warnings(hooks, spec));
    }
    if !hooks.native_sleep {
        warnings.extend(native_sleeps_on_old_kubelets(hooks, spec));
    }
    let regular = containers(spec).map(|container| (container, duration(hooks, container)));
    let of_sidecars = sidecars(spec).filter_map(Value::as_object);
    // They get no hook.
    let of_sidecars = of_sidecars.map(|sidecar| (sidecar, own_hook(sidecar).map(pre_stop_duration)));
    warnings
        .extend(regular.chain(of_sidecars).flat_map(|(container, pre_stop)| cut_short(container, pre_stop)));
    warnings.extend(unknown_exclusions(hooks, spec));
}

/// The warning for a request that no container gets, because none declares its port.
fn undeclared_port(hooks: Hooks<'_>, spec: &Map<String, Value>) -> Option<String> {
    let method = &hooks.settings.pre_stop_method;
    let request =
        hooks.settings.http_get.value.as_ref().filter(|_| method.value == PreStopMethod::HttpGet)?;
    let mut due = containers(spec).filter(|container| hooks.needs_hook(container)).peekable();
    due.peek()?;
    due.all(|container| hooks.request(container).is_none()).then(|| {
        format!(
            "the preStop method is HTTPGet ({}), but no container declares the TCP port {}: the drain is a sleep; declare \
             the port in the container that serves {}",
            method.from,
            json!(request.port),
            request.path
        )
    })
}

/// Warnings for users' native sleeps, which kubelets before 1.30 don't support.
fn native_sleeps_on_old_kubelets(hooks: Hooks<'_>, spec: &Map<String, Value>) -> Vec<String> {
    let regular = containers(spec).filter(|c| matches!(hooks.decide(c), Hook::User(_)));
    let all = regular.chain(sidecars(spec).filter_map(Value::as_object));
    let is_sleep = |container: &&Map<String, Value>| {
        own_hook(container).is_some_and(|hook| hook.get("sleep").is_some_and(|sleep| !sleep.is_null()))
    };
    all.filter(is_sleep)
        .map(|container| {
            format!(
                "container {:?}: its own preStop is the native sleep, which not all kubelets support (Kubernetes \
                 1.30 and later): it may be rejected or dropped; run the command sleep until then",
                name(container)
            )
        })
        .collect()
}

/// The duration of a container's preStop after the injection.
fn duration(hooks: Hooks<'_>, container: &Map<String, Value>) -> Option<HookDuration> {
    match hooks.decide(container) {
        Hook::Injected => Some(HookDuration::Exactly(hooks.settings.drain_seconds.value)),
        Hook::User(handler) => Some(pre_stop_duration(handler)),
        Hook::None => None,
    }
}

/// Warnings for probes with a grace period of their own, which applies if the probe restarts the container: the preStop
/// counts against it.
fn cut_short(container: &Map<String, Value>, pre_stop: Option<HookDuration>) -> Vec<String> {
    const FIELD: &str = "terminationGracePeriodSeconds";
    let (at_least, pre_stop) = match pre_stop {
        Some(HookDuration::Exactly(seconds)) => ("", seconds),
        Some(HookDuration::AtLeast(seconds)) => ("at least ", seconds),
        // There is a warning that it never ends.
        Some(HookDuration::Endless) | None => return vec![],
    };
    let short = ["livenessProbe", "startupProbe"].into_iter().filter_map(|probe| {
        let seconds = container.get(probe)?.get(FIELD)?.as_i64().filter(|seconds| *seconds <= pre_stop)?;
        Some(format!(
            "container {:?}: {probe}.{FIELD} is {seconds} s, and the preStop takes {at_least}{pre_stop} s: if this probe restarts \
             the container, that is cut off, and the container is killed 2 s after its SIGTERM; raise it above {pre_stop}, or remove it",
            name(container)
        ))
    });
    short.collect()
}

/// Warnings for excluded containers that don't exist. A policy's names are for many workloads, so only an annotation's
/// are checked.
fn unknown_exclusions(hooks: Hooks<'_>, spec: &Map<String, Value>) -> Vec<String> {
    let exclude = &hooks.settings.exclude;
    let known = |excluded: &String| {
        ["containers", "initContainers"].iter().any(|list| {
            let containers = spec.get(*list).and_then(Value::as_array).into_iter().flatten();
            containers.filter_map(|container| container["name"].as_str()).any(|name| name == excluded)
        })
    };
    let unknown = exclude.value.iter().filter(|excluded| exclude.from.is_annotation() && !known(excluded));
    unknown
        .map(|excluded| {
            format!(
                "excluded container {excluded:?} does not exist: check its spelling, unless it is added to the pods"
            )
        })
        .collect()
}
