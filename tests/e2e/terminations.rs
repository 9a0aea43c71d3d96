//! Terminations of real containers, as their `TerminationProfile`s report them.

use std::{process::Output, time::Duration};

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, EvictParams, ListParams},
};
use serde_json::{Value, json};

use tokio::process::Command;

use crate::{
    figures::figure,
    interoperability::pods_of,
    support::{Scene, eventually, output, web, within, workload},
};

/// Pods of each Deployment.
const REPLICAS: i64 = 3;
/// The grace period in seconds.
const GRACE: i64 = 5;
/// A profile is written at most once a minute.
const WRITTEN: Duration = Duration::from_secs(100);

/// Deployments with the arguments of their container, what else their pods have, the outcome of their terminations, and
/// the seconds that a shutdown takes.
fn applications() -> [(&'static str, Value, Value, &'static str, i64); 6] {
    let missing = json!({"lifecycle": {"preStop": {"exec": {"command": ["/missing"]}}}});
    [
        ("completes", json!(["stop", "3", "0"]), json!({}), "Completed", 3),
        ("ignores", json!(["ignore"]), json!({}), "Killed", GRACE),
        ("slow", json!(["stop", "60", "0"]), json!({}), "Killed", GRACE),
        ("crashes", json!(["stop", "1", "3"]), json!({}), "Crashed", 1),
        // Not as process 1 of its container, for which the kernel ignores signals without a handler.
        ("unhandled", json!([]), json!({"shareProcessNamespace": true}), "DefaultAction", 0),
        ("hook", json!(["stop", "1", "0"]), missing, "PreStopFailed", 1),
    ]
}

async fn create_applications(scene: &Scene) {
    for (name, arguments, more, ..) in applications() {
        let mut deployment = web(name, &json!({}));
        deployment["spec"]["replicas"] = REPLICAS.into();
        let pod = &mut deployment["spec"]["template"]["spec"];
        pod["terminationGracePeriodSeconds"] = GRACE.into();
        pod["containers"][0]["args"] = arguments;
        let is_of_container = more.get("lifecycle").is_some();
        let target = if is_of_container { &mut pod["containers"][0] } else { pod };
        target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        scene.create(&deployment).await;
    }
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "completes"},
        "spec": {"selector": {"app": "completes"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    scene.create(&service).await;
}

/// Waits until every Deployment has as many pods, and no others.
async fn settled(scene: &Scene, replicas: usize) {
    for (name, ..) in applications() {
        scene.rolled_out(name).await;
        eventually(&format!("{replicas} pods of {name}"), || async {
            pods_of(scene, name).await.len() == replicas
        })
        .await;
    }
}

async fn profile(scene: &Scene, name: &str) -> Value {
    let api = scene.api("adieu.dev/v1alpha1", "TerminationProfile");
    let profile = api.get_opt(&format!("deployment-{name}")).await.unwrap();
    profile.map_or(Value::Null, |profile| serde_json::to_value(profile).unwrap())
}

/// Restarts, scales down, evicts, drains and deletes.
async fn terminate(scene: &Scene) {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let names = applications().map(|(name, ..)| name);
    settled(scene, 3).await;
    for name in names {
        scene.kubectl(&["rollout", "restart", &format!("deployment/{name}")]).await;
    }
    settled(scene, 3).await;
    for name in names {
        scene.patch("Deployment", name, &json!({"spec": {"replicas": 2}})).await.unwrap();
    }
    settled(scene, 2).await;
    for name in names {
        let [evicted, deleted] = pods_of(scene, name).await.try_into().unwrap();
        pods.evict(&evicted.name_any(), &EvictParams::default()).await.unwrap();
        pods.delete(&deleted.name_any(), &DeleteParams::default()).await.unwrap();
    }
    settled(scene, 2).await;
    let nodes: Api<Node> = Api::all(scene.client.clone());
    let victims: Vec<Pod> = {
        let mut victims = Vec::new();
        for name in names {
            victims.push(pods_of(scene, name).await.remove(0));
        }
        victims
    };
    let node = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.clone().unwrap();
    let cordoned: std::collections::BTreeSet<_> = victims.iter().map(node).collect();
    for node in &cordoned {
        nodes.cordon(node).await.unwrap();
    }
    for victim in &victims {
        pods.evict(&victim.name_any(), &EvictParams::default()).await.unwrap();
    }
    // The cause is read when the termination starts, and new pods need a node.
    eventually("the evicted pods to be gone", || async {
        let now = pods.list(&ListParams::default()).await.unwrap();
        !now.iter().any(|pod| victims.iter().any(|victim| victim.uid() == pod.uid()))
    })
    .await;
    for node in &cordoned {
        nodes.uncordon(node).await.unwrap();
    }
    settled(scene, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn profiles_report_how_and_why_the_pods_of_each_workload_terminated() {
    let scene = Scene::new().await;
    create_applications(&scene).await;
    terminate(&scene).await;
    let expected = json!({
        "Rollout": REPLICAS, "ScaleDown": 1, "Eviction": 1, "NodeDrain": 1, "Preemption": 0, "NodeShutdown": 0, "Taint": 0,
        "Deletion": 1,
    });
    let all = REPLICAS + 4;
    let mut found = Vec::new();
    for (name, _, _, outcome, seconds) in applications() {
        within(WRITTEN, &format!("the profile of {name}"), || async {
            profile(&scene, name).await["status"]["terminations"] == all
        })
        .await;
        let profile = profile(&scene, name).await;
        let status = &profile["status"];
        assert_eq!(status["causes"], expected, "{name}: {profile:#}");
        assert_eq!(status["outcomes"][outcome], all, "{name}: {profile:#}");
        for quantile in ["p50", "max"] {
            let shutdown = status["shutdownSeconds"][quantile].as_i64().unwrap();
            assert!((shutdown - seconds).abs() <= 1, "{name}: {profile:#}");
        }
        assert_eq!(profile["metadata"]["ownerReferences"][0]["name"], name, "{profile:#}");
        found.push(format!("{name} {outcome}, p50 {} s", status["shutdownSeconds"]["p50"]));
    }
    let withdrawal = profile(&scene, "completes").await["status"]["endpointWithdrawalSeconds"].clone();
    assert!(withdrawal["max"].as_i64().is_some_and(|seconds| seconds <= 3), "{withdrawal}");
    assert_eq!(profile(&scene, "slow").await["status"]["recent"][0]["outcome"], "Killed");
    let table = scene.kubectl(&["get", "tprof"]).await;
    assert!(table.contains("ignores SIGTERM") && table.contains("preStop failed"), "{table}");
    let events: Api<Event> = Api::namespaced(scene.client.clone(), &scene.namespace);
    for (reason, name) in [("KilledAtDeadline", "slow"), ("PreStopFailed", "hook")] {
        let about = ListParams::default().fields(&format!("reason={reason},involvedObject.name={name}"));
        eventually(&format!("an Event {reason} on {name}"), || async {
            !events.list(&about).await.unwrap().items.is_empty()
        })
        .await;
    }
    let explained = adieu(&scene, &["explain", "deployment/slow"]).await;
    assert!(explained.contains("7 terminations (7 killed)"), "{explained}");
    figure("Terminations of six applications, by their profiles", &found.join("; "));
    scene.end().await;
}

async fn adieu_with(scene: &Scene, arguments: &[&str], input: String) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.args(arguments).args(["--namespace", &scene.namespace]);
    output(command, input).await
}

async fn adieu(scene: &Scene, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = adieu_with(scene, arguments, String::new()).await;
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

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
        scene.kubectl(&["rollout", "status", &target, "--timeout=60s"]).await;
        scene.kubectl(&["rollout", "restart", &target]).await;
        scene.kubectl(&["rollout", "status", &target, "--timeout=60s"]).await;
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
