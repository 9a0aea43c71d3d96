//! Injects workloads in manifests.

use serde_json::Value;

use super::{
    admit::Admission,
    auto_drain::with_exposures,
    context::{InjectionContext, NamespaceContext},
    inject::{Injected, inject, inject_pod, original, reverted},
    pod_template::PodTemplate,
    resolve::{OptIn, resolve},
    settings::Settings,
    settings_warnings,
    source::Source,
    warnings::Warnings,
    workload::Workload,
};
use crate::api::{Mode, annotations::INJECTED};

/// Injects a workload of a manifest. With `all`, it is opted in unless an annotation opts it out.
///
/// The record is marked as the command line's, so a cluster with adieu keeps the injection, even without the policies
/// that it comes from.
#[must_use]
pub fn render(workload: &Workload<'_>, context: &NamespaceContext, all: bool) -> Admission {
    let mut resolution = resolve(workload, context);
    let mut warnings = resolution.warnings.clone();
    if all && resolution.opt_in == OptIn::Unspecified {
        resolution.opt_in = OptIn::In(Source::CommandLine);
        let labels = workload.template_labels();
        warnings.extend(with_exposures(&mut resolution.settings, workload, None, &labels, context));
    }
    warnings.extend(settings_warnings::on_workload(workload, &resolution));
    let by_annotation =
        || workload.template.record().is_some_and(|record| record.opted_in_by.is_annotation());
    let settings = &resolution.settings;
    let inject = |creating, by| {
        let injection =
            InjectionContext { rendered: true, ..InjectionContext::of(workload, context, creating, by) };
        inject_workload(workload, settings, &injection)
    };
    let template = match &resolution.opt_in {
        _ if !resolution.invalid.is_empty() => None,
        OptIn::Out => Some(original(&workload.template, None)),
        // Its controller would restore its template.
        _ if workload.is_injected_copy() => None,
        // The annotation was removed.
        OptIn::Unspecified if by_annotation() => Some(original(&workload.template, None)),
        OptIn::Unspecified => None,
        OptIn::In(by) if settings.mode.value == Mode::Audit => {
            warnings.extend(settings_warnings::while_auditing(settings, inject(true, by)));
            None
        }
        OptIn::In(_) if resolution.reverts => {
            warnings.push(settings_warnings::while_reverting(settings));
            Some(original(&workload.template, None))
        }
        OptIn::In(by) if workload.is_injected_by_pod(settings) => {
            let injected = inject(false, by);
            warnings.extend(injected.warnings);
            if !injected.unsatisfiable {
                warnings.push(settings_warnings::injected_by_pod(workload, settings));
            }
            Some(original(&workload.template, None))
        }
        OptIn::In(by) => {
            let injected = inject(true, by);
            warnings.extend(injected.warnings);
            Some(injected.template)
        }
    };
    let template = template.filter(|template| *template != *workload.template);
    Admission { template, denials: resolution.invalid, warnings }
}

/// Injects into the template, or as the pods are injected when they are created.
fn inject_workload(
    workload: &Workload<'_>,
    settings: &Settings,
    injection: &InjectionContext<'_>,
) -> Injected {
    if workload.is_injected_by_pod(settings) {
        inject_pod(&workload.template, settings, injection)
    } else {
        inject(&workload.template, None, settings, injection)
    }
}

/// The pods of a workload, as they run with adieu.
#[derive(Clone, Debug)]
pub struct EffectivePods {
    /// The template with the injection, whether adieu changes the template or the pods.
    pub template: Value,
    /// The settings; `None` if nothing is injected.
    pub settings: Option<Settings>,
}

/// The pods of a workload, as they run once adieu has injected them or reverted the injection.
#[must_use]
pub fn effective_pods(workload: &Workload<'_>, context: &NamespaceContext) -> EffectivePods {
    let resolution = resolve(workload, context);
    let settings = &resolution.settings;
    let unchanged = || EffectivePods { template: (*workload.template).clone(), settings: None };
    match &resolution.opt_in {
        _ if !resolution.invalid.is_empty() || workload.is_injected_copy() => unchanged(),
        OptIn::In(_) if resolution.reverts => {
            EffectivePods { template: original(&workload.template, None), settings: None }
        }
        OptIn::In(by) if settings.mode.value == Mode::Enforce => {
            let injection = InjectionContext::of(workload, context, true, by);
            let injected = inject_workload(workload, settings, &injection);
            // Pods may get a shorter shutdown timeout.
            let recorded =
                PodTemplate::new(&injected.template).record().map(|record| record.settings.clone());
            let settings = (!injected.unsatisfiable).then(|| recorded.unwrap_or_else(|| settings.clone()));
            EffectivePods { template: injected.template, settings }
        }
        OptIn::Out => EffectivePods { template: original(&workload.template, None), settings: None },
        OptIn::In(_) | OptIn::Unspecified => unchanged(),
    }
}

/// Reverts the injection of a workload in a manifest.
#[must_use]
pub fn revert(workload: &Workload<'_>) -> Admission {
    let mut warnings = Warnings::default();
    let record = workload.template.record();
    match record {
        Some(record) => record.warn_renamed_containers(&workload.template, &mut warnings),
        None if workload.template.record_text().is_some() => warnings.push(format!(
            "annotation {INJECTED} cannot be read, so nothing is reverted: it was edited manually, or written by \
             another version of adieu"
        )),
        None => {}
    }
    let template = reverted(&workload.template, record);
    let template = (template != *workload.template).then_some(template);
    Admission { template, denials: vec![], warnings: warnings.into_vec() }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
