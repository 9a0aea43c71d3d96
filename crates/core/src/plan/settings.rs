//! The effective values for one workload, each with its source.

use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::api::{
    DisruptionBudget, ExistingHookPolicy, ExposureChangeMode, GracePeriodPolicy, HttpGet, InjectionTarget,
    IntOrString, Mode, PreStopMethod, Probe, ProbeMode, RecommendationBounds, RecommendationMode,
    RolloutMode, TopologySpread, defaults, limits,
};

/// The effective values for one workload. Serialized, built-in defaults are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Seconds from the start of termination to SIGTERM. With [`Source::Auto`] they follow from the exposures of the pods.
    #[serde(skip_serializing_if = "Setting::is_default")]
    pub drain_seconds: Setting<i64>,
    /// Seconds from SIGTERM to the application's exit.
    #[serde(skip_serializing_if = "Setting::is_default")]
    pub shutdown_timeout_seconds: Setting<i64>,
    /// Seconds of reserve for each native sidecar.
    #[serde(skip_serializing_if = "Setting::is_default")]
    pub sidecar_seconds: Setting<i64>,
    /// Seconds of reserve on top.
    #[serde(skip_serializing_if = "Setting::is_default")]
    pub margin_seconds: Setting<i64>,
    /// The longest grace period, in seconds, that may be computed.
    #[serde(skip_serializing_if = "Setting::is_default")]
    pub max_grace_period_seconds: Setting<i64>,
    /// The treatment of a grace period that the user set.
    #[serde(skip_serializing_if = "Setting::is_default")]
    pub grace_period: Setting<GracePeriodPolicy>,
    /// The kind of preStop hook.
    #[serde(skip_serializing_if = "Setting::is_default")]
    pub pre_stop_method: Setting<PreStopMethod>,
    /// The request to the application, for the method `HTTPGet`.
    #[serde(skip_serializing_if = "Setting::is_default")]
    pub http_get: Setting<Option<HttpGet>>,
    /// The treatment of a preStop that the user wrote.
    #[serde(skip_serializing_if = "Setting::is_default")]
    pub existing: Setting<ExistingHookPolicy>,
    /// Which readiness probe is injected.
    #[serde(skip_serializing_if = "Setting::is_default")]
    pub readiness_probe: Setting<ProbeChoice>,
    /// Names of containers that are not injected.
    #[serde(skip_serializing_if = "Setting::is_default")]
    pub exclude: Setting<Vec<String>>,
    /// Where injection happens.
    #[serde(skip_serializing_if = "Setting::is_default")]
    pub injection: Setting<InjectionTarget>,
    /// A soft topology spread constraint.
    #[serde(skip_serializing_if = "Setting::is_default")]
    pub spread: Setting<Option<TopologySpread>>,
    /// The PodDisruptionBudget of the workload. Not part of the record, because it is not part of the template.
    #[serde(skip)]
    pub disruption_budget: Setting<Option<DisruptionBudget>>,
    /// Whether workloads are changed. Not part of the record: a recorded injection was enforced.
    #[serde(skip)]
    pub mode: Setting<Mode>,
    /// How a change of a policy is rolled out. Not part of the record: it is not injected.
    #[serde(skip)]
    pub rollout_mode: Setting<RolloutMode>,
    /// How a longer drain is rolled out if exposures change. Not part of the record: it is not injected.
    #[serde(skip)]
    pub on_exposure_change: Setting<ExposureChangeMode>,
    /// Whether recommendations are reported and applied. Not part of the record: it is not injected.
    #[serde(skip)]
    pub recommendations: Setting<RecommendationMode>,
    /// The bounds of an applied recommendation. Not part of the record: they are not injected.
    #[serde(skip)]
    pub recommendation_bounds: Setting<RecommendationBounds>,
}

/// Which readiness probe is injected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeChoice {
    /// Whether one is injected.
    pub mode: ProbeMode,
    /// The configured probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// A value and its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// The source of the value.
    pub from: Source,
}

impl<T> Setting<T> {
    fn default_of(value: T) -> Self {
        Self { value, from: Source::Default }
    }

    fn is_default(&self) -> bool {
        self.from == Source::Default
    }
}

impl<T: Default> Default for Setting<T> {
    fn default() -> Self {
        Self::default_of(T::default())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            drain_seconds: Setting::default_of(defaults::DRAIN_SECONDS),
            shutdown_timeout_seconds: Setting::default_of(defaults::SHUTDOWN_TIMEOUT_SECONDS),
            sidecar_seconds: Setting::default_of(defaults::SIDECAR_SECONDS),
            margin_seconds: Setting::default_of(defaults::MARGIN_SECONDS),
            max_grace_period_seconds: Setting::default_of(defaults::MAX_GRACE_PERIOD_SECONDS),
            grace_period: Setting::default(),
            pre_stop_method: Setting::default(),
            http_get: Setting::default(),
            existing: Setting::default(),
            readiness_probe: Setting::default(),
            exclude: Setting::default(),
            injection: Setting::default(),
            spread: Setting::default(),
            disruption_budget: Setting::default(),
            mode: Setting::default(),
            rollout_mode: Setting::default(),
            on_exposure_change: Setting::default(),
            recommendations: Setting::default(),
            recommendation_bounds: Setting::default(),
        }
    }
}

impl Settings {
    /// The values that the command line took from policies, of settings that it recorded. Annotations are part of the
    /// object anyway, and defaults are chosen again by each injection.
    pub(super) fn of_command_line(&self) -> Self {
        fn take<T: Clone>(to: &mut Setting<T>, from: &Setting<T>) {
            if from.from.policy().is_some() || *from.from.setter() == Source::CommandLine {
                *to = Setting { value: from.value.clone(), from: Source::CommandLine };
            }
        }
        let mut taken = Self::default();
        take(&mut taken.drain_seconds, &self.drain_seconds);
        if let Source::Auto { reason, .. } = &self.drain_seconds.from
            && taken.drain_seconds.from == Source::CommandLine
        {
            taken.drain_seconds.from = Source::auto(Source::CommandLine, reason.clone());
        }
        take(&mut taken.shutdown_timeout_seconds, &self.shutdown_timeout_seconds);
        take(&mut taken.sidecar_seconds, &self.sidecar_seconds);
        take(&mut taken.margin_seconds, &self.margin_seconds);
        take(&mut taken.max_grace_period_seconds, &self.max_grace_period_seconds);
        take(&mut taken.grace_period, &self.grace_period);
        take(&mut taken.pre_stop_method, &self.pre_stop_method);
        take(&mut taken.http_get, &self.http_get);
        take(&mut taken.existing, &self.existing);
        take(&mut taken.readiness_probe, &self.readiness_probe);
        take(&mut taken.exclude, &self.exclude);
        take(&mut taken.injection, &self.injection);
        take(&mut taken.spread, &self.spread);
        taken
    }

    /// These settings with the drain of others, if it is automatic in both: only the exposures differ.
    pub(super) fn with_drain_of(&self, others: &Self) -> Self {
        let are_automatic = [self, others].iter().all(|settings| settings.drain_seconds.from.is_automatic());
        let drain_seconds =
            if are_automatic { others.drain_seconds.clone() } else { self.drain_seconds.clone() };
        Self { drain_seconds, ..self.clone() }
    }

    /// Whether its texts are no longer than those of policies and annotations. Each container may get a copy of some.
    pub(super) fn is_bounded(&self) -> bool {
        let is_name = |name: &String| name.len() <= limits::CONTAINER_NAME_LENGTH;
        let is_port = |port: &IntOrString| !matches!(port, IntOrString::String(name) if !is_name(name));
        let request = self.http_get.value.as_ref();
        let probe = self.readiness_probe.value.probe.as_ref();
        let spread = self.spread.value.as_ref();
        let exclude = &self.exclude.value;
        request.is_none_or(|request| request.path.len() <= limits::PATH_LENGTH && is_port(&request.port))
            && probe.is_none_or(|probe| {
                serde_json::to_string(probe).is_ok_and(|text| text.len() <= limits::PROBE_LENGTH)
            })
            && spread.is_none_or(|spread| spread.topology_key.len() <= limits::TOPOLOGY_KEY_LENGTH)
            && exclude.len() <= limits::EXCLUDED_CONTAINERS
            && exclude.iter().all(is_name)
    }

    /// The source of each value.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        [
            &self.drain_seconds.from,
            &self.shutdown_timeout_seconds.from,
            &self.sidecar_seconds.from,
            &self.margin_seconds.from,
            &self.max_grace_period_seconds.from,
            &self.grace_period.from,
            &self.pre_stop_method.from,
            &self.http_get.from,
            &self.existing.from,
            &self.readiness_probe.from,
            &self.exclude.from,
            &self.injection.from,
            &self.spread.from,
            &self.disruption_budget.from,
            &self.mode.from,
            &self.rollout_mode.from,
            &self.on_exposure_change.from,
            &self.recommendations.from,
            &self.recommendation_bounds.from,
        ]
        .into_iter()
    }

    /// The sources, before and now, of the values that differ from those of `before`. A drain that follows from the exposures
    /// of the pods is the same setting, however long it is.
    pub fn changes<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = [&'a Source; 2]> {
        fn differ<'a, T: PartialEq>(before: &'a Setting<T>, now: &'a Setting<T>) -> Option<[&'a Source; 2]> {
            (before.value != now.value).then_some([&before.from, &now.from])
        }
        let [drain_before, drain] = [&before.drain_seconds, &self.drain_seconds];
        let [was_automatic, is_automatic] = [drain_before, drain].map(|drain| drain.from.is_automatic());
        // Other exposures are not another setting.
        let drain = match (was_automatic, is_automatic) {
            (true, true) => None,
            (false, false) => differ(drain_before, drain),
            _ => Some([&drain_before.from, &drain.from]),
        };
        [
            drain,
            differ(&before.shutdown_timeout_seconds, &self.shutdown_timeout_seconds),
            differ(&before.sidecar_seconds, &self.sidecar_seconds),
            differ(&before.margin_seconds, &self.margin_seconds),
            differ(&before.max_grace_period_seconds, &self.max_grace_period_seconds),
            differ(&before.grace_period, &self.grace_period),
            differ(&before.pre_stop_method, &self.pre_stop_method),
            differ(&before.http_get, &self.http_get),
            differ(&before.existing, &self.existing),
            differ(&before.readiness_probe, &self.readiness_probe),
            differ(&before.exclude, &self.exclude),
            differ(&before.injection, &self.injection),
            differ(&before.spread, &self.spread),
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn longer_texts_than_those_of_policies_are_not_accepted() {
        let header = json!({"name": "a".repeat(128), "value": "\"".repeat(512)});
        let path = format!("/{}", "\\".repeat(1023));
        let largest = json!({"httpGet": {"httpHeaders": vec![header; 8], "path": path, "port": 1}});
        for (field, value, expected) in [
            ("httpGet", json!({"path": "/".repeat(1024), "port": "http"}), true),
            ("httpGet", json!({"path": "/".repeat(1025), "port": "http"}), false),
            ("httpGet", json!({"path": "/", "port": "h".repeat(64)}), false),
            ("spread", json!({"topologyKey": "a".repeat(317)}), true),
            ("spread", json!({"topologyKey": "a".repeat(318)}), false),
            ("exclude", json!(vec!["a".repeat(63); 32]), true),
            ("exclude", json!(vec!["a".repeat(63); 33]), false),
            ("exclude", json!(["a".repeat(64)]), false),
            ("readinessProbe", json!({"mode": "Auto", "probe": largest}), true),
            (
                "readinessProbe",
                json!({"mode": "Auto", "probe": {"grpc": {"port": 1, "service": "a".repeat(17_000)}}}),
                false,
            ),
        ] {
            let settings: Settings =
                serde_json::from_value(json!({field: {"value": value, "from": "command line"}})).unwrap();
            assert_eq!(settings.is_bounded(), expected, "{field}: {value}");
        }
    }

    #[test]
    fn serialized_settings_omit_defaults() {
        let mut settings = Settings::default();
        assert_eq!(serde_json::to_string(&settings).unwrap(), "{}");
        settings.drain_seconds = Setting { value: 20, from: Source::Policy("web".into()) };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(text, r#"{"drainSeconds":{"value":20,"from":"policy web"}}"#);
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
    }

    #[test]
    fn an_automatic_drain_is_recorded_with_its_reason() {
        let reason = "Ingress shop/web (class alb) needs 300 s (built in)";
        let drain = |from| Setting { value: 300, from };
        for (by, start) in [(Source::Default, "Auto"), (Source::Policy("web".into()), "Auto, policy web")] {
            let drain_seconds = drain(Source::auto(by, Some(reason.to_owned())));
            let settings = Settings { drain_seconds, ..Settings::default() };
            let text = serde_json::to_string(&settings).unwrap();
            // The chart's final check reads the number.
            assert_eq!(text, format!(r#"{{"drainSeconds":{{"value":300,"from":"{start}: {reason}"}}}}"#));
            assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
        }
    }

    #[test]
    fn other_exposures_are_not_another_setting() {
        let policy = || Source::Policy("web".into());
        let auto = |by| Source::auto(by, Some("Service shop/web needs it".to_owned()));
        let settings =
            |value, from| Settings { drain_seconds: Setting { value, from }, ..Settings::default() };
        for (before, now, changes) in [
            (settings(10, Source::Default), settings(300, auto(Source::Default)), 0),
            (settings(300, auto(policy())), settings(10, Source::Default), 0),
            (settings(300, auto(policy())), settings(90, auto(Source::WorkloadAnnotation)), 0),
            (settings(300, auto(policy())), settings(300, policy()), 1),
            (settings(90, policy()), settings(90, auto(policy())), 1),
            (settings(90, policy()), settings(90, Source::Policy("other".into())), 0),
            (settings(90, policy()), settings(10, Source::Default), 1),
        ] {
            assert_eq!(now.changes(&before).count(), changes, "{before:?}, {now:?}");
        }
    }
}
