//! The ways in which requests reach the pods of a workload, and the drain that each needs.

use adieu_exposures::{Exposure, ExposureDrain, ObjectName, Profiles, drain_behind};
use serde::Serialize;

use crate::{
    api::annotations::{DRAIN_SECONDS, GRACEFUL},
    plan::{Explanation, Termination},
};

/// An exposure of the pods, and the drain that it needs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExplainedExposure {
    /// The name of its built-in profile.
    pub(super) name: &'static str,
    /// The object that leads to the pods.
    pub(super) object: ObjectName,
    /// Its class, such as `IngressClass/nginx`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) class: Option<String>,
    /// The drain that it needs.
    pub(super) drain_seconds: i64,
    /// Why it needs that.
    pub(super) reason: String,
    /// Where that is from.
    pub(super) source: String,
    /// Whether the pods drain for less.
    pub(super) drain_too_short: bool,
}

/// Explains the exposures of pods that terminate like this.
pub(super) fn explained(
    exposures: Vec<Exposure>,
    termination: &Termination,
    profiles: &Profiles,
) -> Vec<ExplainedExposure> {
    let drain = drain_seconds(termination);
    // A hook of unknown duration may be long enough.
    let is_known =
        termination.containers.iter().all(|container| container.native_sidecar || container.is_exact);
    let explained = exposures.into_iter().map(|exposure| {
        let ExposureDrain { seconds, reason, source, .. } = drain_behind(&exposure, profiles);
        let Exposure { profile, class, object, .. } = exposure;
        let drain_too_short = is_known && drain < seconds;
        ExplainedExposure {
            name: profile.name,
            object,
            class,
            drain_seconds: seconds,
            reason,
            source,
            drain_too_short,
        }
    });
    explained.collect()
}

/// The seconds until SIGTERM, which at the end of the grace period don't wait for a hook.
pub(super) fn drain_seconds(termination: &Termination) -> i64 {
    termination.drain_seconds().min(termination.grace_period_seconds.max(1))
}

/// The warning if the pods drain for less than one of their exposures needs, with a remedy.
pub(super) fn warning(explanation: &Explanation, exposures: &[ExplainedExposure]) -> Option<String> {
    let short = exposures.iter().filter(|exposure| exposure.drain_too_short);
    let longest = short.max_by_key(|exposure| exposure.drain_seconds)?;
    let ExplainedExposure { name, object, drain_seconds: needed, .. } = longest;
    let drain = drain_seconds(&explanation.termination);
    Some(format!(
        "the pods drain for {drain} s, but {object} ({name}) needs {needed} s, so requests may arrive after SIGTERM and be \
         lost: {}",
        remedy(explanation, drain, *needed)
    ))
}

fn remedy(explanation: &Explanation, drain: i64, needed: i64) -> String {
    let annotation = format!("{DRAIN_SECONDS}: \"{needed}\"");
    let setting = explanation.settings.iter().find(|setting| setting.field == "drainSeconds");
    let Some(setting) = setting else {
        return format!("annotate the workload with {GRACEFUL}: \"true\"");
    };
    if explanation.termination.shutdown_timeout_seconds.is_none() {
        return "nothing is injected, as its state and the other warnings explain".to_owned();
    }
    if setting.value.as_i64() > Some(drain) {
        return format!("its containers have preStop hooks of their own, which must take {needed} s");
    }
    if setting.from.is_automatic() {
        return "raise maxGracePeriodSeconds, which limits the drain".to_owned();
    }
    if setting.from.is_annotation() {
        return format!("annotate the workload with {annotation}");
    }
    let policy = setting.from.policy().map_or_else(|| "a policy".to_owned(), ToString::to_string);
    format!("annotate the workload with {annotation}, or set drainSeconds: {needed} in {policy}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use adieu_exposures::{NamespaceExposures, TrafficObject};
    use serde_json::{Value, json};

    use crate::{
        cli::explain::Explained,
        plan::{Completeness, Kind, NamespaceContext},
    };

    /// The policies of a kind; `null` for none.
    fn policies<T: serde::de::DeserializeOwned>(kind: &str, spec: &Value) -> Vec<Arc<T>> {
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": kind, "metadata": {"name": "checkout"}, "spec": spec,
        });
        if spec.is_null() { vec![] } else { vec![Arc::new(serde_json::from_value(policy).unwrap())] }
    }

    /// A Deployment behind an Ingress of ingress-nginx, which needs 30 s.
    fn explained(annotations: &Value, hook: &Value, context: NamespaceContext) -> Explained {
        let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}}});
        let context = NamespaceContext {
            services: vec![Arc::new(serde_json::from_value(service).unwrap())],
            ..context
        };
        let ingress = json!({
            "metadata": {"name": "shop"},
            "spec": {"ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web"}}},
        });
        let ingress = TrafficObject::read("networking.k8s.io", "Ingress", "shop", &ingress).unwrap();
        let objects: Arc<[_]> = Arc::from([Arc::new(ingress)]);
        let context = NamespaceExposures::added_to(context, "shop", objects.clone(), Completeness::Complete);
        let web = json!({"name": "web", "lifecycle": {"preStop": hook}});
        let workload = json!({
            "metadata": {"name": "web", "annotations": annotations},
            "spec": {"template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [web]},
            }},
        });
        let workload = serde_json::from_value(workload).unwrap();
        Explained::of(Kind::Deployment, "shop", &workload, &context, &objects)
    }

    #[test]
    fn a_drain_that_is_too_short_causes_a_warning_with_the_setting_to_change() {
        let graceful = || json!({"adieu.dev/graceful": "true"});
        let with_drain =
            |seconds: &str| json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": seconds});
        let annotate = "annotate the workload with adieu.dev/drain-seconds: \"30\"";
        let opt_in = "annotate the workload with adieu.dev/graceful: \"true\"";
        let in_policy = |policy: &str| format!("{annotate}, or set drainSeconds: 30 in {policy}");
        let own_hook = "its containers have preStop hooks of their own, which must take 30 s";
        let not_injected = "nothing is injected, as its state and the other warnings explain";
        let none = || json!(null);
        let (policy, maximum) =
            (json!({"selector": {}, "drainSeconds": 20}), json!({"maxGracePeriodSeconds": 20}));
        for (annotations, hook, policy, maximum, drain, remedy) in [
            (json!({}), none(), none(), none(), 0, opt_in.to_owned()),
            (with_drain("10"), none(), none(), none(), 10, annotate.to_owned()),
            (json!({}), none(), policy, none(), 20, in_policy("policy checkout")),
            (with_drain("25"), none(), none(), none(), 25, annotate.to_owned()),
            (with_drain("40"), json!({"sleep": {"seconds": 5}}), none(), none(), 5, own_hook.to_owned()),
            (graceful(), none(), none(), maximum, 0, not_injected.to_owned()),
        ] {
            let context = NamespaceContext {
                policies: policies("GracefulPolicy", &policy),
                cluster_policies: policies("ClusterGracefulPolicy", &maximum),
                ..NamespaceContext::default()
            };
            let explained = explained(&annotations, &hook, context);
            let expected = format!(
                "the pods drain for {drain} s, but Ingress shop/shop (ingress-nginx) needs 30 s, so requests may arrive after \
                 SIGTERM and be lost: {remedy}"
            );
            let warnings = &explained.explanation.warnings;
            assert!(warnings.contains(&expected), "{expected}: {warnings:?}");
            let ingress = explained.exposures.iter().find(|exposure| exposure.name == "ingress-nginx");
            assert!(ingress.unwrap().drain_too_short, "{expected}");
        }
    }

    #[test]
    fn a_drain_that_is_long_enough_or_of_unknown_duration_causes_no_warning() {
        let unknown = json!({"exec": {"command": ["/drain"]}});
        for (drain, hook) in [("30", json!(null)), ("auto", json!(null)), ("10", unknown)] {
            let annotations = json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": drain});
            let explained = explained(&annotations, &hook, NamespaceContext::default());
            let names: Vec<_> = explained.exposures.iter().map(|exposure| exposure.name).collect();
            assert_eq!(names, ["cluster-ip", "ingress-nginx"]);
            assert!(explained.exposures.iter().all(|exposure| !exposure.drain_too_short), "{hook}");
            let warnings = &explained.explanation.warnings;
            assert!(!warnings.iter().any(|warning| warning.contains("needs 30 s")), "{warnings:?}");
        }
    }
}
