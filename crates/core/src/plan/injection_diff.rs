//! The effect of a changed manifest, and of changed policies and Services, on the injection of a workload.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    admit::{Admission, admit},
    context::NamespaceContext,
    evaluate::{Evaluation, InjectionState, RolloutTiming, evaluate},
    grace_period::grace_period,
    hooks::{containers, own_hook},
    pod_template::PodTemplate,
    record::{GRACE_PERIOD, InjectedField, SPREAD},
    render::effective_pods,
    resolve::OptIn,
    workload::Workload,
    workload_status::{ManagementState, state},
};
use crate::api::annotations::Invalid;

/// The field of a preStop hook in [`InjectionChange::field`].
pub const PRE_STOP_FIELD: &str = "preStop";
/// The field of a readiness probe in [`InjectionChange::field`].
pub const READINESS_PROBE_FIELD: &str = "readinessProbe";
/// The field of a grace period in [`InjectionChange::field`].
pub const GRACE_PERIOD_FIELD: &str = GRACE_PERIOD;

/// The effect of a change on the injection of a workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InjectionDiff {
    /// Whether the workload is opted in, before and after the change.
    pub opted_in: BeforeAfter<bool>,
    /// Whether it is injected, or its pods are, before and after the change.
    pub injected: BeforeAfter<bool>,
    /// The injected values that change.
    pub changes: Vec<InjectionChange>,
    /// When its pod template changes, by the injection or by other changes of the manifest. `None` if it doesn't, or if it
    /// is to be changed anyway.
    pub rollout: Option<RolloutTiming>,
    /// Its state after the change.
    pub state: ManagementState,
    /// Why it has this state, if that is not obvious.
    pub reason: Option<String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// Malformed annotations, for which the change is denied.
    #[serde(skip)]
    pub denials: Vec<Invalid>,
    /// The number of its regular containers.
    #[serde(skip)]
    pub containers: usize,
}

/// A value before and after a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BeforeAfter<T> {
    /// The value before.
    pub before: T,
    /// The value after.
    pub after: T,
}

/// An injected value that changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InjectionChange {
    /// Its field in a container or in the pod.
    pub field: &'static str,
    /// The container; `None` for a field of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The value before, injected or the user's own; `None` if there was none.
    pub before: Option<Value>,
    /// The value after, injected or the user's own; `None` if there is none.
    pub after: Option<Value>,
}

impl InjectionDiff {
    /// No change, of a workload in this state.
    #[must_use]
    pub fn unchanged(state: ManagementState, reason: Option<String>) -> Self {
        Self {
            opted_in: BeforeAfter::default(),
            injected: BeforeAfter::default(),
            changes: vec![],
            rollout: None,
            state,
            reason,
            warnings: vec![],
            denials: vec![],
            containers: 0,
        }
    }

    /// Whether an injected value or the opt-in changes.
    #[must_use]
    pub fn is_change(&self) -> bool {
        !self.changes.is_empty() || self.opted_in.before != self.opted_in.after
    }
}

/// The effect of a change that results in `new`, in the context after it. `live` is the present workload, in the present
/// context; `None` if it is created.
///
/// The webhook decides about `new` first, then the controller about the result.
#[must_use]
pub fn injection_diff(
    live: Option<(&Workload<'_>, &NamespaceContext)>,
    new: &Workload<'_>,
    context: &NamespaceContext,
) -> InjectionDiff {
    let old = live.map(|(workload, _)| workload);
    let Admission { template, denials, warnings } = request(new, old, context);
    let admitted = template.unwrap_or_else(|| Value::clone(&new.template));
    let admitted = new.with_template(&admitted);
    let evaluation = evaluate(&admitted, context);
    let (state, reason) = state(&admitted, &evaluation, context);
    let present = live.map(|(workload, context)| (workload, context, evaluate(workload, context)));
    let pending = evaluation.template.as_ref().filter(|_| evaluation.timing != RolloutTiming::DryRun);
    // The change is not the cause of a rollout that is due without it.
    let is_due_already = present.as_ref().is_some_and(|(workload, _, present)| {
        *workload.template == *admitted.template && present.template == evaluation.template
    });
    let pending = pending.filter(|_| !is_due_already);
    let result = pending.unwrap_or(&admitted.template);
    let after = PodValues::of(&admitted.with_template(result), evaluation.state, context);
    let before =
        present.as_ref().map(|(workload, context, present)| PodValues::of(workload, present.state, context));
    let template_changes = old.is_some_and(|old| *old.template != *admitted.template);
    let is_in = |evaluation: &Evaluation| matches!(evaluation.resolution.opt_in, OptIn::In(_));
    InjectionDiff {
        opted_in: BeforeAfter {
            before: present.as_ref().is_some_and(|(_, _, present)| is_in(present)),
            after: is_in(&evaluation),
        },
        injected: BeforeAfter {
            before: before.as_ref().is_some_and(PodValues::is_injected),
            after: after.is_injected(),
        },
        changes: changes(before.as_ref(), &after),
        rollout: pending
            .map(|_| evaluation.timing)
            .or_else(|| template_changes.then_some(RolloutTiming::Immediate)),
        state,
        reason,
        warnings,
        denials,
        containers: after.containers.len(),
    }
}

/// The answer to the request that makes the change. Not every request reaches the webhook.
fn request(new: &Workload<'_>, old: Option<&Workload<'_>>, context: &NamespaceContext) -> Admission {
    let reaches_webhook = context.injection_enabled
        || new.has_own_annotation()
        || new.has_label_for_opt_in()
        || old.is_some_and(Workload::has_own_annotation);
    if reaches_webhook {
        admit(new, old, context)
    } else {
        Admission { template: None, denials: vec![], warnings: vec![] }
    }
}

/// The injected values that change if a workload gets the template `desired`, with which it has this state.
pub(super) fn template_changes(
    workload: &Workload<'_>,
    desired: &Value,
    state: InjectionState,
    context: &NamespaceContext,
) -> Vec<InjectionChange> {
    // The template's own values, also if the pods are injected once it has none.
    let before = PodValues::of_template(&workload.template);
    changes(Some(&before), &PodValues::of(&workload.with_template(desired), state, context))
}

/// The values of a workload's pods that may be injected.
struct PodValues {
    containers: Vec<ContainerValues>,
    /// In seconds.
    grace_period: PodValue,
    spread: PodValue,
}

/// The values of a container that may be injected.
struct ContainerValues {
    name: String,
    pre_stop: PodValue,
    readiness_probe: PodValue,
}

/// A value that may be injected.
#[derive(Default)]
struct PodValue {
    /// `None` if there is none.
    value: Option<Value>,
    is_injected: bool,
}

impl PodValue {
    /// The present value of a field. It is injected if it is the one that was recorded.
    fn of(present: Option<&Value>, recorded: Option<&InjectedField>) -> Self {
        Self {
            value: present.filter(|value| !value.is_null() && **value != json!([])).cloned(),
            is_injected: recorded.is_some_and(|field| present == Some(&field.injected)),
        }
    }
}

impl PodValues {
    fn of(workload: &Workload<'_>, state: InjectionState, context: &NamespaceContext) -> Self {
        if state == InjectionState::PodInjection {
            Self::of_template(&PodTemplate::new(&effective_pods(workload, context).template))
        } else {
            Self::of_template(&workload.template)
        }
    }

    fn of_template(template: &PodTemplate<'_>) -> Self {
        let record = template.record();
        let spec = template["spec"].as_object();
        let values = spec.into_iter().flat_map(containers).filter_map(|container| {
            let name = container.get("name")?.as_str()?;
            let given = record.and_then(|record| record.containers.get(name));
            let [hook, probe] = [
                given.and_then(|given| given.pre_stop.as_ref()),
                given.and_then(|given| given.readiness_probe.as_ref()),
            ];
            Some(ContainerValues {
                name: name.to_owned(),
                pre_stop: PodValue::of(own_hook(container), hook),
                readiness_probe: PodValue::of(container.get("readinessProbe"), probe),
            })
        });
        let field = |key: &str| spec.and_then(|spec| spec.get(key));
        let grace = record.and_then(|record| record.grace_period.as_ref());
        Self {
            containers: values.collect(),
            grace_period: PodValue {
                value: spec.and_then(grace_period).map(|seconds| json!(seconds)),
                ..PodValue::of(field(GRACE_PERIOD), grace)
            },
            spread: PodValue::of(field(SPREAD), record.and_then(|record| record.spread.as_ref())),
        }
    }

    fn is_injected(&self) -> bool {
        let has_values =
            |values: &ContainerValues| values.pre_stop.is_injected || values.readiness_probe.is_injected;
        self.grace_period.is_injected || self.spread.is_injected || self.containers.iter().any(has_values)
    }
}

/// The values that differ and are injected before or after. A container that is removed loses its values with itself.
fn changes(before: Option<&PodValues>, after: &PodValues) -> Vec<InjectionChange> {
    let none = PodValue::default();
    let mut changes = Vec::new();
    let mut compare = |field, container: Option<&String>, before: &PodValue, after: &PodValue| {
        if before.value != after.value && (before.is_injected || after.is_injected) {
            let (before, after) = (before.value.clone(), after.value.clone());
            changes.push(InjectionChange { field, container: container.cloned(), before, after });
        }
    };
    for values in &after.containers {
        let name = &values.name;
        let earlier = before.and_then(|before| before.containers.iter().find(|one| one.name == *name));
        let hook = earlier.map_or(&none, |earlier| &earlier.pre_stop);
        compare(PRE_STOP_FIELD, Some(name), hook, &values.pre_stop);
        let probe = earlier.map_or(&none, |earlier| &earlier.readiness_probe);
        compare(READINESS_PROBE_FIELD, Some(name), probe, &values.readiness_probe);
    }
    let grace = before.map_or(&none, |before| &before.grace_period);
    compare(GRACE_PERIOD_FIELD, None, grace, &after.grace_period);
    let spread = before.map_or(&none, |before| &before.spread);
    compare(SPREAD, None, spread, &after.spread);
    changes
}

#[cfg(test)]
#[path = "injection_diff_tests.rs"]
pub(super) mod tests;
