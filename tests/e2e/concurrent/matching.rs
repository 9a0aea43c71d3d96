//! The requests that reach the webhook. With `failurePolicy: Fail`, a failing expression would deny objects that are
//! not opted in, so the installed conditions are tested with a webhook that never answers.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    guard::as_the_operator,
    support::{Scene, eventually, web},
};

const ANNOTATED: &str = "adieu.dev/graceful";
const LABEL: &str = "adieu.dev/injection";

/// Creates webhooks with the chart's selectors and conditions outside labelled namespaces, for one namespace, and
/// without a server. With `labelled`, they have those for labelled namespaces under `Fail`.
async fn unanswered(scene: &Scene, configurations: &Api<MutatingWebhookConfiguration>, labelled: bool) {
    let ours = ListParams::default().labels("app.kubernetes.io/name=adieu");
    let installed = configurations.list(&ours).await.unwrap().items.remove(0);
    let webhooks: Vec<Value> = installed
        .webhooks
        .into_iter()
        .flatten()
        .filter(|webhook| ["annotated.adieu.dev", "injected.pods.adieu.dev"].contains(&webhook.name.as_str()))
        .map(|webhook| {
            let conditions = webhook.match_conditions.into_iter().flatten().map(|mut condition| {
                if labelled {
                    // Under Fail, the first part is followed by the condition of the webhook for labelled namespaces.
                    let (_, rest) = condition.expression.split_once(") && (").expect("three parts");
                    condition.expression = format!("({rest}");
                }
                condition
            });
            let conditions: Vec<_> = conditions.collect();
            json!({
                "name": format!("unanswered.{}", webhook.name),
                "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
                "timeoutSeconds": 1, "clientConfig": {"url": "https://127.0.0.1:1/"},
                "rules": webhook.rules, "matchConditions": conditions, "objectSelector": webhook.object_selector,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}},
            })
        })
        .collect();
    assert_eq!(webhooks.len(), 2, "workloads and pods");
    let configuration = json!({"metadata": {"name": scene.namespace}, "webhooks": webhooks});
    let configuration = serde_json::from_value(configuration).unwrap();
    configurations.create(&PostParams::default(), &configuration).await.unwrap();
}

/// Whether the request reached the webhook, which never answers.
fn reached<T>(outcome: Result<T, kube::Error>) -> bool {
    match outcome {
        Err(kube::Error::Api(status)) => status.message.contains("failed calling webhook"),
        Err(other) => unreachable!("{other}"),
        Ok(_) => false,
    }
}

/// Objects to create, and whether they reach the webhook.
fn creations() -> Vec<(&'static str, Value, bool)> {
    [creations_with_annotations(), creations_with_labels()].concat()
}

/// A new Deployment with a change.
fn object(change: &dyn Fn(&mut Value)) -> Value {
    let mut object = web("new", &json!({}));
    change(&mut object);
    object
}

fn pod(metadata: Value) -> Value {
    let containers = json!([{"name": "web", "image": crate::support::image()}]);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}})
}

fn creations_with_annotations() -> Vec<(&'static str, Value, bool)> {
    vec![
        (
            "no annotations",
            object(&|o| drop(o["metadata"].as_object_mut().unwrap().remove("annotations"))),
            false,
        ),
        ("null annotations", object(&|o| o["metadata"]["annotations"] = Value::Null), false),
        (
            "others' annotations",
            object(&|o| o["metadata"]["annotations"] = json!({"adieu.development/x": "1"})),
            false,
        ),
        ("annotated", object(&|o| o["metadata"]["annotations"] = json!({ANNOTATED: "true"})), true),
        (
            "annotated template",
            object(&|o| o["spec"]["template"]["metadata"]["annotations"] = json!({ANNOTATED: "true"})),
            true,
        ),
        (
            "null template annotations",
            object(&|o| o["spec"]["template"]["metadata"]["annotations"] = Value::Null),
            false,
        ),
        ("null template metadata", object(&|o| o["spec"]["template"]["metadata"] = Value::Null), false),
        ("no template", object(&|o| drop(o["spec"].as_object_mut().unwrap().remove("template"))), false),
        ("null spec", object(&|o| o["spec"] = Value::Null), false),
        (
            "a generated name",
            object(&|o| o["metadata"] = json!({"generateName": "new-", "annotations": {ANNOTATED: "true"}})),
            true,
        ),
        ("a pod", pod(json!({"name": "pod"})), false),
        ("a pod with null annotations", pod(json!({"name": "pod", "annotations": null})), false),
        // Pods are selected by labels, because annotations need a conversion of the object.
        ("an annotated pod", pod(json!({"name": "pod", "annotations": {ANNOTATED: "true"}})), false),
    ]
}

fn creations_with_labels() -> Vec<(&'static str, Value, bool)> {
    vec![
        ("a pod with null labels", pod(json!({"name": "pod", "labels": null})), false),
        ("a labelled pod", pod(json!({"generateName": "pod-", "labels": {LABEL: "enabled"}})), true),
        ("a pod labelled otherwise", pod(json!({"name": "pod", "labels": {LABEL: "disabled"}})), false),
        (
            "the annotation as a label",
            object(&|o| o["metadata"]["labels"] = json!({ANNOTATED: "true"})),
            true,
        ),
        (
            "the annotation as a label of the template",
            object(&|o| o["spec"]["template"]["metadata"]["labels"][ANNOTATED] = json!("true")),
            true,
        ),
        (
            "the annotation with a policy as a label",
            object(&|o| o["metadata"]["labels"] = json!({"adieu.dev/policy": "all"})),
            true,
        ),
        ("a labelled workload", object(&|o| o["metadata"]["labels"] = json!({LABEL: "enabled"})), false),
        (
            "a labelled template",
            object(&|o| o["spec"]["template"]["metadata"]["labels"][LABEL] = json!("enabled")),
            false,
        ),
    ]
}

/// Patches of the Deployments by name, and whether they reach the webhook.
fn updates() -> [(&'static str, &'static str, Value, bool); 8] {
    [
        ("annotating", "plain", json!({"metadata": {"annotations": {ANNOTATED: "true"}}}), true),
        (
            "annotating the template",
            "plain",
            json!({"spec": {"template": {"metadata": {"annotations": {ANNOTATED: "true"}}}}}),
            true,
        ),
        ("the annotation as a label", "plain", json!({"metadata": {"labels": {ANNOTATED: "true"}}}), true),
        ("another annotation", "plain", json!({"metadata": {"annotations": {"team": "shop"}}}), false),
        ("no annotations at all", "plain", json!({"metadata": {"annotations": null}}), false),
        ("another image", "plain", json!({"spec": {"minReadySeconds": 1}}), false),
        ("taking every annotation away", "annotated", json!({"metadata": {"annotations": null}}), true),
        ("a change of an annotated one", "annotated", json!({"spec": {"minReadySeconds": 1}}), true),
    ]
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn only_opted_in_objects_depend_on_the_webhook() {
    let scene = Scene::new().await;
    for (name, annotations) in [("annotated", json!({ANNOTATED: "true"})), ("plain", json!({}))] {
        let mut object = web(name, &annotations);
        object["spec"]["replicas"] = json!(0);
        scene.create(&object).await;
    }
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(scene.client.clone());
    unanswered(&scene, &configurations, false).await;
    eventually("the webhook to be in force", || async {
        reached(scene.try_create_dry(&web("a", &json!({ANNOTATED: "true"}))).await)
    })
    .await;

    for (case, created, expected) in creations() {
        assert_eq!(reached(scene.try_create_dry(&created).await), expected, "CREATE, {case}");
    }
    let api = scene.api("apps/v1", "Deployment");
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    for (case, name, patch, expected) in updates() {
        let outcome = api.patch(name, &dry_run, &Patch::Merge(patch)).await;
        assert_eq!(reached(outcome), expected, "UPDATE, {case}");
    }
    // The operator's own writes must not wait for the webhook.
    let by_operator = as_the_operator(&scene).await.api("apps/v1", "Deployment");
    let patch = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 31}}}});
    assert!(reached(api.patch("annotated", &dry_run, &Patch::Merge(&patch)).await));
    by_operator.patch("annotated", &dry_run, &Patch::Merge(&patch)).await.unwrap();
    for name in ["plain", "annotated"] {
        let scale = json!({"spec": {"replicas": 1}});
        assert!(!reached(api.patch_scale(name, &dry_run, &Patch::Merge(scale)).await), "scaling {name}");
        assert!(!reached(api.delete(name, &DeleteParams::default()).await), "deleting {name}");
    }
    let configuration = configurations.get(&scene.namespace).await.unwrap();
    configurations.delete(&configuration.name_any(), &DeleteParams::default()).await.unwrap();
    scene.end().await;
}

/// A finalizer can delay a deletion, and its controller must be able to remove it while the webhook is unavailable.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn objects_being_deleted_do_not_wait_for_the_webhook() {
    for labelled in [false, true] {
        let scene = Scene::new().await;
        for name in ["going", "staying"] {
            let mut object = web(name, &json!({ANNOTATED: "true"}));
            object["spec"]["replicas"] = json!(0);
            object["metadata"]["finalizers"] = json!(["adieu.example/kept"]);
            scene.create(&object).await;
        }
        let api = scene.api("apps/v1", "Deployment");
        api.delete("going", &DeleteParams::default()).await.unwrap();
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(scene.client.clone());
        unanswered(&scene, &configurations, labelled).await;
        let change = Patch::Merge(json!({"spec": {"minReadySeconds": 1}}));
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        eventually("the webhook to be in force", || async {
            reached(api.patch("staying", &dry_run, &change).await)
        })
        .await;
        let unannotated = Patch::Merge(json!({"metadata": {"annotations": null}}));
        for patch in [change, unannotated] {
            assert!(!reached(api.patch("going", &dry_run, &patch).await), "labelled: {labelled}");
        }
        let released = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        api.patch("going", &PatchParams::default(), &released).await.unwrap();
        configurations.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
        eventually("the webhook to be gone", || async {
            !reached(api.patch("staying", &PatchParams::default(), &released).await)
        })
        .await;
        scene.end().await;
    }
}
