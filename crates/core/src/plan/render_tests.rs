use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::{api::GracefulPolicy, plan::Kind};

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

fn rendered(template: &Value, said: &[(&str, &str)], around: &NamespaceContext, all: bool) -> Admission {
    let annotations: BTreeMap<String, String> =
        said.iter().map(|(key, value)| (format!("adieu.dev/{key}"), (*value).to_owned())).collect();
    render(&Workload::new(Kind::Deployment, &annotations, template), around, all)
}

#[test]
fn only_who_is_opted_in_is_injected() {
    let nobody = NamespaceContext::default();
    assert_eq!(rendered(&plain(), &[], &nobody, false).template, None);
    assert_eq!(rendered(&plain(), &[("graceful", "false")], &nobody, true).template, None);
    for (said, around, all, by) in [
        (&[("graceful", "true")][..], &nobody, false, Source::WorkloadAnnotation),
        (&[("graceful", "true")][..], &nobody, true, Source::WorkloadAnnotation),
        (&[][..], &policy(json!({"selector": {}})), false, Source::Policy("all".into())),
        (&[][..], &nobody, true, Source::CommandLine),
    ] {
        let template = rendered(&plain(), said, around, all).template.unwrap();
        assert_eq!(template["spec"]["terminationGracePeriodSeconds"], 45);
        let record = record::read(&template).unwrap();
        assert!(record.rendered);
        assert_eq!(record.opted_in_by, by);
        assert_eq!(original(&template, None), plain());
    }
}

#[test]
fn rendering_again_changes_nothing_also_without_the_policy() {
    let around = policy(json!({"selector": {}, "drainSeconds": 20}));
    for template in [
        rendered(&plain(), &[], &around, false).template.unwrap(),
        rendered(&plain(), &[], &around, true).template.unwrap(),
        rendered(&plain(), &[], &NamespaceContext::default(), true).template.unwrap(),
    ] {
        assert_eq!(rendered(&template, &[], &NamespaceContext::default(), false).template, None);
        let out = rendered(&template, &[("graceful", "false")], &NamespaceContext::default(), true);
        assert_eq!(out.template, Some(plain()));
    }
}

#[test]
fn what_the_pods_get_and_what_is_only_audited_stays_out_of_the_template() {
    for spec in [json!({"selector": {}, "injectionTarget": "Pod"}), json!({"selector": {}, "mode": "Audit"})]
    {
        assert_eq!(rendered(&plain(), &[], &policy(spec), true).template, None);
    }
    let prevented = policy(json!({"selector": {}, "injectionTarget": "Pod", "drainSeconds": 900}));
    let warnings = rendered(&plain(), &[], &prevented, true).warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("more than the maximum"), "{warnings:?}");
}

#[test]
fn a_malformed_annotation_is_named_and_nothing_is_injected() {
    let bad =
        rendered(&plain(), &[("graceful", "true"), ("drain-seconds", "ten")], &policy(json!({})), false);
    assert_eq!((bad.template, bad.refusals.len()), (None, 1));
}

#[test]
fn a_grace_period_that_is_not_there_is_the_30_that_the_api_server_fills_in() {
    let said = [("graceful", "true"), ("drain-seconds", "5"), ("shutdown-timeout-seconds", "5")];
    let template = rendered(&plain(), &said, &NamespaceContext::default(), false).template.unwrap();
    assert_eq!(template["spec"].get("terminationGracePeriodSeconds"), None);
}

#[test]
fn a_policy_that_reverts_takes_back_what_was_rendered_and_injects_nothing() {
    let reverting = policy(json!({"selector": {}, "rollout": {"mode": "Revert"}}));
    assert_eq!(rendered(&plain(), &[], &reverting, true).template, None);
    let before = rendered(&plain(), &[], &policy(json!({"selector": {}})), false).template.unwrap();
    assert_eq!(rendered(&before, &[], &reverting, false).template, Some(plain()));
    assert!(rendered(&plain(), &[("graceful", "true")], &reverting, false).template.is_some());
}
