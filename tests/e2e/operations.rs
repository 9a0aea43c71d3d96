//! Operation: leader changes, failed rollouts of a policy, Events, and the pause.

use std::time::Duration;

use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    figures::figure,
    operator::{ADIEU, Operator},
    support::{Scene, drain, eventually, web},
};

/// The limit without a leader after one crashed or was cut off.
pub const LEADERLESS: Duration = Duration::from_secs(15);

/// The limit without a leader after one shut down and released its Lease, which would expire 10 s later.
const HANDED_OVER: Duration = Duration::from_secs(3);

/// A policy named `all`.
pub fn policy(spec: &Value) -> Value {
    json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"}, "spec": spec,
    })
}

pub async fn condition(scene: &Scene, type_: &str) -> Option<String> {
    let policy = scene.policy("all").await;
    let conditions = policy["status"]["conditions"].as_array()?.clone();
    let found = conditions.into_iter().find(|condition| condition["type"] == type_)?;
    Some(format!("{} {}", found["status"].as_str()?, found["message"].as_str()?))
}

/// Waits for a condition of the policy to begin with its status and this part of its message.
async fn condition_becomes(scene: &Scene, type_: &str, text: &str) {
    eventually(&format!("{type_}: {text}"), || async {
        condition(scene, type_).await.is_some_and(|condition| condition.starts_with(text))
    })
    .await;
}

/// Waits for the policy's condition `Blocked` to have this reason and part of its message. It is true unless the reason
/// is `NotBlocked`.
pub async fn blocked(scene: &Scene, reason: &str, part: &str) {
    let status = if reason == "NotBlocked" { "False" } else { "True" };
    eventually(&format!("the policy's condition Blocked to have the reason {reason}"), || async {
        let policy = scene.policy("all").await;
        let mut conditions = policy["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["type"] == "Blocked"
                && condition["status"] == status
                && condition["reason"] == reason
                && message.contains(part)
        })
    })
    .await;
}

/// Waits for an Event on the object with this name whose note has this part.
pub async fn reported(scene: &Scene, name: &str, reason: &str, part: &str) {
    let events: Api<Event> = Api::namespaced(scene.client.clone(), &scene.namespace);
    eventually(&format!("the event {reason} of {name}"), || async {
        let reported = events.list(&ListParams::default().fields(&format!("reason={reason}"))).await.unwrap();
        reported.items.iter().any(|event| {
            let regarding = event.regarding.as_ref().and_then(|object| object.name.as_deref());
            regarding == Some(name) && event.note.as_ref().is_some_and(|note| note.contains(part))
        })
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_deleted_leader_pod_is_replaced() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    operator.scale(2).await;
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), ADIEU);
    let by_force = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    for (how, parameters, limit) in [
        ("was deleted without a grace period", by_force, LEADERLESS),
        ("was deleted", DeleteParams::default(), HANDED_OVER),
    ] {
        let before = operator.led().await.name_any();
        operator.has(2).await;
        pods.delete(&before, &parameters).await.unwrap();
        // A terminating replica leads while it drains.
        if how == "was deleted" {
            eventually("the leader to be gone", || async { pods.get_opt(&before).await.unwrap().is_none() })
                .await;
        }
        let started = Instant::now();
        eventually("another leader", || async { operator.leader().await.is_some_and(|now| now != before) })
            .await;
        figure(
            &format!("The leader's pod {how}"),
            &format!("a new leader after {:.1} s", started.elapsed().as_secs_f64()),
        );
        assert!(started.elapsed() < limit, "{how}");
    }
    operator.scale_down(1).await;

    operator.delete_lease().await;
    let started = Instant::now();
    eventually("the Lease to be created again", || async { operator.leader().await.is_some() }).await;
    assert!(started.elapsed() < LEADERLESS, "the Lease was deleted");
    scene.end().await;
}

/// A Deployment with a port on which no process listens: with a probe of it, no new pod becomes ready.
fn with_unused_port() -> Value {
    let mut first = web("first", &json!({}));
    let ports = &mut first["spec"]["template"]["spec"]["containers"][0]["ports"];
    ports.as_array_mut().unwrap().push(json!({"containerPort": 9999, "name": "other"}));
    first
}

/// Sets when a rollout of `first` without progress fails. A sound one may take longer than a few seconds too.
async fn set_deadline(scene: &Scene, seconds: Option<i64>) {
    let deadline = json!({"spec": {"progressDeadlineSeconds": seconds}});
    scene.patch("Deployment", "first", &deadline).await.unwrap();
}

async fn assert_described_as_stalled(scene: &Scene) {
    let described = scene.kubectl(&["describe", "gracefulpolicy", "all"]).await;
    for words in [
        ["Type:", "Stalled"].as_slice(),
        &["Reason:", "RolloutFailed"],
        &["Message:", "the rollout of first failed, and 1 workload waits"],
        &["Warning", "Stalled", "the rollout of first failed"],
    ] {
        let matches = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(described.lines().any(matches), "{words:?} is missing in {described}");
    }
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_failed_rollout_stops_its_policy_until_it_is_fixed() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let first = with_unused_port();
    scene.create(&first).await;
    scene.rolled_out("first").await;
    scene.create(&web("second", &json!({}))).await;
    scene.rolled_out("second").await;
    let sound = json!({"selector": {}, "drainSeconds": 2, "readinessProbe": {"mode": "Never"}});
    scene.create(&policy(&sound)).await;
    for name in ["first", "second"] {
        eventually(name, || async { drain(&scene.deployment(name).await) == Some(2) }).await;
        scene.rolled_out(name).await;
    }
    let second = scene.deployment("second").await;

    set_deadline(&scene, Some(3)).await;
    let probe = json!({"tcpSocket": {"port": "other"}});
    let broken = json!({"spec": {"drainSeconds": 3, "readinessProbe": {"mode": "Auto", "probe": probe}}});
    scene.patch("GracefulPolicy", "all", &broken).await.unwrap();
    condition_becomes(&scene, "Stalled", "True the rollout of first failed").await;
    assert_eq!(scene.policy("all").await["status"]["workloads"]["rolloutFailed"], 1);
    assert_eq!(drain(&scene.deployment("first").await), Some(3), "the oldest goes first");
    assert_eq!(scene.deployment("second").await["spec"], second["spec"], "no other follows");
    reported(&scene, "all", "Stalled", "the rollout of first failed").await;
    assert_described_as_stalled(&scene).await;

    // After `rollout undo`, it isn't rolled into the same failure again.
    scene.kubectl(&["rollout", "undo", "deployment/first"]).await;
    scene.rolled_out("first").await;
    let reverted = scene.deployment("first").await["spec"].clone();
    operator.waits_again(&scene, &["first", "second"]).await;
    for (name, spec) in [("first", &reverted), ("second", &second["spec"])] {
        assert_eq!(scene.deployment(name).await["spec"], *spec, "{name}");
    }
    assert_eq!(drain(&json!({"spec": reverted})), Some(2));
    condition_becomes(&scene, "Stalled", "True the rollout of first failed, and 2 workloads wait").await;

    let fixed = json!({"spec": {"readinessProbe": {"mode": "Never", "probe": null}}});
    scene.patch("GracefulPolicy", "all", &fixed).await.unwrap();
    set_deadline(&scene, None).await;
    for name in ["first", "second"] {
        eventually(name, || async { drain(&scene.deployment(name).await) == Some(3) }).await;
        scene.rolled_out(name).await;
    }
    eventually("the policy to be ready", || async {
        let conditions = [condition(&scene, "Ready").await, condition(&scene, "Stalled").await];
        conditions.map(|condition| condition.is_some_and(|text| text.starts_with("True"))) == [true, false]
    })
    .await;

    // The last one stalls it as well, even if no workload waits.
    scene.kubectl(&["delete", "deployment", "second"]).await;
    set_deadline(&scene, Some(3)).await;
    let broken = json!({"spec": {"drainSeconds": 4, "readinessProbe": {"mode": "Auto", "probe": probe}}});
    scene.patch("GracefulPolicy", "all", &broken).await.unwrap();
    condition_becomes(&scene, "Stalled", "True the rollout of first failed").await;
    condition_becomes(&scene, "Ready", "False").await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_workload_that_is_unavailable_by_itself_delays_no_other_and_is_injected_once_fixed() {
    let scene = Scene::new().await;
    // Its pods need nodes with this label.
    let there = format!("{}=there", scene.namespace);
    scene.kubectl(&["label", "nodes", "--all", &there]).await;
    let mut broken = web("broken", &json!({}));
    broken["spec"]["template"]["spec"]["nodeSelector"] = json!({scene.namespace.as_str(): "there"});
    for deployment in [broken, web("sound", &json!({}))] {
        scene.create(&deployment).await;
        scene.rolled_out(deployment["metadata"]["name"].as_str().unwrap()).await;
    }
    scene.kubectl(&["label", "nodes", "--all", &format!("{}-", scene.namespace)]).await;
    scene.kubectl(&["delete", "pods", "--selector", "app=broken"]).await;
    eventually("its pods to be pending", || async {
        let status = scene.deployment("broken").await["status"].take();
        status["availableReplicas"].is_null() && status["replicas"] == status["updatedReplicas"]
    })
    .await;

    scene.create(&policy(&json!({"selector": {}, "drainSeconds": 3}))).await;
    eventually("the other to be injected", || async { drain(&scene.deployment("sound").await) == Some(3) })
        .await;
    assert_eq!(drain(&scene.deployment("broken").await), None, "its user must fix it");
    scene.kubectl(&["label", "nodes", "--all", &there]).await;
    eventually("the fixed one to be injected", || async {
        drain(&scene.deployment("broken").await) == Some(3)
    })
    .await;
    scene.rolled_out("broken").await;
    scene.kubectl(&["label", "nodes", "--all", &format!("{}-", scene.namespace)]).await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn events_report_mistakes_and_audit_results() {
    let scene = Scene::new().await;
    scene.create(&web("mistyped", &json!({"adieu.dev/gracefull": "true"}))).await;
    reported(&scene, "mistyped", "Degraded", "adieu.dev/gracefull").await;

    scene.create(&web("watched", &json!({}))).await;
    let selector = json!({"matchLabels": {"app": "watched"}});
    scene.create(&policy(&json!({"selector": selector, "mode": "Audit"}))).await;
    reported(&scene, "watched", "WouldInject", "has mode Audit").await;
    eventually("the policy to report it", || async {
        let ready = condition(&scene, "Ready").await;
        ready.is_some_and(|ready| ready == "True 1 of 1 workloads would be changed")
    })
    .await;
    assert_eq!(drain(&scene.deployment("watched").await), None);
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn nothing_is_written_while_the_operator_is_paused() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let (leases, name) = (operator.leases(), operator.name);
    let pause = |value: Value| {
        let patch = json!({"metadata": {"annotations": {"adieu.dev/paused": value}}});
        let (leases, name) = (leases.clone(), name.clone());
        async move { leases.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap() }
    };
    pause(json!("true")).await;
    let before = scene.create(&web("web", &json!({}))).await;
    scene.rolled_out("web").await;
    scene.create(&policy(&json!({"selector": {}}))).await;
    eventually("the policy to report pending workloads", || async {
        scene.policy("all").await["status"]["workloads"]["pending"] == 1
    })
    .await;
    assert_eq!(scene.deployment("web").await["spec"], before["spec"]);
    pause(Value::Null).await;
    eventually("the Deployment to be injected", || async {
        drain(&scene.deployment("web").await) == Some(10)
    })
    .await;
    scene.end().await;
}
