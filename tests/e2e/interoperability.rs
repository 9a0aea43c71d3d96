//! Other field managers, canary tools, restores and the user's own budgets.

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    operations::policy,
    support::{Scene, drain, eventually, grace_period, image, web},
};

/// How often two budgets are created at the same time.
const ROUNDS: usize = 5;

/// A Deployment without pods.
fn idle(name: &str, annotations: &Value) -> Value {
    let mut object = web(name, annotations);
    object["spec"]["replicas"] = json!(0);
    object
}

fn container(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_handler_that_another_field_manager_applies_replaces_the_injected_one() {
    let scene = Scene::new().await;
    let applied = idle("web", &json!({"adieu.dev/graceful": "true"}));
    scene
        .kubectl_with(&["apply", "--server-side", "--field-manager=one", "-f", "-"], &applied)
        .await
        .unwrap();
    assert_eq!(drain(&scene.deployment("web").await), Some(10));
    for (handler, probe) in [
        (json!({"exec": {"command": ["sleep", "7"]}}), json!({"httpGet": {"path": "/", "port": 8080}})),
        (json!({"httpGet": {"path": "/stop", "port": 8080}}), json!({"exec": {"command": ["true"]}})),
    ] {
        let mut own = applied.clone();
        own["spec"]["template"]["spec"]["containers"] = json!([{
            "name": "web", "image": image(), "lifecycle": {"preStop": handler}, "readinessProbe": probe,
        }]);
        let manager = format!("--field-manager={}", own["spec"]["template"].to_string().len());
        let apply = ["apply", "--server-side", "--force-conflicts", &manager, "-f", "-"];
        scene.kubectl_with(&apply, &own).await.unwrap();
        let deployment = scene.deployment("web").await;
        let hook = &container(&deployment)["lifecycle"]["preStop"];
        assert_eq!(hook.as_object().unwrap().len(), 1, "{hook}");
        for (field, value) in handler.as_object().unwrap() {
            assert_eq!(hook[field].get("command"), value.get("command"));
            assert_eq!(hook[field].get("path"), value.get("path"));
        }
        // Otherwise the next round's manager would share the fields with this one.
        scene.kubectl(&["delete", "deployment/web", "--wait"]).await;
        let apply = ["apply", "--server-side", "--field-manager=one", "-f", "-"];
        scene.kubectl_with(&apply, &applied).await.unwrap();
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_client_without_a_field_manager_opts_out_by_removing_everything() {
    let scene = Scene::new().await;
    scene.create(&idle("web", &json!({"adieu.dev/graceful": "true"}))).await;
    let api = scene.api("apps/v1", "Deployment");
    eventually("the replacement", || async {
        let mut live = serde_json::to_value(api.get("web").await.unwrap()).unwrap();
        live["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .retain(|key, _| !key.starts_with("adieu.dev/"));
        let template = &mut live["spec"]["template"];
        template["metadata"]["annotations"].as_object_mut().unwrap().clear();
        let container = template["spec"]["containers"][0].as_object_mut().unwrap();
        container.remove("lifecycle");
        container.remove("readinessProbe");
        template["spec"]["terminationGracePeriodSeconds"] = json!(30);
        let body = live.to_string().into_bytes();
        let request = http::Request::put(format!("{}/web", api.resource_url())).body(body).unwrap();
        // Without fieldManager, the user agent names the manager.
        scene.client.request::<Value>(request).await.is_ok()
    })
    .await;
    let deployment = scene.deployment("web").await;
    assert_eq!((drain(&deployment), grace_period(&deployment)), (None, Some(30)));
    assert!(deployment["metadata"]["annotations"].get("adieu.dev/graceful").is_none());
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_canary_tools_copy_keeps_what_it_has() {
    let scene = Scene::new().await;
    let source = scene.create(&idle("web", &json!({"adieu.dev/graceful": "true"}))).await;
    let owner = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "canary"},
    });
    let owner = scene.create(&owner).await;
    let copy = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web-primary", "annotations": {"adieu.dev/graceful": "true"},
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "ConfigMap", "name": "canary", "uid": owner["metadata"]["uid"],
                "controller": true,
            }],
        },
        "spec": {"replicas": 0, "selector": source["spec"]["selector"], "template": source["spec"]["template"]},
    });
    let created = scene.create(&copy).await;
    assert_eq!(created["spec"]["template"], source["spec"]["template"]);
    // An update by the tool, and time for the controller to reconcile it.
    scene
        .patch("Deployment", "web-primary", &json!({"metadata": {"labels": {"track": "stable"}}}))
        .await
        .unwrap();
    scene.create(&web("witness", &json!({"adieu.dev/graceful": "true"}))).await;
    scene.rolled_out("witness").await;
    assert_eq!(scene.deployment("web-primary").await["spec"]["template"], source["spec"]["template"]);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn restored_pods_with_a_record_are_admitted_unchanged() {
    let scene = Scene::new().await;
    let injected = scene.create(&idle("web", &json!({"adieu.dev/graceful": "true"}))).await;
    let template = &injected["spec"]["template"];
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "restored", "labels": template["metadata"]["labels"],
            "annotations": template["metadata"]["annotations"],
        },
        "spec": template["spec"],
    });
    let restored = scene.create(&pod).await;
    let record = "adieu.dev/injected";
    assert_eq!(restored["metadata"]["annotations"][record], template["metadata"]["annotations"][record]);
    for field in ["lifecycle", "readinessProbe"] {
        assert_eq!(restored["spec"]["containers"][0][field], template["spec"]["containers"][0][field]);
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_users_budget_created_at_the_same_time_is_kept() {
    let scene = Scene::new().await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(scene.client.clone(), &scene.namespace);
    scene.create(&policy(&json!({"drainSeconds": 1, "disruptionBudget": {"maxUnavailable": 1}}))).await;
    eventually("the policy in the webhook's cache", || async {
        let annotated = idle("probe", &json!({"adieu.dev/policy": "all"}));
        drain(&serde_json::to_value(scene.try_create_dry(&annotated).await.unwrap()).unwrap()) == Some(1)
    })
    .await;
    for round in 0..ROUNDS {
        let name = format!("web-{round}");
        let own: PodDisruptionBudget = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": name}}},
        }))
        .unwrap();
        let workload = idle(&name, &json!({"adieu.dev/policy": "all"}));
        let (parameters, workload) = (PostParams::default(), scene.create(&workload));
        let (created, _) = tokio::join!(budgets.create(&parameters, &own), workload);
        created.unwrap();
    }
    let own: Vec<_> = (0..ROUNDS).map(|round| format!("web-{round}")).collect();
    let only_own = || async {
        let all = budgets.list(&ListParams::default()).await.unwrap().items;
        all.iter().map(kube::ResourceExt::name_any).eq(own.iter().cloned())
    };
    eventually("only the user's budgets", only_own).await;
    // The next decision considers both.
    scene.create(&idle("last", &json!({"adieu.dev/policy": "all"}))).await;
    eventually("budgets for the other Deployments", || async {
        budgets.get_opt("last-deployment-adieu").await.unwrap().is_some()
    })
    .await;
    let all = budgets.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(
        all.len(),
        ROUNDS + 1,
        "{:?}",
        all.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>()
    );
    scene.end().await;
}

/// The pods of a Deployment, for tests of their termination.
pub async fn pods_of(scene: &Scene, name: &str) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    pods.list(&ListParams::default().labels(&format!("app={name}"))).await.unwrap().items
}
