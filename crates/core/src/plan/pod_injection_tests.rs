use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    api::{GracefulPolicy, limits},
    plan::evaluate,
};

fn pod(annotations: Value, owner: Value) -> Value {
    json!({
        "metadata": {
            "labels": {"app": "web", "pod-template-hash": "5d8c"},
            "annotations": annotations, "ownerReferences": [owner],
        },
        "spec": {"containers": [{"name": "web"}], "terminationGracePeriodSeconds": 30},
    })
}

fn replica_set() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d8c", "uid": "1", "controller": true})
}

fn rollout() -> Value {
    json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web", "uid": "1", "controller": true})
}

fn deployment(annotations: Value, template: &Value) -> DynamicObject {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "annotations": annotations}, "spec": {"template": template},
    }))
    .unwrap()
}

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web"}], "terminationGracePeriodSeconds": 30},
    })
}

fn policy(spec: Value) -> NamespaceContext {
    let policy: GracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"}, "spec": spec,
    }))
    .unwrap();
    NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() }
}

fn by_pod() -> NamespaceContext {
    policy(json!({"selector": {}, "injectionTarget": "Pod", "drainSeconds": 7}))
}

fn drains(pod: &Value) -> Vec<Option<i64>> {
    let containers = pod["spec"]["containers"].as_array().unwrap().iter();
    containers.map(|container| container["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64()).collect()
}

#[test]
fn owner_reference_identifies_the_workload() {
    let owner =
        |reference: Value| Owner::of(&pod(json!({}), reference)).map(|owner| (owner.kind, owner.name));
    assert_eq!(owner(replica_set()), Some((Kind::Deployment, "web".into())));
    let stateful_set =
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "1", "controller": true});
    assert_eq!(owner(stateful_set), Some((Kind::StatefulSet, "db".into())));
    let bare = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "by-hand", "uid": "1", "controller": true});
    assert_eq!(owner(bare), None);
    assert_eq!(owner(rollout()), None);
    let lookalike = json!({"apiVersion": "apps.kruise.io/v1", "kind": "StatefulSet", "name": "db", "uid": "1", "controller": true});
    assert_eq!(owner(lookalike), None);
}

#[test]
fn pod_target_injects_pods_and_not_the_template() {
    let context = by_pod();
    let workload = deployment(json!({}), &template());
    let admission =
        admit_pod(&pod(Value::Null, replica_set()), Some((Kind::Deployment, &workload)), &context);
    let injected = admission.template.unwrap();
    assert_eq!(drains(&injected), [Some(7)]);
    assert_eq!(injected["spec"]["terminationGracePeriodSeconds"], 42);
    assert!(injected["metadata"]["annotations"][INJECTED].is_string());
    assert_eq!(evaluate(&Workload::of(Kind::Deployment, &workload), &context).template, None);
}

#[test]
fn pods_of_template_injected_workloads_are_not_injected() {
    let context = policy(json!({"selector": {}}));
    let workload = deployment(json!({}), &template());
    let plain = pod(json!({}), replica_set());
    assert_eq!(admit_pod(&plain, Some((Kind::Deployment, &workload)), &context).template, None);

    let mut owned = workload.clone();
    owned.metadata.owner_references = Some(vec![serde_json::from_value(rollout()).unwrap()]);
    let admission = admit_pod(&plain, Some((Kind::Deployment, &owned)), &context);
    assert_eq!(
        drains(&admission.template.unwrap()),
        [Some(10)],
        "another controller would revert the template"
    );
}

#[test]
fn annotations_of_the_workload_apply_to_its_pods() {
    let context = by_pod();
    let admitted = |key: &str, value: &str| {
        let workload = deployment(json!({format!("adieu.dev/{key}"): value}), &template());
        admit_pod(&pod(json!({}), replica_set()), Some((Kind::Deployment, &workload)), &context).template
    };
    assert_eq!(admitted("graceful", "false"), None);
    assert_eq!(drains(&admitted("drain-seconds", "3").unwrap()), [Some(3)]);
}

#[test]
fn pods_of_other_owners_opt_in_by_annotation_only() {
    let admitted = |annotations| admit_pod(&pod(annotations, rollout()), None, &by_pod()).template;
    assert_eq!(admitted(json!({})), None);
    assert_eq!(admitted(json!({"adieu.dev/graceful": "false"})), None);
    assert_eq!(drains(&admitted(json!({"adieu.dev/graceful": "true"})).unwrap()), [Some(10)]);
}

#[test]
fn malformed_annotation_is_denied_on_pods_without_a_controller() {
    let bad = json!({"adieu.dev/graceful": "yes"});
    let admission = admit_pod(&pod(bad.clone(), rollout()), None, &NamespaceContext::default());
    assert!(admission.denials.is_empty() && admission.warnings[0].contains("adieu.dev/graceful"));
    let mut bare = pod(bad, rollout());
    bare["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    let denials = admit_pod(&bare, None, &NamespaceContext::default()).denials;
    let [refusal] = denials.as_slice() else { unreachable!("{denials:?}") };
    let message = refusal.to_string();
    assert!(message.starts_with("metadata.annotations[adieu.dev/graceful]"), "{message}");
}

/// A pod of an injected template, and its workload.
fn injected_pod(context: &NamespaceContext) -> (Value, DynamicObject) {
    let annotations = json!({"adieu.dev/graceful": "true"});
    let mut workload = deployment(annotations, &template());
    let template = evaluate(&Workload::of(Kind::Deployment, &workload), context).template.unwrap();
    workload.data["spec"]["template"] = template.clone();
    let mut pod = template;
    pod["metadata"]["ownerReferences"] = json!([replica_set()]);
    pod["metadata"]["labels"]["pod-template-hash"] = json!("5d8c");
    (pod, workload)
}

#[test]
fn containers_added_by_other_webhooks_are_injected() {
    let context = NamespaceContext::default();
    let (plain, workload) = injected_pod(&context);
    let owner = Some((Kind::Deployment, &workload));
    assert_eq!(admit_pod(&plain, owner, &context).template, None, "nothing is missing");

    let mut meshed = plain.clone();
    meshed["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "istio-proxy"}));
    let completed = admit_pod(&meshed, owner, &context).template.unwrap();
    assert_eq!(drains(&completed), [Some(10), Some(10)]);
    assert_eq!(completed["spec"]["terminationGracePeriodSeconds"], 45);
    assert_eq!(admit_pod(&completed, owner, &context).template, None, "called again, it adds nothing");
    let record = record::read(&completed).unwrap();
    assert_eq!(record.containers.keys().collect::<Vec<_>>(), ["istio-proxy", "web"]);

    let mut native = plain.clone();
    native["spec"]["initContainers"] = json!([{"name": "istio-proxy", "restartPolicy": "Always"}]);
    let completed = admit_pod(&native, owner, &context).template.unwrap();
    assert_eq!(completed["spec"]["terminationGracePeriodSeconds"], 50);
    assert_eq!(admit_pod(&completed, owner, &context).template, None, "called again, it adds nothing");
    let grace_period = record::read(&completed).unwrap().grace_period.unwrap();
    assert_eq!(grace_period, InjectedField { injected: json!(50), before: Some(json!(30)) });

    assert_eq!(admit_pod(&native, None, &context).template, None, "its workload is not cached yet");
    native["metadata"]["ownerReferences"] = json!([rollout()]);
    let completed = admit_pod(&native, None, &context).template.unwrap();
    assert_eq!(completed["spec"]["terminationGracePeriodSeconds"], 50);
    assert_eq!(admit_pod(&completed, None, &context).template, None, "called again, it adds nothing");
}

#[test]
fn a_pod_of_an_injected_template_is_not_completed_if_it_is_too_large() {
    let context = NamespaceContext::default();
    let (plain, workload) = injected_pod(&context);
    let owner = Some((Kind::Deployment, &workload));
    let with_containers = |count: usize| {
        let mut pod = plain.clone();
        let containers = pod["spec"]["containers"].as_array_mut().unwrap();
        containers.extend((1..count).map(|number| json!({"name": format!("c{number}")})));
        admit_pod(&pod, owner, &context)
    };
    assert!(with_containers(limits::CONTAINERS).template.is_some());
    assert_eq!(with_containers(limits::CONTAINERS + 1).template, None);
}

#[test]
fn added_container_with_a_hook_is_kept() {
    let context = NamespaceContext::default();
    let (mut pod, workload) = injected_pod(&context);
    let own = json!({"name": "proxy", "lifecycle": {"preStop": {"sleep": {"seconds": 3}}}});
    pod["spec"]["containers"].as_array_mut().unwrap().push(own);
    assert_eq!(admit_pod(&pod, Some((Kind::Deployment, &workload)), &context).template, None);
}

#[test]
fn a_lowered_maximum_shortens_the_shutdown_timeout_of_new_pods() {
    let grace_period = |drain: i64, maximum: i64| {
        let context = policy(json!({
            "selector": {}, "injectionTarget": "Pod", "drainSeconds": drain, "shutdownTimeoutSeconds": 300,
            "maxGracePeriodSeconds": maximum,
        }));
        let workload = deployment(json!({}), &template());
        let owned = Some((Kind::Deployment, &workload));
        let admission = admit_pod(&pod(Value::Null, replica_set()), owned, &context);
        let evaluation = evaluate(&Workload::of(Kind::Deployment, &workload), &context);
        assert_eq!(evaluation.warnings, admission.warnings, "the status shows what pods get");
        let injected = admission.template.map(|pod| {
            let record = pod["metadata"]["annotations"][INJECTED].as_str().unwrap().to_owned();
            let timeout =
                format!("\"shutdownTimeoutSeconds\":{{\"value\":{},", maximum.clamp(30, 315) - drain - 5);
            assert!(record.contains(&timeout), "{record}");
            (drains(&pod), pod["spec"]["terminationGracePeriodSeconds"].as_i64())
        });
        (injected, admission.warnings.join("\n"))
    };
    let within = |seconds| Some((vec![Some(10)], Some(seconds)));
    assert_eq!(grace_period(10, 315), (within(315), String::new()));
    let (injected, warning) = grace_period(10, 60);
    assert_eq!(injected, within(60));
    assert!(warning.starts_with("the shutdown timeout is 45 s instead of 300 s ("), "{warning}");
    assert!(warning.contains("because the maximum grace period is 60 s ("), "{warning}");
    assert_eq!(grace_period(10, 15).0, within(30), "its own is longer than the maximum");
    let sidecar = json!({"name": "proxy", "restartPolicy": "Always"});
    let context = policy(json!({"selector": {}, "injectionTarget": "Pod", "maxGracePeriodSeconds": 45}));
    let mut with_sidecar = pod(Value::Null, replica_set());
    with_sidecar["spec"]["initContainers"] = json!([sidecar]);
    let workload = deployment(json!({}), &template());
    let admission = admit_pod(&with_sidecar, Some((Kind::Deployment, &workload)), &context);
    assert_eq!(admission.template.unwrap()["spec"]["terminationGracePeriodSeconds"], 45);
    assert!(admission.warnings[0].starts_with("the shutdown timeout is 25 s instead of 30 s"));
    let (injected, warning) = grace_period(40, 44);
    assert_eq!(injected, None, "the drain can't be shortened");
    assert!(warning.contains("more than the maximum of 44 s"), "{warning}");
}

#[test]
fn mirror_pods_are_not_injected() {
    let annotations = json!({"adieu.dev/graceful": "true", "kubernetes.io/config.mirror": "x"});
    assert_eq!(admit_pod(&pod(annotations, rollout()), None, &NamespaceContext::default()).template, None);
}
