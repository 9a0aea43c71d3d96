//! Workloads before and after an uninstall.

use k8s_openapi::api::batch::v1::Job;
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};

use crate::{
    concurrent::revert::{adieu, is_injected, opted_in},
    operator::{ADIEU, Operator},
    support::{Scene, eventually, is_rolled_out, run, web},
};

/// After `helm uninstall`, a workload with an injected hook has no webhook that resolves a conflict with another hook.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn without_the_operator_a_reverted_workload_can_get_its_own_hook() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let replicas = operator.replicas().await;
    scene.create(&web("web", &opted_in())).await;
    scene.rolled_out("web").await;
    operator.stop().await;

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
