//! What becomes of a workload that somebody creates or updates.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    InjectionContext, Kind, NamespaceContext, OptIn, Resolution, Workload, advice,
    evaluate::{KEPT, evaluate},
    inject::{inject, opt_out, original},
    pods::webhook_bypass_warning,
    record::{self, Parent},
    resolve,
};
use crate::api::{
    Mode,
    annotations::{self, Invalid},
    labels::INJECTION,
};

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The pod template as it shall be, where it differs from the request's.
    pub template: Option<Value>,
    /// Malformed annotations that this request sets or changes: it is refused.
    pub refusals: Vec<Invalid>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Decides on a request that creates `new` (`old` is `None`) or updates `old` to `new`.
#[must_use]
pub fn admit(new: &Workload<'_>, old: Option<&Workload<'_>>, context: &NamespaceContext) -> Admission {
    decide(new, old, context, false)
}

/// The same for a client that names no field manager, which may undo a rollout from one injection to another.
#[must_use]
pub fn admit_anonymous(
    new: &Workload<'_>,
    old: Option<&Workload<'_>>,
    context: &NamespaceContext,
) -> Admission {
    decide(new, old, context, true)
}

fn decide(
    new: &Workload<'_>,
    old: Option<&Workload<'_>>,
    context: &NamespaceContext,
    anonymous: bool,
) -> Admission {
    let resolution = resolve(new, context);
    let bypass_warning = webhook_bypass_warning(new, &resolution, context);
    let advice = advise(new, old, &resolution, context);
    let (refusals, tolerated): (Vec<_>, Vec<_>) =
        resolution.invalid.into_iter().partition(|invalid| !is_preexisting(invalid, old));
    let mut warnings = resolution.warnings;
    warnings.extend(tolerated.into_iter().map(|invalid| format!("annotation ignored: {invalid}")));
    warnings.extend(bypass_warning.map(str::to_owned));
    warnings.extend(advice);

    let earlier = old.map(|old| old.template);
    let audits = matches!(resolution.opt_in, OptIn::In(_)) && resolution.settings.mode.value == Mode::Audit;
    // Then the controller, or the next change of the template, reverts what was injected.
    let waits = audits || resolution.reverts;
    let template = match (&resolution.opt_in, old) {
        _ if !refusals.is_empty() => None,
        (OptIn::Out, _) => Some(opt_out(new.template, earlier)),
        // Its controller would bring back what it has.
        _ if new.is_injected_copy() || new.controlled && old.is_some_and(Workload::is_injected_copy) => None,
        // A manifest that the command line injected was replaced by one that it didn't.
        (OptIn::Unmentioned, Some(old)) if is_rendered(old) => Some(opt_out(new.template, earlier)),
        (_, Some(old))
            if (waits || !instructions_changed(new, old))
                && !template_changed(new, old)
                && !rendered_anew(new, old) =>
        {
            keep_existing(new, old, context, anonymous)
        }
        // An annotation was taken away, or a policy is gone and the template changes anyway.
        (OptIn::Unmentioned, _) => Some(opt_out(new.template, earlier)),
        // What the command line injected is the manifest's own; anything else goes, as where a policy is gone.
        _ if waits => (!is_rendered(new)).then(|| opt_out(new.template, earlier)),
        (OptIn::In(by), _) => {
            let by_pod = new.is_injected_by_pod(&resolution.settings);
            let injection = InjectionContext::of(new, context, old.is_none() && !by_pod, by);
            let injected = inject(new.template, earlier, &resolution.settings, &injection);
            warnings.extend(injected.warnings);
            let kept = old.filter(|_| injected.prevented || bypass_warning.is_some());
            let kept = kept.and_then(|old| keep_injected(new, old, &injection));
            warnings.extend(kept.is_some().then(|| KEPT.to_owned()));
            // The pods get it as they are created.
            let template = if by_pod { opt_out(new.template, earlier) } else { injected.template };
            Some(kept.unwrap_or(template))
        }
    };
    // A record of the same values in other words is no reason for a rollout.
    let template = match old {
        Some(old) if record::same_but_for_text(template.as_ref().unwrap_or(new.template), old.template) => {
            Some(old.template.clone())
        }
        _ => template,
    };
    Admission { template: template.filter(|template| template != new.template), refusals, warnings }
}

/// What a person should know who creates or changes the workload. A request that changes nothing that concerns adieu
/// isn't told again.
fn advise(
    new: &Workload<'_>,
    old: Option<&Workload<'_>>,
    resolution: &Resolution,
    context: &NamespaceContext,
) -> Vec<String> {
    let Resolution { opt_in, settings, .. } = resolution;
    let mut advice = [advice::labels_for_annotations(new), advice::on_workload(new, resolution)].concat();
    let audited_by = match opt_in {
        OptIn::In(by) if settings.mode.value == Mode::Audit => Some(by),
        _ => None,
    };
    let is_news = (audited_by.is_some() || !advice.is_empty())
        && old.is_none_or(|old| instructions_changed(new, old) || template_changed(new, old));
    if !is_news {
        return vec![];
    }
    if let Some(by) = audited_by {
        let injection = InjectionContext::of(new, context, old.is_none(), by);
        let injected = inject(new.template, old.map(|old| old.template), settings, &injection);
        advice.extend(advice::while_auditing(settings, injected));
    }
    advice
}

/// What a request that undoes a rollout would silently opt out of: the annotations of the workload and its
/// template, with what `old` tells adieu put back. `kubectl rollout undo` replaces the whole template, and so
/// drops the record, and for a Deployment it also brings back the workload's annotations of that time
/// (kubectl, `polymorphichelpers/rollback.go`). It keeps the number of the revision, which whoever sends a
/// manifest of his own doesn't have. `None` where `new` is no such request, or loses nothing; and where it takes away
/// all that is adieu's and nothing else, which is what a person does who wants to be rid of it.
#[must_use]
pub fn preserve_opt_in_on_rollback(
    new: &Workload<'_>,
    old: &Workload<'_>,
) -> Option<(BTreeMap<String, String>, Value)> {
    let revision = |workload: &Workload<'_>| workload.annotations.get(REVISION).cloned();
    let read_before = new.kind != Some(Kind::Deployment) || revision(new).is_some();
    let kept_record = record::text(old.template).is_some() && record::text(new.template).is_some();
    if !read_before || revision(new) != revision(old) || kept_record || new.template == old.template {
        return None;
    }
    if only_adieu_is_gone(new, old) {
        return None;
    }
    let lost = |new: &BTreeMap<String, String>, old: &BTreeMap<String, String>| {
        let lost = annotations::instructions(old).filter(|(key, _)| !new.contains_key(*key));
        lost.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>()
    };
    let on_workload = lost(new.annotations, old.annotations);
    let on_template = lost(&new.template_annotations(), &old.template_annotations());
    // Undoing a rollout of another kind leaves the workload's own metadata as it is.
    let by_hand = new.kind != Some(Kind::Deployment) && !on_workload.is_empty();
    if by_hand || on_workload.is_empty() && on_template.is_empty() {
        return None;
    }
    let mut annotations = new.annotations.clone();
    annotations.extend(on_workload);
    let mut template = new.template.clone();
    if let (false, Some(template)) = (on_template.is_empty(), template.as_object_mut())
        && let Some((_, metadata)) = Parent::open(template, "metadata")
        && let Some((_, in_template)) = Parent::open(metadata, "annotations")
    {
        in_template.extend(on_template.into_iter().map(|(key, value)| (key, value.into())));
    }
    Some((annotations, template))
}

/// Whether `new` is the template of `old` without its record, what that says was injected, and what it tells adieu.
fn only_adieu_is_gone(new: &Workload<'_>, old: &Workload<'_>) -> bool {
    let without_instructions = |mut template: Value| {
        let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) else {
            return template;
        };
        // A client that removes the hooks may leave the label; the webhook then removes it.
        let is_adieus =
            |map: &str, key: &str| map == "annotations" && annotations::is_own(key) || key == INJECTION;
        for map in ["annotations", "labels"] {
            if let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) {
                entries.retain(|key, _| !is_adieus(map, key));
                if entries.is_empty() {
                    metadata.remove(map);
                }
            }
        }
        template
    };
    record::text(old.template).is_some()
        && record::text(new.template).is_none()
        && without_instructions(new.template.clone()) == without_instructions(original(old.template, None))
}

/// What the Deployment controller counts revisions with.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Neither the template nor an annotation changed: what is injected stays as it is, also where Git holds an
/// export of an earlier injection. A policy change reaches running workloads through the controller only. Its
/// writes pass, as does who goes back to an earlier injection by undoing a rollout.
fn keep_existing(
    new: &Workload<'_>,
    old: &Workload<'_>,
    context: &NamespaceContext,
    anonymous: bool,
) -> Option<Value> {
    let (new_record, old_record) = (record::text(new.template), record::text(old.template));
    let goes_back = anonymous && new_record.is_some() && new_record != old_record;
    let planned = || evaluate(old, context).template.as_ref() == Some(new.template);
    let undone = old_record.is_some() && !goes_back && new.template != old.template && !planned();
    undone.then(|| old.template.clone())
}

/// What is injected with the settings of the injection that the workload carries, where the present ones prevent any,
/// such as a maximum that was lowered: a workload that is protected stays so.
fn keep_injected(new: &Workload<'_>, old: &Workload<'_>, injection: &InjectionContext<'_>) -> Option<Value> {
    let recorded = record::read(old.template)?;
    let kept = inject(new.template, Some(old.template), &recorded.settings, injection);
    (!kept.prevented).then_some(kept.template)
}

/// Whether the command line injected what the template carries.
fn is_rendered(workload: &Workload<'_>) -> bool {
    record::read(workload.template).is_some_and(|record| record.rendered)
}

/// Whether the request brings what the command line injected, and the cluster has something else. The
/// manifest may be older than what the cluster's own policies made of it: they decide anew.
fn rendered_anew(new: &Workload<'_>, old: &Workload<'_>) -> bool {
    record::text(new.template) != record::text(old.template) && is_rendered(new)
}

/// Whether a person changed what the annotations tell adieu.
fn instructions_changed(new: &Workload<'_>, old: &Workload<'_>) -> bool {
    new.instructions() != old.instructions()
}

/// Whether the template changed in anything but what adieu injects.
fn template_changed(new: &Workload<'_>, old: &Workload<'_>) -> bool {
    new.template != old.template && original(new.template, Some(old.template)) != original(old.template, None)
}

/// Whether the malformed value is none of this request's doing.
fn is_preexisting(invalid: &Invalid, old: Option<&Workload<'_>>) -> bool {
    old.is_some_and(|old| old.parsed_annotations().iter().any(|parsed| parsed.invalid.contains(invalid)))
}

#[cfg(test)]
#[path = "admit_tests.rs"]
mod tests;
