//! Changes of an injected workload by users and their tools, with the real tools: each ends in the right state,
//! without an unintended rollout and without a conflict.

use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Scene, drain, eventually, grace_period, is_observed, run, web};

/// A Deployment without pods, so that a rollout is only a new ReplicaSet.
pub fn scaled_to_zero(name: &str, annotations: &Value) -> Value {
    let mut object = web(name, annotations);
    object["spec"]["replicas"] = json!(0);
    object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(30);
    object
}

fn with_env(mut object: Value, value: &str) -> Value {
    object["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": value}]);
    object
}

/// The ReplicaSets of a Deployment, once its controller has observed its last change.
async fn revisions(scene: &Scene, name: &str) -> usize {
    eventually("the Deployment's controller", || async { is_observed(&scene.deployment(name).await) }).await;
    scene.revisions(name).await
}

pub async fn is_injected(scene: &Scene, name: &str) -> bool {
    let deployment = scene.deployment(name).await;
    (drain(&deployment), grace_period(&deployment)) == (Some(10), Some(45))
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn rollout_undo_keeps_a_deployment_opted_in() {
    let scene = Scene::new().await;
    scene.create(&scaled_to_zero("web", &json!({}))).await;
    assert_eq!(revisions(&scene, "web").await, 1);
    scene.kubectl(&["annotate", "deployment/web", "adieu.dev/graceful=true"]).await;
    assert_eq!(revisions(&scene, "web").await, 2);
    scene.kubectl(&["set", "env", "deployment/web", "A=1"]).await;
    assert_eq!(revisions(&scene, "web").await, 3);

    let told = scene.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=1"]).await;
    assert!(told.contains("to opt out, set adieu.dev/graceful"), "{told}");
    assert!(is_injected(&scene, "web").await);
    let undone = scene.deployment("web").await;
    assert_eq!(undone["metadata"]["annotations"]["adieu.dev/graceful"], "true");
    assert_eq!(undone["spec"]["template"]["spec"]["containers"][0].get("env"), None, "the earlier template");
    assert_eq!(revisions(&scene, "web").await, 3, "that is the second revision again");

    scene.kubectl(&["annotate", "deployment/web", "adieu.dev/graceful-"]).await;
    assert_eq!(drain(&scene.deployment("web").await), None, "opted out");
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn rollout_undo_keeps_a_stateful_set_opted_in() {
    let scene = Scene::new().await;
    let mut object = scaled_to_zero("db", &json!({}));
    object["kind"] = json!("StatefulSet");
    object["spec"]["serviceName"] = json!("db");
    scene.create(&object).await;
    let current = || async {
        serde_json::to_value(scene.api("apps/v1", "StatefulSet").get("db").await.unwrap()).unwrap()
    };
    let settled = || async { is_observed(&current().await) };
    eventually("the StatefulSet's controller", settled).await;
    let on_template =
        json!({"spec": {"template": {"metadata": {"annotations": {"adieu.dev/graceful": "true"}}}}});
    let injected = scene.patch("StatefulSet", "db", &on_template).await.unwrap();
    assert_eq!(drain(&injected), Some(10));
    eventually("the StatefulSet's controller", settled).await;
    // From a later release to the revision before the opt-in.
    scene.kubectl(&["set", "env", "statefulset/db", "A=1"]).await;
    eventually("the StatefulSet's controller", settled).await;
    scene.kubectl(&["rollout", "undo", "statefulset/db", "--to-revision=1"]).await;
    assert_eq!(current().await["spec"]["template"], injected["spec"]["template"]);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn kubectl_replace_keeps_the_injection() {
    let scene = Scene::new().await;
    let object = scaled_to_zero("web", &json!({"adieu.dev/graceful": "true"}));
    scene.create(&object).await;
    scene.kubectl_with(&["replace", "-f", "-"], &object).await.unwrap();
    assert!(is_injected(&scene, "web").await);
    assert_eq!(revisions(&scene, "web").await, 1);
    scene.kubectl_with(&["replace", "-f", "-"], &with_env(object, "1")).await.unwrap();
    assert!(is_injected(&scene, "web").await);
    assert_eq!(revisions(&scene, "web").await, 2);
    let opted_out = scaled_to_zero("web", &json!({}));
    scene.kubectl_with(&["replace", "-f", "-"], &opted_out).await.unwrap();
    let deployment = scene.deployment("web").await;
    assert_eq!((drain(&deployment), grace_period(&deployment)), (None, Some(30)));
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn kubectl_apply_works_as_without_adieu() {
    let scene = Scene::new().await;
    for server_side in ["--server-side=false", "--server-side=true"] {
        let name = if server_side.ends_with("true") { "server" } else { "client" };
        let apply = ["apply", server_side, "-f", "-"];
        let object = scaled_to_zero(name, &json!({"adieu.dev/graceful": "true"}));
        for (manifest, expected) in [
            (object.clone(), 1),
            // Git applies its own grace period of 30 again.
            (object.clone(), 1),
            (with_env(object.clone(), "1"), 2),
            (with_env(object.clone(), "1"), 2),
        ] {
            scene.kubectl_with(&apply, &manifest).await.unwrap();
            assert!(is_injected(&scene, name).await, "{server_side}");
            assert_eq!(revisions(&scene, name).await, expected, "{server_side}");
        }
        // The user's own hook and probe, and a longer grace period.
        let mut own = with_env(object.clone(), "1");
        let pod = &mut own["spec"]["template"]["spec"];
        pod["containers"][0]["lifecycle"] = json!({"preStop": {"exec": {"command": ["sleep", "20"]}}});
        pod["containers"][0]["readinessProbe"] = json!({"httpGet": {"path": "/", "port": "http"}});
        pod["terminationGracePeriodSeconds"] = json!(90);
        scene.kubectl_with(&apply, &own).await.unwrap();
        let deployment = scene.deployment(name).await;
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(
            container["lifecycle"]["preStop"],
            own["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]
        );
        assert_eq!(container["readinessProbe"].get("tcpSocket"), None);
        assert_eq!(container["readinessProbe"]["httpGet"]["port"], "http");
        assert_eq!(grace_period(&deployment), Some(90));
        assert_eq!(revisions(&scene, name).await, 3, "{server_side}");

        let gone = scaled_to_zero(name, &json!({}));
        scene.kubectl_with(&apply, &gone).await.unwrap();
        let deployment = scene.deployment(name).await;
        assert_eq!((drain(&deployment), grace_period(&deployment)), (None, Some(30)), "{server_side}");
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(
            (container.get("lifecycle"), container.get("readinessProbe")),
            (None, None),
            "{server_side}"
        );
    }
    scene.end().await;
}

/// Whether adieu owns a field of the Deployment.
pub async fn is_owned(scene: &Scene, name: &str) -> bool {
    let deployment = scene.deployment(name).await;
    let mut fields = deployment["metadata"]["managedFields"].as_array().unwrap().iter();
    fields.any(|entry| entry["manager"] == "adieu")
}

/// The state if the operator ends between a write and releasing the ownership of its fields.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn ownership_left_by_an_interrupted_write_is_released() {
    let scene = Scene::new().await;
    scene.create(&scaled_to_zero("web", &json!({"adieu.dev/graceful": "true"}))).await;
    let interrupted = PatchParams { field_manager: Some("adieu".into()), ..PatchParams::default() };
    let patch = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 70}}}});
    let api = scene.api("apps/v1", "Deployment");
    let written = api.patch("web", &interrupted, &Patch::Merge(&patch)).await.unwrap();
    assert!(written.managed_fields().iter().any(|entry| entry.manager.as_deref() == Some("adieu")));
    eventually("nothing to be owned by adieu", || async { !is_owned(&scene, "web").await }).await;
    assert_eq!(grace_period(&scene.deployment("web").await), Some(70));
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn helm_upgrades_and_rolls_back_around_it() {
    let scene = Scene::new().await;
    let chart = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| std::fs::write(chart.path().join(path), text).unwrap();
    std::fs::create_dir(chart.path().join("templates")).unwrap();
    write("Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n");
    write("values.yaml", "value: one\n");
    let manifest = with_env(scaled_to_zero("web", &json!({})), "VALUE").to_string();
    write("templates/web.yaml", &manifest.replace("VALUE", "{{ .Values.value }}"));
    let path = chart.path().display().to_string();
    let upgrade = |value: &str| {
        let arguments = ["upgrade", "--install", "web", &path, "--set", &format!("value={value}")];
        arguments.map(str::to_owned)
    };
    scene.run("helm", &upgrade("one"), None).await.unwrap();
    scene.kubectl(&["annotate", "deployment/web", "adieu.dev/graceful=true"]).await;
    for (arguments, expected) in [
        (upgrade("one").to_vec(), 2),
        (upgrade("two").to_vec(), 3),
        (["rollback", "web", "1"].map(str::to_owned).to_vec(), 3),
    ] {
        scene.run("helm", &arguments, None).await.unwrap();
        assert!(is_injected(&scene, "web").await, "{arguments:?}");
        assert_eq!(revisions(&scene, "web").await, expected, "{arguments:?}");
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn scaling_causes_no_rollout_even_if_a_policy_has_changed() {
    let scene = Scene::labelled(&json!({"adieu.dev/injection": "enabled"})).await;
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"},
        "spec": {"selector": {}, "rollout": {"mode": "NextUpdate"}},
    });
    scene.create(&scaled_to_zero("web", &json!({}))).await;
    scene.create(&policy).await;
    eventually("the policy's status", || async {
        scene.policy("all").await["status"]["workloads"]["pending"] == 1
    })
    .await;
    scene.kubectl(&["scale", "deployment/web", "--replicas=1"]).await;
    scene.kubectl(&["label", "deployment/web", "team=shop"]).await;
    assert_eq!(revisions(&scene, "web").await, 1);
    scene.kubectl(&["set", "env", "deployment/web", "A=1"]).await;
    assert!(is_injected(&scene, "web").await, "with the next change of its template");
    scene.end().await;
}

/// Manifests rendered with the command line are applied to a cluster with adieu.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_injection_by_the_command_line_stays_unchanged() {
    let scene = Scene::new().await;
    let manifests = |image: &str| {
        let mut deployment = scaled_to_zero("web", &json!({}));
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"},
            "spec": {"selector": {}, "drainSeconds": 7},
        });
        (json!({"apiVersion": "v1", "kind": "List", "items": [policy, deployment]}), deployment)
    };
    let render = async |list: Value| {
        let mut adieu = Command::new(env!("CARGO_BIN_EXE_adieu"));
        adieu.args(["inject", "--quiet", "-f", "-", "-o", "json"]);
        run(adieu, list.to_string()).await.unwrap()
    };
    // The policy is never applied to the cluster.
    let deployment_of = |rendered: String| {
        let rendered: Value = serde_json::from_str(&rendered).unwrap();
        rendered["items"][1].clone()
    };
    let apply = ["apply", "-f", "-"];
    let (list, plain) = manifests("registry.example/web:1");
    let rendered = deployment_of(render(list).await);
    assert_eq!((drain(&rendered), grace_period(&rendered)), (Some(7), Some(42)));
    for _ in 0..2 {
        scene.kubectl_with(&apply, &rendered).await.unwrap();
        let deployment = scene.deployment("web").await;
        assert_eq!((drain(&deployment), grace_period(&deployment)), (Some(7), Some(42)));
        assert_eq!(revisions(&scene, "web").await, 1);
    }
    let (list, _) = manifests("registry.example/web:2");
    scene.kubectl_with(&apply, &deployment_of(render(list).await)).await.unwrap();
    assert_eq!(drain(&scene.deployment("web").await), Some(7));
    assert_eq!(revisions(&scene, "web").await, 2);
    scene.kubectl_with(&apply, &plain).await.unwrap();
    let deployment = scene.deployment("web").await;
    assert_eq!((drain(&deployment), grace_period(&deployment)), (None, Some(30)), "rendered no more");
    scene.end().await;
}
