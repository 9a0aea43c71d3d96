use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    plan::{Kind, RolloutTiming},
};

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "containers": [{"name": "web"}, {"name": "log", "lifecycle": {"preStop": {"exec": {"command": ["/drain"]}}}}],
            "initContainers": [{"name": "proxy", "restartPolicy": "Always"}],
            "terminationGracePeriodSeconds": 30,
        },
    })
}

fn context() -> NamespaceContext {
    let policy = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "adieu.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let own: GracefulPolicy = serde_json::from_value(policy(
        "GracefulPolicy",
        "checkout",
        json!({"selector": {}, "drainSeconds": 20, "rollout": {"mode": "NextUpdate"}}),
    ))
    .unwrap();
    let defaults: ClusterGracefulPolicy = serde_json::from_value(policy(
        "ClusterGracefulPolicy",
        "defaults",
        json!({"drainSeconds": 15, "marginSeconds": 9}),
    ))
    .unwrap();
    NamespaceContext {
        policies: vec![Arc::new(own)],
        cluster_policies: vec![Arc::new(defaults)],
        ..NamespaceContext::default()
    }
}

fn explained_with(annotations: &[(&str, &str)]) -> Explanation {
    let annotations: BTreeMap<_, _> =
        annotations.iter().map(|(key, value)| (format!("adieu.dev/{key}"), (*value).to_owned())).collect();
    let template = template();
    explain(&Workload::new(Kind::Deployment, &annotations, &template), &context())
}

#[test]
fn each_setting_names_its_source_and_what_lost() {
    let explanation = explained_with(&[("drain-seconds", "40"), ("policy", "checkout")]);
    let setting = |field: &str| {
        let found = explanation.settings.iter().find(|setting| setting.field == field).unwrap();
        let lost = found.overridden.iter().map(|lost| (lost.from.to_string(), lost.value.clone()));
        (found.value.clone(), found.from.to_string(), lost.collect::<Vec<_>>())
    };
    let lost = |from: &str, value: i64| (from.to_owned(), json!(value));
    assert_eq!(
        setting("drainSeconds"),
        (
            json!(40),
            "annotation".into(),
            vec![
                lost("policy checkout", 20),
                lost("cluster policy defaults", 15),
                ("default".to_owned(), json!("Auto")),
            ]
        )
    );
    assert_eq!(
        setting("marginSeconds"),
        (json!(9), "cluster policy defaults".into(), vec![lost("default", 5)])
    );
    assert_eq!(setting("shutdownTimeoutSeconds"), (json!(30), "default".into(), vec![]));
    assert_eq!(explanation.settings.len(), 19);
    assert_eq!(explanation.opted_in.from, Some(Source::WorkloadAnnotation));
    assert_eq!(explanation.pending.unwrap().timing, RolloutTiming::Immediate);
}

#[test]
fn the_termination_is_that_of_the_injected_pods() {
    let termination = explained_with(&[]).termination;
    let containers: Vec<_> = termination
        .containers
        .iter()
        .map(|one| (one.name.as_str(), one.native_sidecar, one.pre_stop_seconds, one.is_exact))
        .collect();
    assert_eq!(containers, [("web", false, 20, true), ("log", false, 0, false), ("proxy", true, 0, true)]);
    assert_eq!(termination.drain_seconds(), 20);
    assert_eq!((termination.shutdown_timeout_seconds, termination.sidecar_seconds), (Some(30), Some(5)));
    // Drain, shutdown timeout, one native sidecar and margin.
    assert_eq!(termination.grace_period_seconds, 20 + 30 + 5 + 9);
}

#[test]
fn native_sidecars_end_after_the_regular_containers_and_their_own_hooks() {
    let mut termination = explained_with(&[]).termination;
    assert_eq!(termination.sidecars_end_seconds(50), 55);
    let mut second = termination.containers[2].clone();
    second.pre_stop_seconds = 70;
    termination.containers.push(second);
    assert_eq!(termination.sidecars_end_seconds(50), 80);
    termination.containers[3].pre_stop_seconds = i64::MAX;
    assert_eq!(termination.sidecars_end_seconds(50), i64::MAX);
    termination.containers.truncate(2);
    assert_eq!(termination.sidecars_end_seconds(50), 50);
}

#[test]
fn a_workload_that_is_opted_out_has_no_settings() {
    let explanation = explained_with(&[("graceful", "false")]);
    assert!(explanation.opted_in.opted_out && !explanation.opted_in.value);
    assert_eq!((explanation.settings.len(), explanation.pending), (0, None));
    assert_eq!(explanation.termination.grace_period_seconds, 30);
    let Termination { shutdown_timeout_seconds, sidecar_seconds, .. } = explanation.termination;
    assert_eq!((shutdown_timeout_seconds, sidecar_seconds), (None, None));
}
