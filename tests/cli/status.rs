//! `adieu status`, against a mock API server.

use std::{path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::support::{Finished, kubeconfig, run, server};

fn status(config: &PathBuf, arguments: &[&str]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.env("KUBECONFIG", config).arg("status").args(arguments);
    run(&mut command, "")
}

fn workload(name: &str, annotations: &Value) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "shop", "annotations": annotations,
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:a": {}}}],
        },
        "spec": {"template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web", "image": "web"}]},
        }},
    })
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}))
}

/// A kubeconfig for a cluster with a policy that selects one of three workloads. Its API server denies lists of `denied`.
fn cluster(name: &str, denied: &'static str) -> PathBuf {
    let list = |items: Value| (200, json!({"metadata": {}, "items": items}));
    let address = server(move |target| {
        let path = target.split('?').next().unwrap();
        match path.rsplit('/').next().unwrap() {
            kind if kind == denied => failure(403, "Forbidden"),
            "deployments" => list(json!([
                workload("api", &json!({"adieu.dev/graceful": "false"})),
                workload("other", &json!({})),
                workload("web", &json!({})),
            ])),
            "gracefulpolicies" => list(json!([{
                "metadata": {"name": "checkout", "namespace": "shop"},
                "spec": {"selector": {"matchLabels": {"app": "web"}}, "drainSeconds": 20},
            }])),
            "shop" => (200, json!({"metadata": {"name": "shop", "labels": {}}})),
            "statefulsets" | "daemonsets" | "services" => list(json!([])),
            _ => failure(404, "NotFound"),
        }
    });
    kubeconfig(name, address)
}

#[test]
fn managed_workloads_of_a_namespace_are_listed_with_their_state() {
    let config = cluster("status", "");
    let finished = status(&config, &[]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = finished.stdout.lines().map(squeezed).collect();
    assert_eq!(
        lines,
        [
            "NAMESPACE WORKLOAD MANAGED BY STATE DRAIN SHUTDOWN GRACE PERIOD REASON",
            "shop Deployment/api - OptedOut - - -",
            "shop Deployment/web GracefulPolicy/checkout Queued 20 s 30 s 55 s its template is changed once a \
             rollout slot is free",
            "... and 1 that is not managed",
        ]
    );
    assert!(finished.stderr.contains("does not serve ClusterGracefulPolicies"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("TerminationProfile"), "{}", finished.stderr);

    let json = status(&config, &["-o", "json", "--all"]).stdout;
    let report: Value = serde_json::from_str(&json).unwrap();
    let states: Vec<_> = report["workloads"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["OptedOut", "NotManaged", "Queued"]);
    let web = &report["workloads"][2];
    assert_eq!(
        (&web["managedBy"], &web["gracePeriodSeconds"]),
        (&json!(["GracefulPolicy/checkout"]), &json!(55))
    );
    assert_eq!((&report["summary"]["managed"], &report["summary"]["notManaged"]), (&json!(2), &json!(1)));
}

#[test]
fn the_status_of_all_namespaces_is_listed() {
    let finished = status(&cluster("status-all-namespaces", ""), &["-A"]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let line = finished.stdout.lines().find(|line| line.contains("Deployment/web")).unwrap();
    assert!(line.starts_with("shop ") && line.contains("GracefulPolicy/checkout"), "{line}");
}

#[test]
fn what_cannot_be_read_is_reported() {
    let finished = status(&cluster("status-policies", "gracefulpolicies"), &["--all"]);
    assert_eq!(finished.code, 0);
    assert!(finished.stderr.contains("GracefulPolicies cannot be listed"), "{}", finished.stderr);
    assert!(finished.stdout.contains("Unknown"), "{}", finished.stdout);

    let finished = status(&cluster("status-missing", ""), &["-n", "shpo"]);
    assert_eq!((finished.code, finished.stdout.as_str()), (1, ""));
    assert!(finished.stderr.contains("the namespace \"shpo\" does not exist"), "{}", finished.stderr);
}
