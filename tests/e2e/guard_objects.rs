//! The guard on other objects than workloads.

use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingAdmissionPolicy},
    coordination::v1::Lease,
    core::v1::Secret,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    guard::{GUARD, is_guarded, stolen},
    operator::ADIEU,
    rejection,
    support::{Scene, eventually},
};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_api_server_has_no_warnings_about_policies() {
    let scene = Scene::new().await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(scene.client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/name=adieu");
    eventually("every policy to be checked", || async {
        let policies = policies.list(&ours).await.unwrap().items;
        let checked = policies.iter().filter_map(|policy| policy.status.as_ref()?.type_checking.as_ref());
        let warnings: Vec<_> =
            checked.clone().filter_map(|checked| checked.expression_warnings.clone()).collect();
        assert!(warnings.is_empty(), "{warnings:?}");
        policies.len() > 4 && checked.count() == policies.len()
    })
    .await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_stolen_token_does_not_redirect_admission() {
    let scene = Scene::new().await;
    let admin: Api<MutatingWebhookConfiguration> = Api::all(scene.client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/name=adieu");
    let name = admin.list(&ours).await.unwrap().items[0].name_any();
    let operator: Api<MutatingWebhookConfiguration> = Api::all(stolen(&scene).await);
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = async |patch: Value| {
        let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
        operator.patch(&name, &dry_run, &patch).await.map(drop).map_err(rejection)
    };
    let client = "/webhooks/0/clientConfig";
    for (denied, field) in [
        (
            json!([{"op": "replace", "path": client, "value": {"url": "https://elsewhere.example/"}}]),
            "clientConfig",
        ),
        (
            json!([{"op": "replace", "path": format!("{client}/service/name"), "value": "other"}]),
            "clientConfig.service",
        ),
        (
            json!([{"op": "replace", "path": format!("{client}/service/namespace"), "value": "other"}]),
            "clientConfig.service",
        ),
        (
            json!([{"op": "replace", "path": format!("{client}/service/path"), "value": "/other"}]),
            "clientConfig.service",
        ),
        (json!([{"op": "add", "path": "/webhooks/0/rules/0/resources/-", "value": "secrets"}]), "rules"),
        (json!([{"op": "remove", "path": "/webhooks/0/namespaceSelector"}]), "namespaceSelector"),
        (json!([{"op": "remove", "path": "/webhooks/0/matchConditions"}]), "matchConditions"),
        (json!([{"op": "replace", "path": "/webhooks/2/objectSelector", "value": {}}]), "objectSelector"),
        (json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"}]), "failurePolicy"),
        (json!([{"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 30}]), "timeoutSeconds"),
        (json!([{"op": "remove", "path": "/webhooks/0"}]), "webhooks"),
        (
            json!([{"op": "add", "path": "/metadata/annotations/adieu.dev~1failure-policy", "value": "Fail"}]),
            "metadata.annotations",
        ),
        (json!([{"op": "add", "path": "/metadata/labels/a", "value": "b"}]), "metadata.labels"),
        (
            json!([{"op": "add", "path": "/metadata/finalizers", "value": ["a.example/b"]}]),
            "metadata.finalizers",
        ),
    ] {
        let message = patch(denied.clone()).await.unwrap_err();
        assert!(message.contains(GUARD) && message.contains(field), "{denied}: {message}");
    }
    patch(json!([{"op": "replace", "path": format!("{client}/caBundle"), "value": ""}])).await.unwrap();
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_stolen_token_creates_no_token_and_changes_no_other_budget() {
    let scene = Scene::new().await;
    let client = stolen(&scene).await;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), ADIEU);
    let token = json!({
        "metadata": {"name": "token", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token",
    });
    let denied = secrets.create(&dry_run, &serde_json::from_value(token).unwrap()).await.map_err(rejection);
    assert!(is_guarded(&denied), "{denied:?}");
    let leases: Api<Lease> = Api::namespaced(client.clone(), ADIEU);
    let lease = json!({"metadata": {"name": "another-owner"}});
    let denied = leases.create(&dry_run, &serde_json::from_value(lease).unwrap()).await.map_err(rejection);
    assert!(is_guarded(&denied), "{denied:?}");

    let budget = |labels: Value, available: Value| -> PodDisruptionBudget {
        let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u"});
        serde_json::from_value(json!({
            "metadata": {"name": "web-deployment-adieu", "labels": labels, "ownerReferences": [owner]},
            "spec": {"maxUnavailable": available, "selector": {"matchLabels": {"app": "web"}}},
        }))
        .unwrap()
    };
    let (theirs, ours) = (json!({"team": "shop"}), json!({"app.kubernetes.io/managed-by": "adieu"}));
    let admin: Api<PodDisruptionBudget> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let operator: Api<PodDisruptionBudget> = Api::namespaced(client, &scene.namespace);
    operator.create(&dry_run, &budget(ours.clone(), json!("10%"))).await.unwrap();
    for blocking in
        [budget(ours.clone(), json!(0)), budget(ours, json!("0%")), budget(theirs.clone(), json!(1))]
    {
        let denied = operator.create(&dry_run, &blocking).await.map_err(rejection);
        assert!(is_guarded(&denied), "{denied:?}");
    }
    // Its owner doesn't exist, so with the reference it would be garbage-collected.
    let mut existing = budget(theirs, json!(1));
    existing.metadata.owner_references = None;
    admin.create(&PostParams::default(), &existing).await.unwrap();
    let dry_run = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let denied = operator.delete("web-deployment-adieu", &dry_run).await.map(drop).map_err(rejection);
    assert!(is_guarded(&denied), "{denied:?}");
    scene.end().await;
}
