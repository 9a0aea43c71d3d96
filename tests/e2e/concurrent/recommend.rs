//! `adieu recommend`, from a namespace that isn't opted in to one that is.

use std::process::Output;

use serde_json::{Value, json};

use crate::{
    support::{Scene, drain, eventually, grace_period, web},
    terminations::{adieu, adieu_with},
};

/// A Service of this type.
fn service(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": kind, "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

/// The steps of docs/adopting.md in one namespace, except those that need load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_namespace_is_adopted_with_the_recommended_policies() {
    let scene = Scene::new().await;
    for (name, kind) in [("web", "ClusterIP"), ("edge", "LoadBalancer")] {
        scene.create(&web(name, &json!({}))).await;
        scene.create(&service(name, kind)).await;
    }
    scene.create(&web("worker", &json!({}))).await;
    let audited = adieu(&scene, &["audit"]).await;
    assert!(audited.contains("no-prestop-behind-service"), "{audited}");

    let yaml = adieu(&scene, &["recommend"]).await;
    assert!(yaml.contains("# Deployment edge\n#   drain 30 s: Service "), "{yaml}");
    let differs = async || {
        let Output { status, .. } = adieu_with(&scene, &["recommend", "--diff"], String::new()).await;
        status.code()
    };
    assert_eq!(differs().await, Some(1));
    let report: Value = serde_json::from_str(&adieu(&scene, &["recommend", "-o", "json"]).await).unwrap();
    assert_eq!(report["summary"]["protected"], 2, "{report:#}");
    let policies = json!({"apiVersion": "v1", "kind": "List", "items": report["policies"]});
    scene.kubectl_with(&["apply", "-f", "-"], &policies).await.unwrap();
    for (name, seconds) in [("web", 10), ("edge", 30)] {
        eventually(&format!("the injection of {name}"), || async {
            let deployment = scene.deployment(name).await;
            (drain(&deployment), grace_period(&deployment)) == (Some(seconds), Some(seconds + 35))
        })
        .await;
    }
    assert_eq!(drain(&scene.deployment("worker").await), None);
    assert_eq!(differs().await, Some(0));
    let status = adieu(&scene, &["status"]).await;
    assert!(status.contains("GracefulPolicy/recommended-shutdown-30"), "{status}");
    scene.end().await;
}
