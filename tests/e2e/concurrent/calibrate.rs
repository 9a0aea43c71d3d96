//! The end of a calibration that is interrupted or killed: before it sends requests.

use std::process::Stdio;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Service},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::support::{Scene, eventually};

/// The label with the name of the run, of everything except Jobs.
const RUN: &str = "app.kubernetes.io/instance";

/// A namespace under the strictest Pod Security Standard.
pub async fn restricted() -> Scene {
    Scene::labelled(&json!({"pod-security.kubernetes.io/enforce": "restricted"})).await
}

/// A calibration through a Service.
pub fn calibrate(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.args(["calibrate", "--namespace", &scene.namespace, "--yes", "--output", "json"]);
    command.args(["--service", "ClusterIP", "--quiet", "5s", "--window", "20s"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
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

/// Waits until the objects of all runs in the namespace are gone.
pub async fn nothing_is_left(scene: &Scene) {
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
