//! What becomes of a workload that is in the cluster already.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    InjectionContext, NamespaceContext, OptIn, Record, Resolution, Settings, Source, Workload, accepted,
    hooks::Hooks,
    inject::{Injected, inject, inject_pod, opt_out},
    pods::webhook_bypass_warning,
    record, resolve,
    resolve::{max_concurrent, max_concurrent_per_namespace},
};
use crate::api::{
    Mode, RolloutMode,
    annotations::{self, ACCEPTED, PENDING},
};

/// What the controller shall do with a workload.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The template as it shall be, where it is not so already; under a policy in mode `Audit`, as its pods
    /// would be.
    pub template: Option<Value>,
    /// When it becomes so.
    pub timing: RolloutTiming,
    /// The policies that ask for it: those whose change it is, and the one that opted the workload in; and how
    /// many workloads may roll out at a time because of each.
    pub asked_by: BTreeMap<Source, usize>,
    /// How many workloads of the namespace may roll out at a time because of policies. `None`: no limit, or no
    /// policy asks for the rollout.
    pub namespace_limit: Option<usize>,
    /// How the workload stands.
    pub state: InjectionState,
    /// What the workload's annotation [`ACCEPTED`] shall say; `None` if it shall not be there.
    pub accepted: Option<String>,
    /// What was resolved.
    pub resolution: Resolution,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// How a workload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectionState {
    /// Nobody opted it in.
    Unmanaged,
    /// Its template is as it shall be.
    Injected,
    /// Its template is yet to become so.
    Pending,
    /// Nothing can be injected; the warnings say why.
    Unsatisfiable,
    /// Its pods get it as they are created, whatever the template is.
    PodInjection,
    /// A policy that opts it in reverts what was injected, and its template carries nothing any more.
    Reverted,
}

/// When a workload becomes what it shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutTiming {
    /// At once: a person asked for it on the workload itself.
    Immediate,
    /// When it is its turn: a policy asked for it, and it is a rollout that nobody is watching.
    Queued,
    /// With the next change of its template: the policy wants it so, or followed one that vanished.
    NextUpdate,
    /// Never: the policy's mode is `Audit`.
    DryRun,
}

/// Decides on a workload as it is. Only a person's act may cause a rollout: an annotation or a policy.
/// Other defaults, a better engine or a Service that appears reach a workload with the next change of its
/// template.
#[must_use]
pub fn evaluate(workload: &Workload<'_>, context: &NamespaceContext) -> Evaluation {
    let resolution = resolve(workload, context);
    let mut warnings = resolution.warnings.clone();
    warnings.extend(resolution.invalid.iter().map(|invalid| format!("annotation ignored: {invalid}")));
    let recorded = record::read(workload.template);
    let Settings { mode, rollout_mode, .. } = &resolution.settings;
    // What the command line injected is the manifest's own.
    let reverts = resolution.reverts && !recorded.as_ref().is_some_and(|record| record.rendered);
    let by_pod = !reverts && workload.is_injected_by_pod(&resolution.settings);
    let is_copy = workload.is_injected_copy();
    let mut state = match resolution.opt_in {
        OptIn::In(_) if is_copy => InjectionState::Injected,
        OptIn::In(_) if reverts => InjectionState::Reverted,
        OptIn::In(_) if by_pod => InjectionState::PodInjection,
        OptIn::In(_) => InjectionState::Injected,
        OptIn::Out | OptIn::Unmentioned => InjectionState::Unmanaged,
    };
    if let Some(warning) = webhook_bypass_warning(workload, &resolution, context) {
        warnings.push(warning.into());
        state = InjectionState::Unsatisfiable;
    }
    // What the pods get as they are created.
    let in_pods = match &resolution.opt_in {
        OptIn::In(by) if by_pod && !is_copy => {
            let injection = InjectionContext::of(workload, context, false, by);
            Some(inject_pod(workload.template, &resolution.settings, &injection))
        }
        _ => None,
    };
    if let Some(injected) = &in_pods {
        warnings.extend_from_slice(&injected.warnings);
        if injected.prevented {
            state = InjectionState::Unsatisfiable;
        }
    }
    let audits = mode.value == Mode::Audit;
    let mut accepted = None;

    let (template, asked) = match (&resolution.opt_in, &recorded) {
        (OptIn::In(_), None) if by_pod && audits => {
            (in_pods.map(|pods| pods.template), ChangeTrigger::ON_WORKLOAD)
        }
        // It would be undone.
        _ if workload.controlled => (None, ChangeTrigger::NOBODY),
        (OptIn::Out, _) => (Some(opt_out(workload.template, None)), ChangeTrigger::ON_WORKLOAD),
        // The annotation was taken away while the webhook was.
        (OptIn::Unmentioned, Some(recorded)) if recorded.opted_in_by.is_annotation() => {
            (Some(opt_out(workload.template, None)), ChangeTrigger::ON_WORKLOAD)
        }
        // A policy that vanished is followed at the template's next change.
        (OptIn::Unmentioned, _) => (None, ChangeTrigger::NOBODY),
        (OptIn::In(_), _) if reverts => {
            (Some(opt_out(workload.template, None)), ChangeTrigger::by(&rollout_mode.from))
        }
        (OptIn::In(_), None) if by_pod => (None, ChangeTrigger::NOBODY),
        // Its pods would get nothing in the place of what the template has.
        (OptIn::In(_), Some(_)) if by_pod && state == InjectionState::Unsatisfiable => {
            warnings.push(KEPT.into());
            (None, ChangeTrigger::NOBODY)
        }
        (OptIn::In(_), Some(recorded)) if by_pod => {
            let before = accepted::accepted(workload, recorded);
            (
                Some(opt_out(workload.template, None)),
                ChangeTrigger::between(&before, &resolution.settings, context),
            )
        }
        (OptIn::In(by), recorded) => {
            let again = Again::of(workload, recorded.as_ref(), by, &resolution.settings, context);
            warnings.extend(again.warnings);
            if again.prevented {
                state = InjectionState::Unsatisfiable;
            }
            accepted = again.accepted;
            (again.template, again.asked)
        }
    };
    let managed = matches!(resolution.opt_in, OptIn::In(_));
    let template = template.filter(|template| template != workload.template);
    let later = template.is_some() && asked.is_by_nobody() && asked.later;
    let template = template.filter(|_| !asked.is_by_nobody());
    let reached = matches!(state, InjectionState::Injected | InjectionState::Reverted)
        || audits && state == InjectionState::PodInjection;
    if reached && (template.is_some() || later) {
        state = InjectionState::Pending;
    }
    let timing = if managed && audits {
        RolloutTiming::DryRun
    } else if asked.on_workload {
        RolloutTiming::Immediate
    } else if rollout_mode.value == RolloutMode::NextUpdate || later {
        RolloutTiming::NextUpdate
    } else {
        RolloutTiming::Queued
    };
    let mut asked_by = BTreeMap::new();
    if template.is_some() && !asked.by_policies.is_empty() {
        let opted_in_by = resolution.opted_in_by().filter(|by| by.is_policy()).cloned();
        let policies = asked.by_policies.into_iter().chain(opted_in_by);
        asked_by.extend(policies.map(|policy| (policy.clone(), max_concurrent(&policy, context))));
    }
    let namespace_limit = if asked_by.is_empty() { None } else { max_concurrent_per_namespace(context) };
    Evaluation { template, timing, asked_by, namespace_limit, state, accepted, resolution, warnings }
}

/// What a person should know of a workload that can't be injected as it shall be, and was injected before.
pub(super) const KEPT: &str =
    "the earlier injection stays as it is until that is resolved, or the workload is opted out";

/// What becomes of a workload that is opted in, and injected in its template.
struct Again {
    template: Option<Value>,
    asked: ChangeTrigger,
    accepted: Option<String>,
    prevented: bool,
    warnings: Vec<String>,
}

impl Again {
    fn of(
        workload: &Workload<'_>,
        recorded: Option<&Record>,
        by: &Source,
        settings: &Settings,
        context: &NamespaceContext,
    ) -> Self {
        let injection = InjectionContext::of(workload, context, false, by);
        let inject_with = |settings| inject(workload.template, None, settings, &injection);
        let Injected { template: injected, warnings, prevented } = inject_with(settings);
        let accepted = recorded.and_then(|recorded| accepted::kept(workload, recorded));
        let mut again = Self { template: None, asked: ChangeTrigger::NOBODY, accepted, prevented, warnings };
        let Some(recorded) = recorded else {
            return Self { template: Some(injected), asked: ChangeTrigger::by(by), ..again };
        };
        if again.prevented {
            // A maximum that was lowered takes no protection away.
            again.warnings.push(KEPT.into());
            return again;
        }
        let before = accepted::accepted(workload, recorded);
        let asked = ChangeTrigger::between(&before, settings, context);
        if is_incomplete(workload.template, recorded) {
            return Self {
                template: Some(injected),
                asked: ChangeTrigger { drifted: true, ..ChangeTrigger::by(by) },
                ..again
            };
        }
        // Where the settings make no difference, what differs is nobody's request: a Service that appeared, or a
        // better engine. That they make none now is remembered, because later they may.
        let same = inject_with(&before).template["spec"] == injected["spec"];
        let without_effect = same || injected == *workload.template;
        if without_effect && !asked.is_by_nobody() && accepted::depends_on_cluster(&before, settings) {
            again.accepted = accepted::text(recorded, settings);
        }
        if !same {
            again.asked = asked;
        }
        again.template = Some(injected);
        again
    }
}

/// The marks that adieu sets on the workload itself, as far as they have to change: their new values, and `None` for
/// one that has to go. [`PENDING`] goes when the workload waits for nothing any more, whether it was injected, opted
/// out, or no policy selects it.
#[must_use]
pub fn marks(
    workload: &Workload<'_>,
    evaluation: &Evaluation,
    context: &NamespaceContext,
) -> BTreeMap<&'static str, Option<String>> {
    let mut marks = BTreeMap::new();
    let waits = evaluation.template.is_some() && evaluation.timing == RolloutTiming::NextUpdate;
    if is_to_be_marked(workload, evaluation, context) {
        marks.insert(PENDING, Some("NextUpdate".to_owned()));
    } else if workload.annotations.contains_key(PENDING) && !waits {
        marks.insert(PENDING, None);
    }
    if workload.annotations.get(ACCEPTED) != evaluation.accepted.as_ref() {
        marks.insert(ACCEPTED, evaluation.accepted.clone());
    }
    marks
}

/// Whether the workload is to be given [`PENDING`], without which the webhook isn't asked about its
/// next update: it waits for that, has nothing of adieu's about it, and its namespace isn't labelled.
fn is_to_be_marked(workload: &Workload<'_>, evaluation: &Evaluation, context: &NamespaceContext) -> bool {
    let says = |map: &BTreeMap<String, String>| map.keys().any(|key| annotations::is_own(key));
    let waits = evaluation.template.is_some() && evaluation.timing == RolloutTiming::NextUpdate;
    waits && !context.all_pods && !says(workload.annotations) && !says(&workload.template_annotations())
}

/// The policies that a rollout of the workload may be for: whose values it carries, who opted it in, and who
/// asks for another.
#[must_use]
pub fn concerning(workload: &Workload<'_>, evaluation: &Evaluation) -> BTreeSet<Source> {
    let recorded = record::read(workload.template);
    let carried = recorded.iter().flat_map(|record| record.settings.sources().chain([&record.opted_in_by]));
    let resolution = &evaluation.resolution;
    let reverted_by = Some(&resolution.settings.rollout_mode.from).filter(|_| resolution.reverts);
    let all = carried.chain(resolution.opted_in_by()).chain(reverted_by).chain(evaluation.asked_by.keys());
    all.filter(|source| source.is_policy()).cloned().collect()
}

/// Who asked for what differs.
struct ChangeTrigger {
    on_workload: bool,
    by_policies: BTreeSet<Source>,
    /// Whether a policy's value takes the place of one that is gone with its policy.
    later: bool,
    /// Whether it was asked for before, and undone since.
    drifted: bool,
}

impl ChangeTrigger {
    const NOBODY: Self =
        Self { on_workload: false, by_policies: BTreeSet::new(), later: false, drifted: false };
    const ON_WORKLOAD: Self =
        Self { on_workload: true, by_policies: BTreeSet::new(), later: false, drifted: false };

    fn by(source: &Source) -> Self {
        let by_policies = Some(source).filter(|source| source.is_policy()).cloned().into_iter().collect();
        Self { on_workload: source.is_annotation(), by_policies, ..Self::NOBODY }
    }

    fn is_by_nobody(&self) -> bool {
        !self.on_workload && !self.drifted && self.by_policies.is_empty()
    }

    /// Compares the settings that a template was injected with to those that hold now. A default that
    /// became another default was asked for by nobody, and neither was what takes the place of a policy's value
    /// that is gone with the policy.
    fn between(before: &Settings, now: &Settings, context: &NamespaceContext) -> Self {
        let mut asked = Self::NOBODY;
        for [before, now] in now.changes(before) {
            asked.on_workload |= before.is_annotation() || now.is_annotation();
            if before.is_policy() && !context.has(before) {
                asked.later |= now.is_policy();
            } else {
                asked.by_policies.extend([before, now].into_iter().filter(|by| by.is_policy()).cloned());
            }
        }
        asked
    }
}

/// Whether the template changed while the webhook was away: a container came that would have been given a
/// hook, or a Git sync put back what was there before.
fn is_incomplete(template: &Value, recorded: &Record) -> bool {
    let hooks = Hooks { settings: &recorded.settings, native_sleep: true };
    let mut containers = template["spec"]["containers"].as_array().into_iter().flatten();
    let is_new = |container: &Value| {
        let name = container["name"].as_str().unwrap_or_default();
        let hook = recorded.containers.get(name).and_then(|given| given.pre_stop.as_ref());
        hook.is_none() && container.as_object().is_some_and(|container| hooks.is_due(container))
    };
    containers.any(is_new) || recorded.is_reasserted(template)
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
