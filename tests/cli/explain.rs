//! `adieu explain`.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{adieu, kubeconfig, run, server, succeed};

const MANIFESTS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  annotations: {adieu.dev/margin-seconds: \"9\"}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: web}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: system}
spec:
  template: {spec: {containers: [{name: agent, image: agent}]}}
---
apiVersion: adieu.dev/v1alpha1
kind: GracefulPolicy
metadata: {name: checkout}
spec: {selector: {}, drainSeconds: 20}
";

fn drain(explained: &Value) -> (&Value, &Value, &Value) {
    let settings = explained["settings"].as_array().unwrap();
    let drain = settings.iter().find(|setting| setting["field"] == "drainSeconds").unwrap();
    (&drain["value"], &drain["from"], &drain["overridden"])
}

#[test]
fn workloads_of_manifests_are_explained() {
    let (text, _) = succeed(&["explain", "-f", "-", "deploy/web"], MANIFESTS);
    for expected in
        ["Deployment default/web: opted in by policy checkout", "policy checkout  10 (default)", "to   59"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("agent") && !text.contains('\u{1b}'), "{text}");

    let (text, _) = succeed(&["explain", "-f", "-", "-o", "json"], MANIFESTS);
    let all: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<_> = all.as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["web", "agent"]);
    let lost = json!([{"value": 10, "from": "default"}]);
    assert_eq!(drain(&all[0]), (&json!(20), &json!("policy checkout"), &lost));
    assert_eq!(all[0]["termination"]["gracePeriodSeconds"], 59);
    assert_eq!((&all[1]["namespace"], &all[1]["optedIn"]["value"]), (&json!("system"), &json!(false)));

    let missing = adieu(&["explain", "-f", "-", "sts/web"], MANIFESTS);
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("StatefulSet \"web\" is not in the input"), "{}", missing.stderr);
}

#[test]
fn a_workload_of_a_cluster_is_explained_with_its_policies_and_services() {
    let documents = crate::support::documents(MANIFESTS);
    let [mut deployment, mut policy] = [0, 2].map(|number| documents[number].clone());
    policy["metadata"]["namespace"] = json!("shop");
    deployment["metadata"]["managedFields"] = json!([{"manager": "kubectl", "fieldsV1": {"f:a": {}}}]);
    let address = server(move |target| {
        let list = |items: Value| (200, json!({"metadata": {}, "items": items}));
        let path = target.split('?').next().unwrap();
        match path.rsplit('/').next().unwrap() {
            "web" => (200, deployment.clone()),
            "gracefulpolicies" => list(json!([policy])),
            "services" => list(json!([{
                "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
            }])),
            "version" => (
                200,
                json!({
                    "major": "1", "minor": "29+", "gitVersion": "v1.29.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
                    "goVersion": "", "compiler": "", "platform": "",
                }),
            ),
            "clustergracefulpolicies" => list(json!([])),
            _ => (
                404,
                json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no"}),
            ),
        }
    });
    let explain = |workload: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
        command
            .env("KUBECONFIG", kubeconfig("explain", address))
            .args(["explain", workload, "-n", "shop", "-o", "json"]);
        run(&mut command, "")
    };
    let finished = explain("deployment/web");
    let all: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{}", finished.stderr));
    assert_eq!(all[0]["namespace"], "shop");
    assert_eq!(drain(&all[0]).1, "policy checkout");
    assert_eq!(all[0]["state"], "Pending");
    let missing = explain("ds/agent");
    assert_eq!(missing.code, 1);
    assert!(
        missing.stderr.contains("DaemonSet \"agent\" not found in namespace \"shop\""),
        "{}",
        missing.stderr
    );
}
