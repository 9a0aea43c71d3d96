//! Other field managers, canary tools, restores and the user's own budgets.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
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

/// Applies an object server-side as a field manager.
async fn apply(scene: &Scene, manager: &str, more: &[&str], object: &Value) -> Result<String, String> {
    let manager = format!("--field-manager={manager}");
    let arguments = [&["apply", "--server-side", "--filename=-", &manager][..], more].concat();
    scene.kubectl_with(&arguments, object).await
}

/// Whether a stored value has the applied fields. The API server adds defaults.
fn has_fields(stored: &Value, applied: &Value) -> bool {
    match applied.as_object() {
        Some(fields) => fields.iter().all(|(field, value)| has_fields(&stored[field], value)),
        None => stored == applied,
    }
}

/// The only handler of a Deployment's container is `handler`, and it has the probe.
async fn has_only(scene: &Scene, name: &str, handler: &Value, probe: &Value) {
    let deployment = scene.deployment(name).await;
    let container = container(&deployment);
    let hook = &container["lifecycle"]["preStop"];
    assert_eq!(hook.as_object().map(serde_json::Map::len), Some(1), "{hook}");
    assert!(has_fields(hook, handler), "{hook}");
    assert!(has_fields(&container["readinessProbe"], probe), "{container}");
}

/// Injected values have no owner: managedFields are computed before the webhook is called, and the controller removes
/// its own entry. So an apply conflicts with other users, and not with adieu.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_handler_that_another_field_manager_applies_replaces_the_injected_one() {
    let scene = Scene::new().await;
    let exec = |seconds: &str| json!({"exec": {"command": ["sleep", seconds]}});
    let http_get = |path: &str| json!({"httpGet": {"path": path, "port": 8080}});
    let sleep = |seconds: i64| json!({"sleep": {"seconds": seconds}});
    for (name, [handler, other], probe) in [
        ("exec", ["7", "8"].map(exec), json!({"httpGet": {"path": "/", "port": 8080}})),
        ("http-get", ["/stop", "/drain"].map(http_get), json!({"exec": {"command": ["true"]}})),
        // The same fields as the injected ones, with other values.
        ("sleep", [7, 8].map(sleep), json!({"tcpSocket": {"port": 8080}, "periodSeconds": 7})),
    ] {
        let applied = idle(name, &json!({"adieu.dev/graceful": "true"}));
        apply(&scene, "one", &[], &applied).await.unwrap();
        let deployment = scene.deployment(name).await;
        assert_eq!(drain(&deployment), Some(10));
        assert_eq!(container(&deployment)["readinessProbe"]["tcpSocket"]["port"], 8080);
        let own = |handler: &Value| {
            let mut own = applied.clone();
            own["spec"]["template"]["spec"]["containers"] = json!([{
                "name": "web", "image": image(), "lifecycle": {"preStop": handler}, "readinessProbe": probe,
            }]);
            own
        };
        apply(&scene, "two", &[], &own(&handler)).await.unwrap();
        has_only(&scene, name, &handler, &probe).await;
        let conflict = apply(&scene, "three", &[], &own(&other)).await.unwrap_err();
        assert!(conflict.contains("\"two\"") && !conflict.contains("\"adieu\""), "{conflict}");
        apply(&scene, "three", &["--force-conflicts"], &own(&other)).await.unwrap();
        has_only(&scene, name, &other, &probe).await;
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
