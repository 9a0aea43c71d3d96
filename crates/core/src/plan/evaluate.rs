//! The desired state of a workload that exists already.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::{
    accepted_settings,
    change_trigger::ChangeTrigger,
    context::{InjectionContext, NamespaceContext},
    hooks::Hooks,
    inject::{Injected, inject, inject_pod, opt_out},
    record::Record,
    resolve::{OptIn, Resolution, max_concurrent, max_concurrent_per_namespace, resolve},
    settings_warnings::{self, webhook_bypass_warning},
    short_drain::short_drain,
    source::Source,
    workload::Workload,
};
use crate::api::{Mode, RolloutMode, annotations::ACCEPTED};

/// The desired state of a workload, and when the controller writes it.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The desired template, if it differs from the present one; under a policy in mode `Audit`, the template that
    /// `Enforce` would write.
    pub template: Option<Value>,
    /// When the template is written.
    pub timing: RolloutTiming,
    /// The policies that request the change: those whose values changed, and the one that opts the workload in; each
    /// with the number of workloads that it lets roll out at the same time.
    pub requested_by: BTreeMap<Source, usize>,
    /// How many workloads of the namespace may roll out at the same time because of policies. `None`: no limit, or no
    /// policy triggers the rollout.
    pub namespace_limit: Option<usize>,
    /// Whether the workload is injected.
    pub state: InjectionState,
    /// The desired value of the annotation [`ACCEPTED`] on the workload; `None` removes it.
    pub accepted: Option<String>,
    /// The settings, and the policies they come from.
    pub resolution: Resolution,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// Whether a workload is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum InjectionState {
    /// It is not opted in.
    Unmanaged,
    /// Its template is up to date.
    Injected,
    /// Its template is to be changed.
    Pending,
    /// Nothing can be injected; the warnings have the reason.
    Unsatisfiable,
    /// Its pods are injected when they are created, and its template isn't.
    PodInjection,
    /// A policy that opts it in reverts injections, and its template has none.
    Reverted,
}

/// When the desired template is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum RolloutTiming {
    /// Immediately: an annotation on the workload triggers it.
    Immediate,
    /// When the scheduler grants a slot: a policy triggers it.
    Queued,
    /// With the next change of the template: the policy's rollout mode is `NextUpdate`, or the policy replaces a deleted
    /// one.
    NextUpdate,
    /// Never: the policy's mode is `Audit`.
    DryRun,
}

/// Evaluates a workload in its present state. Only changes by users cause rollouts: of an annotation or of a policy.
/// Other built-in defaults, a newer version of adieu, a new Service and other exposures take effect with the next change of
/// the template, unless a policy asks for the rollout of a longer drain.
#[must_use]
pub fn evaluate(workload: &Workload<'_>, context: &NamespaceContext) -> Evaluation {
    evaluate_with_later(workload, context).0
}

/// [`evaluate`], and the template that the workload gets with the next change of its template if nothing triggers a
/// rollout before.
pub(super) fn evaluate_with_later(
    workload: &Workload<'_>,
    context: &NamespaceContext,
) -> (Evaluation, Option<Value>) {
    let resolution = resolve(workload, context);
    let evaluator = Evaluator::of(workload, context, &resolution);
    let mut warnings = resolution.warnings.clone();
    warnings.extend(resolution.invalid.iter().map(|invalid| format!("annotation ignored: {invalid}")));
    let mut state = evaluator.state_when_done();
    if let Some(warning) = webhook_bypass_warning(workload, &resolution, context) {
        warnings.push(warning.into());
        state = InjectionState::Unsatisfiable;
    }
    let pods = evaluator.inject_pods();
    if let Some(injected) = &pods {
        warnings.extend_from_slice(&injected.warnings);
        if injected.unsatisfiable {
            state = InjectionState::Unsatisfiable;
        }
    }
    let change = evaluator.change(pods, state);
    warnings.extend(change.warnings);
    if change.unsatisfiable {
        state = InjectionState::Unsatisfiable;
    }
    let trigger = change.trigger;
    let template = change.template.filter(|template| *template != *workload.template);
    let replaces_deleted = template.is_some() && trigger.is_none() && trigger.replaces_deleted;
    let (template, later) = if trigger.is_none() { (None, template) } else { (template, None) };
    if evaluator.is_done_by_template(state) && (template.is_some() || replaces_deleted) {
        state = InjectionState::Pending;
    }
    let short = short_drain(workload, &resolution).filter(|_| template.is_none());
    warnings.extend(short.map(|short| short.to_string()));
    warnings.extend(settings_warnings::awaited_drain(workload, &resolution));
    let timing = evaluator.timing(&trigger, replaces_deleted);
    let requested_by = template.as_ref().map(|_| evaluator.requested_by(trigger)).unwrap_or_default();
    let namespace_limit = if requested_by.is_empty() { None } else { max_concurrent_per_namespace(context) };
    let accepted = change.accepted;
    let evaluation =
        Evaluation { template, timing, requested_by, namespace_limit, state, accepted, resolution, warnings };
    (evaluation, later)
}

/// The warning for an injected workload whose present settings can't be injected.
pub(super) const INJECTION_KEPT: &str =
    "the existing injection is kept until this is fixed or the workload is opted out";

/// A workload, its settings and its record.
struct Evaluator<'a> {
    workload: &'a Workload<'a>,
    context: &'a NamespaceContext,
    resolution: &'a Resolution,
    record: Option<&'a Record>,
    /// Whether a policy reverts the injection.
    reverts: bool,
    /// Whether the pods are injected when they are created, instead of the template.
    by_pod: bool,
    is_copy: bool,
}

/// A change of the template, whether or not it makes a difference.
struct TemplateChange {
    template: Option<Value>,
    trigger: ChangeTrigger,
    accepted: Option<String>,
    unsatisfiable: bool,
    warnings: Vec<String>,
}

impl TemplateChange {
    const NONE: Self = Self {
        template: None,
        trigger: ChangeTrigger::NONE,
        accepted: None,
        unsatisfiable: false,
        warnings: vec![],
    };

    fn to(template: Value, trigger: ChangeTrigger) -> Self {
        Self { template: Some(template), trigger, ..Self::NONE }
    }
}

impl<'a> Evaluator<'a> {
    fn of(workload: &'a Workload<'a>, context: &'a NamespaceContext, resolution: &'a Resolution) -> Self {
        let record = workload.template.record();
        // An injection by the command line is part of the manifest.
        let reverts = resolution.reverts && !record.is_some_and(|record| record.rendered);
        let by_pod = !reverts && workload.is_injected_by_pod(&resolution.settings);
        let is_copy = workload.is_injected_copy();
        Self { workload, context, resolution, record, reverts, by_pod, is_copy }
    }

    /// The state once the workload has the desired template.
    fn state_when_done(&self) -> InjectionState {
        match self.resolution.opt_in {
            OptIn::In(_) if self.is_copy => InjectionState::Injected,
            OptIn::In(_) if self.reverts => InjectionState::Reverted,
            OptIn::In(_) if self.by_pod => InjectionState::PodInjection,
            OptIn::In(_) => InjectionState::Injected,
            OptIn::Out | OptIn::Unspecified => InjectionState::Unmanaged,
        }
    }

    /// The injection that the pods get when they are created.
    fn inject_pods(&self) -> Option<Injected> {
        match &self.resolution.opt_in {
            OptIn::In(by) if self.by_pod && !self.is_copy => {
                let injection = InjectionContext::of(self.workload, self.context, false, by);
                Some(inject_pod(&self.workload.template, &self.resolution.settings, &injection))
            }
            _ => None,
        }
    }

    fn change(&self, pods: Option<Injected>, state: InjectionState) -> TemplateChange {
        let settings = &self.resolution.settings;
        let opt_out = |trigger| TemplateChange::to(opt_out(&self.workload.template, None), trigger);
        match (&self.resolution.opt_in, self.record) {
            (OptIn::In(_), None) if self.by_pod && self.audits() => pods
                .map_or(TemplateChange::NONE, |pods| {
                    TemplateChange::to(pods.template, ChangeTrigger::ANNOTATION)
                }),
            // Its controller would revert a change.
            _ if self.workload.controlled => TemplateChange::NONE,
            (OptIn::Out, _) => opt_out(ChangeTrigger::ANNOTATION),
            // The annotation was removed while the webhook was unavailable.
            (OptIn::Unspecified, Some(record)) if record.opted_in_by.is_annotation() => {
                opt_out(ChangeTrigger::ANNOTATION)
            }
            // The deletion of a policy takes effect with the next change of the template.
            (OptIn::Unspecified, Some(_)) => opt_out(ChangeTrigger::NONE),
            (OptIn::Unspecified, None) => TemplateChange::NONE,
            (OptIn::In(_), _) if self.reverts => opt_out(ChangeTrigger::by(&settings.rollout_mode.from)),
            (OptIn::In(_), None) if self.by_pod => TemplateChange::NONE,
            // Its pods would lose the injection of the template and get no other.
            (OptIn::In(_), Some(_)) if self.by_pod && state == InjectionState::Unsatisfiable => {
                TemplateChange { warnings: vec![INJECTION_KEPT.into()], ..TemplateChange::NONE }
            }
            (OptIn::In(_), Some(record)) if self.by_pod => {
                let (before, _) = accepted_settings::accepted(self.workload, record);
                opt_out(ChangeTrigger::between(&before, settings, self.context))
            }
            (OptIn::In(by), _) => self.inject_template(by),
        }
    }

    fn inject_template(&self, by: &Source) -> TemplateChange {
        let (workload, settings) = (self.workload, &self.resolution.settings);
        let injection = InjectionContext::of(workload, self.context, false, by);
        let inject_with = |settings| inject(&workload.template, None, settings, &injection);
        let Injected { template: injected, warnings, unsatisfiable } = inject_with(settings);
        let mut change = TemplateChange { unsatisfiable, warnings, ..TemplateChange::NONE };
        let Some(record) = self.record else {
            return self.first_injection(TemplateChange { template: Some(injected), ..change }, by);
        };
        let (before, accepted) = accepted_settings::accepted(workload, record);
        change.accepted = accepted;
        if unsatisfiable {
            // A lowered maximum doesn't revert an injection.
            change.warnings.push(INJECTION_KEPT.into());
            return change;
        }
        if is_incomplete(&workload.template, record) {
            let trigger = ChangeTrigger { drifted: true, ..ChangeTrigger::by(by) };
            return TemplateChange { template: Some(injected), trigger, ..change };
        }
        let mut trigger = ChangeTrigger::between(&before, settings, self.context);
        trigger.add_exposures(record, settings);
        if trigger.is_none() && !trigger.replaces_deleted {
            return TemplateChange { template: Some(injected), ..change };
        }
        // If the earlier settings have the same result, a difference is due to a new Service, other exposures or a newer
        // version, and causes no rollout. The accepted settings are recorded, because they may have an effect later.
        let earlier = if trigger.exposures { before.clone() } else { before.with_drain_of(settings) };
        let same = inject_with(&earlier).template["spec"] == injected["spec"];
        let without_effect = same || injected == *workload.template;
        if without_effect && !trigger.is_none() && accepted_settings::depends_on_cluster(&before, settings) {
            change.accepted = accepted_settings::text(record, settings);
        }
        if !same {
            change.trigger = trigger;
        }
        TemplateChange { template: Some(injected), ..change }
    }

    /// The injection of a workload that has none. If there was nothing to inject into its template with the same settings
    /// before, it is due to a new Service or a newer version, and causes no rollout.
    fn first_injection(&self, change: TemplateChange, by: &Source) -> TemplateChange {
        let settings = &self.resolution.settings;
        if self.audits() {
            return TemplateChange { trigger: ChangeTrigger::by(by), ..change };
        }
        let before = accepted_settings::accepted_without_injection(self.workload);
        let trigger = match &before {
            Some(before) => ChangeTrigger::between(before, settings, self.context),
            None => ChangeTrigger::by(by),
        };
        let is_empty = change.template.as_ref() == Some(&*self.workload.template);
        let accepted = if is_empty && !change.unsatisfiable {
            accepted_settings::text_without_injection(&self.workload.template, settings, before.as_ref())
        } else {
            self.workload.annotations.get(ACCEPTED).filter(|_| trigger.is_none()).cloned()
        };
        TemplateChange { trigger, accepted, ..change }
    }

    fn audits(&self) -> bool {
        self.resolution.settings.mode.value == Mode::Audit
    }

    /// Whether a workload gets to `state` by a change of its template; under `Audit`, that of its pods is shown as one.
    fn is_done_by_template(&self, state: InjectionState) -> bool {
        matches!(state, InjectionState::Injected | InjectionState::Reverted)
            || self.audits() && state == InjectionState::PodInjection
    }

    fn timing(&self, trigger: &ChangeTrigger, replaces_deleted: bool) -> RolloutTiming {
        let managed = matches!(self.resolution.opt_in, OptIn::In(_));
        let waits = self.resolution.settings.rollout_mode.value == RolloutMode::NextUpdate;
        if managed && self.audits() {
            RolloutTiming::DryRun
        } else if trigger.annotation {
            RolloutTiming::Immediate
        } else if replaces_deleted || waits && !trigger.exposures {
            RolloutTiming::NextUpdate
        } else {
            RolloutTiming::Queued
        }
    }

    fn requested_by(&self, trigger: ChangeTrigger) -> BTreeMap<Source, usize> {
        if trigger.policies.is_empty() {
            return BTreeMap::new();
        }
        let opted_in_by = self.resolution.opted_in_by().filter(|by| by.is_policy()).cloned();
        let policies = trigger.policies.into_iter().chain(opted_in_by);
        policies.map(|policy| (policy.clone(), max_concurrent(&policy, self.context))).collect()
    }
}

/// The policies that a rollout of the workload may belong to: those whose values it has, the one that opts it in,
/// and those that trigger a change.
#[must_use]
pub fn rolled_out_by(workload: &Workload<'_>, evaluation: &Evaluation) -> BTreeSet<Source> {
    let record = workload.template.record();
    let carried = record.iter().flat_map(|record| record.settings.sources().chain([&record.opted_in_by]));
    let resolution = &evaluation.resolution;
    let reverted_by = Some(&resolution.settings.rollout_mode.from).filter(|_| resolution.reverts);
    let all =
        carried.chain(resolution.opted_in_by()).chain(reverted_by).chain(evaluation.requested_by.keys());
    all.filter_map(Source::policy).cloned().collect()
}

/// Whether the template drifted while the webhook was unavailable: a container without a hook was added, or a Git sync
/// restored the values from before.
fn is_incomplete(template: &Value, record: &Record) -> bool {
    let hooks = Hooks { settings: &record.settings, native_sleep: true };
    let mut containers = template["spec"]["containers"].as_array().into_iter().flatten();
    let is_new = |container: &Value| {
        let name = container["name"].as_str().unwrap_or_default();
        let hook = record.containers.get(name).and_then(|given| given.pre_stop.as_ref());
        hook.is_none() && container.as_object().is_some_and(|container| hooks.needs_hook(container))
    };
    containers.any(is_new) || record.has_previous_value(template)
}

#[cfg(test)]
#[path = "evaluate_tests/mod.rs"]
mod tests;
