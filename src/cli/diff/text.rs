//! The comparison as text.

use serde_json::Value;

use super::compared_workload::ComparedWorkload;
use crate::{
    cli::manifests::escaped,
    plan::{
        GRACE_PERIOD_FIELD, InjectionChange, InjectionDiff, ManagementState, PRE_STOP_FIELD,
        READINESS_PROBE_FIELD, RolloutTiming, pre_stop_seconds,
    },
};

/// A line about a workload.
pub(super) fn line(workload: &ComparedWorkload) -> String {
    let ComparedWorkload { kind, namespace, name, .. } = workload;
    escaped(&format!("{kind} {namespace}/{name}: {}", sentence(workload))).into_owned() + "\n"
}

/// The warnings about a workload.
pub(super) fn warnings(workload: &ComparedWorkload) -> impl Iterator<Item = String> {
    let ComparedWorkload { kind, namespace, name, diff, .. } = workload;
    diff.warnings.iter().map(move |warning| format!("{kind} {namespace}/{name}: {warning}"))
}

fn sentence(workload: &ComparedWorkload) -> String {
    let ComparedWorkload { exists, diff, .. } = workload;
    let start = if *exists { "" } else { "not in the cluster yet: " };
    if diff.changes.is_empty() {
        return format!("{start}{}", without_values(workload));
    }
    let values = match (diff.injected.before, diff.injected.after) {
        (false, _) => format!("will be injected with {}", values(diff, false)),
        (true, false) => format!("the injection will be reverted: {}", values(diff, true)),
        (true, true) => values(diff, true),
    };
    let reason = diff.reason.as_ref().filter(|_| diff.injected.before && !diff.injected.after);
    let reason = reason.map(|reason| format!("; {reason}")).unwrap_or_default();
    format!("{start}{values}{reason}{}", rollout(workload))
}

/// The sentence if no injected value changes.
fn without_values(workload: &ComparedWorkload) -> String {
    let InjectionDiff { opted_in, state, reason, rollout, .. } = &workload.diff;
    let opt_in = match (opted_in.before, opted_in.after) {
        (false, true) => "opted in",
        (true, false) => "opted out",
        _ if workload.exists => "no change",
        _ => "nothing will be injected",
    };
    let reason = match (state, reason) {
        (ManagementState::Queued, _) => ": an earlier change is still to be rolled out".to_owned(),
        (_, Some(reason)) => format!(": {reason}"),
        (ManagementState::NotManaged, None) => ": not opted in".to_owned(),
        (ManagementState::OptedOut, None) if !opted_in.before => ": opted out".to_owned(),
        _ => String::new(),
    };
    let others = match rollout {
        Some(RolloutTiming::Immediate) if workload.is_on_delete => "; other changes of the pod template",
        Some(RolloutTiming::Immediate) => "; pods will be replaced because of other changes",
        _ => "",
    };
    format!("{opt_in}{reason}{others}")
}

/// What happens to the pods if injected values change.
fn rollout(workload: &ComparedWorkload) -> &'static str {
    match workload.diff.rollout {
        Some(RolloutTiming::Immediate) if !workload.exists => "",
        Some(RolloutTiming::Immediate) if workload.is_on_delete => "; pods get it once you delete them",
        Some(RolloutTiming::Immediate) => "; pods will be replaced",
        Some(RolloutTiming::Queued) if !workload.exists => "; when the scheduler grants a slot",
        Some(RolloutTiming::Queued) => "; pods will be replaced when the scheduler grants a slot",
        Some(RolloutTiming::NextUpdate) => "; with the next change of the pod template",
        Some(RolloutTiming::DryRun) | None if workload.diff.state == ManagementState::PodInjection => {
            "; new pods only"
        }
        Some(RolloutTiming::DryRun) | None => "",
    }
}

/// The values that change, with those before if they are to be shown.
fn values(diff: &InjectionDiff, with_before: bool) -> String {
    let mut texts: Vec<(String, Vec<&str>)> = Vec::new();
    for change in &diff.changes {
        let text = value(change, with_before);
        let container = change.container.as_deref();
        match texts.iter_mut().find(|(known, _)| *known == text) {
            Some((_, containers)) => containers.extend(container),
            None => texts.push((text, container.into_iter().collect())),
        }
    }
    let texts = texts.into_iter().map(|(text, containers)| {
        if containers.is_empty() || containers.len() == diff.containers {
            text
        } else {
            format!("{text} ({})", containers.join(", "))
        }
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// A value that changes.
fn value(change: &InjectionChange, with_before: bool) -> String {
    let shown = |value: &Option<Value>| {
        value.as_ref().map_or_else(|| "none".to_owned(), |value| short(change.field, value))
    };
    let name = match change.field {
        PRE_STOP_FIELD => "drain",
        READINESS_PROBE_FIELD => "readiness probe",
        GRACE_PERIOD_FIELD => "grace period",
        _ => "topology spread",
    };
    let (before, after) = (shown(&change.before), shown(&change.after));
    if !with_before {
        return format!("{name} {after}");
    }
    if before != after {
        return format!("{name} {before} → {after}");
    }
    let whole = |value: &Option<Value>| value.clone().unwrap_or_default();
    format!("{} {} → {}", change.field, whole(&change.before), whole(&change.after))
}

/// A short form of the value of a field.
fn short(field: &str, value: &Value) -> String {
    match field {
        PRE_STOP_FIELD => drain(value),
        READINESS_PROBE_FIELD => probe(value),
        GRACE_PERIOD_FIELD => format!("{value} s"),
        _ => spread(value),
    }
}

/// The duration of a hook, or the hook.
fn drain(hook: &Value) -> String {
    pre_stop_seconds(hook).map_or_else(|| hook.to_string(), |seconds| format!("{seconds} s"))
}

/// A readiness probe as the annotation `adieu.dev/readiness-probe` has it.
fn probe(probe: &Value) -> String {
    let port = |action: &Value| match &action["port"] {
        Value::String(name) => name.clone(),
        number => number.to_string(),
    };
    match probe {
        Value::Object(fields) if fields.contains_key("tcpSocket") => {
            format!("tcp:{}", port(&probe["tcpSocket"]))
        }
        Value::Object(fields) if fields.contains_key("grpc") => format!("grpc:{}", port(&probe["grpc"])),
        Value::Object(fields) if fields.contains_key("httpGet") => {
            let action = &probe["httpGet"];
            let scheme = if action["scheme"] == "HTTPS" { "https" } else { "http" };
            format!("{scheme}:{}{}", port(action), action["path"].as_str().unwrap_or_default())
        }
        other => other.to_string(),
    }
}

/// The topology key of a constraint.
fn spread(constraints: &Value) -> String {
    constraints[0]["topologyKey"].as_str().map_or_else(|| constraints.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
