//! Why a workload has its settings, and how the termination of its pods proceeds.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    command_duration::HookDuration,
    context::NamespaceContext,
    evaluate::{InjectionState, RolloutTiming, evaluate},
    grace_period::grace_period,
    hook_duration::pre_stop_duration,
    hooks::{own_hook, sidecars},
    render::effective_pods,
    resolve::{OptIn, resolve_each},
    settings::{Setting, Settings, Source},
    workload::Workload,
};

/// Why a workload has its settings, and what they do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether the workload is opted in, and by what.
    pub opted_in: OptedIn,
    /// Whether its present pods have the injection.
    pub state: InjectionState,
    /// What is still to be changed, and when. `None` if nothing is.
    pub pending: Option<PendingChange>,
    /// The settings, if it is opted in.
    pub settings: Vec<ExplainedSetting>,
    /// How its pods terminate: with the injection, if it is opted in.
    pub termination: Termination,
    /// Problems, for the user.
    pub warnings: Vec<String>,
}

/// Whether a workload is opted in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OptedIn {
    /// Whether it is.
    pub value: bool,
    /// The annotation or policy that opts it in; `None` if none does.
    pub from: Option<Source>,
    /// Whether an annotation opts it out, which wins over every policy.
    pub opted_out: bool,
    /// Whether its policy reverts the injection.
    pub reverts: bool,
}

/// A change that adieu is to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingChange {
    /// When it is made.
    pub timing: RolloutTiming,
}

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

/// The termination of a pod, in seconds from its start.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Termination {
    /// When the pod is killed.
    pub grace_period_seconds: i64,
    /// How long the application may take after SIGTERM; `None` if it isn't opted in: it is unknown.
    pub shutdown_timeout_seconds: Option<i64>,
    /// How long each native sidecar may take after SIGTERM; `None` if it isn't opted in: it is unknown.
    pub sidecar_seconds: Option<i64>,
    /// The regular containers and native sidecars.
    pub containers: Vec<ContainerTermination>,
}

/// The termination of a container.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerTermination {
    /// Its name.
    pub name: String,
    /// Whether it is a native sidecar, which gets SIGTERM after all regular containers have ended.
    pub native_sidecar: bool,
    /// Seconds that its preStop hook takes before SIGTERM; 0 without one.
    pub pre_stop_seconds: i64,
    /// Whether that is exact. Otherwise the hook takes at least as long.
    pub is_exact: bool,
}

impl Termination {
    /// The seconds until the last regular container gets its SIGTERM.
    #[must_use]
    pub fn drain_seconds(&self) -> i64 {
        let regular = self.containers.iter().filter(|container| !container.native_sidecar);
        regular.map(|container| container.pre_stop_seconds).max().unwrap_or(0)
    }

    /// The seconds until the last native sidecar has ended, if the regular containers have ended at `after`. The
    /// sidecars stop one after the other; their own preStop hooks begin at the start of the termination.
    #[must_use]
    pub fn sidecars_end_seconds(&self, after: i64) -> i64 {
        let sidecars = self.containers.iter().filter(|container| container.native_sidecar);
        let longest_hook = sidecars.clone().map(|sidecar| sidecar.pre_stop_seconds).max();
        let (Some(longest_hook), Some(each)) = (longest_hook, self.sidecar_seconds) else { return after };
        let count = i64::try_from(sidecars.count()).unwrap_or(i64::MAX);
        after.max(longest_hook).saturating_add(count.saturating_mul(each))
    }
}

/// Explains a workload in the context of its namespace.
#[must_use]
pub fn explain(workload: &Workload<'_>, context: &NamespaceContext) -> Explanation {
    let (resolution, levels) = resolve_each(workload, context);
    let evaluation = evaluate(workload, context);
    let opted_in = OptedIn {
        value: matches!(resolution.opt_in, OptIn::In(_)),
        from: resolution.opted_in_by().cloned(),
        opted_out: resolution.opt_in == OptIn::Out,
        reverts: resolution.reverts,
    };
    let settings = if opted_in.value { explained(&resolution.settings, &levels) } else { vec![] };
    let pods = effective_pods(workload, context);
    let settings_of_pods = pods.settings.as_ref();
    let shutdown = settings_of_pods.map(|settings| settings.shutdown_timeout_seconds.value);
    let sidecar_seconds = settings_of_pods.map(|settings| settings.sidecar_seconds.value);
    Explanation {
        opted_in,
        state: evaluation.state,
        pending: evaluation.template.as_ref().map(|_| PendingChange { timing: evaluation.timing }),
        settings,
        termination: Termination { sidecar_seconds, ..termination(&pods.template, shutdown) },
        warnings: evaluation.warnings,
    }
}

/// The settings, each with the values of the levels that lost.
fn explained(settings: &Settings, levels: &[(Source, Settings)]) -> Vec<ExplainedSetting> {
    let defaults = Settings::default();
    let each: Vec<_> = levels.iter().map(|(_, settings)| fields(settings)).collect();
    let defaults = fields(&defaults);
    let explained = fields(settings).into_iter().enumerate().map(|(at, (field, value, from))| {
        let set = levels.iter().zip(&each).filter(|((source, _), fields)| fields[at].2 == *source);
        let of_levels = set.map(|((source, _), fields)| (source.clone(), fields[at].1.clone()));
        // A policy that an annotation names may select the workload too.
        let mut lost: Vec<(Source, Value)> = Vec::new();
        for (source, value) in of_levels.chain([(Source::Default, defaults[at].1.clone())]) {
            if source != from && lost.iter().all(|(known, _)| *known != source) {
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

/// The fields of a policy with their values and sources.
fn fields(settings: &Settings) -> [(&'static str, Value, Source); 18] {
    fn field<T: Serialize>(name: &'static str, setting: &Setting<T>) -> (&'static str, Value, Source) {
        (name, json!(setting.value), setting.from.clone())
    }
    [
        field("drainSeconds", &settings.drain_seconds),
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
        field("recommendations", &settings.recommendations),
        field("recommendationBounds", &settings.recommendation_bounds),
    ]
}

/// The termination of the pods of a template, without `sidecar_seconds`.
pub(super) fn termination(template: &Value, shutdown_timeout_seconds: Option<i64>) -> Termination {
    let none = Map::new();
    let spec = template["spec"].as_object().unwrap_or(&none);
    let regular = spec.get("containers").and_then(Value::as_array).into_iter().flatten();
    let regular = regular.filter_map(Value::as_object).map(|container| (container, false));
    let sidecars = sidecars(spec).filter_map(Value::as_object).map(|container| (container, true));
    let containers = regular.chain(sidecars).map(|(container, native_sidecar)| {
        let (pre_stop_seconds, is_exact) = match own_hook(container).map(pre_stop_duration) {
            None => (0, true),
            Some(HookDuration::Exactly(seconds)) => (seconds, true),
            Some(HookDuration::AtLeast(seconds)) => (seconds, false),
            Some(HookDuration::Endless) => (i64::MAX, false),
        };
        ContainerTermination {
            name: container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            native_sidecar,
            pre_stop_seconds,
            is_exact,
        }
    });
    Termination {
        grace_period_seconds: grace_period(spec).unwrap_or_default(),
        shutdown_timeout_seconds,
        sidecar_seconds: None,
        containers: containers.collect(),
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
