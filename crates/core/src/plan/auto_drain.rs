//! The drain with `drainSeconds: Auto`, which also applies if nothing sets it: the longest that an exposure of the pods
//! needs.
//!
//! An exposure that appears or changes causes no rollout, as a new Service doesn't: a request that changes neither the
//! template nor an annotation keeps the injection, and other exposures are not another setting.

use std::collections::BTreeMap;

use super::{
    context::NamespaceContext,
    grace_period::{PodHooks, excess_seconds, grace_period_seconds},
    hooks::{Hooks, sidecars},
    inject::original,
    record::Record,
    required_drain::Completeness,
    settings::{Setting, Settings},
    source::Source,
    workload::Workload,
};
use crate::api::{DrainSeconds, defaults, limits};

/// The setting that a policy or an annotation gives, without the exposures of a workload.
pub(super) fn given(drain: DrainSeconds, source: &Source) -> Setting<i64> {
    match drain {
        DrainSeconds::Auto => {
            Setting { value: defaults::DRAIN_SECONDS, from: Source::auto(source.clone(), None) }
        }
        DrainSeconds::Seconds(value) => Setting { value, from: source.clone() },
    }
}

/// Sets an automatic drain to what the exposures of the pods with these labels need, as far as the maximum grace period
/// allows it: if it doesn't, there is a warning. `old` is the workload that a request replaces.
pub(super) fn with_exposures(
    settings: &mut Settings,
    workload: &Workload<'_>,
    old: Option<&Workload<'_>>,
    labels: &BTreeMap<String, String>,
    context: &NamespaceContext,
) -> Vec<String> {
    if !settings.drain_seconds.from.is_automatic() {
        return vec![];
    }
    let by = settings.drain_seconds.from.setter();
    let exposures = context.exposures.as_ref();
    let unknown = Completeness::Incomplete { object: None };
    let completeness = exposures.map_or(unknown, |exposures| exposures.completeness(labels));
    let are_known = completeness == Completeness::Complete;
    let required = exposures.and_then(|exposures| exposures.required_drain(labels)).map(|required| {
        let from = Source::auto(by.clone(), Some(required.to_string()));
        Setting { value: required.bounded_seconds(), from }
    });
    let kept = kept(workload, old, are_known).map(|(value, reason)| {
        let from = Source::auto(by.clone(), Some(reason.to_owned()));
        Setting { value, from }
    });
    // An unknown exposure may need the default.
    let may_be_short = are_known || kept.is_some();
    let required = required.filter(|drain| may_be_short || drain.value >= defaults::DRAIN_SECONDS);
    let mut warnings: Vec<_> = completeness.warning().into_iter().collect();
    if let Some(drain) = [kept, required].into_iter().flatten().max_by_key(|drain| drain.value) {
        settings.drain_seconds = drain;
        warnings.extend(within_maximum(settings, workload, context.native_sleep));
    }
    warnings
}

/// The automatic drain of the present injection, with its reason, if it counts too. One by the command line follows from
/// the manifests, whose other objects the cluster may not have yet. Any other counts only while the exposures are unknown,
/// and then also if the request drops its record, as `kubectl replace` does.
fn kept<'a>(
    workload: &'a Workload<'_>,
    old: Option<&'a Workload<'_>>,
    are_known: bool,
) -> Option<(i64, &'a str)> {
    let template = &workload.template;
    let records = if are_known {
        [template.rendered_record(), None]
    } else {
        [template.record(), old.and_then(|old| old.template.record())]
    };
    records.into_iter().flatten().filter_map(automatic_drain).max_by_key(|(value, _)| *value)
}

/// The automatic drain of an injection, with its reason.
fn automatic_drain(record: &Record) -> Option<(i64, &str)> {
    let Setting { value, from } = &record.settings.drain_seconds;
    match from {
        Source::Auto { reason: Some(reason), .. } => {
            Some(((*value).clamp(0, limits::DRAIN_SECONDS), reason.as_str()))
        }
        _ => None,
    }
}

/// Shortens an automatic drain to what the maximum grace period leaves, but not below the default: a short drain loses
/// fewer requests than none. Returns a warning.
fn within_maximum(settings: &mut Settings, workload: &Workload<'_>, native_sleep: bool) -> Option<String> {
    let wanted = settings.drain_seconds.value;
    let present = workload.template["spec"].as_object();
    let hooks = PodHooks {
        containers: wanted,
        native_sidecar_count: present.map_or(0, |spec| sidecars(spec).count()),
        ..PodHooks::default()
    };
    let maximum = settings.max_grace_period_seconds.clone();
    if wanted <= defaults::DRAIN_SECONDS || grace_period_seconds(settings, hooks) <= maximum.value {
        return None;
    }
    let own = original(&workload.template, None);
    let excess = excess_seconds(Hooks { settings, native_sleep }, own["spec"].as_object()?)?;
    let shortened = wanted.saturating_sub(excess.max(0)).max(defaults::DRAIN_SECONDS);
    settings.drain_seconds.value = shortened;
    (shortened < wanted).then(|| {
        format!(
            "the drain is {shortened} s instead of {wanted} s, because the maximum grace period is {} s ({}), and requests \
             may be lost: raise maxGracePeriodSeconds, or lower the shutdown timeout ({})",
            maximum.value, maximum.from, settings.drain_seconds.from
        )
    })
}

#[cfg(test)]
#[path = "auto_drain_tests.rs"]
pub(super) mod tests;
