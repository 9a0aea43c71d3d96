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
/// allows it: if it doesn't, there is a warning.
pub(super) fn with_exposures(
    settings: &mut Settings,
    workload: &Workload<'_>,
    labels: &BTreeMap<String, String>,
    context: &NamespaceContext,
) -> Option<String> {
    if !settings.drain_seconds.from.is_automatic() {
        return None;
    }
    let by = settings.drain_seconds.from.setter();
    let exposures = context.exposures.as_ref();
    // Asked first: the last ones may become known meanwhile.
    let are_known = exposures.is_some_and(|exposures| exposures.is_complete());
    let required = exposures.and_then(|exposures| exposures.required_drain(labels)).map(|required| {
        let from = Source::auto(by.clone(), Some(required.to_string()));
        Setting { value: required.bounded_seconds(), from }
    });
    let kept = kept(workload, are_known).map(|(value, reason)| {
        let from = Source::auto(by.clone(), Some(reason.to_owned()));
        Setting { value, from }
    });
    settings.drain_seconds = [kept, required].into_iter().flatten().max_by_key(|drain| drain.value)?;
    within_maximum(settings, workload, context.native_sleep)
}

/// The automatic drain of the present injection, with its reason, if it counts too. One by the command line follows from
/// the manifests, whose other objects the cluster may not have yet. Any other counts only while the exposures are unknown.
fn kept<'a>(workload: &'a Workload<'_>, are_known: bool) -> Option<(i64, &'a str)> {
    let template = &workload.template;
    let record = if are_known { template.rendered_record() } else { template.record() }?;
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
