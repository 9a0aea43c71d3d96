//! `adieu verify` on workloads.

use std::{env, process::Stdio};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, Node},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    load::open,
    nodes::nodes,
    operator::Operator,
    support::{Scene, eventually, web},
    traffic::{DRAIN, managed},
};

/// The drain of managed workloads in seconds.
fn drain_seconds() -> f64 {
    f64::from(i32::try_from(DRAIN).unwrap())
}

/// The result of a run of `adieu verify`.
pub struct Verification {
    pub code: Option<i32>,
    pub report: Value,
    stderr: String,
}

impl Scene {
    /// Creates a Deployment of the sample application with a Service, and waits until both are ready. Returns its
    /// URLs: at a node, and in the cluster.
    async fn shop(&self, annotations: &Value, replicas: i64) -> [String; 2] {
        self.shop_with(&[], annotations, replicas).await
    }

    /// The same, with arguments for the sample application.
    pub async fn shop_with(&self, arguments: &[&str], annotations: &Value, replicas: i64) -> [String; 2] {
        let mut object = web("web", annotations);
        object["spec"]["replicas"] = json!(replicas);
        object["spec"]["template"]["spec"]["containers"][0]["args"] = json!(arguments);
        self.create(&object).await;
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
        });
        let service = self.create(&service).await;
        self.rolled_out("web").await;
        let ports = self.node_ports(&service).await;
        for port in &ports {
            open(*port).await;
        }
        let inside = service["spec"]["clusterIP"].as_str().unwrap();
        [format!("http://{}/", ports[0]), format!("http://{inside}/")]
    }

    fn adieu(&self, deployment: &str, url: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
        let workload = format!("deployment/{deployment}");
        command.args(["verify", &workload, "--namespace", &self.namespace, "--url", url, "--yes"]);
        command.args(["--pod-header", "X-Pod", "--output", "json"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs `adieu verify` on a Deployment that is reached by `url`.
    pub async fn verify(&self, deployment: &str, url: &str, arguments: &[&str]) -> Verification {
        let output = self.adieu(deployment, url, arguments).output().await.unwrap();
        Verification {
            code: output.status.code(),
            report: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    async fn replicas(&self) -> Value {
        self.deployment("web").await["spec"]["replicas"].clone()
    }
}

impl Verification {
    /// The pods that terminated.
    pub fn terminated(&self) -> Vec<&Value> {
        let pods = self.report["pods"].as_array().unwrap().iter();
        pods.filter(|pod| !pod["terminatingSeconds"].is_null()).collect()
    }

    pub fn assert_lossless(&self) {
        assert_eq!(self.code, Some(0), "{}\n{:#}", self.stderr, self.report);
        let requests = &self.report["requests"];
        assert_eq!((&requests["lost"], &requests["notSent"]), (&json!(0), &json!(0)));
        assert_eq!(requests["sent"], requests["answered"]);
        assert_eq!(self.report["losses"], json!([]));
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn verifying_a_managed_deployment_reports_no_losses() {
    let scene = Scene::new().await;
    let [url, _] = scene.shop(&managed(), 2).await;
    let report = env::temp_dir().join(format!("{}.html", scene.namespace));
    let restart =
        scene.verify("web", &url, &["--duration", "2s", "--report", report.to_str().unwrap()]).await;
    restart.assert_lossless();
    assert_eq!(restart.terminated().len(), 2);
    for pod in restart.terminated() {
        let after = |field: &str| pod[field].as_f64().unwrap_or_else(|| unreachable!("{field} of {pod}"));
        assert!(after("endpointNotReadyAfterSeconds") < drain_seconds(), "{pod}");
        assert!(after("lastRequestAfterSeconds") < drain_seconds(), "{pod}");
        assert!(after("goneAfterSeconds") >= drain_seconds(), "{pod}");
        assert!(pod["answered"].as_i64() > Some(0), "{pod}");
    }
    let drain = &restart.report["drain"];
    assert_eq!((&drain["basis"], &drain["presentSeconds"]), (&json!("exact"), &json!(DRAIN)), "{drain}");
    assert!(drain["seconds"].as_i64() <= Some(DRAIN), "{drain}");
    let page = std::fs::read_to_string(&report).unwrap();
    assert_eq!(page.matches("<svg").count(), 3);
    std::fs::remove_file(report).unwrap();
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn verifying_an_unmanaged_deployment_reports_losses_and_pods() {
    let scene = Scene::new().await;
    let [url, _] = scene.shop(&json!({}), 4).await;
    let restart = scene.verify("web", &url, &["--duration", "2s"]).await;
    assert_eq!(restart.code, Some(1), "{}\n{:#}", restart.stderr, restart.report);
    let losses = restart.report["losses"].as_array().unwrap();
    assert_eq!(restart.report["requests"]["lost"], losses.len());
    for loss in losses {
        assert!(!loss["pods"].as_array().unwrap().is_empty(), "{loss}\n{:#}", restart.report);
    }
    let drain = &restart.report["drain"];
    assert_eq!(drain["presentSeconds"], 0);
    assert!(drain["seconds"].as_i64() >= Some(1), "{drain}");
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn from_inside_the_cluster_a_cluster_ip_is_verified() {
    let scene = Scene::new().await;
    let [_, url] = scene.shop(&managed(), 2).await;
    let jobs: Api<Job> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let run = scene.verify("web", &url, &["--in-cluster", "--duration", "2s"]).await;
    run.assert_lossless();
    assert_eq!(run.terminated().len(), 2);
    for pod in run.terminated() {
        let last = pod["lastRequestAfterSeconds"].as_f64().unwrap();
        assert!((-1.0..drain_seconds()).contains(&last), "the clocks are aligned: {pod}");
    }
    assert_eq!(jobs.list(&ListParams::default()).await.unwrap().items.len(), 0);

    // The load meets the strictest Pod Security Standard.
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    let restricted = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let patch = Patch::Merge(&restricted);
    namespaces.patch(&scene.namespace, &PatchParams::default(), &patch).await.unwrap();
    let run = scene.verify("web", &url, &["--in-cluster", "--disrupt", "none", "--duration", "2s"]).await;
    run.assert_lossless();
    assert!(run.report["requests"]["sent"].as_i64() > Some(100), "{:#}", run.report);
    assert_eq!(jobs.list(&ListParams::default()).await.unwrap().items.len(), 0);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn every_disruption_is_completed_and_reverted() {
    let scene = Scene::new().await;
    let [url, _] = scene.shop(&managed(), 3).await;
    for (disruption, terminated) in [("scale-down=1", 2), ("delete-pod", 1), ("evict", 1)] {
        let run = scene.verify("web", &url, &["--duration", "1s", "--disrupt", disruption]).await;
        run.assert_lossless();
        assert_eq!(run.terminated().len(), terminated, "{disruption}: {:#}", run.report);
        assert!(run.report["disruptionTookSeconds"].as_f64() > Some(drain_seconds()), "{disruption}");
        assert_eq!(scene.replicas().await, 3, "{disruption}");
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn temporary_changes_are_reverted_after_an_interrupt() {
    let scene = Scene::new().await;
    let [url, _] =
        scene.shop(&json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "30"}), 3).await;
    let verify = scene.adieu("web", &url, &["--disrupt", "scale-down=1"]).spawn().unwrap();
    eventually("the Deployment to be scaled down", || async { scene.replicas().await == 1 }).await;
    let mut kill = Command::new("kill");
    assert!(kill.args(["-INT", &verify.id().unwrap().to_string()]).status().await.unwrap().success());
    let output = verify.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(scene.replicas().await, 3);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_node_is_drained_under_load_and_uncordoned() {
    let scene = Scene::new().await;
    if nodes(&scene).await.is_none() {
        return scene.end().await;
    }
    let [url, _] = scene.shop(&managed(), 4).await;
    // Pods that can't be evicted any more, because their namespace is being deleted.
    let leaving = Scene::new().await;
    leaving.shop(&json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "20"}), 4).await;
    leaving.end().await;
    let run = scene.verify("web", &url, &["--duration", "1s", "--disrupt", "drain-node"]).await;
    // The operator is evicted too.
    let operator = Operator::find(&scene.client).await;
    operator.scale(operator.replicas().await).await;
    run.assert_lossless();
    assert!(!run.terminated().is_empty(), "{:#}", run.report);
    let all: Api<Node> = Api::all(scene.client.clone());
    for node in all.list(&ListParams::default()).await.unwrap() {
        assert_ne!(node.spec.unwrap().unschedulable, Some(true), "{:?}", node.metadata.name);
    }
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn tuning_finds_a_drain_and_restores_the_annotation() {
    let scene = Scene::new().await;
    let [url, _] =
        scene.shop(&json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "7"}), 2).await;
    let arguments = ["--duration", "1s", "--tune", "--tune-max", "8", "--tune-repeats", "2"];
    let tuned = scene.verify("web", &url, &arguments).await;
    assert_eq!(tuned.code, Some(0), "{}\n{:#}", tuned.stderr, tuned.report);
    let shortest = tuned.report["shortestSeconds"].as_i64().unwrap();
    assert!((0..=8).contains(&shortest), "{:#}", tuned.report);
    assert_eq!(tuned.report["policy"]["spec"]["drainSeconds"], shortest);
    for trial in tuned.report["trials"].as_array().unwrap() {
        assert_eq!(trial["terminations"], 2, "{trial}");
    }
    let annotations = &scene.deployment("web").await["metadata"]["annotations"];
    assert_eq!(annotations["adieu.dev/drain-seconds"], "7");
    scene.end().await;
}
