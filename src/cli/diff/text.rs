//! The comparison as text.

use super::compared_workload::ComparedWorkload;
use crate::{
    cli::{changed_values::changed_values, manifests::escaped},
    plan::{InjectionDiff, ManagementState, RolloutTiming},
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
        Some(RolloutTiming::Queued) if !workload.exists => "; once a rollout slot is free",
        Some(RolloutTiming::Queued) => "; pods will be replaced once a rollout slot is free",
        Some(RolloutTiming::NextUpdate) => "; with the next change of the pod template",
        Some(RolloutTiming::DryRun) | None if workload.diff.state == ManagementState::PodInjection => {
            "; new pods only"
        }
        Some(RolloutTiming::DryRun) | None => "",
    }
}

/// The values that change, with those before if they are to be shown.
fn values(diff: &InjectionDiff, with_before: bool) -> String {
    let changes = diff.changes.iter().map(|change| (change, ()));
    let texts = changed_values(changes, diff.containers, with_before).into_iter().map(|(text, ())| text);
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
