//! `adieu calibrate` through a Service. `cargo xtask bench drain` calibrates from inside the cluster.

use std::{env, fs, process::Stdio};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Service},
};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::{Scene, eventually};

/// The label with the name of the run, of everything except Jobs.
const RUN: &str = "app.kubernetes.io/instance";

/// A namespace under the strictest Pod Security Standard.
async fn restricted() -> Scene {
    Scene::labelled(&json!({"pod-security.kubernetes.io/enforce": "restricted"})).await
}

fn calibrate(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.args(["calibrate", "--namespace", &scene.namespace, "--yes", "--output", "json"]);
    command.args(["--service", "ClusterIP", "--quiet", "5s", "--window", "20s"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a calibration that must succeed, and returns its report.
async fn report(scene: &Scene, arguments: &[&str]) -> Value {
    let output = calibrate(scene, arguments).output().await.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(output.status.code(), Some(0), "{stderr}\n{report:#}");
    report
}

/// The Jobs, pods and Services of runs in the namespace.
async fn objects(scene: &Scene) -> [usize; 3] {
    let client = || scene.client.clone();
    let labelled = ListParams::default().labels(RUN);
    let jobs: Api<Job> = Api::namespaced(client(), &scene.namespace);
    let pods: Api<Pod> = Api::namespaced(client(), &scene.namespace);
    let services: Api<Service> = Api::namespaced(client(), &scene.namespace);
    [
        jobs.list(&ListParams::default()).await.unwrap().items.len(),
        pods.list(&labelled).await.unwrap().items.len(),
        services.list(&labelled).await.unwrap().items.len(),
    ]
}

fn cluster_policies(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<adieu::api::ClusterGracefulPolicy>(&());
    Api::all_with(client.clone(), &resource)
}

async fn nothing_is_left(scene: &Scene) {
    eventually("everything to be removed", || async { objects(scene).await == [0; 3] }).await;
}

/// Starts a calibration, and waits until it has created canaries and their Service.
async fn started(scene: &Scene) -> Child {
    let run = calibrate(scene, &[]).spawn().unwrap();
    eventually("canaries", || async {
        let [jobs, pods, services] = objects(scene).await;
        jobs == 1 && pods == 3 && services == 1
    })
    .await;
    run
}

async fn signal(run: &Child, name: &str) {
    let mut kill = Command::new("kill");
    assert!(kill.args([name, &run.id().unwrap().to_string()]).status().await.unwrap().success());
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

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_interrupted_calibration_removes_everything() {
    for name in ["-INT", "-TERM"] {
        let scene = restricted().await;
        let run = started(&scene).await;
        signal(&run, name).await;
        let output = run.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(130), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        nothing_is_left(&scene).await;
        scene.end().await;
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_killed_calibration_is_removed_at_its_deadline() {
    let scene = restricted().await;
    let mut run = started(&scene).await;
    run.kill().await.unwrap();
    let jobs: Api<Job> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let job = jobs.list(&ListParams::default()).await.unwrap().items.remove(0);
    // Sooner than the deadline of the run.
    let deadline = Patch::Merge(json!({"spec": {"activeDeadlineSeconds": 1}}));
    jobs.patch(&job.metadata.name.unwrap(), &PatchParams::default(), &deadline).await.unwrap();
    nothing_is_left(&scene).await;
    scene.end().await;
}
