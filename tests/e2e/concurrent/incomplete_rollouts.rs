//! Rollouts that don't complete.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

use crate::{
    operations::policy,
    support::{Scene, drain, eventually, release, web, within, workload},
};

async fn object(scene: &Scene, kind: &str, name: &str) -> Value {
    serde_json::to_value(scene.api("apps/v1", kind).get(name).await.unwrap()).unwrap()
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
    let old: BTreeSet<_> = before.iter().map(kube::ResourceExt::uid).collect();
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
