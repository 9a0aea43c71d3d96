//! `adieu audit` of a cluster.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Scene, output, web};

/// The rules of the findings in a namespace, with the number of audited workloads.
async fn audit(scene: &Scene, arguments: &[&str]) -> (Vec<String>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.args(["audit", "--namespace", &scene.namespace, "--output", "json"]).args(arguments);
    let report: Value = serde_json::from_slice(&output(command, String::new()).await.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let rules = findings.iter().map(|finding| finding["rule"].as_str().unwrap().to_owned());
    (rules.collect(), report["summary"]["workloads"].clone())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_audit_of_a_cluster_reads_services_budgets_and_policies() {
    let scene = Scene::new().await;
    let mut object = web("web", &json!({}));
    object["spec"]["replicas"] = json!(2);
    scene.create(&object).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    scene.create(&service).await;
    let (rules, workloads) = audit(&scene, &[]).await;
    assert!(rules.contains(&"no-prestop-behind-service".to_owned()), "{rules:?}");
    assert!(rules.contains(&"no-pdb".to_owned()), "{rules:?}");
    assert_eq!(workloads, 1);
    assert_eq!(audit(&scene, &["--selector", "app=other"]).await, (vec![], json!(0)));

    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"},
        "spec": {"selector": {}, "disruptionBudget": {"maxUnavailable": 1}, "rollout": {"mode": "NextUpdate"}},
    });
    scene.create(&policy).await;
    let (rules, _) = audit(&scene, &[]).await;
    assert!(!rules.contains(&"no-prestop-behind-service".to_owned()), "as it will be injected: {rules:?}");
    scene.end().await;
}
