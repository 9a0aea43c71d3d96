//! Warnings about the configuration of a workload, such as settings without effect, or pods that bypass the webhook. The
//! API server cuts a warning at 256 characters.

use std::collections::BTreeMap;

use super::{
    context::NamespaceContext,
    inject::{Injected, original},
    record::{self, ContainerRecord},
    resolve::{OptIn, Resolution},
    settings::{Setting, Settings},
    source::Source,
    workload::{Kind, Workload, string_map},
};
use crate::{
    api::{
        Mode,
        annotations::{self, GRACEFUL, POLICY},
        labels,
    },
    text::counted,
};

/// How many overridden policies are named.
const MAX_OVERRIDDEN: usize = 8;
/// How many labels are named.
const MAX_LABELS: usize = 2;
/// The longest automatic drain, in seconds, of which there is no warning although a rollout waits for each pod: with it, 60
/// pods take an hour.
const MAX_AWAITED_DRAIN_SECONDS: i64 = 60;

/// Configuration without effect: settings without an opt-in, and overridden policies. Also an automatic drain that makes
/// rollouts slow.
pub(super) fn on_workload(workload: &Workload<'_>, resolution: &Resolution) -> Vec<String> {
    match &resolution.opt_in {
        OptIn::In(_) => {
            let overridden = resolution.overridden_policies.iter().take(MAX_OVERRIDDEN).map(overridden);
            overridden.chain(awaited_drain(workload, resolution)).collect()
        }
        OptIn::Unspecified => without_opt_in(workload).into_iter().collect(),
        OptIn::Out => vec![],
    }
}

fn overridden(policy: &Source) -> String {
    format!(
        "{policy} also applies to this workload, but another policy overrides it (by priority, then age, then name): \
         set spec.priority to decide, or narrow a selector"
    )
}

/// The cost of a long automatic drain, if a rollout waits until each pod has terminated. A rolling update of a Deployment
/// doesn't wait for pods that terminate.
pub(super) fn awaited_drain(workload: &Workload<'_>, resolution: &Resolution) -> Option<String> {
    let Setting { value: drain, from } = &resolution.settings.drain_seconds;
    let is_long = from.is_automatic() && *drain > MAX_AWAITED_DRAIN_SECONDS;
    if !is_long || resolution.reverts || !matches!(resolution.opt_in, OptIn::In(_)) {
        return None;
    }
    let minutes = 10 * drain / 60;
    let cost = match workload.kind? {
        Kind::StatefulSet => {
            format!("a StatefulSet waits for each pod: a rollout of 10 pods takes {minutes} min or more")
        }
        Kind::DaemonSet => {
            format!("a DaemonSet waits for each pod: a rollout on 10 nodes takes {minutes} min or more")
        }
        Kind::Deployment if workload.recreates => {
            "with strategy Recreate no new pod starts before that in a rollout".to_owned()
        }
        Kind::Deployment if workload.replaces_terminated => format!(
            "with podReplacementPolicy TerminationComplete a rollout of 10 pods may take {minutes} min"
        ),
        Kind::Deployment => return None,
    };
    Some(format!(
        "each pod drains for {drain} s, and {cost}; if that is too long, set {} to a number ({from})",
        annotations::DRAIN_SECONDS
    ))
}

/// Labels that should be annotations.
pub(super) fn labels_for_annotations(workload: &Workload<'_>) -> Option<String> {
    let template = &workload.template["metadata"]["labels"];
    let of_workload = annotations::KEYS.iter().filter(|key| workload.labels.contains_key(**key));
    let of_template = annotations::KEYS.iter().filter(|key| template.get(**key).is_some());
    let of_template = of_template.map(|key| ("spec.template.metadata", key));
    let found: Vec<_> = of_workload.map(|key| ("metadata", key)).chain(of_template).collect();
    let (first, _) = found.first()?;
    let named = found.iter().take(MAX_LABELS).map(|(metadata, key)| format!("{metadata}.labels[{key}]"));
    let named = named.collect::<Vec<_>>().join(", ");
    let more = match found.len().saturating_sub(MAX_LABELS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (have, them) = if found.len() == 1 { ("has", "it") } else { ("have", "them") };
    Some(format!("{named}{more} {have} no effect: move {them} to {first}.annotations"))
}

/// Settings that need an opt-in.
fn without_opt_in(workload: &Workload<'_>) -> Option<String> {
    let keys = |map: &BTreeMap<String, String>| -> Vec<String> {
        map.keys().filter(|key| annotations::KEYS.contains(&key.as_str())).cloned().collect()
    };
    let mut keys = [keys(workload.annotations), keys(&workload.template_annotations())].concat();
    keys.sort();
    keys.dedup();
    // A malformed value of these is reported elsewhere.
    let has_opt_in = keys.iter().any(|key| [GRACEFUL, POLICY].contains(&key.as_str()));
    (!keys.is_empty() && !has_opt_in).then(|| {
        format!(
            "{} {} no effect without an opt-in: add the annotation {GRACEFUL}: \"true\"",
            keys.join(", "),
            if keys.len() == 1 { "has" } else { "have" }
        )
    })
}

/// The injection that a policy in mode `Audit` prevents.
pub(super) fn while_auditing(settings: &Settings, injected: Injected) -> Vec<String> {
    let Injected { template, mut warnings, unsatisfiable } = injected;
    if let (false, Some(record)) = (unsatisfiable, record::read(&template)) {
        let given = |has: fn(&ContainerRecord) -> bool| record.containers.values().filter(|c| has(c)).count();
        let (hooks, probes) = (given(|c| c.pre_stop.is_some()), given(|c| c.readiness_probe.is_some()));
        let set = |count: usize, what: &str| {
            (count > 0).then(|| format!("{what} in {}", counted(count, "container")))
        };
        let grace_period =
            record.grace_period.as_ref().map(|f| format!("a grace period of {} s", f.injected));
        let parts = [set(hooks, "a preStop"), set(probes, "a readiness probe"), grace_period];
        warnings.push(format!(
            "nothing is changed, because {} has mode Audit. With Enforce, adieu would set {}",
            settings.mode.from,
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        ));
    }
    warnings
}

/// The reason why a manifest that a policy opts in is not injected.
pub(super) fn while_reverting(settings: &Settings) -> String {
    format!(
        "nothing is injected, because {} has rollout mode Revert: choose another mode, or add the annotation \
         {GRACEFUL}: \"true\"",
        settings.rollout_mode.from
    )
}

/// The reason why a manifest isn't changed whose pods are injected when they are created.
pub(super) fn injected_by_pod(workload: &Workload<'_>, settings: &Settings) -> String {
    let how = "in a cluster with adieu its pods are injected if the namespace or the pod template has the label \
               adieu.dev/injection=enabled";
    if workload.controlled {
        format!(
            "the manifest is not changed, because another controller owns this workload and would revert a change; {how}"
        )
    } else {
        format!(
            "the manifest is not changed, because {} sets injectionTarget: Pod; {how}",
            settings.injection.from
        )
    }
}

/// The warning for a workload whose pods are to be injected when they are created, and bypass the webhook.
pub(super) fn webhook_bypass_warning(
    workload: &Workload<'_>,
    resolution: &Resolution,
    context: &NamespaceContext,
) -> Option<&'static str> {
    let Resolution { settings, opt_in, reverts, .. } = resolution;
    let by_pod = matches!(opt_in, OptIn::In(_)) && !reverts && workload.is_injected_by_pod(settings);
    let by_pod = by_pod && !workload.is_injected_copy();
    let wanted = by_pod && settings.mode.value == Mode::Enforce;
    // A label that an injection added is removed with it.
    let is_labelled = || {
        let template = original(&workload.template, None);
        labels::is_enabled(&string_map(&template["metadata"]["labels"]))
    };
    (wanted && !context.injection_enabled && !is_labelled()).then_some(
        "its pods bypass the webhook, so nothing is injected: put the label adieu.dev/injection=enabled on the \
         namespace or on the pod template (an annotation does not route pods to the webhook)",
    )
}

#[cfg(test)]
#[path = "awaited_drain_tests.rs"]
mod awaited_drain_tests;
#[cfg(test)]
#[path = "settings_warnings_tests.rs"]
mod tests;
