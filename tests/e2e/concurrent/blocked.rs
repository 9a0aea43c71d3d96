//! Writes of the operator that are denied or reverted.

use std::time::Duration;

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    events::v1::Event,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    guard::as_the_operator,
    mutator::Mutator,
    operations::{blocked, policy, reported},
    support::{Scene, drain, eventually, web, within},
};

/// The operator's account bypasses the webhook, as all clients do while the API server can't reach it.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_repeatedly_reverted_injection_is_left_and_reported() {
    let scene = Scene::new().await;
    scene.create(&policy(&json!({"selector": {}}))).await;
    let mut object = web("web", &json!({"adieu.dev/graceful": "true"}));
    object["spec"]["replicas"] = json!(0);
    scene.create(&object).await;
    let is = async |seconds| drain(&scene.deployment("web").await) == seconds;
    assert!(is(Some(10)).await);
    let deployments = as_the_operator(&scene).await.api("apps/v1", "Deployment");
    let hook = json!([{"op": "remove", "path": "/spec/template/spec/containers/0/lifecycle/preStop"}]);
    let revert = Patch::<()>::Json(serde_json::from_value(hook).unwrap());
    for _ in 0..3 {
        deployments.patch("web", &PatchParams::default(), &revert).await.unwrap();
        eventually("the hook to be restored", || is(Some(10))).await;
    }
    deployments.patch("web", &PatchParams::default(), &revert).await.unwrap();
    reported(&scene, "web", "Blocked", "are being reverted").await;
    blocked(&scene, "InjectionReverted", "are being reverted").await;
    assert!(is(None).await);

    // An annotation is still applied.
    scene.annotate("Deployment", "web", "drain-seconds", Some("20")).await.unwrap();
    assert!(is(Some(20)).await);
    blocked(&scene, "NotBlocked", "").await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_denied_write_is_reported_and_retried() {
    let scene = Scene::new().await;
    let name = format!("{}-frozen", scene.namespace);
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(scene.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(scene.client.clone());
    let frozen = json!({
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}},
                "resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}],
            },
            "validations": [{"expression": "object.spec.template == oldObject.spec.template", "message": "frozen for the season"}],
        },
    });
    let binding =
        json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    scene.create(&web("web", &json!({}))).await;
    scene.rolled_out("web").await;
    policies.create(&PostParams::default(), &serde_json::from_value(frozen).unwrap()).await.unwrap();
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    eventually("the policy to be in effect", || async {
        let image = json!({"spec": {"template": {"metadata": {"labels": {"try": "it"}}}}});
        let api = scene.api("apps/v1", "Deployment");
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        api.patch("web", &dry_run, &Patch::Merge(image)).await.is_err()
    })
    .await;

    scene.create(&policy(&json!({"selector": {}}))).await;
    blocked(&scene, "WriteRejected", "frozen for the season").await;
    let events: Api<Event> = Api::namespaced(scene.client.clone(), &scene.namespace);
    eventually("the event about it", || async {
        !events.list(&ListParams::default().fields("reason=Blocked")).await.unwrap().items.is_empty()
    })
    .await;
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    policies.delete(&name, &DeleteParams::default()).await.unwrap();
    eventually("the Deployment to be injected", || async {
        drain(&scene.deployment("web").await) == Some(10)
    })
    .await;
    blocked(&scene, "NotBlocked", "").await;
    scene.end().await;
}

/// The webhook isn't called for the operator's writes, so it doesn't restore what the mutator removes.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_mutator_that_reverts_injection_blocks_it_without_a_loop() {
    /// Long enough for several attempts, after which the next is minutes away.
    const WATCHED: Duration = Duration::from_secs(30);
    const NEXT: Duration = Duration::from_mins(4);
    let scene = Scene::new().await;
    let mut object = web("web", &json!({}));
    object["spec"]["replicas"] = json!(0);
    scene.create(&object).await;
    let has_hook = "has(object.spec.template.spec.containers[0].lifecycle)";
    let remove_hook = "[JSONPatch{op: 'remove', path: '/spec/template/spec/containers/0/lifecycle'}]";
    let mutator = Mutator::start(&scene, ("apps", "deployments", "UPDATE"), has_hook, remove_hook).await;
    let deployments = as_the_operator(&scene).await.api("apps/v1", "Deployment");
    eventually("the mutator to take effect", || async {
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        let hook = json!([{"op": "add", "path": "/spec/template/spec/containers/0/lifecycle",
            "value": {"preStop": {"sleep": {"seconds": 3}}}}]);
        let hook = Patch::<()>::Json(serde_json::from_value(hook).unwrap());
        let patched = deployments.patch("web", &dry_run, &hook).await.unwrap();
        drain(&serde_json::to_value(patched).unwrap()).is_none()
    })
    .await;

    scene.create(&policy(&json!({"selector": {}}))).await;
    blocked(&scene, "InjectionReverted", "reverted the write").await;
    reported(&scene, "web", "Blocked", "reverted the write").await;
    let generation = || async { scene.deployment("web").await["metadata"]["generation"].take() };
    let (before, since) = (generation().await, Instant::now());
    eventually("the operator to have retried", || async {
        assert_eq!(generation().await, before, "the operator keeps writing");
        since.elapsed() >= WATCHED
    })
    .await;
    assert_eq!(drain(&scene.deployment("web").await), None);
    mutator.end().await;
    within(NEXT, "the Deployment to be injected", || async {
        drain(&scene.deployment("web").await) == Some(10)
    })
    .await;
    blocked(&scene, "NotBlocked", "").await;
    scene.end().await;
}
