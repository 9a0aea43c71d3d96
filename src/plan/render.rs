//! What becomes of a workload in a manifest.

use super::{
    Admission, Facts, OptIn, Source, Surroundings, Workload,
    inject::{inject, original},
    record, resolve,
};
use crate::api::{Mode, annotations::INJECTED};

/// Decides on a workload that is still to be applied. With `all`, it is opted in where nobody says
/// otherwise.
///
/// The record says that the command line made it. So a cluster that runs adieu takes what was injected as
/// it is, also while it doesn't know the policies that it was made from.
#[must_use]
pub fn render(workload: &Workload<'_>, surroundings: &Surroundings, all: bool) -> Admission {
    let resolution = resolve(workload, surroundings);
    let mut warnings = resolution.warnings;
    let opt_in = match resolution.opt_in {
        OptIn::Unmentioned if all => OptIn::In(Source::CommandLine),
        opt_in => opt_in,
    };
    let by_annotation =
        || record::read(workload.template).is_some_and(|record| record.opted_in_by.is_annotation());
    let settings = &resolution.settings;
    let template = match &opt_in {
        _ if !resolution.invalid.is_empty() => None,
        OptIn::Out => Some(original(workload.template, None)),
        // The annotation was taken away.
        OptIn::Unmentioned if by_annotation() => Some(original(workload.template, None)),
        OptIn::Unmentioned => None,
        OptIn::In(_) if settings.mode.value == Mode::Observe => None,
        OptIn::In(by) => {
            let by_pod = workload.is_injected_by_pod(settings);
            let facts = Facts { rendered: true, ..Facts::of(workload, surroundings, !by_pod, by) };
            let injected = inject(workload.template, None, settings, &facts);
            warnings.extend(injected.warnings);
            Some(if by_pod { original(workload.template, None) } else { injected.template })
        }
    };
    let template = template.filter(|template| template != workload.template);
    Admission { template, refusals: resolution.invalid, warnings }
}

/// Takes back what was injected into a workload in a manifest.
#[must_use]
pub fn revert(workload: &Workload<'_>) -> Admission {
    let unreadable = record::text(workload.template).is_some() && record::read(workload.template).is_none();
    let warnings = unreadable.then(|| {
        format!(
            "annotation {INJECTED} can't be read, so nothing is taken back: it was changed by hand, or written by another version of adieu"
        )
    });
    let template = original(workload.template, None);
    let template = (template != *workload.template).then_some(template);
    Admission { template, refusals: vec![], warnings: warnings.into_iter().collect() }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
