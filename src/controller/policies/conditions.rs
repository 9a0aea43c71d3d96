//! The conditions of a policy.

use std::collections::BTreeSet;

use kube::core::Selector;

use super::builder::{BlockedWorkload, StatusBuilder, name_in};
use crate::{
    api::{GracefulPolicySpec, Mode, WorkloadCounts},
    scheduler::{FailedRollout, PolicyFailures},
    text::counted,
};

/// The maximum number of workloads or namespaces that a condition names.
const MAX_NAMED: usize = 10;

/// The status, reason and message of a condition.
pub(super) struct ConditionUpdate {
    pub(super) is_true: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl ConditionUpdate {
    fn new(is_true: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_true, reason, message: message.into() }
    }
}

/// The condition `Ready`.
pub(super) fn ready(builder: &StatusBuilder, spec: &GracefulPolicySpec, mode: Mode) -> ConditionUpdate {
    let WorkloadCounts { matched, pending, unsatisfiable, .. } = builder.counts;
    if let Err(error) = spec.selector.clone().map(Selector::try_from).transpose() {
        let message = format!("spec.selector: {error}: correct the selector");
        return ConditionUpdate::new(false, "InvalidSelector", message);
    }
    if mode == Mode::Audit {
        let changes = || format!("{pending} of {matched} workloads would be changed");
        let message = without_workloads(builder, spec).unwrap_or_else(changes);
        return ConditionUpdate::new(true, "Auditing", message);
    }
    if let Some((name, why)) = &builder.unsatisfiable {
        let message =
            format!("{unsatisfiable} of {matched} workloads cannot be injected, for example {name}: {why}");
        return ConditionUpdate::new(false, "Unsatisfiable", message);
    }
    if builder.is_stopped() {
        let message = if pending > 0 && builder.failures.is_limit_reached {
            let wait = if pending == 1 { "waits" } else { "wait" };
            format!("{pending} of {matched} workloads {wait} until a failed rollout is fixed")
        } else {
            rollouts_failed(builder, &builder.failures.current)
        };
        return ConditionUpdate::new(false, "Stalled", message);
    }
    let unmatched = || {
        let message = without_workloads(builder, spec)?;
        Some(ConditionUpdate::new(true, "Injected", message))
    };
    reverted(builder).or_else(unmatched).unwrap_or_else(|| injected(builder))
}

/// What to check if a policy has a selector and applies to no workload.
fn without_workloads(builder: &StatusBuilder, spec: &GracefulPolicySpec) -> Option<String> {
    let StatusBuilder { counts, overridden, .. } = builder;
    if spec.selector.is_none() || counts.matched > 0 || !overridden.is_empty() {
        return None;
    }
    let namespaces = if builder.is_cluster_scoped { "spec.namespaceSelector, " } else { "" };
    Some(format!(
        "it applies to no workload: check {namespaces}spec.selector (labels of the pod template) and spec.kinds \
         ([Deployment] by default)"
    ))
}

/// The condition `Ready` of a policy whose workloads are injected.
fn injected(builder: &StatusBuilder) -> ConditionUpdate {
    let WorkloadCounts { matched, injected, pending, .. } = builder.counts;
    if pending > 0 {
        let mut message = vec![format!("{injected} of {matched} workloads have the policy's values")];
        if builder.next_update > 0 {
            message.push(match builder.next_update {
                1 => "1 gets them with the next change of its pod template".into(),
                many => format!("{many} get them with the next change of their pod templates"),
            });
        }
        if let Some(other) = builder.delayed_by.first() {
            let wait = if builder.delayed == 1 { "waits" } else { "wait" };
            message.push(format!("{} {wait} for {other}, which is stalled", builder.delayed));
        }
        return ConditionUpdate::new(false, "Progressing", message.join(", "));
    }
    let have = if injected == 1 { "1 workload has".into() } else { format!("{injected} workloads have") };
    let message = format!("{have} the policy's values");
    match builder.pod_injection {
        0 => ConditionUpdate::new(true, "Injected", message),
        1 => ConditionUpdate::new(true, "Injected", format!("{message}, 1 gets them in new pods")),
        pods => ConditionUpdate::new(true, "Injected", format!("{message}, {pods} get them in new pods")),
    }
}

/// The condition `Ready` of a policy whose workloads are reverted.
fn reverted(builder: &StatusBuilder) -> Option<ConditionUpdate> {
    let StatusBuilder { reverting, reverted, counts: WorkloadCounts { injected, .. }, .. } = *builder;
    if reverting + reverted == 0 {
        return None;
    }
    let keeps = match injected {
        0 => String::new(),
        1 => "; 1 workload keeps its values, because an annotation opts it in".into(),
        keep => format!("; {keep} workloads keep their values, because annotations opt them in"),
    };
    Some(if reverting > 0 {
        let all = reverting + reverted;
        let message = format!("{reverted} of {all} workloads are reverted, {reverting} left{keeps}");
        ConditionUpdate::new(false, "Reverting", message)
    } else {
        let are = if reverted == 1 { "1 workload is".into() } else { format!("{reverted} workloads are") };
        ConditionUpdate::new(true, "Reverted", format!("{are} reverted, none left{keeps}"))
    })
}

/// The condition `Conflicted`.
pub(super) fn conflicted(builder: &StatusBuilder) -> ConditionUpdate {
    let Some(first) = builder.overridden.first() else {
        return ConditionUpdate::new(false, "NoConflict", "");
    };
    let overridden = workloads(builder.overridden.len());
    let message = format!(
        "another policy overrides this one for {overridden}, for example {first} (by priority, then \
                           age, then name): set spec.priority, or narrow a selector"
    );
    ConditionUpdate::new(true, "Overridden", message)
}

/// The condition `Stalled`.
pub(super) fn stalled(builder: &StatusBuilder) -> ConditionUpdate {
    let PolicyFailures { current, superseded, limit, is_limit_reached } = &builder.failures;
    if current.is_empty() {
        if superseded.is_empty() {
            return ConditionUpdate::new(false, "NoFailure", "");
        }
        let failed = rollouts_failed(builder, superseded);
        let message = format!("{failed} before the policy changed");
        return ConditionUpdate::new(false, "FailuresSuperseded", message);
    }
    let failed = rollouts_failed(builder, current);
    if !builder.is_stopped() {
        let message = format!("{failed}: further rollouts stop after {limit} failures");
        return ConditionUpdate::new(false, "FailuresTolerated", message);
    }
    let them = if current.len() == 1 { "it" } else { "them" };
    let effect = match builder.counts.pending {
        0 => String::new(),
        _ if !is_limit_reached => {
            let namespaces: BTreeSet<&str> =
                current.iter().map(|failure| failure.workload.namespace.as_str()).collect();
            format!(", and no further rollout starts in {}", listed(namespaces.into_iter()))
        }
        1 => ", and 1 workload waits".into(),
        pending => format!(", and {pending} workloads wait"),
    };
    ConditionUpdate::new(true, "RolloutFailed", format!("{failed}{effect}: fix {them}, or change the policy"))
}

/// The condition `Blocked`, with the reason of the workload that its message names.
pub(super) fn blocked(builder: &StatusBuilder) -> ConditionUpdate {
    let Some(BlockedWorkload { name, reason, message }) = builder.blocked.first() else {
        return ConditionUpdate::new(false, "NotBlocked", "");
    };
    let blocked = workloads(builder.blocked.len());
    let message = format!("{blocked} cannot be written, for example {name}: {message}");
    ConditionUpdate::new(true, reason.as_str(), message)
}

/// The condition `DrainTooShort`, with the exposure of the first workload.
pub(super) fn drain_too_short(builder: &StatusBuilder) -> ConditionUpdate {
    let Some((name, why)) = &builder.short_drain else {
        return ConditionUpdate::new(false, "DrainSufficient", "");
    };
    let verb = if builder.short_drains == 1 { "has" } else { "have" };
    let message = format!(
        "{} {verb} a drain that is too short for the exposures, for example {name}: {why}",
        workloads(builder.short_drains)
    );
    ConditionUpdate::new(true, "LongerDrainNeeded", message)
}

/// Names the workloads of failed rollouts, the first of many.
fn rollouts_failed(builder: &StatusBuilder, failures: &[FailedRollout]) -> String {
    let named = listed(failures.iter().map(|failure| name_in(builder.is_cluster_scoped, &failure.workload)));
    let rollouts = if failures.len() == 1 { "rollout" } else { "rollouts" };
    format!("the {rollouts} of {named} failed")
}

fn workloads(count: usize) -> String {
    counted(count, "workload")
}

/// The first of these, and how many more there are.
fn listed(names: impl ExactSizeIterator<Item = impl Into<String>>) -> String {
    let more = names.len().saturating_sub(MAX_NAMED);
    let named: Vec<String> = names.take(MAX_NAMED).map(Into::into).collect();
    let named = named.join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_drain_that_is_too_short_for_the_exposures_is_a_condition() {
        let none = drain_too_short(&StatusBuilder::default());
        assert_eq!((none.is_true, none.reason), (false, "DrainSufficient"));
        for (short_drains, start) in [(1, "1 workload has a drain"), (2, "2 workloads have a drain")] {
            let short_drain = Some(("web".to_owned(), "the pods drain for 10 s, but …".to_owned()));
            let found =
                drain_too_short(&StatusBuilder { short_drains, short_drain, ..StatusBuilder::default() });
            assert_eq!((found.is_true, found.reason), (true, "LongerDrainNeeded"));
            let end = ", for example web: the pods drain for 10 s, but …";
            assert!(found.message.starts_with(start) && found.message.ends_with(end), "{}", found.message);
        }
    }

    #[test]
    fn a_policy_that_applies_to_no_workload_reports_what_to_check() {
        let spec = |spec| serde_json::from_value::<GracefulPolicySpec>(spec).unwrap();
        let (selecting, named) = (spec(json!({"selector": {}})), spec(json!({})));
        let none = StatusBuilder::default();
        let found = ready(&none, &selecting, Mode::Enforce);
        assert_eq!((found.is_true, found.reason), (true, "Injected"));
        let start = "it applies to no workload: check spec.selector";
        assert!(found.message.starts_with(start), "{}", found.message);
        let of_cluster = StatusBuilder { is_cluster_scoped: true, ..StatusBuilder::default() };
        let of_cluster = ready(&of_cluster, &selecting, Mode::Audit);
        assert_eq!(of_cluster.reason, "Auditing");
        assert!(of_cluster.message.contains("check spec.namespaceSelector"), "{}", of_cluster.message);
        let mut matching = StatusBuilder::default();
        (matching.counts.matched, matching.counts.injected) = (1, 1);
        let overridden = StatusBuilder { overridden: vec!["web".into()], ..StatusBuilder::default() };
        for (builder, spec) in [(&none, &named), (&matching, &selecting), (&overridden, &selecting)] {
            let found = ready(builder, spec, Mode::Enforce);
            assert!(!found.message.contains("no workload"), "{}", found.message);
        }
    }
}
