//! The effects of cluster policies and of quotas of namespaces on rollouts elsewhere.

use std::{cell::Cell, time::Duration};

use adieu::api::ClusterGracefulPolicy;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    operations::policy,
    support::{Scene, drain, eventually, is_rolled_out, web, within},
};

fn policies(scene: &Scene) -> Api<ClusterGracefulPolicy> {
    Api::all(scene.client.clone())
}

/// Creates a cluster policy for the namespaces of these scenes, named after the first.
async fn create_cluster_policy(scenes: &[&Scene], spec: Value) {
    let namespaces: Vec<_> = scenes.iter().map(|scene| &scene.namespace).collect();
    let mut object = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy", "metadata": {"name": namespaces[0]},
        "spec": spec,
    });
    object["spec"]["namespaceSelector"] = json!({"matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces},
    ]});
    policies(scenes[0])
        .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
}

async fn delete_cluster_policy(scene: &Scene) {
    policies(scene).delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
}

/// A quota that leaves no room for the pod that a rollout adds.
fn quota(pods: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
        "spec": {"hard": {"pods": pods.to_string()}},
    })
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_namespace_without_quota_for_a_rollout_does_not_stop_others() {
    let (full, roomy) = (Scene::new().await, Scene::new().await);
    full.create(&web("web", &json!({}))).await;
    full.rolled_out("web").await;
    let surge = json!({"spec": {
        "progressDeadlineSeconds": 15, "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    }});
    full.patch("Deployment", "web", &surge).await.unwrap();
    full.create(&quota(1)).await;
    // Younger than the one without quota, so it is later in the queue.
    for name in ["one", "two"] {
        roomy.create(&web(name, &json!({}))).await;
        roomy.rolled_out(name).await;
    }

    create_cluster_policy(
        &[&full, &roomy],
        json!({
            "selector": {}, "drainSeconds": 2, "rollout": {"maxConcurrent": 1},
        }),
    )
    .await;
    for name in ["one", "two"] {
        within(Duration::from_mins(3), &format!("the rollout of {name}"), || async {
            drain(&roomy.deployment(name).await) == Some(2)
        })
        .await;
        roomy.rolled_out(name).await;
    }
    eventually("the failure in the status", || async {
        let policy = policies(&full).get(&full.namespace).await.unwrap();
        let failed = serde_json::to_value(policy.status).unwrap()["failedRollouts"].take();
        let [rollout] = failed.as_array().map(Vec::as_slice).unwrap_or_default() else { return false };
        ["namespace", "name", "reason"].map(|field| rollout[field].as_str().unwrap())
            == [full.namespace.as_str(), "web", "ReplicaFailure"]
    })
    .await;
    delete_cluster_policy(&full).await;
    full.end().await;
    roomy.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_cluster_policy_limits_what_a_policy_of_a_namespace_rolls_out_at_a_time() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let scene = Scene::new().await;
    for name in NAMES {
        scene.create(&web(name, &json!({}))).await;
    }
    for name in NAMES {
        scene.rolled_out(name).await;
        let slow = json!({"spec": {"minReadySeconds": 5}});
        scene.patch("Deployment", name, &slow).await.unwrap();
    }
    create_cluster_policy(&[&scene], json!({"rollout": {"maxConcurrentPerNamespace": 2}})).await;
    scene
        .create(&policy(&json!({"selector": {}, "drainSeconds": 1, "rollout": {"maxConcurrent": 1000}})))
        .await;
    let most = Cell::new(0);
    within(Duration::from_mins(3), "all rollouts", || async {
        // One list shows all of them at the same moment.
        let deployments = scene.deployments(&NAMES).await;
        let injected = deployments.iter().filter(|deployment| drain(deployment) == Some(1));
        let (complete, rolling): (Vec<_>, Vec<_>) =
            injected.partition(|deployment| is_rolled_out(deployment));
        assert!(rolling.len() <= 2, "{} at a time", rolling.len());
        most.set(most.get().max(rolling.len()));
        complete.len() == NAMES.len()
    })
    .await;
    assert_eq!(most.get(), 2, "as many as allowed");
    delete_cluster_policy(&scene).await;
    scene.end().await;
}
