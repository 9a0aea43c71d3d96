//! What becomes of a workload that somebody creates or updates.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Facts, OptIn, Surroundings, Workload,
    inject::{inject, opt_out},
    record, resolve,
};
use crate::api::{
    Injection, Mode,
    annotations::{self, Invalid},
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
pub fn admit(new: &Workload<'_>, old: Option<&Workload<'_>>, surroundings: &Surroundings) -> Admission {
    let resolution = resolve(new, surroundings);
    let (refusals, tolerated): (Vec<_>, Vec<_>) =
        resolution.invalid.into_iter().partition(|invalid| !stood_before(invalid, old));
    let mut warnings = resolution.warnings;
    warnings.extend(tolerated.into_iter().map(|invalid| format!("annotation ignored: {invalid}")));

    let earlier = old.map(|old| old.template);
    let template = match (&resolution.opt_in, old) {
        _ if !refusals.is_empty() => None,
        (OptIn::Out, _) => Some(opt_out(new.template, earlier)),
        (_, Some(old)) if !said_otherwise(new, old) && !template_changed(new, old) => as_it_was(new, old),
        // An annotation was taken away, or a policy is gone and the template changes anyway.
        (OptIn::Unmentioned, _) => Some(opt_out(new.template, earlier)),
        (OptIn::In(_), _) if resolution.settings.mode.value == Mode::Observe => None,
        // The pods get it as they are created.
        (OptIn::In(_), _) if new.controlled || resolution.settings.injection.value == Injection::Pod => {
            Some(opt_out(new.template, earlier))
        }
        (OptIn::In(by), _) => {
            let facts = Facts::of(new, surroundings, old.is_none(), by);
            let injected = inject(new.template, earlier, &resolution.settings, &facts);
            warnings.extend(injected.warnings);
            Some(injected.template)
        }
    };
    Admission { template: template.filter(|template| template != new.template), refusals, warnings }
}

/// The annotations of a workload that `kubectl rollout undo` takes back to an earlier revision, with what
/// `old` tells adieu. It also brings back the annotations that the workload had then, which is nobody's
/// decision to opt out. `None` where nothing is missing.
#[must_use]
pub fn keep_instructions(
    new: &BTreeMap<String, String>,
    old: &BTreeMap<String, String>,
) -> Option<BTreeMap<String, String>> {
    let mut kept = new.clone();
    for (key, value) in annotations::instructions(old) {
        kept.entry(key.clone()).or_insert_with(|| value.clone());
    }
    (kept.len() > new.len()).then_some(kept)
}

/// Neither the template nor an annotation changed: what is injected stays as it is. A policy change
/// reaches running workloads through the controller only, whose writes come by here with a record of
/// their own.
fn as_it_was(new: &Workload<'_>, old: &Workload<'_>) -> Option<Value> {
    let (new_record, old_record) = (record::text(new.template), record::text(old.template));
    let rewritten = new_record.is_some() && new_record != old_record;
    (old_record.is_some() && !rewritten).then(|| old.template.clone())
}

/// Whether a person changed what the annotations tell adieu.
fn said_otherwise(new: &Workload<'_>, old: &Workload<'_>) -> bool {
    new.instructions() != old.instructions()
}

/// Whether the template changed in anything but what adieu injects.
fn template_changed(new: &Workload<'_>, old: &Workload<'_>) -> bool {
    new.template != old.template && opt_out(new.template, Some(old.template)) != opt_out(old.template, None)
}

/// Whether the malformed value is none of this request's doing.
fn stood_before(invalid: &Invalid, old: Option<&Workload<'_>>) -> bool {
    old.is_some_and(|old| old.parsed_annotations().iter().any(|parsed| parsed.invalid.contains(invalid)))
}

#[cfg(test)]
#[path = "admit_tests.rs"]
mod tests;
