use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::{
    api::GracefulPolicy,
    plan::{Kind, PodTemplate},
};

fn plain() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}})
}

fn policy(spec: Value) -> NamespaceContext {
    let policy: GracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"}, "spec": spec,
    }))
    .unwrap();
    NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() }
}

fn rendered(
    template: &Value,
    instructions: &[(&str, &str)],
    context: &NamespaceContext,
    all: bool,
) -> Admission {
    let annotations: BTreeMap<String, String> =
        instructions.iter().map(|(key, value)| (format!("adieu.dev/{key}"), (*value).to_owned())).collect();
    render(&Workload::new(Kind::Deployment, &annotations, template), context, all)
}

#[test]
fn render_injects_only_opted_in_workloads() {
    let empty = NamespaceContext::default();
    assert_eq!(rendered(&plain(), &[], &empty, false).template, None);
    assert_eq!(rendered(&plain(), &[("graceful", "false")], &empty, true).template, None);
    for (instructions, context, all, by) in [
        (&[("graceful", "true")][..], &empty, false, Source::WorkloadAnnotation),
        (&[("graceful", "true")][..], &empty, true, Source::WorkloadAnnotation),
        (&[][..], &policy(json!({"selector": {}})), false, Source::Policy("all".into())),
        (&[][..], &empty, true, Source::CommandLine),
    ] {
        let template = rendered(&plain(), instructions, context, all).template.unwrap();
        assert_eq!(template["spec"]["terminationGracePeriodSeconds"], 45);
        let injected = PodTemplate::new(&template);
        let record = injected.record().unwrap();
        assert!(record.rendered);
        assert_eq!(record.opted_in_by, by);
        assert_eq!(original(&injected, None), plain());
    }
}

#[test]
fn rendering_is_idempotent_even_without_the_policy() {
    let context = policy(json!({"selector": {}, "drainSeconds": 20}));
    for template in [
        rendered(&plain(), &[], &context, false).template.unwrap(),
        rendered(&plain(), &[], &context, true).template.unwrap(),
        rendered(&plain(), &[], &NamespaceContext::default(), true).template.unwrap(),
    ] {
        assert_eq!(rendered(&template, &[], &NamespaceContext::default(), false).template, None);
        let out = rendered(&template, &[("graceful", "false")], &NamespaceContext::default(), true);
        assert_eq!(out.template, Some(plain()));
    }
}

#[test]
fn pod_injection_and_audit_do_not_change_the_manifest() {
    for spec in [json!({"selector": {}, "injectionTarget": "Pod"}), json!({"selector": {}, "mode": "Audit"})]
    {
        assert_eq!(rendered(&plain(), &[], &policy(spec), true).template, None);
    }
    let unsatisfiable = policy(json!({"selector": {}, "injectionTarget": "Pod", "drainSeconds": 900}));
    let warnings = rendered(&plain(), &[], &unsatisfiable, true).warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("more than the maximum"), "{warnings:?}");
}

#[test]
fn malformed_annotation_prevents_rendering() {
    let bad =
        rendered(&plain(), &[("graceful", "true"), ("drain-seconds", "ten")], &policy(json!({})), false);
    assert_eq!((bad.template, bad.denials.len()), (None, 1));
}

#[test]
fn absent_grace_period_counts_as_the_default_of_30() {
    let instructions = [("graceful", "true"), ("drain-seconds", "5"), ("shutdown-timeout-seconds", "5")];
    let template = rendered(&plain(), &instructions, &NamespaceContext::default(), false).template.unwrap();
    assert_eq!(template["spec"].get("terminationGracePeriodSeconds"), None);
}

#[test]
fn reverting_policy_reverts_rendered_manifests() {
    let reverting = policy(json!({"selector": {}, "rollout": {"mode": "Revert"}}));
    assert_eq!(rendered(&plain(), &[], &reverting, true).template, None);
    let before = rendered(&plain(), &[], &policy(json!({"selector": {}})), false).template.unwrap();
    assert_eq!(rendered(&before, &[], &reverting, false).template, Some(plain()));
    assert!(rendered(&plain(), &[("graceful", "true")], &reverting, false).template.is_some());
}

#[test]
fn effective_pods_are_those_that_run_with_adieu() {
    let effective = |spec: Value, instructions: &[(&str, &str)]| {
        let annotations: BTreeMap<String, String> = instructions
            .iter()
            .map(|(key, value)| (format!("adieu.dev/{key}"), (*value).to_owned()))
            .collect();
        let template = plain();
        let pods = effective_pods(&Workload::new(Kind::Deployment, &annotations, &template), &policy(spec));
        let sleep =
            pods.template["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64();
        (sleep, pods.settings.map(|settings| settings.drain_seconds.value))
    };
    for (spec, instructions, expected) in [
        (json!({"selector": {}, "drainSeconds": 20}), &[][..], (Some(20), Some(20))),
        (json!({"selector": {}, "injectionTarget": "Pod"}), &[][..], (Some(10), Some(10))),
        (json!({"selector": {}, "mode": "Audit"}), &[][..], (None, None)),
        (json!({"selector": {}, "rollout": {"mode": "Revert"}}), &[][..], (None, None)),
        (json!({"selector": {}, "maxGracePeriodSeconds": 31}), &[][..], (None, None)),
        (json!({"selector": {}}), &[("graceful", "false")][..], (None, None)),
        (json!({"selector": {}}), &[("drain-seconds", "soon")][..], (None, None)),
        (json!({}), &[][..], (None, None)),
    ] {
        assert_eq!(effective(spec.clone(), instructions), expected, "{spec} {instructions:?}");
    }
}
