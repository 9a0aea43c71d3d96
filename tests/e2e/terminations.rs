//! Terminations of real containers, as their `TerminationProfile`s report them.

use std::{collections::BTreeSet, process::Output, time::Duration};

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, EvictParams, ListParams},
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    figures::figure,
    pod_log::PodLog,
    random::from_environment,
    support::{LIMIT, Scene, becomes, eventually, output, restoring, web},
};

/// Pods of each application that terminate for one cause, all at the same time: more would delay SIGTERM on a machine
/// with two processors, and the delay counts as shutdown.
const PODS: usize = 3;
/// The causes, in the order in which [`terminate`] has them.
const CAUSES: [&str; 5] = ["Eviction", "Deletion", "NodeDrain", "ScaleDown", "Rollout"];
/// The replicas of each application, which all terminate.
const REPLICAS: usize = PODS * CAUSES.len();
/// The grace period in seconds.
const GRACE: i64 = 5;
/// The limit for all pods to start.
const STARTED: Duration = Duration::from_mins(5);
/// A profile is written at most once a minute.
pub const WRITTEN: Duration = Duration::from_secs(100);
/// The quantiles of a profile, and their percentages.
const QUANTILES: [(&str, usize); 4] = [("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)];

/// Deployments with the arguments of their container, what else their pods have, and the outcome of their terminations.
fn applications() -> [(&'static str, Value, Value, &'static str); 7] {
    let missing = json!({"lifecycle": {"preStop": {"exec": {"command": ["/missing"]}}}});
    [
        ("completes", json!(["stop", "3", "0"]), json!({}), "Completed"),
        ("ignores", json!(["ignore"]), json!({}), "Killed"),
        ("shell", json!(["shell"]), json!({}), "Killed"),
        ("slow", json!(["stop", "60", "0"]), json!({}), "Killed"),
        ("crashes", json!(["stop", "1", "3"]), json!({}), "Crashed"),
        // Not as process 1 of its container, for which the kernel ignores signals without a handler.
        ("unhandled", json!(["default"]), json!({"shareProcessNamespace": true}), "DefaultAction"),
        ("hook", json!(["stop", "1", "0"]), missing, "PreStopFailed"),
    ]
}

fn names() -> [&'static str; 7] {
    applications().map(|(name, ..)| name)
}

/// Creates the Deployments, waits until their pods run, and then lets no pod start: pods that replace others would
/// compete with the terminations for the processors.
async fn start_applications(scene: &Scene) {
    let label = async |change: &str| {
        scene.kubectl(&["label", "nodes", "--all", &format!("{}{change}", scene.namespace)]).await
    };
    label("=there").await;
    for (name, arguments, more, _) in applications() {
        let mut deployment = web(name, &json!({}));
        deployment["spec"]["replicas"] = REPLICAS.into();
        deployment["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "100%"}});
        let pod = &mut deployment["spec"]["template"]["spec"];
        pod["terminationGracePeriodSeconds"] = GRACE.into();
        pod["nodeSelector"] = json!({scene.namespace.as_str(): "there"});
        pod["containers"][0]["args"] = arguments;
        let is_of_container = more.get("lifecycle").is_some();
        let target = if is_of_container { &mut pod["containers"][0] } else { pod };
        target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        scene.create(&deployment).await;
    }
    for name in ["completes", "unhandled"] {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
        });
        scene.create(&service).await;
    }
    for name in names() {
        scene.rolled_out_within(STARTED, name).await;
    }
    label("-").await;
}

/// Evicts, deletes, drains, scales down and rolls out: each for some pods of every application.
async fn terminate(scene: &Scene, log: &PodLog) {
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    wait_for_pods(log, REPLICAS, REPLICAS).await;
    evict(&pods, &next_pods(log)).await;
    wait_for_pods(log, 4 * PODS, REPLICAS).await;
    for pod in next_pods(log) {
        pods.delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    }
    wait_for_pods(log, 3 * PODS, REPLICAS).await;
    drain(scene, &pods, log).await;
    for name in names() {
        // Pods without a node are deleted first, and don't count.
        scene.patch("Deployment", name, &json!({"spec": {"replicas": PODS}})).await.unwrap();
    }
    wait_for_pods(log, PODS, PODS).await;
    for name in names() {
        scene.kubectl(&["rollout", "restart", &format!("deployment/{name}")]).await;
    }
    wait_for_pods(log, 0, PODS).await;
}

/// The pods of all applications that terminate next.
fn next_pods(log: &PodLog) -> Vec<Pod> {
    names().into_iter().flat_map(|name| log.scheduled(name).into_iter().take(PODS)).collect()
}

/// Waits until each application has as many pods with a node, and as many in all.
async fn wait_for_pods(log: &PodLog, scheduled: usize, all: usize) {
    for name in names() {
        let what = format!("the pods of {name} with a node, and all");
        becomes(LIMIT, &what, (scheduled, all), async || log.counts(name)).await;
    }
}

async fn evict(pods: &Api<Pod>, targets: &[Pod]) {
    for target in targets {
        pods.evict(&target.name_any(), &EvictParams::default()).await.unwrap();
    }
}

/// Evicts pods from cordoned nodes, as `kubectl drain` does.
async fn drain(scene: &Scene, pods: &Api<Pod>, log: &PodLog) {
    let nodes: Api<Node> = Api::all(scene.client.clone());
    let targets = next_pods(log);
    let node = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.clone().unwrap();
    let cordoned: BTreeSet<_> = targets.iter().map(node).collect();
    let drained = async {
        for node in &cordoned {
            nodes.cordon(node).await.unwrap();
        }
        evict(pods, &targets).await;
        wait_for_pods(log, 2 * PODS, REPLICAS).await;
    };
    let uncordoned = async {
        for node in &cordoned {
            nodes.uncordon(node).await.unwrap();
        }
    };
    restoring(drained, uncordoned).await;
}

pub async fn profile(scene: &Scene, name: &str) -> Value {
    let api = scene.api("adieu.dev/v1alpha1", "TerminationProfile");
    let profile = api.get_opt(&format!("deployment-{name}")).await.unwrap();
    profile.map_or(Value::Null, |profile| serde_json::to_value(profile).unwrap())
}

/// The profile of a Deployment, once it has all terminations, with this outcome and these causes, and no others.
pub async fn profile_with(scene: &Scene, name: &str, outcome: &str, causes: &[(&str, usize)]) -> Value {
    let all: usize = causes.iter().map(|(_, count)| count).sum();
    let mut expected = json!({
        "terminations": all,
        "outcomes": {
            "Completed": 0, "DefaultAction": 0, "Killed": 0, "Crashed": 0, "PreStopFailed": 0, "CutShort": 0,
        },
        "causes": {
            "Rollout": 0, "ScaleDown": 0, "Eviction": 0, "NodeDrain": 0, "Preemption": 0, "NodeShutdown": 0,
            "Taint": 0, "Deletion": 0,
        },
    });
    expected["outcomes"][outcome] = all.into();
    for (cause, count) in causes {
        expected["causes"][cause] = (*count).into();
    }
    becomes(WRITTEN, &format!("the profile of {name}"), expected, async || {
        let status = profile(scene, name).await["status"].take();
        let counts = ["terminations", "outcomes", "causes"].map(|field| (field, status[field].clone()));
        counts.into_iter().collect::<Value>()
    })
    .await;
    profile(scene, name).await
}

/// The smallest of these seconds, in ascending order, that at least this percentage took at most.
fn quantile(seconds: &[i64], percent: usize) -> i64 {
    seconds[(seconds.len() * percent).div_ceil(100) - 1]
}

/// Compares the profile of an application with what its containers logged. Returns the quantiles of both.
async fn compare(scene: &Scene, log: &PodLog, name: &str, outcome: &str) -> String {
    let profile = profile_with(scene, name, outcome, &CAUSES.map(|cause| (cause, PODS))).await;
    // No hook takes time that adieu knows, so a profile counts from the start, with the delay of SIGTERM.
    let logged = log.shutdowns(name, |shutdown| shutdown.since_start);
    assert_eq!(logged.len(), REPLICAS, "{name}: shutdowns that containers logged, in seconds: {logged:?}");
    let found = QUANTILES.map(|(field, percent)| {
        let (found, expected) = (&profile["status"]["shutdownSeconds"][field], quantile(&logged, percent));
        assert!(
            found.as_i64().is_some_and(|found| (found - expected).abs() <= 1),
            "{name}: {field} is {expected} s by its containers' logs, and {found} s in its profile: {logged:?}, \
             {profile:#}"
        );
        format!("{field} {found} s ({expected} s)")
    });
    assert_eq!(profile["metadata"]["ownerReferences"][0]["name"], name, "{profile:#}");
    let after_sigterm = quantile(&log.shutdowns(name, |shutdown| shutdown.since_sigterm), 50);
    format!("{name} {outcome}, {}, p50 after SIGTERM {after_sigterm} s", found.join(", "))
}

/// The problems of applications as the columns of profiles, Events and `adieu explain` have them.
async fn problems_are_reported(scene: &Scene) {
    let withdrawal = profile(scene, "completes").await["status"]["endpointWithdrawalSeconds"].clone();
    assert!(withdrawal["p90"].as_i64().is_some_and(|seconds| seconds <= 3), "{withdrawal}");
    assert_eq!(profile(scene, "slow").await["status"]["recent"][0]["outcome"], "Killed");
    let table = scene.kubectl(&["get", "tprof"]).await;
    assert!(table.contains("ignores SIGTERM") && table.contains("preStop failed"), "{table}");
    let events: Api<Event> = Api::namespaced(scene.client.clone(), &scene.namespace);
    for (reason, name) in
        [("KilledAtDeadline", "slow"), ("PreStopFailed", "hook"), ("SigtermNotHandled", "unhandled")]
    {
        let about = ListParams::default().fields(&format!("reason={reason},involvedObject.name={name}"));
        eventually(&format!("an Event {reason} on {name}"), || async {
            !events.list(&about).await.unwrap().items.is_empty()
        })
        .await;
    }
    let explained = adieu(scene, &["explain", "deployment/slow"]).await;
    let expected = format!("{REPLICAS} terminations ({REPLICAS} killed)");
    assert!(explained.contains(&expected), "{expected} is missing: {explained}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: cargo xtask test"]
async fn profiles_report_the_outcomes_causes_and_seconds_that_containers_logged() {
    let rounds = from_environment("ADIEU_TERMINATION_ROUNDS", 1);
    let (mut terminations, mut found) = (0, Vec::new());
    for _ in 0..rounds {
        let scene = Scene::new().await;
        let log = PodLog::start(&scene);
        start_applications(&scene).await;
        terminate(&scene, &log).await;
        found.clear();
        for (name, .., outcome) in applications() {
            found.push(compare(&scene, &log, name, outcome).await);
            terminations += REPLICAS;
        }
        problems_are_reported(&scene).await;
        scene.end().await;
    }
    figure(
        &format!("{terminations} terminations of seven applications for five causes"),
        &format!("all have the right cause; by profiles (by the containers' logs): {}", found.join("; ")),
    );
}

/// The output of the command line in the namespace.
pub async fn adieu_with(scene: &Scene, arguments: &[&str], input: String) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.args(arguments).args(["--namespace", &scene.namespace]);
    output(command, input).await
}

pub async fn adieu(scene: &Scene, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = adieu_with(scene, arguments, String::new()).await;
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}
