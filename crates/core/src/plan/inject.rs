//! Injects settings into a pod template: preStop, readiness probe, grace period, spread, and their record.

use serde_json::{Value, json};

use super::{
    context::InjectionContext,
    grace_period::{self, grace_period, shortened_to_maximum},
    hook_warnings,
    hooks::{Hooks, longest_sleep},
    pod_template::PodTemplate,
    readiness_probe,
    record::{self, GRACE_PERIOD, ParentState, Record, SPREAD, named_containers, replace_field},
    revert::revert,
    settings::Settings,
    warnings::Warnings,
    windows,
};
use crate::api::{annotations::INJECTED, limits};

/// A template after injection.
#[derive(Clone, Debug)]
pub struct Injected {
    /// The template.
    pub template: Value,
    /// Warnings for the user: values that are not injected, with the reason.
    pub warnings: Vec<String>,
    /// Whether nothing can be injected; the warnings have the reason.
    pub unsatisfiable: bool,
}

/// Injects into `template`. An earlier injection, by the template's record or that of `earlier`, is reverted first, so
/// that the injection is idempotent. The text of the record changes only with an injected value, because a new text
/// alone would cause a rollout.
#[must_use]
pub fn inject(
    template: &PodTemplate<'_>,
    earlier: Option<&PodTemplate<'_>>,
    settings: &Settings,
    injection: &InjectionContext<'_>,
) -> Injected {
    inject_with(template, earlier, settings, injection, true)
}

/// Injects into a pod that is being created. It needs no label, because it is at the webhook already.
///
/// A template keeps its earlier injection when the maximum is lowered. A pod has none to keep, so its shutdown timeout is
/// shortened to what the maximum allows: without a hook it would lose requests.
#[must_use]
pub(super) fn inject_pod(
    pod: &PodTemplate<'_>,
    settings: &Settings,
    injection: &InjectionContext<'_>,
) -> Injected {
    let injected = inject_with(pod, None, settings, injection, false);
    if !injected.unsatisfiable {
        return injected;
    }
    let own = original(pod, None);
    let spec = own["spec"].as_object();
    let hooks = Hooks { settings, native_sleep: injection.native_sleep };
    let Some(shortened) = spec.and_then(|spec| shortened_to_maximum(hooks, spec)) else { return injected };
    let mut within = inject_with(pod, None, &shortened, injection, false);
    if within.unsatisfiable {
        return injected;
    }
    let (wanted, maximum) = (&settings.shutdown_timeout_seconds, &settings.max_grace_period_seconds);
    let warning = format!(
        "the shutdown timeout is {} s instead of {} s ({}), because the maximum grace period is {} s ({})",
        shortened.shutdown_timeout_seconds.value, wanted.value, wanted.from, maximum.value, maximum.from
    );
    within.warnings.insert(0, warning);
    within
}

/// Injects, and with `label` sets the label that routes a template's pods to the webhook. A cluster keeps rendered
/// injections, even those of an older command line, without the label.
fn inject_with(
    template: &PodTemplate<'_>,
    earlier: Option<&PodTemplate<'_>>,
    settings: &Settings,
    injection: &InjectionContext<'_>,
    label: bool,
) -> Injected {
    let own = template.record();
    let as_rendered = !injection.rendered && own.is_some_and(|own| own.rendered && own.labels.is_none());
    let label = label && !as_rendered;
    let carrier = if own.is_some() { Some(template) } else { earlier };
    let old_record = carrier.and_then(PodTemplate::record);
    let mut injected = reverted(template, old_record);
    let mut warnings = Warnings::default();
    if let Some(own) = own {
        own.warn_renamed_containers(template, &mut warnings);
    }
    // A probe that was chosen on creation, without a Service, is kept until a Service selects the pods.
    let probed = |record: &Record| record.containers.values().any(|given| given.readiness_probe.is_some());
    let injection =
        &InjectionContext { creating: injection.creating || old_record.is_some_and(probed), ..*injection };
    match apply(&mut injected, settings, injection, &mut warnings) {
        Ok(mut new_record) if !new_record.is_empty() => {
            new_record.rendered = injection.rendered || old_record.is_some_and(|old| old.rendered);
            match write(&mut injected, new_record, old_record.zip(carrier), label) {
                Ok(()) => {
                    Injected { template: injected, warnings: warnings.into_vec(), unsatisfiable: false }
                }
                Err(why) => unsatisfiable(template, earlier, why, warnings),
            }
        }
        // Nothing to inject, and so nothing to record.
        Ok(_) => Injected { template: injected, warnings: warnings.into_vec(), unsatisfiable: false },
        Err(why) => unsatisfiable(template, earlier, why, warnings),
    }
}

/// The result if nothing can be injected. Some places show only the first warnings, so the reason comes first.
fn unsatisfiable(
    template: &PodTemplate<'_>,
    earlier: Option<&PodTemplate<'_>>,
    reason: String,
    warnings: Warnings,
) -> Injected {
    let warnings = std::iter::once(reason).chain(warnings.into_vec()).collect();
    Injected { template: opt_out(template, earlier), warnings, unsatisfiable: true }
}

/// The limit of the API server for the annotations of one object, keys and values together, in bytes
/// (`TotalAnnotationSizeLimitB`).
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// The template without its injection, by its own record or that of `earlier`, the template before the request.
#[must_use]
pub fn original(template: &PodTemplate<'_>, earlier: Option<&PodTemplate<'_>>) -> Value {
    reverted(template, template.record().or_else(|| earlier.and_then(PodTemplate::record)))
}

/// The [`original`], in a form that the API server accepts: if a sleep is longer than the original grace period, the
/// present one is kept, with which the sleep was accepted.
#[must_use]
pub fn opt_out(template: &PodTemplate<'_>, earlier: Option<&PodTemplate<'_>>) -> Value {
    let mut original = original(template, earlier);
    if let Some(spec) = original.get_mut("spec").and_then(Value::as_object_mut)
        && longest_sleep(spec) > grace_period(spec)
        && let Some(present) = template["spec"].get(GRACE_PERIOD)
    {
        spec.insert(GRACE_PERIOD.to_owned(), present.clone());
    }
    original
}

/// The template without the injection of `record`.
pub(super) fn reverted(template: &Value, record: Option<&Record>) -> Value {
    let mut reverted = template.clone();
    if let Some(record) = record {
        revert(&mut reverted, record);
    }
    reverted
}

/// An error if the template is too large to be injected: each container gets a copy of the hook and the probe, so that a
/// small request with many containers would take much memory, and commands are read several times.
pub(super) fn check_size(template: &Value) -> Result<(), String> {
    let lists =
        ["containers", "initContainers"].into_iter().filter_map(|key| template["spec"][key].as_array());
    let containers: Vec<_> = lists.flatten().collect();
    if containers.len() > limits::CONTAINERS {
        return Err(format!(
            "nothing is injected: the pod has {} containers and init containers, at most {} are allowed",
            containers.len(),
            limits::CONTAINERS
        ));
    }
    let commands = containers.iter().map(|container| &container["lifecycle"]["preStop"]["exec"]["command"]);
    let words = commands.filter_map(Value::as_array).flatten().filter_map(Value::as_str);
    let length: usize = words.map(str::len).sum();
    if length > limits::MAX_COMMANDS_SIZE {
        return Err(format!(
            "nothing is injected: the preStop commands have {} KiB, at most {} KiB are allowed: use a script in the image",
            length.div_ceil(1024),
            limits::MAX_COMMANDS_SIZE / 1024
        ));
    }
    Ok(())
}

/// Injects into a template without an injection. An error has the reason why nothing is injected.
fn apply(
    template: &mut Value,
    settings: &Settings,
    injection: &InjectionContext<'_>,
    warnings: &mut Warnings,
) -> Result<Record, String> {
    check_size(template)?;
    let mut record = Record::new(injection.opted_in_by.clone(), settings.clone());
    let probes = readiness_probe::choose(template, settings, injection, warnings);
    let spread = spread(template, settings, injection);
    // Without a spec there is nothing to inject into.
    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(record) };
    let hooks = Hooks { settings, native_sleep: injection.native_sleep };
    hook_warnings::on_template(hooks, spec, warnings);
    let grace_period = grace_period::needed(hooks, spec, warnings)?;
    windows::reject_sleep_command(hooks, spec)?;

    for (name, container) in named_containers(spec) {
        let given = record.containers.entry(name.clone()).or_default();
        hooks.inject(container, given);
        if let Some(probe) = probes.get(&name) {
            given.readiness_probe = Some(replace_field(container, "readinessProbe", probe.clone()));
        }
    }
    record.retain_injected();
    if let Some(spread) = spread {
        record.spread = Some(replace_field(spec, SPREAD, spread));
    }

    // The API server's default of 30 can't be distinguished from a user's value, so it is raised like any lower value.
    if let Some(seconds) = grace_period.changed(settings) {
        record.grace_period = Some(replace_field(spec, GRACE_PERIOD, json!(seconds)));
    }
    Ok(record)
}

/// A soft constraint over the pods of the workload, if it has none.
fn spread(template: &Value, settings: &Settings, injection: &InjectionContext<'_>) -> Option<Value> {
    let spread = settings.spread.value.as_ref()?;
    let none = match template["spec"].get(SPREAD) {
        None | Some(Value::Null) => true,
        Some(Value::Array(constraints)) => constraints.is_empty(),
        Some(_) => false,
    };
    let selector = injection.selector.filter(|selector| selector.is_object())?;
    none.then(|| {
        json!([{
            "maxSkew": 1,
            "topologyKey": spread.topology_key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": selector,
        }])
    })
}

/// Writes the record into the template's annotations and, with `label`, the label that routes its pods to the webhook.
/// The text of `earlier`, a record with its template, is kept if it has the same values. An error has the reason why the
/// record can't be written, so that nothing may be injected: it could not be reverted.
fn write(
    template: &mut Value,
    mut record: Record,
    earlier: Option<(&Record, &PodTemplate<'_>)>,
    label: bool,
) -> Result<(), String> {
    let annotations = template.as_object_mut().and_then(|template| {
        let (metadata_before, metadata) = ParentState::ensure_object(template, "metadata")?;
        if label {
            record.label(metadata);
        }
        let (annotations_before, annotations) = ParentState::ensure_object(metadata, "annotations")?;
        record.metadata = metadata_before;
        record.annotations = annotations_before;
        Some(annotations)
    });
    let Some(annotations) = annotations else {
        return Err(
            "nothing is injected: spec.template.metadata and its annotations must be objects to store the record"
                .into(),
        );
    };
    let kept = earlier.filter(|(earlier, _)| earlier.same_values(&record));
    let kept = kept.and_then(|(_, carrier)| carrier.record_text()).map(str::to_owned);
    let text = kept.or_else(|| record.into_text());
    if text.as_ref().is_some_and(|text| !record::is_readable(text)) {
        return Err(record::TOO_LARGE.to_owned());
    }
    annotations.insert(INJECTED.to_owned(), text.map_or(Value::Null, Value::String));
    let size: usize =
        annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > ANNOTATIONS_LIMIT {
        return Err(format!(
            "nothing is injected: with its record, the template's annotations would be larger than the {} KiB \
             that the API server accepts; make them smaller",
            ANNOTATIONS_LIMIT / 1024
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "inject_tests/mod.rs"]
mod tests;
