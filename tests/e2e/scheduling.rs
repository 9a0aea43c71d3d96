//! The order of a policy's rollouts, and their limits.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    operations::policy,
    operator::Operator,
    support::{Scene, drain, eventually, release, web, within},
};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_policy_waits_until_another_rollout_of_the_workload_is_complete() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    for name in ["busy", "idle"] {
        scene.create(&web(name, &json!({}))).await;
        scene.rolled_out(name).await;
    }
    // Its new pod is unschedulable, and the Deployment controller waits for ten minutes.
    let selector = |nodes: Value| json!({"spec": {"template": {"spec": {"nodeSelector": nodes}}}});
    let nowhere = selector(json!({"there-is": "none"}));
    scene.patch("Deployment", "busy", &nowhere).await.unwrap();
    eventually("the rollout to have begun", || async {
        let status = &scene.deployment("busy").await["status"];
        status["updatedReplicas"] == 1 && status["replicas"] == 2
    })
    .await;

    scene.create(&policy(&json!({"selector": {}, "drainSeconds": 3}))).await;
    eventually("the other one to follow", || async { drain(&scene.deployment("idle").await) == Some(3) })
        .await;
    scene.rolled_out("idle").await;
    eventually("the policy to report that one is pending", || async {
        scene.policy("all").await["status"]["workloads"]["pending"] == 1
    })
    .await;
    operator.waits_again(&scene, &["busy"]).await;
    assert_eq!(drain(&scene.deployment("busy").await), None, "its rollout is in progress");

    scene.patch("Deployment", "busy", &selector(Value::Null)).await.unwrap();
    eventually("the workload to follow", || async { drain(&scene.deployment("busy").await) == Some(3) })
        .await;
    scene.rolled_out("busy").await;
    assert_eq!(scene.revisions("busy").await, 3, "as created, on no node, and injected");
    assert_eq!(scene.revisions("idle").await, 2);
    scene.end().await;
}

/// In a namespace without the label, where only the annotation makes the next update reach the webhook.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_policy_for_the_next_update_sets_pending_and_causes_no_rollout() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let before = scene.create(&web("web", &json!({}))).await;
    scene.rolled_out("web").await;

    let waited = operator.waiting_reconciles().await;
    scene
        .create(&policy(&json!({"selector": {}, "drainSeconds": 3, "rollout": {"mode": "NextUpdate"}})))
        .await;
    let counts = async |counts: Value| {
        eventually("the policy's status", || async {
            scene.policy("all").await["status"]["workloads"] == counts
        })
        .await;
    };
    counts(json!({"matched": 1, "injected": 0, "pending": 1, "unsatisfiable": 0, "rolloutFailed": 0})).await;
    eventually("the controller to let it wait", || async { operator.waiting_reconciles().await > waited })
        .await;
    let marked = async |marked: bool| {
        eventually("the mark", || async {
            let metadata = scene.deployment("web").await["metadata"].take();
            let ours = metadata["managedFields"].as_array().unwrap().iter().any(|e| e["manager"] == "adieu");
            metadata["annotations"].get("adieu.dev/pending").is_some() == marked && !ours
        })
        .await;
    };
    marked(true).await;
    assert_eq!(scene.deployment("web").await["spec"], before["spec"]);

    eventually("the policy in the webhook's cache", || async {
        let probe = web("probe", &json!({"adieu.dev/policy": "all"}));
        let answer = scene.try_create_dry(&probe).await.unwrap();
        drain(&serde_json::to_value(answer).unwrap()) == Some(3)
    })
    .await;
    let scaled = scene.patch("Deployment", "web", &json!({"spec": {"replicas": 2}})).await.unwrap();
    assert_eq!(scaled["spec"]["template"], before["spec"]["template"], "that does not update its pods");
    let updated = scene.patch("Deployment", "web", &release()).await.unwrap();
    assert_eq!(drain(&updated), Some(3));
    scene.rolled_out("web").await;
    assert_eq!(scene.revisions("web").await, 2);
    counts(json!({"matched": 1, "injected": 1, "pending": 0, "unsatisfiable": 0, "rolloutFailed": 0})).await;
    marked(false).await;
    scene.end().await;
}

/// Twelve Deployments whose new pods are slow, of a policy that asks for a thousand rollouts at a time.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn slow_rollouts_of_a_namespace_leave_slots_to_others() {
    let (tenant, other) = (Scene::new().await, Scene::new().await);
    let names: Vec<_> = (0..12).map(|number| format!("slow-{number}")).collect();
    for name in &names {
        tenant.create(&web(name, &json!({}))).await;
    }
    other.create(&web("web", &json!({}))).await;
    for name in &names {
        tenant.rolled_out(name).await;
    }
    other.rolled_out("web").await;
    let slow = json!({"tcpSocket": {"port": "http"}, "initialDelaySeconds": 45});
    let many = json!({
        "selector": {}, "drainSeconds": 1, "rollout": {"maxConcurrent": 1000},
        "readinessProbe": {"mode": "Auto", "probe": slow},
    });
    tenant.create(&policy(&many)).await;
    eventually("the tenant's rollouts to start", || async {
        let rolling = names.iter().map(|name| tenant.deployment(name));
        futures::future::join_all(rolling).await.iter().filter(|now| drain(now) == Some(1)).count() >= 3
    })
    .await;
    other.create(&policy(&json!({"selector": {}, "drainSeconds": 1}))).await;
    within(Duration::from_secs(20), "the other namespace's rollout to start", || async {
        drain(&other.deployment("web").await) == Some(1)
    })
    .await;
    tenant.end().await;
    other.end().await;
}
