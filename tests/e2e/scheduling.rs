//! The order of a policy's rollouts, and their limits.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

use crate::{
    operations::policy,
    operator::Operator,
    support::{Scene, drain, eventually, web, within, workload},
};

/// A user's change that is unrelated to adieu.
fn release() -> Value {
    json!({"spec": {"template": {"metadata": {"annotations": {"release": "2"}}}}})
}

async fn object(scene: &Scene, kind: &str, name: &str) -> Value {
    serde_json::to_value(scene.api("apps/v1", kind).get(name).await.unwrap()).unwrap()
}

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

/// The uids of the pods that a rollout without progress has not replaced.
async fn old_pods(scene: &Scene) -> BTreeSet<String> {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let all = pods.list(&ListParams::default()).await.unwrap().items;
    let is_old = |pod: &Pod| {
        let (name, app) = (pod.name_any(), &pod.labels()["app"]);
        app == "paused" || name == "by-hand-0" || name == "partitioned-0"
    };
    all.into_iter().filter(is_old).map(|pod| pod.uid().unwrap()).collect()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_rollout_without_progress_delays_no_other_workload() {
    let scene = Scene::new().await;
    let mut asleep = web("asleep", &json!({}));
    asleep["spec"]["replicas"] = json!(0);
    scene.create(&asleep).await;
    scene.create(&web("paused", &json!({}))).await;
    let mut by_hand = workload("StatefulSet", "by-hand", &json!({}));
    by_hand["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    scene.create(&by_hand).await;
    let mut partitioned = workload("StatefulSet", "partitioned", &json!({}));
    partitioned["spec"]["replicas"] = json!(2);
    partitioned["spec"]["updateStrategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}});
    scene.create(&partitioned).await;
    for (kind, name) in [("Deployment", "paused"), ("StatefulSet", "by-hand"), ("StatefulSet", "partitioned")]
    {
        scene.settled(kind, name).await;
    }
    // The newest, which is last.
    scene.create(&web("web", &json!({}))).await;
    scene.rolled_out("web").await;

    // Rollouts of all of them are in progress.
    let mut paused = release();
    paused["spec"]["paused"] = json!(true);
    scene.patch("Deployment", "paused", &paused).await.unwrap();
    for name in ["by-hand", "partitioned"] {
        scene.patch("StatefulSet", name, &release()).await.unwrap();
    }
    eventually("the StatefulSets to have updated as far as they can", || async {
        let by_hand = object(&scene, "StatefulSet", "by-hand").await["status"].take();
        let partitioned = object(&scene, "StatefulSet", "partitioned").await["status"].take();
        by_hand["updateRevision"] != by_hand["currentRevision"]
            && partitioned["updateRevision"] != partitioned["currentRevision"]
            && (partitioned["updatedReplicas"] == 1 && partitioned["availableReplicas"] == 2)
    })
    .await;
    let before = old_pods(&scene).await;
    assert_eq!(before.len(), 3);

    let spec = json!({
        "selector": {}, "kinds": ["Deployment", "StatefulSet"], "drainSeconds": 3, "rollout": {"maxConcurrent": 2},
    });
    scene.create(&policy(&spec)).await;
    eventually("the one that makes progress to follow", || async {
        drain(&scene.deployment("web").await) == Some(3)
    })
    .await;
    scene.rolled_out("web").await;
    eventually("the policy's status", || async {
        let status = scene.policy("all").await["status"].take();
        status["workloads"]
            == json!({"matched": 5, "injected": 5, "pending": 0, "unsatisfiable": 0, "rolloutFailed": 0})
    })
    .await;
    assert_eq!(old_pods(&scene).await, before, "no pod of another rollout was replaced");
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

/// Twelve Deployments whose pods are slow, of a policy that asks for a thousand rollouts at a time.
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
        let slow = json!({"spec": {"minReadySeconds": 90}});
        tenant.patch("Deployment", name, &slow).await.unwrap();
    }
    other.rolled_out("web").await;
    let many = json!({"selector": {}, "drainSeconds": 1, "rollout": {"maxConcurrent": 1000}});
    tenant.create(&policy(&many)).await;
    // Their pods are available only after minReadySeconds, and an incomplete workload must not be rolled out.
    within(Duration::from_mins(4), "the tenant's rollouts to start", || async {
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

/// Its pods end before they are available, and are created again: Kubernetes itself never reports a failure.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_rollout_whose_pods_never_stay_available_fails_and_is_recorded() {
    let scene = Scene::new().await;
    let mut flaps = web("flaps", &json!({}));
    flaps["spec"]["progressDeadlineSeconds"] = json!(60);
    scene.create(&flaps).await;
    scene.rolled_out("flaps").await;
    // From now on no new pod becomes available: each is deleted after 20 s.
    let flapping = json!({"spec": {"minReadySeconds": 30}});
    scene.patch("Deployment", "flaps", &flapping).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let before = pods.list(&ListParams::default()).await.unwrap().items;
    let old: BTreeSet<_> = before.iter().map(ResourceExt::uid).collect();
    scene.create(&policy(&json!({"selector": {}, "drainSeconds": 1}))).await;
    within(Duration::from_mins(4), "the rollout to fail", || async {
        for pod in pods.list(&ListParams::default().labels("app=flaps")).await.unwrap().items {
            if !old.contains(&pod.uid()) && is_older_than(&pod, 20) {
                let _ = pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
            }
        }
        let status = scene.policy("all").await["status"].take();
        status["failedRollouts"][0]["name"] == "flaps" && status["workloads"]["rolloutFailed"] == 1
    })
    .await;
    scene.end().await;
}

fn is_older_than(pod: &Pod, seconds: i64) -> bool {
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
    created.is_some_and(|created| Timestamp::now().as_second() - created >= seconds)
}
