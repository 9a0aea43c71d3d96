//! `adieu calibrate` through a Service. `cargo xtask bench drain` calibrates from inside the cluster.

use std::{env, fs};

use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject},
};
use serde_json::Value;

use crate::{
    concurrent::calibrate::{calibrate, nothing_is_left, restricted},
    support::Scene,
};

/// Runs a calibration that must succeed, and returns its report.
async fn report(scene: &Scene, arguments: &[&str]) -> Value {
    let output = calibrate(scene, arguments).output().await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(output.status.code(), Some(0), "{stderr}\n{report:#}");
    report
}

fn cluster_policies(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<adieu::api::ClusterGracefulPolicy>(&());
    Api::all_with(client.clone(), &resource)
}

/// The only way of a report, whose drain is that of kube-proxy on a busy machine at most.
fn assert_measured(report: &Value, terminations: u64) {
    let way = &report["ways"][0];
    assert_eq!(way["exposure"], "cluster-ip", "{report:#}");
    assert_eq!(way["terminations"], terminations, "{report:#}");
    let max = way["maxSeconds"].as_f64().unwrap();
    assert!((0.0..5.0).contains(&max), "{report:#}");
    let drain = way["drainSeconds"].as_i64().unwrap();
    assert!((1..=15).contains(&drain), "{report:#}");
    // kube-proxy drops nothing; a busy machine may.
    assert!(way["lostDuringTerminations"]["terminations"].as_u64() <= Some(1), "{report:#}");
    // kube-proxy moves no established connection.
    assert!(way["keepsConnections"].as_u64() > Some(0), "{report:#}");
    assert_eq!(report["drainProfiles"][0]["seconds"], drain);
    assert_eq!(report["drainProfiles"][0]["measured"]["terminations"], terminations);
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_calibration_measures_a_service_writes_a_policy_and_leaves_nothing_else() {
    let scene = restricted().await;
    let page = env::temp_dir().join(format!("{}.html", scene.namespace));
    let apply = ["--apply", "--policy", &scene.namespace];
    let arguments = ["--terminations", "3", "--report", page.to_str().unwrap()];
    let report = report(&scene, &[&arguments[..], &apply].concat()).await;
    assert_measured(&report, 3);
    let policies = cluster_policies(&scene.client);
    let policy = policies.get(&scene.namespace).await.unwrap();
    assert_eq!(policy.data["spec"]["drainProfiles"], report["drainProfiles"]);
    policies.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    nothing_is_left(&scene).await;
    assert_eq!(fs::read_to_string(&page).unwrap().matches("<svg").count(), 1);
    fs::remove_file(page).unwrap();
    scene.end().await;
}
