mod accepted;
mod pods;
mod reverts;
mod rollouts;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::*;
use crate::{
    api::GracefulPolicy,
    plan::{Kind, Setting, Settings, Source, admit, render},
};

fn plain() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web"}], "terminationGracePeriodSeconds": 30},
    })
}

fn annotated(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (format!("adieu.dev/{k}"), (*v).to_owned())).collect()
}

fn policy(drain: i64) -> NamespaceContext {
    let policy: GracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": "all"}, "spec": {"selector": {}, "drainSeconds": drain},
    }))
    .unwrap();
    NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() }
}

fn evaluated(
    template: &Value,
    annotations: &BTreeMap<String, String>,
    context: &NamespaceContext,
) -> Evaluation {
    evaluate(&Workload::new(Kind::Deployment, annotations, template), context)
}

#[test]
fn workloads_that_bypassed_the_webhook_are_injected() {
    let empty = NamespaceContext::default();
    assert_eq!(evaluated(&plain(), &annotated(&[]), &empty).template, None);

    let by_annotation = evaluated(&plain(), &annotated(&[("graceful", "true")]), &empty);
    assert_eq!(by_annotation.timing, RolloutTiming::Immediate);
    let template = by_annotation.template.unwrap();
    assert_eq!(template["spec"]["terminationGracePeriodSeconds"], 45);
    assert_eq!(evaluated(&template, &annotated(&[("graceful", "true")]), &empty).template, None);

    let by_policy = evaluated(&plain(), &annotated(&[]), &policy(20));
    assert_eq!(by_policy.timing, RolloutTiming::Queued, "a policy's rollout waits for a slot");
    assert_eq!(by_policy.template.unwrap()["spec"]["terminationGracePeriodSeconds"], 55);
}

#[test]
fn opt_out_is_immediate_and_a_deleted_policy_causes_no_rollout() {
    let empty = NamespaceContext::default();
    let annotation = annotated(&[("graceful", "true")]);
    let by_annotation = evaluated(&plain(), &annotation, &empty).template.unwrap();
    for instructions in [annotated(&[]), annotated(&[("graceful", "false")])] {
        let opted_out = evaluated(&by_annotation, &instructions, &empty);
        assert_eq!((opted_out.template, opted_out.timing), (Some(plain()), RolloutTiming::Immediate));
    }
    let by_policy = evaluated(&plain(), &annotated(&[]), &policy(20)).template.unwrap();
    assert_eq!(evaluated(&by_policy, &annotated(&[]), &empty).template, None);
}

#[test]
fn opt_out_is_immediate_even_under_audit() {
    let annotation = annotated(&[("graceful", "true")]);
    let injected = evaluated(&plain(), &annotation, &NamespaceContext::default()).template.unwrap();
    let policy = policy_of(json!({"selector": {}, "mode": "Audit"}));
    let defaults = cluster_policies([json!({"mode": "Audit"})]);
    assert_eq!(evaluated(&plain(), &annotation, &policy).timing, RolloutTiming::DryRun);
    for (context, instructions) in [
        (policy, annotated(&[("graceful", "false")])),
        (defaults.clone(), annotated(&[("graceful", "false")])),
        (defaults, annotated(&[])),
    ] {
        let opted_out = evaluated(&injected, &instructions, &context);
        assert_eq!(
            (opted_out.template, opted_out.timing),
            (Some(plain()), RolloutTiming::Immediate),
            "{instructions:?}"
        );
    }
}

#[test]
fn injection_by_the_command_line_is_kept_without_its_policy() {
    let none = annotated(&[]);
    let empty = NamespaceContext::default();
    let rendered = |context: &NamespaceContext, all| {
        render(&Workload::new(Kind::Deployment, &none, &plain()), context, all).template.unwrap()
    };
    for template in [rendered(&empty, true), rendered(&policy(20), false)] {
        let unknown = evaluated(&template, &none, &empty);
        assert_eq!(unknown.template, None);
        assert_eq!(unknown.resolution.opt_in, OptIn::In(Source::CommandLine));
        let out = evaluated(&template, &annotated(&[("graceful", "false")]), &empty);
        assert_eq!((out.template, out.timing), (Some(plain()), RolloutTiming::Immediate));
    }
    assert_eq!(evaluated(&rendered(&policy(20), false), &none, &policy(20)).template, None);
    let changed = evaluated(&rendered(&policy(20), false), &none, &policy(30));
    assert!(changed.template.is_some() && changed.timing == RolloutTiming::Queued);

    let annotation = annotated(&[("graceful", "true")]);
    let template = render(&Workload::new(Kind::Deployment, &annotation, &plain()), &empty, false).template;
    let unannotated = evaluated(&template.unwrap(), &none, &empty);
    assert_eq!((unannotated.template, unannotated.timing), (Some(plain()), RolloutTiming::Immediate));
}

fn service() -> Arc<k8s_openapi::api::core::v1::Service> {
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 8080}]});
    Arc::new(serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap())
}

fn policy_of(spec: Value) -> NamespaceContext {
    let policy: GracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"}, "spec": spec,
    }))
    .unwrap();
    NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() }
}

fn cluster_policies<const N: usize>(specs: [Value; N]) -> NamespaceContext {
    let policy = |(index, spec)| {
        let metadata = json!({"name": format!("policy-{index}")});
        let kind = "ClusterGracefulPolicy";
        let policy =
            json!({"apiVersion": "adieu.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        Arc::new(serde_json::from_value(policy).unwrap())
    };
    let cluster_policies = specs.into_iter().enumerate().map(policy).collect();
    NamespaceContext { cluster_policies, ..NamespaceContext::default() }
}

#[test]
fn admission_admits_the_controllers_writes_unchanged() {
    let annotation = annotated(&[("graceful", "true")]);
    let (none, empty) = (annotated(&[]), NamespaceContext::default());
    let injected = evaluated(&plain(), &annotation, &empty).template.unwrap();
    let by_policy = evaluated(&plain(), &none, &policy(20)).template.unwrap();
    let long = {
        let mut template = plain();
        template["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 50}}});
        evaluated(&template, &annotation, &empty).template.unwrap()
    };
    for (case, template, annotations, context) in [
        ("annotated", &plain(), &annotation, &empty),
        ("the annotation was removed", &injected, &none, &empty),
        ("a sleep is longer than the grace period was", &long, &none, &empty),
        ("opted out", &injected, &annotated(&[("graceful", "false")]), &empty),
        ("the policy changed", &by_policy, &none, &policy(30)),
        (
            "only the pods are to be injected",
            &by_policy,
            &none,
            &policy_of(json!({"selector": {}, "injectionTarget": "Pod"})),
        ),
        ("the policy reverts", &by_policy, &none, &reverting()),
    ] {
        let old = Workload::new(Kind::Deployment, annotations, template);
        let planned = evaluate(&old, context).template;
        let planned = planned.unwrap_or_else(|| unreachable!("{case}: nothing to write"));
        let new = old.with_template(&planned);
        assert_eq!(admit(&new, Some(&old), context).template, None, "{case}");
        assert_eq!(evaluate(&new, context).template, None, "{case}: done");
    }
}

#[test]
fn over_the_maximum_a_workload_is_unsatisfiable() {
    let evaluated = evaluated(
        &plain(),
        &annotated(&[("graceful", "true"), ("drain-seconds", "900")]),
        &NamespaceContext::default(),
    );
    assert_eq!((evaluated.template, evaluated.state), (None, InjectionState::Unsatisfiable));
    assert!(evaluated.warnings[0].contains("more than the maximum"), "{:?}", evaluated.warnings);
}

#[test]
fn lowered_maximum_keeps_existing_injections() {
    let annotation = annotated(&[("graceful", "true")]);
    let mut context = policy(20);
    let injected = evaluated(&plain(), &annotated(&[]), &context).template.unwrap();
    context.cluster_policies = cluster_policies([json!({"maxGracePeriodSeconds": 40})]).cluster_policies;
    for instructions in [annotated(&[]), annotation] {
        let capped = evaluated(&injected, &instructions, &context);
        assert_eq!((capped.template, capped.state), (None, InjectionState::Unsatisfiable));
        assert!(capped.warnings.iter().any(|warning| warning == INJECTION_KEPT), "{:?}", capped.warnings);
        let new = evaluated(&plain(), &instructions, &context);
        assert_eq!((new.template, new.state), (None, InjectionState::Unsatisfiable));
        assert!(!new.warnings.iter().any(|warning| warning == INJECTION_KEPT), "{:?}", new.warnings);
    }
    let out = evaluated(&injected, &annotated(&[("graceful", "false")]), &context);
    assert_eq!((out.template, out.timing), (Some(plain()), RolloutTiming::Immediate), "an annotation wins");
}

fn reverting() -> NamespaceContext {
    policy_of(json!({"selector": {}, "drainSeconds": 20, "rollout": {"mode": "Revert", "maxConcurrent": 2}}))
}
