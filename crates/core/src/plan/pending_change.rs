//! The change of a workload's pod template that is still to be made: when, which values, and the settings that cause it.

use serde::Serialize;
use serde_json::Value;

use super::{
    accepted_settings::accepted,
    context::NamespaceContext,
    evaluate::{Evaluation, RolloutTiming},
    explained_settings::{FIELDS, Field, fields},
    injection_diff::{
        GRACE_PERIOD_FIELD, InjectionChange, PRE_STOP_FIELD, READINESS_PROBE_FIELD, template_changes,
    },
    resolve::OptIn,
    source::Source,
    termination::{ContainerTermination, termination},
    workload::Workload,
};

/// A change that adieu is to make.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingChange {
    /// When it is made.
    pub timing: RolloutTiming,
    /// The values that change.
    pub changes: Vec<ExplainedChange>,
}

/// A value that changes, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedChange {
    /// The value.
    #[serde(flatten)]
    pub change: InjectionChange,
    /// The settings that cause it. Empty if the workload isn't opted in.
    pub settings: Vec<CausingSetting>,
}

/// A setting that causes a change.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CausingSetting {
    /// Its field in a policy.
    pub field: &'static str,
    /// The value that applies.
    pub value: Value,
    /// Where it comes from.
    pub from: Source,
}

/// The change that is pending after this evaluation. `later` is the template that the workload gets with the next change
/// of its template, if the evaluation has none. `None` if no injected value is to be changed.
pub(super) fn pending_change(
    workload: &Workload<'_>,
    (evaluation, later): (&Evaluation, Option<&Value>),
    context: &NamespaceContext,
) -> Option<PendingChange> {
    // A policy in mode Audit writes nothing, and one that can't be read may opt the workload in.
    let has_later = evaluation.timing != RolloutTiming::DryRun && !context.has_unusable_policy;
    let (desired, timing) = match &evaluation.template {
        Some(template) => (template, evaluation.timing),
        None => (later.filter(|_| has_later)?, RolloutTiming::NextUpdate),
    };
    let changes = template_changes(workload, desired, evaluation.state, context);
    if changes.is_empty() && evaluation.template.is_none() {
        return None;
    }
    let causes = Causes::of(workload, evaluation, desired);
    let explained = changes.into_iter().map(|change| {
        let settings = causes.as_ref().map(|causes| causes.of_change(&change)).unwrap_or_default();
        ExplainedChange { change, settings }
    });
    Some(PendingChange { timing, changes: explained.collect() })
}

/// The settings that may cause a change.
struct Causes {
    /// The settings that apply.
    now: [Field; FIELDS],
    /// Those of the present injection, if there is one.
    before: Option<[Field; FIELDS]>,
    /// Whether a policy reverts the injection.
    reverts: bool,
    /// Whether the drain is a part of the grace period. It isn't if the hooks of the user take longer.
    counts_drain: bool,
    has_native_sidecars: bool,
}

impl Causes {
    /// `None` if the workload isn't opted in.
    fn of(workload: &Workload<'_>, evaluation: &Evaluation, desired: &Value) -> Option<Self> {
        let resolution = &evaluation.resolution;
        if !matches!(resolution.opt_in, OptIn::In(_)) {
            return None;
        }
        let record = workload.template.record();
        let drain = resolution.settings.drain_seconds.value;
        let termination = termination(desired, None);
        let (sidecars, regular): (Vec<_>, Vec<_>) =
            termination.containers.iter().partition(|container| container.native_sidecar);
        let takes_drain =
            |container: &&ContainerTermination| container.pre_stop_seconds == drain || !container.is_exact;
        Some(Self {
            now: fields(&resolution.settings),
            before: record.map(|record| fields(&accepted(workload, record).0)),
            reverts: resolution.reverts && !record.is_some_and(|record| record.rendered),
            counts_drain: termination.drain_seconds() <= drain && regular.iter().any(takes_drain),
            has_native_sidecars: !sidecars.is_empty(),
        })
    }

    /// The settings that differ from those of the present injection, or else those that the value is made of: if it is the
    /// first injection, or a value was reverted.
    fn of_change(&self, change: &InjectionChange) -> Vec<CausingSetting> {
        if self.reverts {
            return self.named(&["rollout.mode"]);
        }
        let may_cause = fields_that_may_cause(change.field);
        let before = self.before.as_ref().unwrap_or(&self.now);
        let differing = self.now.iter().zip(before).filter(|(now, before)| {
            let [now_value, before_value] = [&now.1, &before.1];
            let concerns = now.0 != EXCLUDED
                || change.container.is_none()
                || is_excluded(change, now_value) != is_excluded(change, before_value);
            now_value != before_value && may_cause.contains(&now.0) && concerns
        });
        let differing: Vec<_> = differing.map(|(now, _)| causing(now)).collect();
        if differing.is_empty() { self.named(&self.parts(change)) } else { differing }
    }

    /// The fields that a value is made of.
    fn parts(&self, change: &InjectionChange) -> Vec<&'static str> {
        let is_request = change.after.as_ref().is_some_and(|after| after.get("httpGet").is_some());
        let seconds = |value: &Option<Value>| value.as_ref().and_then(Value::as_i64);
        let is_lowered = seconds(&change.after) < seconds(&change.before);
        let parts = match change.field {
            PRE_STOP_FIELD => vec![
                ("drainSeconds", !is_request),
                (METHOD, is_request || self.is_set(METHOD)),
                ("preStop.httpGet", is_request),
                (EXISTING, change.before.is_some() && self.is_set(EXISTING)),
            ],
            READINESS_PROBE_FIELD => vec![("readinessProbe", true)],
            GRACE_PERIOD_FIELD => vec![
                ("drainSeconds", self.counts_drain),
                ("shutdownTimeoutSeconds", true),
                ("sidecarSeconds", self.has_native_sidecars),
                ("marginSeconds", true),
                ("gracePeriodPolicy", is_lowered),
            ],
            _ => vec![("topologySpread", true)],
        };
        parts.into_iter().filter(|(_, is_part)| *is_part).map(|(field, _)| field).collect()
    }

    fn is_set(&self, field: &str) -> bool {
        self.now.iter().any(|(name, _, from)| *name == field && *from != Source::Default)
    }

    fn named(&self, names: &[&str]) -> Vec<CausingSetting> {
        self.now.iter().filter(|(name, ..)| names.contains(name)).map(causing).collect()
    }
}

const METHOD: &str = "preStop.method";
const EXISTING: &str = "preStop.existingHookPolicy";
const EXCLUDED: &str = "excludedContainers";

/// The fields of a policy whose change may change a value.
fn fields_that_may_cause(field: &str) -> &'static [&'static str] {
    match field {
        PRE_STOP_FIELD => &["drainSeconds", METHOD, "preStop.httpGet", EXISTING, EXCLUDED],
        READINESS_PROBE_FIELD => &["readinessProbe", EXCLUDED],
        GRACE_PERIOD_FIELD => &[
            "drainSeconds",
            "shutdownTimeoutSeconds",
            "sidecarSeconds",
            "marginSeconds",
            "maxGracePeriodSeconds",
            "gracePeriodPolicy",
            EXISTING,
            EXCLUDED,
        ],
        _ => &["topologySpread"],
    }
}

/// Whether a list of excluded containers has the container of a change.
fn is_excluded(change: &InjectionChange, excluded: &Value) -> bool {
    let mut names = excluded.as_array().into_iter().flatten().filter_map(Value::as_str);
    names.any(|name| change.container.as_deref() == Some(name))
}

fn causing((field, value, from): &Field) -> CausingSetting {
    CausingSetting { field, value: value.clone(), from: from.clone() }
}

#[cfg(test)]
#[path = "pending_change_tests.rs"]
mod tests;
