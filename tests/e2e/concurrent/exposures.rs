//! Exposures that appear, and the drains that they need.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    operations::{condition, policy, reported},
    support::{Scene, drain, eventually, grace_period, release, web},
    terminations::adieu,
};

/// With it the grace period is more than the default of 30 s, which is not lowered.
const SHUTDOWN_TIMEOUT: i64 = 25;
const MARGIN: i64 = 5;
/// The drain behind kube-proxy.
const SHORT: i64 = 10;

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
    })
}

/// Creates a Deployment `web` behind a Service, with an automatic drain, which a policy `all` sets.
async fn injected(scene: &Scene) {
    scene.create(&service()).await;
    scene.create(&policy(&json!({"shutdownTimeoutSeconds": SHUTDOWN_TIMEOUT}))).await;
    let annotated = web("web", &json!({"adieu.dev/policy": "all"}));
    eventually("the policy in the webhook's cache", || async {
        let created = scene.try_create_dry(&annotated).await.unwrap();
        let expected = Some(SHORT + SHUTDOWN_TIMEOUT + MARGIN);
        grace_period(&serde_json::to_value(created).unwrap()) == expected
    })
    .await;
    assert_eq!(drain(&scene.create(&annotated).await), Some(SHORT));
    scene.rolled_out("web").await;
}

/// Waits for the condition of the policy to begin with this.
async fn condition_begins(scene: &Scene, text: &str) {
    eventually(&format!("DrainTooShort: {text}"), || async {
        condition(scene, "DrainTooShort").await.is_some_and(|condition| condition.starts_with(text))
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_ingress_that_appears_causes_no_rollout_and_the_next_change_gets_its_drain() {
    let scene = Scene::new().await;
    injected(&scene).await;
    let before = scene.deployment("web").await;
    // The delay, and the time to deregister a pod.
    let needed = 20 + 10;
    let annotations = json!({
        "alb.ingress.kubernetes.io/target-type": "ip",
        "alb.ingress.kubernetes.io/target-group-attributes": "deregistration_delay.timeout_seconds=20",
    });
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "shop", "annotations": annotations},
        "spec": {"ingressClassName": "alb", "defaultBackend": backend},
    });
    scene.create(&ingress).await;
    let exposure = format!("Ingress {}/shop (class alb) needs {needed} s", scene.namespace);
    reported(&scene, "web", "DrainTooShort", &exposure).await;
    condition_begins(&scene, "True 1 workload has a drain").await;
    let listed = adieu(&scene, &["status", "deployment/web"]).await;
    assert!(listed.contains("DrainTooShort") && listed.contains(&exposure), "{listed}");
    let after = scene.deployment("web").await;
    assert_eq!((&after["spec"], scene.revisions("web").await), (&before["spec"], 1));

    let changed = scene.patch("Deployment", "web", &release()).await.unwrap();
    assert_eq!(drain(&changed), Some(needed));
    assert_eq!(grace_period(&changed), Some(needed + SHUTDOWN_TIMEOUT + MARGIN));
    condition_begins(&scene, "False").await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_kind_that_is_installed_later_is_watched_until_it_is_removed() {
    const NAME: &str = "targetgroupbindings.elbv2.k8s.aws";
    let scene = Scene::new().await;
    injected(&scene).await;
    let crds: Api<CustomResourceDefinition> = Api::all(scene.client.clone());
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd = json!({
        "metadata": {"name": NAME},
        "spec": {
            "group": "elbv2.k8s.aws", "scope": "Namespaced",
            "names": {"kind": "TargetGroupBinding", "plural": "targetgroupbindings"},
            "versions": [{"name": "v1beta1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    let crd = serde_json::from_value(crd).unwrap();
    // An earlier run may have left it.
    drop(crds.create(&PostParams::default(), &crd).await);
    let binding = json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding", "metadata": {"name": "public"},
        "spec": {"serviceRef": {"name": "web"}, "targetType": "ip", "targetGroupProtocol": "HTTP"},
    });
    eventually("the TargetGroupBinding", || async { scene.try_create(&binding).await.is_ok() }).await;
    let exposure = format!("TargetGroupBinding {}/public", scene.namespace);
    reported(&scene, "web", "DrainTooShort", &exposure).await;
    condition_begins(&scene, "True").await;
    crds.delete(NAME, &DeleteParams::default()).await.unwrap();
    condition_begins(&scene, "False").await;
    assert_eq!(scene.revisions("web").await, 1);
    scene.end().await;
}
