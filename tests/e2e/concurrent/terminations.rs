//! Rollouts of other kinds as `TerminationProfile`s report them, and workloads as the command line does.

use std::process::Output;

use serde_json::{Value, json};

use crate::{
    support::{Scene, eventually, web, workload},
    terminations::{adieu, adieu_with},
};

/// Neither kind of rollout shows the new revision before the first pod terminates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn rollouts_with_recreate_and_of_a_single_stateful_pod_are_rollouts() {
    let scene = Scene::new().await;
    let mut recreate = web("recreate", &json!({}));
    recreate["spec"]["strategy"] = json!({"type": "Recreate"});
    let single = workload("StatefulSet", "single", &json!({}));
    for (mut object, kind, name) in [(recreate, "deployment", "recreate"), (single, "statefulset", "single")]
    {
        object["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["stop", "1", "0"]);
        scene.create(&object).await;
        let target = format!("{kind}/{name}");
        scene.kubectl(&["rollout", "status", &target, "--timeout=120s"]).await;
        scene.kubectl(&["rollout", "restart", &target]).await;
        scene.kubectl(&["rollout", "status", &target, "--timeout=120s"]).await;
        let api = scene.api("adieu.dev/v1alpha1", "TerminationProfile");
        let profile = || async {
            let found = api.get_opt(&format!("{kind}-{name}")).await.unwrap();
            found.map_or(Value::Null, |found| found.data["status"].clone())
        };
        eventually(&format!("the profile of {name}"), || async { profile().await["terminations"] == 1 })
            .await;
        let status = profile().await;
        let counts = (&status["causes"]["Rollout"], &status["outcomes"]["Completed"]);
        assert_eq!(counts, (&json!(1), &json!(1)), "{name}: {status:#}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_command_line_shows_the_state_of_workloads_and_what_manifests_change() {
    let scene = Scene::new().await;
    let managed = web("managed", &json!({"adieu.dev/graceful": "true"}));
    scene.create(&managed).await;
    scene.create(&web("plain", &json!({}))).await;
    eventually("an injected workload", || async {
        let status: Value = serde_json::from_str(&adieu(&scene, &["status", "-o", "json"]).await).unwrap();
        status["workloads"][0]["state"] == "Injected"
    })
    .await;
    let table = adieu(&scene, &["status"]).await;
    assert!(table.contains("Deployment/managed") && table.contains("1 that is not managed"), "{table}");
    let diff = async |object: &Value| {
        let Output { status, stdout, .. } =
            adieu_with(&scene, &["diff", "-f", "-"], object.to_string()).await;
        (status.code(), String::from_utf8(stdout).unwrap())
    };
    let (code, text) = diff(&managed).await;
    assert_eq!((code, text.contains("no change")), (Some(0), true), "{text}");
    let mut longer = managed.clone();
    longer["metadata"]["annotations"]["adieu.dev/drain-seconds"] = "20".into();
    let (code, text) = diff(&longer).await;
    assert_eq!((code, text.contains("drain 10 s → 20 s")), (Some(1), true), "{text}");
    scene.end().await;
}
