//! What becomes of a workload that is in the cluster already.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Facts, OptIn, Resolution, Settings, Surroundings, Workload,
    inject::{inject, opt_out},
    record, resolve,
};
use crate::api::{Injection, Mode, RolloutMode};

/// What the controller shall do with a workload.
#[derive(Clone, Debug)]
pub struct Convergence {
    /// The template as it shall be, where it is not so already.
    pub template: Option<Value>,
    /// When it becomes so.
    pub when: When,
    /// What was resolved.
    pub resolution: Resolution,
    /// What a person should know.
    pub warnings: Vec<String>,
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
    let Settings { mode, injection, rollout, .. } = &resolution.settings;

    let (template, asked) = match (&resolution.opt_in, &recorded) {
        // It would be undone.
        _ if workload.controlled => (None, Asked::default()),
        (OptIn::Out, _) => (Some(opt_out(workload.template, None)), Asked::ON_WORKLOAD),
        // The annotation was taken away while the webhook was.
        (OptIn::Unmentioned, Some(recorded)) if recorded.opted_in_by.is_annotation() => {
            (Some(opt_out(workload.template, None)), Asked::ON_WORKLOAD)
        }
        // A policy that vanished is followed at the template's next change.
        (OptIn::Unmentioned, _) => (None, Asked::default()),
        (OptIn::In(_), None) if injection.value == Injection::Pod => (None, Asked::default()),
        (OptIn::In(_), Some(recorded)) if injection.value == Injection::Pod => {
            let asked = Asked::between(&recorded.settings, &resolution.settings);
            (Some(opt_out(workload.template, None)), asked)
        }
        (OptIn::In(by), recorded) => {
            let facts = Facts::of(workload, surroundings, false, by);
            let injected = inject(workload.template, None, &resolution.settings, &facts);
            warnings.extend(injected.warnings);
            let asked = match recorded {
                None => Asked { on_workload: by.is_annotation(), by_policy: by.is_policy() },
                Some(recorded) if is_incomplete(workload.template, recorded, &injected.template) => {
                    Asked::ON_WORKLOAD
                }
                Some(recorded) => Asked::between(&recorded.settings, &resolution.settings),
            };
            (Some(injected.template), asked)
        }
    };
    let wanted = asked.on_workload || asked.by_policy;
    let template = template.filter(|template| wanted && template != workload.template);
    let when = if mode.value == Mode::Observe {
        When::Observed
    } else if asked.on_workload {
        When::AtOnce
    } else if rollout.value.mode == Some(RolloutMode::NextUpdate) {
        When::NextUpdate
    } else {
        When::InTurn
    };
    Convergence { template, when, resolution, warnings }
}

/// Who asked for what differs.
#[derive(Default)]
struct Asked {
    on_workload: bool,
    by_policy: bool,
}

impl Asked {
    const ON_WORKLOAD: Self = Self { on_workload: true, by_policy: false };

    /// Compares the settings that a template was injected with to those that hold now. A default that
    /// became another default was asked for by nobody.
    fn between(before: &Settings, now: &Settings) -> Self {
        let mut asked = Self::default();
        for sources in now.changes(before) {
            asked.on_workload |= sources.iter().any(|source| source.is_annotation());
            asked.by_policy |= sources.iter().any(|source| source.is_policy());
        }
        asked
    }
}

/// Whether the template changed while the webhook was away: a container came, or one was replaced by
/// another, that the record doesn't know.
fn is_incomplete(template: &Value, recorded: &super::Record, injected: &Value) -> bool {
    let containers = |template: &Value| -> BTreeSet<String> {
        let containers = template["spec"]["containers"].as_array().into_iter().flatten();
        containers.filter_map(|c| c["name"].as_str().map(str::to_owned)).collect()
    };
    let without_hook = |name: &String| {
        let mut all = template["spec"]["containers"].as_array().into_iter().flatten();
        all.any(|c| c["name"] == **name && c["lifecycle"]["preStop"].is_null())
    };
    injected != template
        && containers(template)
            .iter()
            .any(|name| !recorded.containers.contains_key(name) && without_hook(name))
}

#[cfg(test)]
#[path = "converge_tests.rs"]
mod tests;
