use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{api::GracefulPolicy, plan::evaluate};

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
fn the_workload_is_read_off_the_owner() {
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
fn where_a_policy_says_pod_the_pods_get_it_and_the_template_does_not() {
    let around = by_pod();
    let workload = deployment(json!({}), &template());
    let admission = admit_pod(&pod(Value::Null, replica_set()), Some((Kind::Deployment, &workload)), &around);
    let injected = admission.template.unwrap();
    assert_eq!(drains(&injected), [Some(7)]);
    assert_eq!(injected["spec"]["terminationGracePeriodSeconds"], 42);
    assert!(injected["metadata"]["annotations"][INJECTED].is_string());
    assert_eq!(evaluate(&Workload::of(Kind::Deployment, &workload), &around).template, None);
}

#[test]
fn pods_of_a_workload_that_its_template_reaches_are_left_to_it() {
    let around = policy(json!({"selector": {}}));
    let workload = deployment(json!({}), &template());
    let plain = pod(json!({}), replica_set());
    assert_eq!(admit_pod(&plain, Some((Kind::Deployment, &workload)), &around).template, None);

    let mut owned = workload.clone();
    owned.metadata.owner_references = Some(vec![serde_json::from_value(rollout()).unwrap()]);
    let admission = admit_pod(&plain, Some((Kind::Deployment, &owned)), &around);
    assert_eq!(
        drains(&admission.template.unwrap()),
        [Some(10)],
        "another controller would undo the template"
    );
}

#[test]
fn what_the_workload_says_counts_for_its_pods() {
    let around = by_pod();
    let says = |key: &str, value: &str| {
        let workload = deployment(json!({format!("adieu.dev/{key}"): value}), &template());
        admit_pod(&pod(json!({}), replica_set()), Some((Kind::Deployment, &workload)), &around).template
    };
    assert_eq!(says("graceful", "false"), None);
    assert_eq!(drains(&says("drain-seconds", "3").unwrap()), [Some(3)]);
}

#[test]
fn an_owner_of_another_api_opts_in_by_annotation_only() {
    let admitted = |annotations| admit_pod(&pod(annotations, rollout()), None, &by_pod()).template;
    assert_eq!(admitted(json!({})), None);
    assert_eq!(admitted(json!({"adieu.dev/graceful": "false"})), None);
    assert_eq!(drains(&admitted(json!({"adieu.dev/graceful": "true"})).unwrap()), [Some(10)]);
}

#[test]
fn a_malformed_annotation_is_refused_where_nobody_would_try_again() {
    let bad = json!({"adieu.dev/graceful": "yes"});
    let admission = admit_pod(&pod(bad.clone(), rollout()), None, &NamespaceContext::default());
    assert!(admission.refusals.is_empty() && admission.warnings[0].contains("adieu.dev/graceful"));
    let mut bare = pod(bad, rollout());
    bare["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    let refusals = admit_pod(&bare, None, &NamespaceContext::default()).refusals;
    let [refusal] = refusals.as_slice() else { unreachable!("{refusals:?}") };
    let message = refusal.to_string();
    assert!(message.starts_with("metadata.annotations[adieu.dev/graceful]"), "{message}");
}

/// A pod of an injected template, and its workload.
fn injected_pod(around: &NamespaceContext) -> (Value, DynamicObject) {
    let annotations = json!({"adieu.dev/graceful": "true"});
    let mut workload = deployment(annotations, &template());
    let template = evaluate(&Workload::of(Kind::Deployment, &workload), around).template.unwrap();
    workload.data["spec"]["template"] = template.clone();
    let mut pod = template;
    pod["metadata"]["ownerReferences"] = json!([replica_set()]);
    pod["metadata"]["labels"]["pod-template-hash"] = json!("5d8c");
    (pod, workload)
}

#[test]
fn what_another_webhook_added_is_completed() {
    let around = NamespaceContext::default();
    let (plain, workload) = injected_pod(&around);
    let owner = Some((Kind::Deployment, &workload));
    assert_eq!(admit_pod(&plain, owner, &around).template, None, "nothing is missing");

    let mut meshed = plain.clone();
    meshed["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "istio-proxy"}));
    let completed = admit_pod(&meshed, owner, &around).template.unwrap();
    assert_eq!(drains(&completed), [Some(10), Some(10)]);
    assert_eq!(completed["spec"]["terminationGracePeriodSeconds"], 45);
    assert_eq!(admit_pod(&completed, owner, &around).template, None, "called again, it adds nothing");
    let record = record::read(&completed).unwrap();
    assert_eq!(record.containers.keys().collect::<Vec<_>>(), ["istio-proxy", "web"]);

    let mut native = plain.clone();
    native["spec"]["initContainers"] = json!([{"name": "istio-proxy", "restartPolicy": "Always"}]);
    let completed = admit_pod(&native, owner, &around).template.unwrap();
    assert_eq!(completed["spec"]["terminationGracePeriodSeconds"], 50);
    assert_eq!(admit_pod(&completed, owner, &around).template, None, "called again, it adds nothing");
    let grace_period = record::read(&completed).unwrap().grace_period.unwrap();
    assert_eq!(grace_period, Field { injected: json!(50), before: Some(json!(30)) });

    assert_eq!(admit_pod(&native, None, &around).template, None, "the cache has yet to bring its workload");
    native["metadata"]["ownerReferences"] = json!([rollout()]);
    let completed = admit_pod(&native, None, &around).template.unwrap();
    assert_eq!(completed["spec"]["terminationGracePeriodSeconds"], 50);
    assert_eq!(admit_pod(&completed, None, &around).template, None, "called again, it adds nothing");
}

#[test]
fn an_added_container_that_drains_by_itself_is_left_alone() {
    let around = NamespaceContext::default();
    let (mut pod, workload) = injected_pod(&around);
    let own = json!({"name": "proxy", "lifecycle": {"preStop": {"sleep": {"seconds": 3}}}});
    pod["spec"]["containers"].as_array_mut().unwrap().push(own);
    assert_eq!(admit_pod(&pod, Some((Kind::Deployment, &workload)), &around).template, None);
}

#[test]
fn what_the_kubelet_mirrors_is_left_alone() {
    let annotations = json!({"adieu.dev/graceful": "true", "kubernetes.io/config.mirror": "x"});
    assert_eq!(admit_pod(&pod(annotations, rollout()), None, &NamespaceContext::default()).template, None);
}
