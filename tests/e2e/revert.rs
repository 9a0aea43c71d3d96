//! Workloads are opted out by the command line, by a policy, and before an uninstall.

use std::process::Stdio;

use k8s_openapi::api::batch::v1::Job;
use kube::{Api, api::DeleteParams};
use nix::{
    sys::signal::{Signal::SIGINT, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    guard::as_the_operator,
    operations::policy,
    operator::{ADIEU, Operator},
    rejection,
    support::{Scene, drain, eventually, grace_period, is_rolled_out, run, web},
};

/// A Deployment whose rollout takes some seconds, because of minReadySeconds.
fn slow(name: &str, annotations: &Value) -> Value {
    let mut object = web(name, annotations);
    object["spec"]["minReadySeconds"] = json!(4);
    object
}

fn opted_in() -> Value {
    json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "1", "team": "shop"})
}

fn adieu(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.args(["revert", "--namespace", &scene.namespace]).args(arguments);
    command
}

fn is_injected(deployment: &Value) -> bool {
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

/// After `helm uninstall`, a workload with an injected hook has no webhook that resolves a conflict with another hook.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn without_the_operator_a_reverted_workload_can_get_its_own_hook() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let replicas = operator.pods().await.len();
    scene.create(&web("web", &opted_in())).await;
    scene.rolled_out("web").await;
    operator.scale(0).await;

    let hook = json!({"lifecycle": {"preStop": {"exec": {"command": ["sleep", "2"]}}}});
    let mut own = json!({"name": "web"});
    own.as_object_mut().unwrap().extend(hook.as_object().unwrap().clone());
    let patch = json!({"spec": {"template": {"spec": {"containers": [own]}}}}).to_string();
    let arguments = ["patch", "deployment", "web", "--type=strategic", "--patch", &patch].map(str::to_owned);
    let denied = scene.run("kubectl", &arguments, None).await.unwrap_err();
    assert!(denied.contains("may not specify more than 1 handler type"), "{denied}");

    let said = run(adieu(&scene, &["deploy/web"]), String::new()).await.unwrap();
    assert!(said.contains("1 of 1 workload opted out"), "{said}");
    scene.run("kubectl", &arguments, None).await.unwrap();
    let container = &scene.deployment("web").await["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["lifecycle"]["preStop"], hook["lifecycle"]["preStop"]);
    operator.scale(replicas).await;
    // It stays opted out.
    assert!(!is_injected(&scene.deployment("web").await));
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

/// The Job that Helm runs before an uninstall, without the uninstall.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_job_before_an_uninstall_reverts_the_whole_cluster() {
    let scene = Scene::new().await;
    scene.create(&web("web", &opted_in())).await;
    scene.rolled_out("web").await;
    let helm = async |arguments: &[&str]| {
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        scene.run("helm", &arguments, None).await.unwrap()
    };
    let installed = helm(&["get", "values", "adieu", "--namespace", ADIEU, "--output", "json"]).await;
    let mut values: Value = serde_json::from_str(&installed).unwrap();
    values["revertOnUninstall"] = json!({"enabled": true, "maxConcurrent": 2, "timeout": "5m"});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), values.to_string()).unwrap();
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/adieu");
    let file = file.path().to_str().unwrap();
    let rendered = helm(&[
        "template",
        "adieu",
        chart,
        "--namespace",
        ADIEU,
        "--values",
        file,
        "--show-only",
        "templates/revert.yaml",
    ])
    .await;
    let apply = ["--namespace", ADIEU, "apply", "--filename", "-"].map(str::to_owned);
    scene.run("kubectl", &apply, Some(rendered)).await.unwrap();
    let jobs: Api<Job> = Api::namespaced(scene.client.clone(), ADIEU);
    eventually("the Job to succeed", || async {
        let status = jobs.get("adieu-revert").await.unwrap().status.unwrap_or_default();
        assert_eq!(status.failed.unwrap_or_default(), 0, "kubectl -n {ADIEU} logs job/adieu-revert");
        status.succeeded == Some(1)
    })
    .await;
    let deployment = scene.deployment("web").await;
    assert!(!is_injected(&deployment) && is_rolled_out(&deployment));
    assert_eq!(deployment["metadata"]["annotations"]["adieu.dev/graceful"], "false");
    jobs.delete("adieu-revert", &DeleteParams::background()).await.unwrap();
    scene.end().await;
}
