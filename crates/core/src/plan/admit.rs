//! Decides on requests that create or update a workload.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    applied_recommendation::AppliedRecommendation,
    context::{InjectionContext, NamespaceContext},
    evaluate::{INJECTION_KEPT, evaluate},
    inject::{inject, inject_pod, opt_out, original, reverted},
    pod_template::PodTemplate,
    record::ParentState,
    resolve::{OptIn, Resolution, resolve, resolve_update},
    settings_warnings::{self, webhook_bypass_warning},
    source::Source,
    workload::{Kind, Workload},
};
use crate::api::{
    Mode,
    annotations::{self, APPLIED_RECOMMENDATION, Invalid},
    labels::INJECTION,
};

/// The response to a request.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The desired pod template, if it differs from the request's.
    pub template: Option<Value>,
    /// Malformed annotations that this request sets or changes, for which it is denied.
    pub denials: Vec<Invalid>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// Decides on a request that creates `new` (`old` is `None`) or updates `old` to `new`.
#[must_use]
pub fn admit(new: &Workload<'_>, old: Option<&Workload<'_>>, context: &NamespaceContext) -> Admission {
    decide(new, old, context, false)
}

/// [`admit`] for a client without a field manager, such as `kubectl rollout undo`, which may return to an earlier
/// injection.
#[must_use]
pub fn admit_without_field_manager(
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
    without_field_manager: bool,
) -> Admission {
    let resolution = &resolve_update(new, old, context);
    let bypass_warning = webhook_bypass_warning(new, resolution, context);
    let (denials, tolerated) = new_and_preexisting(&resolution.invalid, old);
    let mut warnings = resolution.warnings.clone();
    warnings.extend(tolerated.into_iter().map(|invalid| format!("annotation ignored: {invalid}")));
    warnings.extend(bypass_warning.map(str::to_owned));
    warnings.extend(advise(new, old, resolution, context));
    let request =
        Request { new, old, context, without_field_manager, resolution, bypassed: bypass_warning.is_some() };
    let template = if denials.is_empty() { request.template(&mut warnings) } else { None };
    // A record with the same values in another text must not cause a rollout.
    let changed = template.as_ref().map(PodTemplate::new);
    let result = changed.as_ref().unwrap_or(&new.template);
    let template = match old {
        Some(old) if old.template.differs_only_in_record(result) => Some(Value::clone(&old.template)),
        _ => template,
    };
    Admission { template: template.filter(|template| *template != *new.template), denials, warnings }
}

struct Request<'a> {
    new: &'a Workload<'a>,
    old: Option<&'a Workload<'a>>,
    context: &'a NamespaceContext,
    /// Whether the client names no field manager.
    without_field_manager: bool,
    resolution: &'a Resolution,
    /// Whether the pods need the webhook and bypass it.
    bypassed: bool,
}

impl Request<'_> {
    /// The template that the request ends with; `None` leaves it unchanged.
    fn template(&self, warnings: &mut Vec<String>) -> Option<Value> {
        let Self { new, old, resolution, .. } = *self;
        let earlier = old.map(|old| &old.template);
        let audits =
            matches!(resolution.opt_in, OptIn::In(_)) && resolution.settings.mode.value == Mode::Audit;
        // The injection is reverted by the controller, or with the next change of the template.
        let reverts_later = audits || resolution.reverts;
        match (&resolution.opt_in, old) {
            (OptIn::Out, _) => Some(opt_out(&new.template, earlier)),
            // Its controller would restore its template.
            _ if new.is_injected_copy() || new.controlled && old.is_some_and(Workload::is_injected_copy) => {
                None
            }
            // A manifest without an injection replaces one that the command line injected.
            (OptIn::Unspecified, Some(old)) if is_rendered(old) => Some(opt_out(&new.template, earlier)),
            (_, Some(old))
                if (reverts_later || !instructions_changed(new, old))
                    && !template_changed(new, old)
                    && !is_rendered_again(new, old) =>
            {
                keep_existing(new, old, self.context, self.without_field_manager)
            }
            // An annotation was removed, or a policy was deleted and the template changes anyway.
            (OptIn::Unspecified, _) => Some(opt_out(&new.template, earlier)),
            // An injection by the command line is part of the manifest.
            _ if reverts_later => (!is_rendered(new)).then(|| opt_out(&new.template, earlier)),
            (OptIn::In(by), _) => Some(self.inject(by, warnings)),
        }
    }

    fn inject(&self, by: &Source, warnings: &mut Vec<String>) -> Value {
        let Self { new, old, context, resolution, .. } = *self;
        let earlier = old.map(|old| &old.template);
        let by_pod = new.is_injected_by_pod(&resolution.settings);
        let injection = injection_context(new, old, resolution, context, by);
        let injected = if by_pod {
            inject_pod(&new.template, &resolution.settings, &injection)
        } else {
            inject(&new.template, earlier, &resolution.settings, &injection)
        };
        warnings.extend(injected.warnings);
        let kept = old.filter(|_| injected.unsatisfiable || self.bypassed);
        if let Some(kept) = kept.and_then(|old| keep_injected(new, old, &injection)) {
            warnings.push(INJECTION_KEPT.to_owned());
            return kept;
        }
        // The pods are injected when they are created.
        if by_pod { opt_out(&new.template, earlier) } else { injected.template }
    }
}

/// The inputs of the injection into `new`. Pods that are injected instead of it get a probe only because of a Service.
fn injection_context<'a>(
    new: &Workload<'a>,
    old: Option<&Workload<'_>>,
    resolution: &Resolution,
    context: &'a NamespaceContext,
    by: &'a Source,
) -> InjectionContext<'a> {
    let by_pod = new.is_injected_by_pod(&resolution.settings);
    let opting_in = !by_pod && old.is_some_and(|old| is_opting_in(new, old, resolution, context));
    InjectionContext { opting_in, ..InjectionContext::of(new, context, old.is_none() && !by_pod, by) }
}

/// Whether the request opts in a workload, or changes its choice of a readiness probe.
fn is_opting_in(
    new: &Workload<'_>,
    old: &Workload<'_>,
    resolution: &Resolution,
    context: &NamespaceContext,
) -> bool {
    // Policies select by the template's labels.
    if !instructions_changed(new, old) && new.template_labels() == old.template_labels() {
        return false;
    }
    let before = resolve(old, context);
    let was_opted_in = matches!(before.opt_in, OptIn::In(_)) && !before.reverts;
    !was_opted_in || before.settings.readiness_probe.value != resolution.settings.readiness_probe.value
}

/// Advice for the user. A request that changes nothing that concerns adieu gets none.
fn advise(
    new: &Workload<'_>,
    old: Option<&Workload<'_>>,
    resolution: &Resolution,
    context: &NamespaceContext,
) -> Vec<String> {
    let Resolution { opt_in, settings, .. } = resolution;
    let labels = settings_warnings::labels_for_annotations(new);
    let mut advice: Vec<_> =
        labels.iter().cloned().chain(settings_warnings::on_workload(new, resolution)).collect();
    let audited_by = match opt_in {
        OptIn::In(by) if settings.mode.value == Mode::Audit => Some(by),
        _ => None,
    };
    let is_new = (audited_by.is_some() || !advice.is_empty())
        && old.is_none_or(|old| {
            instructions_changed(new, old)
                || template_changed(new, old)
                || labels != settings_warnings::labels_for_annotations(old)
        });
    if !is_new {
        return vec![];
    }
    if let Some(by) = audited_by {
        let injection = injection_context(new, old, resolution, context, by);
        let injected = if new.is_injected_by_pod(settings) {
            inject_pod(&new.template, settings, &injection)
        } else {
            inject(&new.template, old.map(|old| &old.template), settings, &injection)
        };
        advice.extend(settings_warnings::while_auditing(settings, injected));
    }
    advice
}

/// Keeps the opt-in of a workload that is rolled back: the annotations of the workload, and its template, with the
/// instructions of `old`. `kubectl rollout undo` replaces the whole template, so it drops the record, and for a
/// Deployment it also restores the workload's annotations of that revision (kubectl,
/// `polymorphichelpers/rollback.go`). It keeps the revision number, which a user's manifest doesn't have. `None` if `new`
/// is no such request, or loses no instructions, or removes only adieu's fields, which is an opt-out.
#[must_use]
pub fn preserve_opt_in_on_rollback(
    new: &Workload<'_>,
    old: &Workload<'_>,
) -> Option<(BTreeMap<String, String>, Value)> {
    let revision = |workload: &Workload<'_>| workload.annotations.get(REVISION).cloned();
    let has_revision = new.kind != Some(Kind::Deployment) || revision(new).is_some();
    let keeps_record = old.template.record_text().is_some() && new.template.record_text().is_some();
    if !has_revision || revision(new) != revision(old) || keeps_record || *new.template == *old.template {
        return None;
    }
    if removes_only_adieu(new, old) {
        return None;
    }
    let lost = |new: &BTreeMap<String, String>, old: &BTreeMap<String, String>| {
        let lost = annotations::instructions(old).filter(|(key, _)| !new.contains_key(*key));
        lost.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>()
    };
    let on_workload = lost(new.annotations, old.annotations);
    let on_template = lost(&new.template_annotations(), &old.template_annotations());
    // A rollback of another kind doesn't change the workload's metadata.
    let is_opt_out = new.kind != Some(Kind::Deployment) && !on_workload.is_empty();
    if is_opt_out || on_workload.is_empty() && on_template.is_empty() {
        return None;
    }
    let mut annotations = new.annotations.clone();
    annotations.extend(on_workload);
    let mut template = Value::clone(&new.template);
    if let (false, Some(template)) = (on_template.is_empty(), template.as_object_mut())
        && let Some((_, metadata)) = ParentState::ensure_object(template, "metadata")
        && let Some((_, in_template)) = ParentState::ensure_object(metadata, "annotations")
    {
        in_template.extend(on_template.into_iter().map(|(key, value)| (key, value.into())));
    }
    Some((annotations, template))
}

/// Keeps the applied recommendation of a workload whose request drops or changes the annotation, as `kubectl replace`,
/// `kubectl rollout undo` and manifests with an older one do: the annotations with it. `None` if there is nothing to keep.
#[must_use]
pub fn preserve_applied_recommendation(
    new: &Workload<'_>,
    old: &Workload<'_>,
    context: &NamespaceContext,
) -> Option<BTreeMap<String, String>> {
    let applied = old.annotations.get(APPLIED_RECOMMENDATION)?;
    let is_kept = new.annotations.get(APPLIED_RECOMMENDATION) == Some(applied);
    if is_kept || AppliedRecommendation::of(old).is_none() || !resolve(new, context).applies {
        return None;
    }
    let mut annotations = new.annotations.clone();
    annotations.insert(APPLIED_RECOMMENDATION.to_owned(), applied.clone());
    Some(annotations)
}

/// Whether `new` is the template of `old` without its injection, its record and its instructions.
fn removes_only_adieu(new: &Workload<'_>, old: &Workload<'_>) -> bool {
    let without_instructions = |mut template: Value| {
        let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) else {
            return template;
        };
        // A client that removes the hooks may leave the label; the webhook then removes it.
        let is_own =
            |map: &str, key: &str| map == "annotations" && annotations::is_own(key) || key == INJECTION;
        for map in ["annotations", "labels"] {
            if let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) {
                entries.retain(|key, _| !is_own(map, key));
                if entries.is_empty() {
                    metadata.remove(map);
                }
            }
        }
        template
    };
    old.template.record_text().is_some()
        && new.template.record_text().is_none()
        && without_instructions(Value::clone(&new.template))
            == without_instructions(original(&old.template, None))
}

/// The Deployment controller's annotation with the number of the revision.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Keeps the template of `old` if neither the template nor an annotation changed, even if Git has an export of an earlier
/// injection: only the controller rolls out policy changes. Its writes are admitted unchanged, as are rollbacks to an
/// earlier injection.
fn keep_existing(
    new: &Workload<'_>,
    old: &Workload<'_>,
    context: &NamespaceContext,
    without_field_manager: bool,
) -> Option<Value> {
    let (new_record, old_record) = (new.template.record_text(), old.template.record_text());
    let is_rollback = without_field_manager && new_record.is_some() && new_record != old_record;
    let planned = || evaluate(old, context).template.as_ref() == Some(&*new.template);
    let reverts = old_record.is_some() && !is_rollback && *new.template != *old.template && !planned();
    reverts.then(|| Value::clone(&old.template))
}

/// The injection with the settings of the earlier one, for present settings that can't be injected, such as a lowered
/// maximum: an injected workload stays injected.
fn keep_injected(new: &Workload<'_>, old: &Workload<'_>, injection: &InjectionContext<'_>) -> Option<Value> {
    let recorded = old.template.record()?;
    let kept = inject(&new.template, Some(&old.template), &recorded.settings, injection);
    (!kept.unsatisfiable).then_some(kept.template)
}

/// Whether the command line made the injection.
fn is_rendered(workload: &Workload<'_>) -> bool {
    workload.template.rendered_record().is_some()
}

/// Whether the request has an injection by the command line, and the cluster another one. The manifest may be older than
/// the result of the cluster's policies, so they are applied again.
fn is_rendered_again(new: &Workload<'_>, old: &Workload<'_>) -> bool {
    new.template.record_text() != old.template.record_text() && is_rendered(new)
}

/// Whether adieu's annotations changed, apart from those that it writes itself.
fn instructions_changed(new: &Workload<'_>, old: &Workload<'_>) -> bool {
    new.instructions() != old.instructions()
}

/// Whether the template changed, apart from the injection.
fn template_changed(new: &Workload<'_>, old: &Workload<'_>) -> bool {
    if *new.template == *old.template {
        return false;
    }
    let earlier = old.template.record();
    reverted(&new.template, new.template.record().or(earlier)) != reverted(&old.template, earlier)
}

/// The malformed values of the request, and those that are older.
fn new_and_preexisting(invalid: &[Invalid], old: Option<&Workload<'_>>) -> (Vec<Invalid>, Vec<Invalid>) {
    let old = old.filter(|_| !invalid.is_empty()).map(Workload::parsed_annotations);
    let is_preexisting =
        |invalid: &Invalid| old.iter().flatten().any(|parsed| parsed.invalid.contains(invalid));
    invalid.iter().cloned().partition(|invalid| !is_preexisting(invalid))
}

#[cfg(test)]
#[path = "admit_tests/mod.rs"]
mod tests;
