//! What becomes of a workload that is in the cluster already.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Facts, OptIn, Record, Resolution, Settings, Source, Surroundings, Workload,
    hooks::Hooks,
    inject::{inject, opt_out},
    pods::unreached,
    record, resolve,
};
use crate::api::{Injection, Mode, RolloutMode};

/// What the controller shall do with a workload.
#[derive(Clone, Debug)]
pub struct Convergence {
    /// The template as it shall be, where it is not so already; where a policy only observes, as its pods
    /// would be.
    pub template: Option<Value>,
    /// When it becomes so.
    pub when: When,
    /// How the workload stands.
    pub standing: Standing,
    /// What was resolved.
    pub resolution: Resolution,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// How a workload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody opted it in.
    Unmanaged,
    /// Its template is as it shall be.
    Injected,
    /// Its template is yet to become so.
    Pending,
    /// Nothing can be injected; the warnings say why.
    Prevented,
    /// Its pods get it as they are created, whatever the template is.
    ByPod,
}

/// When a workload becomes what it shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once: a person asked for it on the workload itself.
    AtOnce,
    /// When it is its turn: a policy asked for it, and it is a rollout that nobody is watching.
    InTurn,
    /// With the next change of its template, as the policy wants it.
    NextUpdate,
    /// Never: the policy only observes.
    Observed,
}

/// Decides on a workload as it is. Only a person's act may cause a rollout: an annotation or a policy.
/// Other defaults, a better engine or a Service that appears reach a workload with the next change of its
/// template.
#[must_use]
pub fn converge(workload: &Workload<'_>, surroundings: &Surroundings) -> Convergence {
    let resolution = resolve(workload, surroundings);
    let mut warnings = resolution.warnings.clone();
    warnings.extend(resolution.invalid.iter().map(|invalid| format!("annotation ignored: {invalid}")));
    let recorded = record::read(workload.template);
    let Settings { mode, injection, rollout_mode, .. } = &resolution.settings;
    let by_pod = workload.controlled || injection.value == Injection::Pod;
    let mut standing = match resolution.opt_in {
        OptIn::In(_) if by_pod => Standing::ByPod,
        OptIn::In(_) => Standing::Injected,
        OptIn::Out | OptIn::Unmentioned => Standing::Unmanaged,
    };
    if let Some(warning) = unreached(workload, &resolution, surroundings) {
        warnings.push(warning.into());
        standing = Standing::Prevented;
    }
    // What the pods get as they are created.
    let in_pods = match &resolution.opt_in {
        OptIn::In(by) if by_pod => {
            let facts = Facts::of(workload, surroundings, false, by);
            Some(inject(workload.template, None, &resolution.settings, &facts))
        }
        _ => None,
    };
    if let Some(injected) = &in_pods {
        warnings.extend_from_slice(&injected.warnings);
        if injected.prevented {
            standing = Standing::Prevented;
        }
    }
    let observes = mode.value == Mode::Observe;
    let between = |recorded: &Record| Asked::between(&recorded.settings, &resolution.settings, surroundings);

    let (template, asked) = match (&resolution.opt_in, &recorded) {
        (OptIn::In(_), None) if by_pod && observes => (in_pods.map(|pods| pods.template), Asked::ON_WORKLOAD),
        // It would be undone.
        _ if workload.controlled => (None, Asked::NOBODY),
        (OptIn::Out, _) => (Some(opt_out(workload.template, None)), Asked::ON_WORKLOAD),
        // The annotation was taken away while the webhook was.
        (OptIn::Unmentioned, Some(recorded)) if recorded.opted_in_by.is_annotation() => {
            (Some(opt_out(workload.template, None)), Asked::ON_WORKLOAD)
        }
        // A policy that vanished is followed at the template's next change.
        (OptIn::Unmentioned, _) => (None, Asked::NOBODY),
        (OptIn::In(_), None) if by_pod => (None, Asked::NOBODY),
        (OptIn::In(_), Some(recorded)) if by_pod => {
            (Some(opt_out(workload.template, None)), between(recorded))
        }
        (OptIn::In(by), recorded) => {
            let facts = Facts::of(workload, surroundings, false, by);
            let inject_with = |settings| inject(workload.template, None, settings, &facts);
            let injected = inject_with(&resolution.settings);
            warnings.extend(injected.warnings);
            if injected.prevented {
                standing = Standing::Prevented;
            }
            let asked = match recorded {
                None => Asked { on_workload: by.is_annotation(), by_policy: by.is_policy() },
                Some(recorded) if is_incomplete(workload.template, recorded) => Asked::ON_WORKLOAD,
                // Where the settings make no difference, what differs is nobody's request: a Service that
                // appeared, or a better engine.
                Some(recorded)
                    if inject_with(&recorded.settings).template["spec"] == injected.template["spec"] =>
                {
                    Asked::NOBODY
                }
                Some(recorded) => between(recorded),
            };
            (Some(injected.template), asked)
        }
    };
    let wanted = asked.on_workload || asked.by_policy;
    let template = template.filter(|template| wanted && template != workload.template);
    let managed = matches!(resolution.opt_in, OptIn::In(_));
    if template.is_some() && (standing == Standing::Injected || observes && standing == Standing::ByPod) {
        standing = Standing::Pending;
    }
    let when = if managed && observes {
        When::Observed
    } else if asked.on_workload {
        When::AtOnce
    } else if rollout_mode.value == RolloutMode::NextUpdate {
        When::NextUpdate
    } else {
        When::InTurn
    };
    Convergence { template, when, standing, resolution, warnings }
}

/// The policies that have a say in a workload, now or when it was injected.
#[must_use]
pub fn concerning(workload: &Workload<'_>, resolution: &Resolution) -> BTreeSet<Source> {
    let recorded = record::read(workload.template);
    let before = recorded.iter().flat_map(|record| record.settings.sources().chain([&record.opted_in_by]));
    let before = before.filter(|source| source.is_policy());
    resolution.policies().into_iter().chain(before).cloned().collect()
}

/// Who asked for what differs.
struct Asked {
    on_workload: bool,
    by_policy: bool,
}

impl Asked {
    const NOBODY: Self = Self { on_workload: false, by_policy: false };
    const ON_WORKLOAD: Self = Self { on_workload: true, by_policy: false };

    /// Compares the settings that a template was injected with to those that hold now. A default that
    /// became another default was asked for by nobody, and neither was a policy's value that is gone with
    /// the policy.
    fn between(before: &Settings, now: &Settings, surroundings: &Surroundings) -> Self {
        let mut asked = Self::NOBODY;
        for [before, now] in now.changes(before) {
            asked.on_workload |= before.is_annotation() || now.is_annotation();
            asked.by_policy |= if before.is_policy() { surroundings.has(before) } else { now.is_policy() };
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
#[path = "converge_tests.rs"]
mod tests;
