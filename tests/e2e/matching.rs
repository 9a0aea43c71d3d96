//! Which requests reach the webhook. Under `Fail`, an expression in error would refuse strangers' objects:
//! so the conditions that are installed are tried with a webhook that never answers.

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

/// The installed conditions for requests outside labelled namespaces, in front of nobody, for one namespace.
async fn unanswered(scene: &Scene, configurations: &Api<MutatingWebhookConfiguration>) {
    let ours = ListParams::default().labels("app.kubernetes.io/name=adieu");
    let installed = configurations.list(&ours).await.unwrap().items.remove(0);
    let webhooks: Vec<Value> = installed.webhooks.into_iter().flatten()
        .filter(|webhook| webhook.name.starts_with("annotated."))
        .map(|webhook| json!({
            "name": format!("unanswered.{}", webhook.name),
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 1,
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": webhook.rules, "matchConditions": webhook.match_conditions,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}},
        }))
        .collect();
    assert_eq!(webhooks.len(), 2, "workloads and pods");
    let configuration = json!({"metadata": {"name": scene.namespace}, "webhooks": webhooks});
    let configuration = serde_json::from_value(configuration).unwrap();
    configurations.create(&PostParams::default(), &configuration).await.unwrap();
}

/// Whether the request met the webhook: then nobody answers.
fn met<T>(outcome: Result<T, kube::Error>) -> bool {
    match outcome {
        Err(kube::Error::Api(status)) => status.message.contains("failed calling webhook"),
        Err(other) => unreachable!("{other}"),
        Ok(_) => false,
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn only_who_says_something_to_adieu_depends_on_it() {
    let scene = Scene::new().await;
    for (name, annotations) in [("annotated", json!({ANNOTATED: "true"})), ("plain", json!({}))] {
        let mut object = web(name, &annotations);
        object["spec"]["replicas"] = json!(0);
        scene.create(&object).await;
    }
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(scene.client.clone());
    unanswered(&scene, &configurations).await;
    eventually("the webhook to be in force", || async {
        met(scene.try_create_dry(&web("a", &json!({ANNOTATED: "true"}))).await)
    })
    .await;

    let object = |change: &dyn Fn(&mut Value)| {
        let mut object = web("new", &json!({}));
        change(&mut object);
        object
    };
    let pod = |metadata: Value| {
        let containers = json!([{"name": "web", "image": crate::support::image()}]);
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}})
    };
    for (case, created, expected) in [
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
        ("an annotated pod", pod(json!({"generateName": "pod-", "annotations": {ANNOTATED: "true"}})), true),
    ] {
        assert_eq!(met(scene.try_create_dry(&created).await), expected, "CREATE, {case}");
    }
    let api = scene.api("apps/v1", "Deployment");
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    for (case, name, patch, expected) in [
        ("annotating", "plain", json!({"metadata": {"annotations": {ANNOTATED: "true"}}}), true),
        (
            "annotating the template",
            "plain",
            json!({"spec": {"template": {"metadata": {"annotations": {ANNOTATED: "true"}}}}}),
            true,
        ),
        ("another annotation", "plain", json!({"metadata": {"annotations": {"team": "shop"}}}), false),
        ("no annotations at all", "plain", json!({"metadata": {"annotations": null}}), false),
        ("another image", "plain", json!({"spec": {"minReadySeconds": 1}}), false),
        ("taking every annotation away", "annotated", json!({"metadata": {"annotations": null}}), true),
        ("a change of an annotated one", "annotated", json!({"spec": {"minReadySeconds": 1}}), true),
    ] {
        let outcome = api.patch(name, &dry_run, &Patch::Merge(patch)).await;
        assert_eq!(met(outcome), expected, "UPDATE, {case}");
    }
    // Who writes what the webhook would must not wait for it.
    let by_operator = as_the_operator(&scene).await.api("apps/v1", "Deployment");
    let patch = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 31}}}});
    assert!(met(api.patch("annotated", &dry_run, &Patch::Merge(&patch)).await));
    by_operator.patch("annotated", &dry_run, &Patch::Merge(&patch)).await.unwrap();
    for name in ["plain", "annotated"] {
        let scale = json!({"spec": {"replicas": 1}});
        assert!(!met(api.patch_scale(name, &dry_run, &Patch::Merge(scale)).await), "scaling {name}");
        assert!(!met(api.delete(name, &DeleteParams::default()).await), "deleting {name}");
    }
    let configuration = configurations.get(&scene.namespace).await.unwrap();
    configurations.delete(&configuration.name_any(), &DeleteParams::default()).await.unwrap();
    scene.end().await;
}
