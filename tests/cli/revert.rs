//! `adieu revert` on a cluster, against a mock API server.

use std::{path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::support::{Finished, adieu, kubeconfig, run, server, succeed};

fn revert(config: &PathBuf, arguments: &[&str]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.env("KUBECONFIG", config).arg("revert").args(arguments);
    run(&mut command, "")
}

/// An injected Deployment.
fn web(namespace: &str) -> Value {
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"adieu.dev/graceful": "true"},
        },
        "spec": {"replicas": 0, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]},
        }},
    });
    let injected = succeed(&["inject", "-f", "-", "-o", "json"], &manifest.to_string()).0;
    serde_json::from_str(&injected).unwrap()
}

/// A kubeconfig for an API server with the Deployment in two namespaces, which denies writes.
fn cluster(name: &str) -> PathBuf {
    let (shop, bank) = (web("shop"), web("bank"));
    let address = server(move |target| {
        let list = |items: &[&Value]| (200, json!({"metadata": {"resourceVersion": "1"}, "items": items}));
        match target.split('?').next().unwrap() {
            "/apis/apps/v1/deployments" => list(&[&shop, &bank]),
            "/apis/apps/v1/namespaces/shop/deployments" => list(&[&shop]),
            path if path.ends_with("/deployments/web") && target.contains("fieldManager") => (
                403,
                json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
                    "message": "deployments.apps \"web\" is forbidden"}),
            ),
            "/apis/apps/v1/namespaces/shop/deployments/web" => (200, shop.clone()),
            _ => list(&[]),
        }
    });
    kubeconfig(name, address)
}

#[test]
fn workloads_to_revert_must_be_named() {
    for (arguments, part) in [
        (&[][..], "required"),
        (&["web"], "such as deployment/web"),
        (&["deploy/web", "-A"], "cannot be used with"),
        (&["-A", "-n", "shop"], "cannot be used with"),
        (&["-f", "-", "-A"], "cannot be used with"),
        (&["-f", "-", "--dry-run"], "cannot be used with"),
        (&["-A", "--output-file", "out.yaml"], "cannot be used with"),
        (&["-A", "--max-concurrent", "0"], "--max-concurrent"),
        (&["-A", "--timeout", "10"], "with its unit"),
        (&["-A"], "use --yes"),
        (&["-n", "shop"], "use --yes"),
    ] {
        let finished = adieu(&[&["revert"], arguments].concat(), "");
        assert_eq!(finished.code, 2, "{arguments:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(part), "{arguments:?}: {part} is missing in {}", finished.stderr);
    }
}

#[test]
fn a_dry_run_lists_the_changes() {
    let config = cluster("revert-dry");
    let finished = revert(&config, &["-A", "--dry-run"]);
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""));
    let line = |namespace: &str| format!("Deployment {namespace}/web: would be opted out, with a rollout\n");
    assert_eq!(finished.stdout, line("bank") + &line("shop"));
    let finished = revert(&config, &["-n", "shop", "--dry-run", "-o", "json"]);
    let [listed] = serde_json::from_str::<[Value; 1]>(&finished.stdout).unwrap();
    assert_eq!((&listed["namespace"], &listed["rollsOut"]), (&json!("shop"), &json!(true)));
    let finished = revert(&config, &["-n", "empty", "--dry-run"]);
    assert_eq!(finished.stdout, "no workload to opt out\n");
}

#[test]
fn a_denied_write_is_reported_with_its_reason_and_exit_code_1() {
    let config = cluster("revert-rejected");
    let finished = revert(&config, &["deploy/web", "-n", "shop"]);
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.stdout.contains("not opted out, the API server rejected the write"), "{finished:?}");
    assert!(finished.stderr.contains("0 of 1 workload opted out, 1 rejected"), "{finished:?}");
    let finished = revert(&config, &["-n", "shop", "--yes", "-o", "json"]);
    assert_eq!(finished.code, 1, "{finished:?}");
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!((&report["complete"], &report["notStarted"]), (&json!(false), &json!(0)));
    let [of_web] = report["workloads"].as_array().unwrap().as_slice() else { panic!("{report}") };
    assert_eq!(of_web["outcome"], "rejected");
    assert!(of_web["reason"].as_str().unwrap().contains("forbidden"), "{report}");
}
