//! A policy with `recommendations: Apply`.

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use crate::{
    operations::policy,
    support::{Scene, eventually, grace_period, pods_of, web, within},
    terminations::{WRITTEN, adieu, profile},
};

/// Some pods get more time when they are deleted. If all were killed, the application would seem to ignore SIGTERM.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_policy_applies_a_longer_shutdown_timeout_and_no_pod_is_killed_any_more() {
    const PODS: usize = 24;
    let scene = Scene::labelled(&json!({"adieu.dev/injection": "enabled"})).await;
    let spec = json!({
        "selector": {}, "drainSeconds": 0, "shutdownTimeoutSeconds": 5, "marginSeconds": 0,
        "recommendations": "Apply", "recommendationBounds": {"maxSeconds": 20},
    });
    scene.create(&policy(&spec)).await;
    let mut slow = web("slow", &json!({}));
    slow["spec"]["replicas"] = PODS.into();
    let pod = &mut slow["spec"]["template"]["spec"];
    pod["terminationGracePeriodSeconds"] = 1.into();
    pod["containers"][0]["args"] = json!(["stop", "6", "0"]);
    eventually("the policy in the webhook's cache", || async {
        grace_period(&json!(scene.try_create_dry(&slow).await.unwrap())) == Some(5)
    })
    .await;
    scene.create(&slow).await;
    scene.rolled_out("slow").await;

    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let longer = DeleteParams::default().grace_period(30);
    for (number, pod) in pods_of(&scene, "slow").await.iter().enumerate() {
        let parameters = if number < 6 { longer.clone() } else { DeleteParams::default() };
        pods.delete(&pod.name_any(), &parameters).await.unwrap();
    }
    within(WRITTEN, "the recommended shutdown timeout", || async {
        grace_period(&scene.deployment("slow").await) == Some(10)
    })
    .await;
    let annotations = scene.deployment("slow").await["metadata"]["annotations"].clone();
    let applied = annotations["adieu.dev/applied-recommendation"].as_str().unwrap();
    assert!(applied.contains("\"shutdownTimeoutSeconds\":10,"), "{applied}");
    let explained = adieu(&scene, &["explain", "deployment/slow"]).await;
    assert!(explained.contains("recommendation, policy all"), "{explained}");
    let events: Api<Event> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let about = ListParams::default().fields("reason=RecommendationApplied,involvedObject.name=slow");
    eventually("an Event about the recommendation", || async {
        !events.list(&about).await.unwrap().items.is_empty()
    })
    .await;

    scene.rolled_out("slow").await;
    eventually("the old pods to be gone", || async { pods_of(&scene, "slow").await.len() == PODS }).await;
    for pod in pods_of(&scene, "slow").await.iter().take(3) {
        pods.delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    }
    within(WRITTEN, "three terminations with the longer shutdown timeout", || async {
        let status = profile(&scene, "slow").await["status"].take();
        status["requested"]["shutdownTimeoutSeconds"] == 10 && status["currentOutcomes"]["Completed"] == 3
    })
    .await;
    scene.end().await;
}
