//! Injection by annotations and by policies.

use serde_json::{Value, json};

use crate::{
    rejection,
    support::{Scene, drain, eventually, grace_period, is_rolled_out, web, workload},
    uid,
};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn annotating_an_existing_deployment_injects_immediately_with_one_rollout() {
    let scene = Scene::new().await;
    scene.create(&web("web", &json!({}))).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
    });
    scene.create(&service).await;
    scene.rolled_out("web").await;

    let annotated = scene.annotate("Deployment", "web", "graceful", Some("true")).await.unwrap();
    assert_eq!((drain(&annotated), grace_period(&annotated)), (Some(10), Some(45)));
    let container = &annotated["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["readinessProbe"]["tcpSocket"]["port"], 8080);
    scene.rolled_out("web").await;
    assert_eq!(scene.revisions("web").await, 2);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn every_kind_is_injected_on_creation() {
    let scene = Scene::new().await;
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let annotations = json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "3"});
        let created = scene.create(&workload(kind, "web", &annotations)).await;
        assert_eq!((drain(&created), grace_period(&created)), (Some(3), Some(38)), "{kind}");
        let probe = created["spec"]["template"]["spec"]["containers"][0].get("readinessProbe");
        assert_eq!(probe.is_some(), kind == "Deployment", "{kind}");
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_annotation_on_the_pod_template_counts_too() {
    let scene = Scene::new().await;
    let mut object = web("web", &json!({}));
    object["spec"]["template"]["metadata"]["annotations"] = json!({"adieu.dev/graceful": "true"});
    assert_eq!(drain(&scene.create(&object).await), Some(10));
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_policy_applies_to_workloads_that_name_it_and_reports_its_progress() {
    let scene = Scene::new().await;
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "slow"},
        "spec": {"drainSeconds": 7, "shutdownTimeoutSeconds": 40},
    });
    scene.create(&policy).await;
    eventually("the policy in the webhook's cache", || async {
        let mut probe = web("probe", &json!({"adieu.dev/policy": "slow"}));
        probe["metadata"]["name"] = json!(format!("probe-{}", uid()));
        drain(&scene.create(&probe).await) == Some(7)
    })
    .await;
    let created = scene.create(&web("web", &json!({"adieu.dev/policy": "slow"}))).await;
    assert_eq!((drain(&created), grace_period(&created)), (Some(7), Some(52)));
    eventually("the policy's status", || async {
        let status = scene.policy("slow").await["status"].clone();
        let counts = &status["workloads"];
        counts["matched"].as_i64() >= Some(2)
            && counts["matched"] == counts["injected"]
            && status["effective"]["gracePeriodSeconds"] == 52
            && condition(&status, "Ready") == "True"
    })
    .await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_policy_injects_selected_workloads_one_rollout_at_a_time() {
    let scene = Scene::new().await;
    let names = ["a", "b", "c"];
    for name in names {
        let mut object = web(name, &json!({}));
        object["spec"]["template"]["metadata"]["labels"]["team"] = json!("shop");
        scene.create(&object).await;
    }
    scene.create(&web("other", &json!({}))).await;
    for name in names.iter().chain(&["other"]) {
        scene.rolled_out(name).await;
    }
    let other = scene.deployment("other").await;

    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "shop"},
        "spec": {"selector": {"matchLabels": {"team": "shop"}}, "drainSeconds": 2},
    });
    scene.create(&policy).await;
    for seconds in [2, 3] {
        scene.patch("GracefulPolicy", "shop", &json!({"spec": {"drainSeconds": seconds}})).await.unwrap();
        eventually("every selected Deployment to be injected", || async {
            let mut rolling = 0;
            let mut injected = 0;
            for deployment in scene.deployments(&names).await {
                rolling += usize::from(!is_rolled_out(&deployment));
                injected += usize::from(drain(&deployment) == Some(seconds));
            }
            assert!(rolling <= 1, "{rolling} Deployments roll out at the same time");
            injected == names.len() && rolling == 0
        })
        .await;
    }
    eventually("the policy's status", || async {
        let status = scene.policy("shop").await["status"].clone();
        status["workloads"]
            == json!({"matched": 3, "injected": 3, "pending": 0, "unsatisfiable": 0, "rolloutFailed": 0})
    })
    .await;
    for name in names {
        assert_eq!(scene.revisions(name).await, 3, "{name}: as created, and one for each value");
    }
    let unselected = scene.deployment("other").await;
    assert_eq!(unselected["metadata"]["generation"], other["metadata"]["generation"]);
    assert_eq!(unselected["metadata"]["managedFields"], other["metadata"]["managedFields"]);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_malformed_annotation_is_denied_with_its_rule() {
    let scene = Scene::new().await;
    scene.create(&web("web", &json!({}))).await;
    let patch = json!({"metadata": {"annotations": {"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "ten"}}});
    let message = rejection(scene.patch("Deployment", "web", &patch).await.unwrap_err());
    for part in [
        "metadata.annotations[adieu.dev/drain-seconds]",
        "\"ten\"",
        "whole number of seconds from 0 to 3600",
        "\"15\"",
    ] {
        assert!(message.contains(part), "{part} is missing in {message}");
    }
    assert_eq!(scene.deployment("web").await["metadata"]["annotations"].get("adieu.dev/graceful"), None);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_invalid_policy_is_denied_by_the_api_server() {
    let scene = Scene::new().await;
    for (spec, part) in [
        (json!({"drainSeconds": -1}), "spec.drainSeconds"),
        (json!({"drainSeconds": 3601}), "spec.drainSeconds"),
        (json!({"marginSeconds": "5"}), "spec.marginSeconds"),
        (json!({"maxGracePeriodSeconds": 0}), "spec.maxGracePeriodSeconds"),
        (
            json!({"drainSeconds": 300, "shutdownTimeoutSeconds": 301}),
            "must not exceed maxGracePeriodSeconds",
        ),
        (json!({"drainSeconds": 50, "maxGracePeriodSeconds": 40}), "must not exceed maxGracePeriodSeconds"),
    ] {
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "p"}, "spec": spec,
        });
        let message = rejection(scene.try_create(&policy).await.unwrap_err());
        assert!(message.contains(part), "{part} is missing in {message}");
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn opting_out_restores_the_previous_values() {
    let scene = Scene::new().await;
    let before = scene.create(&web("web", &json!({}))).await["spec"]["template"].clone();
    let managed = scene.annotate("Deployment", "web", "graceful", Some("true")).await.unwrap();
    assert_ne!(managed["spec"]["template"], before);
    let opted_out = scene.annotate("Deployment", "web", "graceful", Some("false")).await.unwrap();
    assert_eq!(opted_out["spec"]["template"], before);
    scene.annotate("Deployment", "web", "graceful", Some("true")).await.unwrap();
    let unannotated = scene.annotate("Deployment", "web", "graceful", None).await.unwrap();
    assert_eq!(unannotated["spec"]["template"], before);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn in_a_labelled_namespace_a_policy_takes_effect_on_creation() {
    let scene = Scene::labelled(&json!({"adieu.dev/injection": "enabled"})).await;
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"},
        "spec": {"selector": {}, "drainSeconds": 4},
    });
    scene.create(&policy).await;
    eventually("the policy in the webhook's cache", || async {
        drain(&scene.create(&web(&format!("web-{}", uid()), &json!({}))).await) == Some(4)
    })
    .await;
    scene.end().await;
}

fn condition(status: &Value, type_: &str) -> String {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == type_);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default().to_owned()
}
