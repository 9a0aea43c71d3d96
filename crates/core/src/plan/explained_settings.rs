//! The settings of a workload as the fields of a policy, each with its source and what lost against it.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    settings::{Setting, Settings},
    source::Source,
};
use crate::api::DrainSeconds;

/// A setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedSetting {
    /// Its field in a policy.
    pub field: &'static str,
    /// The value that applies.
    pub value: Value,
    /// Where it comes from.
    pub from: Source,
    /// What lost against it, the strongest first.
    pub overridden: Vec<OverriddenValue>,
}

/// A value that lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OverriddenValue {
    /// The value.
    pub value: Value,
    /// Where it comes from.
    pub from: Source,
}

/// How many fields there are.
pub(super) const FIELDS: usize = 19;

/// A field of a policy, its value, and the source of the value.
pub(super) type Field = (&'static str, Value, Source);

/// The settings, each with the values of the levels that lost.
pub(super) fn explained(settings: &Settings, levels: &[(Source, Settings)]) -> Vec<ExplainedSetting> {
    let defaults = Settings::default();
    let each: Vec<_> = levels.iter().map(|(_, settings)| fields(settings)).collect();
    let defaults = fields(&defaults);
    let explained = fields(settings).into_iter().enumerate().map(|(at, (field, value, from))| {
        let set = levels.iter().zip(&each).filter(|((source, _), fields)| fields[at].2.setter() == source);
        let of_levels = set.map(|((source, _), fields)| (source.clone(), without_exposures(&fields[at])));
        // A policy that an annotation names may select the workload too.
        let mut lost: Vec<(Source, Value)> = Vec::new();
        for (source, value) in of_levels.chain([(Source::Default, without_exposures(&defaults[at]))]) {
            if source != *from.setter() && lost.iter().all(|(known, _)| *known != source) {
                lost.push((source, value));
            }
        }
        ExplainedSetting {
            field,
            overridden: lost.into_iter().map(|(from, value)| OverriddenValue { value, from }).collect(),
            value,
            from,
        }
    });
    explained.collect()
}

/// The value of a field as a policy has it: an automatic drain is no number there.
fn without_exposures((field, value, from): &Field) -> Value {
    if *field == DRAIN && from.is_automatic() { json!(DrainSeconds::Auto) } else { value.clone() }
}

/// The field of the drain.
const DRAIN: &str = "drainSeconds";

/// The fields of a policy with their values and sources.
pub(super) fn fields(settings: &Settings) -> [Field; FIELDS] {
    fn field<T: Serialize>(name: &'static str, setting: &Setting<T>) -> Field {
        (name, json!(setting.value), setting.from.clone())
    }
    [
        field(DRAIN, &settings.drain_seconds),
        field("shutdownTimeoutSeconds", &settings.shutdown_timeout_seconds),
        field("sidecarSeconds", &settings.sidecar_seconds),
        field("marginSeconds", &settings.margin_seconds),
        field("maxGracePeriodSeconds", &settings.max_grace_period_seconds),
        field("gracePeriodPolicy", &settings.grace_period),
        field("preStop.method", &settings.pre_stop_method),
        field("preStop.httpGet", &settings.http_get),
        field("preStop.existingHookPolicy", &settings.existing),
        field("readinessProbe", &settings.readiness_probe),
        field("excludedContainers", &settings.exclude),
        field("topologySpread", &settings.spread),
        field("disruptionBudget", &settings.disruption_budget),
        field("injectionTarget", &settings.injection),
        field("mode", &settings.mode),
        field("rollout.mode", &settings.rollout_mode),
        field("rollout.onExposureChange", &settings.on_exposure_change),
        field("recommendations", &settings.recommendations),
        field("recommendationBounds", &settings.recommendation_bounds),
    ]
}
