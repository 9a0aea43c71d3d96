use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::api::{ClusterGracefulPolicy, GracefulPolicy};

fn plain() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web"}], "terminationGracePeriodSeconds": 30},
    })
}

fn deployment(annotations: &[(&str, &str)], template: &Value) -> DynamicObject {
    let annotations: serde_json::Map<_, _> =
        annotations.iter().map(|(key, value)| (format!("adieu.dev/{key}"), json!(value))).collect();
    let metadata = json!({"name": "web", "namespace": "shop", "uid": "1", "annotations": annotations});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"template": template}})).unwrap()
}

/// A context with a policy that selects every workload.
fn policy(mut spec: Value) -> NamespaceContext {
    spec["selector"] = json!({});
    policy_with_status(spec, Value::Null)
}

fn policy_with_status(spec: Value, status: Value) -> NamespaceContext {
    let policy: GracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"},
        "spec": spec, "status": status,
    }))
    .unwrap();
    NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() }
}

/// The template as it is injected in this context.
fn injected(annotations: &[(&str, &str)], context: &NamespaceContext) -> Value {
    let object = deployment(annotations, &plain());
    evaluate(&Workload::of(Kind::Deployment, &object), context).template.unwrap()
}

fn status(annotations: &[(&str, &str)], template: &Value, context: &NamespaceContext) -> WorkloadStatus {
    workload_status(Kind::Deployment, &deployment(annotations, template), context, None)
}

fn seconds(status: &WorkloadStatus) -> [Option<i64>; 3] {
    [status.drain_seconds, status.shutdown_timeout_seconds, status.grace_period_seconds]
}

#[test]
fn a_workload_without_an_injection_has_the_state_of_its_settings() {
    let empty = NamespaceContext::default();
    let (on, drain_20) = ([("graceful", "true")], Some([20, 30, 55]));
    for (annotations, context, state, reason, values) in [
        (&[][..], &empty, ManagementState::NotManaged, None, None),
        (&[("graceful", "false")][..], &empty, ManagementState::OptedOut, None, None),
        (&on[..], &empty, ManagementState::NotInjected, Some("is not paused"), Some([10, 30, 45])),
        (
            &[][..],
            &policy(json!({"drainSeconds": 20})),
            ManagementState::Queued,
            Some("slot is free"),
            drain_20,
        ),
        (
            &[][..],
            &policy(json!({"drainSeconds": 20, "rollout": {"mode": "NextUpdate"}})),
            ManagementState::Queued,
            Some("with its next change"),
            drain_20,
        ),
        (
            &[][..],
            &policy(json!({"drainSeconds": 20, "mode": "Audit"})),
            ManagementState::Audit,
            Some("GracefulPolicy/all has mode Audit"),
            drain_20,
        ),
        (
            &[][..],
            &policy(json!({"drainSeconds": 20, "injectionTarget": "Pod"})),
            ManagementState::PodInjection,
            None,
            drain_20,
        ),
        (&[][..], &policy(json!({"rollout": {"mode": "Revert"}})), ManagementState::Reverted, None, None),
        (
            &[("policy", "none"), ("drain-seconds", "700")][..],
            &empty,
            ManagementState::NotInjected,
            Some("maximum"),
            None,
        ),
    ] {
        let found = status(annotations, &plain(), context);
        assert_eq!(found.state, state, "{found:?}");
        assert_eq!(found.reason.is_some(), reason.is_some(), "{found:?}");
        assert!(found.reason.iter().all(|text| text.contains(reason.unwrap_or_default())), "{found:?}");
        assert_eq!(seconds(&found), values.map_or([None; 3], |values| values.map(Some)), "{found:?}");
    }
}

#[test]
fn an_injected_workload_shows_the_values_that_it_has() {
    let on = [("graceful", "true")];
    let defaults = NamespaceContext::default();
    let template = injected(&on, &defaults);
    let found = status(&on, &template, &defaults);
    assert_eq!((found.state, found.reason.as_deref()), (ManagementState::Injected, None));
    assert_eq!((found.managed_by, found.warnings), (vec!["annotation".to_owned()], vec![]));

    // The policy was deleted: its values stay until the template changes.
    let by_policy = injected(&[], &policy(json!({"drainSeconds": 20})));
    let found = status(&[], &by_policy, &defaults);
    assert_eq!((found.state, seconds(&found)), (ManagementState::Outdated, [20, 30, 55].map(Some)));
    assert_eq!(found.managed_by, ["GracefulPolicy/all"]);
    assert!(found.reason.unwrap().contains("nothing opts it in any more"));

    // The present values can't be injected, so those from before stay.
    let found = status(&[], &by_policy, &policy(json!({"drainSeconds": 30, "maxGracePeriodSeconds": 50})));
    assert_eq!((found.state, seconds(&found)), (ManagementState::Outdated, [20, 30, 55].map(Some)));
    assert!(found.reason.unwrap().contains("maximum"));

    let found = status(&[("graceful", "false")], &template, &defaults);
    assert_eq!((found.state, seconds(&found)), (ManagementState::OptedOut, [None; 3]));
    assert_eq!(found.reason.as_deref(), Some(NOT_WRITTEN_YET));
}

#[test]
fn a_workload_is_managed_by_its_opt_in_and_the_policies_of_its_values() {
    let defaults: ClusterGracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy", "metadata": {"name": "defaults"},
        "spec": {"marginSeconds": 9},
    }))
    .unwrap();
    let selecting = policy(json!({"drainSeconds": 20}));
    let context = NamespaceContext { cluster_policies: vec![Arc::new(defaults)], ..selecting };
    let found = status(&[("graceful", "true")], &plain(), &context);
    assert_eq!(found.managed_by, ["annotation", "GracefulPolicy/all", "ClusterGracefulPolicy/defaults"]);
    let found = status(&[], &plain(), &context);
    assert_eq!(found.managed_by, ["GracefulPolicy/all", "ClusterGracefulPolicy/defaults"]);
}

#[test]
fn a_failed_rollout_in_the_status_of_a_policy_is_that_of_its_workload() {
    let template = injected(&[], &policy(json!({})));
    let failed = |field: &str, value: &str| {
        let mut failed = json!({
            "kind": "Deployment", "name": "web", "uid": "1", "reason": "ReplicaFailure",
            "failureTime": "2026-01-01T00:00:00Z",
        });
        failed[field] = json!(value);
        let context = policy_with_status(json!({"selector": {}}), json!({"failedRollouts": [failed]}));
        status(&[], &template, &context)
    };
    let found = failed("uid", "1");
    assert_eq!(found.state, ManagementState::Failed);
    let reason = "a rollout for GracefulPolicy/all failed at 2026-01-01T00:00:00Z: ReplicaFailure";
    assert_eq!(found.reason.as_deref(), Some(reason));
    assert_eq!(failed("namespace", "shop").state, ManagementState::Failed);
    for (field, value) in [("uid", "2"), ("name", "db"), ("kind", "DaemonSet"), ("namespace", "bank")] {
        assert_eq!(failed(field, value).state, ManagementState::Injected, "{field}");
    }
}

#[test]
fn an_unreadable_policy_makes_the_state_unknown_unless_an_annotation_decides() {
    let unreadable = NamespaceContext { has_unusable_policy: true, ..NamespaceContext::default() };
    let found = status(&[], &plain(), &unreadable);
    assert_eq!((found.state, found.is_managed()), (ManagementState::Unknown, false));
    let found = status(&[], &injected(&[], &policy(json!({}))), &unreadable);
    assert_eq!((found.state, found.is_managed()), (ManagementState::Unknown, true));
    let found = status(&[("graceful", "false")], &plain(), &unreadable);
    assert_eq!((found.state, found.is_managed()), (ManagementState::OptedOut, true));
}

#[test]
fn a_workload_that_is_deleted_or_too_large_is_not_injected() {
    let empty = NamespaceContext::default();
    let mut deleted = deployment(&[("graceful", "true")], &plain());
    deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    let found = workload_status(Kind::Deployment, &deleted, &empty, None);
    assert_eq!((found.state, found.is_managed()), (ManagementState::NotManaged, false));

    let large = |annotations: &[(&str, &str)], template: &Value| {
        let object = deployment(annotations, template);
        let found = workload_status(Kind::Deployment, &object, &empty, Some("too large"));
        (found.state, found.reason, found.grace_period_seconds)
    };
    let (on, reason) = ([("graceful", "true")], Some("too large".to_owned()));
    assert_eq!(large(&on, &plain()), (ManagementState::NotInjected, reason.clone(), None));
    assert_eq!(large(&on, &injected(&on, &empty)), (ManagementState::Outdated, reason, None));
    assert_eq!(large(&[], &plain()), (ManagementState::NotManaged, None, None));
}
