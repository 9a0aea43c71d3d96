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

/// An injected Deployment whose record cannot be read, and one that another object controls.
fn irrevertible() -> [Value; 2] {
    let (mut unreadable, mut controlled) = (web("kept"), web("kept"));
    unreadable["metadata"]["name"] = json!("unreadable");
    unreadable["spec"]["template"]["metadata"]["annotations"]["adieu.dev/injected"] = json!("{");
    controlled["metadata"]["name"] = json!("controlled");
    controlled["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "web", "uid": "c", "controller": true},
    ]);
    [unreadable, controlled]
}

/// A kubeconfig for an API server with the Deployment in two namespaces, which denies writes, and with others that cannot
/// be reverted.
fn cluster(name: &str) -> PathBuf {
    let (shop, bank) = (web("shop"), web("bank"));
    let [unreadable, controlled] = irrevertible();
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
            "/apis/apps/v1/namespaces/kept/deployments" => list(&[&unreadable, &controlled]),
            "/apis/apps/v1/namespaces/kept/deployments/controlled" => (200, controlled.clone()),
            "/apis/apps/v1/namespaces/kept/deployments/unreadable" => (200, unreadable.clone()),
            "/api/v1/namespaces/typo" => {
                (404, json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"}))
            }
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
    assert_eq!(finished.stdout, "nothing to do: no workload matches\n");
}

#[test]
fn workloads_that_keep_their_injection_are_reported_with_exit_code_1() {
    let config = cluster("revert-kept");
    let finished = revert(&config, &["-n", "kept", "--yes"]);
    assert_eq!(finished.code, 1, "{finished:?}");
    let summary = "adieu: 0 of 2 workloads opted out, 2 keep their injection (1 controlled by another object, 1 with an \
                   unreadable record)";
    assert!(finished.stderr.contains(summary), "{finished:?}");
    for (name, reason) in [("unreadable", "cannot be read"), ("controlled", "Canary web controls it")] {
        let workload = format!("deploy/{name}");
        let finished = revert(&config, &[&workload, "-n", "kept"]);
        assert_eq!(finished.code, 1, "{finished:?}");
        assert!(finished.stdout.contains(reason), "{finished:?}");
        assert!(finished.stderr.contains("0 of 1 workload opted out, 1 keeps its injection"), "{finished:?}");
    }
    let finished = revert(&config, &["-n", "kept", "--yes", "-o", "json"]);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!((finished.code, &report["complete"]), (1, &json!(false)), "{report}");
    assert_eq!(report["workloads"][0]["outcome"], "skipped", "{report}");
    assert!(report["workloads"][0]["reason"].is_string(), "{report}");
}

#[test]
fn a_selection_that_matches_nothing_is_reported() {
    let config = cluster("revert-nothing");
    let finished = revert(&config, &["-n", "typo", "-l", "app=web", "--yes"]);
    assert_eq!(finished.code, 2, "{finished:?}");
    assert!(finished.stderr.contains("the namespace \"typo\" does not exist"), "{finished:?}");
    let finished = revert(&config, &["-n", "empty", "-l", "app=nope", "--yes"]);
    assert_eq!((finished.code, finished.stdout.as_str()), (0, "nothing to do: no workload matches\n"));
    let warning = "warning: no workload matches the labels \"app=nope\" in the namespace \"empty\"";
    assert!(finished.stderr.contains(warning), "{finished:?}");
    let finished = revert(&config, &["-n", "empty", "--yes"]);
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(
        finished.stderr.contains("there is no Deployment, StatefulSet or DaemonSet in the"),
        "{finished:?}"
    );
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
