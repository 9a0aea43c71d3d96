//! Workloads are opted out by the command line and by a policy.

use std::process::Stdio;

use nix::{
    sys::signal::{Signal::SIGINT, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    guard::as_the_operator,
    operations::policy,
    rejection,
    support::{Scene, drain, eventually, grace_period, is_rolled_out, run, web},
};

/// A Deployment whose rollout takes some seconds, because of minReadySeconds.
fn slow(name: &str, annotations: &Value) -> Value {
    let mut object = web(name, annotations);
    object["spec"]["minReadySeconds"] = json!(4);
    object
}

pub fn opted_in() -> Value {
    json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "1", "team": "shop"})
}

pub fn adieu(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.args(["revert", "--namespace", &scene.namespace]).args(arguments);
    command
}

pub fn is_injected(deployment: &Value) -> bool {
    deployment["spec"]["template"]["metadata"]["annotations"].get("adieu.dev/injected").is_some()
}

/// How many of them are reverted. At most one may roll out at a time.
async fn reverted(scene: &Scene, names: &[&str]) -> usize {
    let deployments = scene.deployments(names).await;
    let out: Vec<_> = deployments.iter().filter(|deployment| !is_injected(deployment)).collect();
    let rolling = out.iter().filter(|deployment| !is_rolled_out(deployment)).count();
    assert!(rolling <= 1, "{rolling} workloads roll out at a time");
    out.len()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_namespace_is_reverted_one_rollout_at_a_time_and_resumed_after_an_interrupt() {
    let scene = Scene::new().await;
    let names = ["a", "b", "c"];
    for name in names {
        assert_eq!(drain(&scene.create(&slow(name, &opted_in())).await), Some(1));
    }
    for name in names {
        scene.rolled_out(name).await;
    }
    let mut command = adieu(&scene, &["--yes"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the first to be reverted", || async { reverted(&scene, &names).await > 0 }).await;
    kill(Pid::from_raw(child.id().unwrap().try_into().unwrap()), SIGINT).unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Run the same command again to resume"), "{said}");
    let before = reverted(&scene, &names).await;
    assert!(before < names.len(), "nothing is left to resume");

    let resumed = tokio::spawn(run(adieu(&scene, &["--yes"]), String::new()));
    eventually("the rest to be reverted", || async { reverted(&scene, &names).await == names.len() }).await;
    let said = resumed.await.unwrap().unwrap();
    assert!(said.contains("opted out, rollout complete"), "{said}");
    for name in names {
        let deployment = scene.deployment(name).await;
        assert_eq!((drain(&deployment), grace_period(&deployment)), (None, Some(30)), "{name}");
        let annotations = &deployment["metadata"]["annotations"];
        assert_eq!(
            (&annotations["adieu.dev/graceful"], &annotations["team"]),
            (&json!("false"), &json!("shop"))
        );
        let mut entries = deployment["metadata"]["managedFields"].as_array().unwrap().iter();
        assert!(entries.all(|entry| entry["manager"] != "adieu"), "an apply would conflict");
        assert!(is_rolled_out(&deployment), "{name}");
        assert_eq!(scene.revisions(name).await, 2, "{name}");
    }
    let said = run(adieu(&scene, &["--yes"]), String::new()).await.unwrap();
    assert!(said.contains("nothing to do: 3 workloads checked, none is injected or opted in"), "{said}");
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_policy_reverts_what_it_opted_in_one_rollout_at_a_time() {
    let scene = Scene::new().await;
    let names = ["a", "b", "c"];
    for name in names {
        scene.create(&slow(name, &json!({}))).await;
    }
    scene.create(&web("graceful", &json!({"adieu.dev/graceful": "true"}))).await;
    scene.create(&policy(&json!({"selector": {}, "drainSeconds": 1, "rollout": {"maxConcurrent": 3}}))).await;
    for name in names {
        eventually(name, || async { drain(&scene.deployment(name).await) == Some(1) }).await;
    }
    for name in names {
        scene.rolled_out(name).await;
    }
    let revert = json!({"spec": {"rollout": {"mode": "Revert", "maxConcurrent": 1}}});
    scene.patch("GracefulPolicy", "all", &revert).await.unwrap();
    eventually("all to be reverted", || async { reverted(&scene, &names).await == names.len() }).await;
    eventually("the policy to report it", || async {
        let status = scene.policy("all").await["status"].clone();
        let ready =
            status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap().clone();
        ready["status"] == "True" && ready["reason"] == "Reverted" && status["workloads"]["injected"] == 1
    })
    .await;
    for name in names {
        scene.rolled_out(name).await;
        assert_eq!(scene.revisions(name).await, 2, "{name}: it is back at its first ReplicaSet");
    }
    // Only annotated workloads are still injected.
    scene.create(&web("new", &json!({}))).await;
    assert!(is_injected(&scene.deployment("graceful").await));
    scene.rolled_out("new").await;
    assert!(!is_injected(&scene.deployment("new").await));
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_operators_token_can_only_opt_workloads_out() {
    let scene = Scene::new().await;
    let mut object = web("web", &json!({}));
    object["spec"]["replicas"] = json!(0);
    scene.create(&object).await;
    let operator = as_the_operator(&scene).await;
    for (value, message) in
        [(Some("true"), "may only change metadata.annotations.adieu.dev/graceful"), (Some("false"), "")]
    {
        let written = operator.annotate("Deployment", "web", "graceful", value).await;
        let denied = written.err().map(rejection).unwrap_or_default();
        assert!(denied.contains(message) && denied.is_empty() == message.is_empty(), "{denied}");
    }
    let taken_away = operator.annotate("Deployment", "web", "graceful", None).await;
    assert!(rejection(taken_away.unwrap_err()).contains("adieu.dev/graceful"));
    operator.annotate("Deployment", "web", "accepted", Some("{}")).await.unwrap();
    scene.end().await;
}
