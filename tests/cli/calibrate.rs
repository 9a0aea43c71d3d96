//! `adieu calibrate` up to the creation of canaries, against a mock API server.

use std::{path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::support::{Finished, adieu, kubeconfig, run, server};

fn calibrate(config: &PathBuf, arguments: &[&str]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.env("KUBECONFIG", config).args(["calibrate", "--service", "ClusterIP"]).args(arguments);
    run(&mut command, "")
}

/// An API server that allows nothing.
fn forbidden(path: &str) -> (u16, Value) {
    match path.split('?').next().unwrap() {
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => (
            201,
            json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
                "metadata": {}, "spec": {}, "status": {"allowed": false}}),
        ),
        path => (
            404,
            json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound",
                "message": format!("{path} not found")}),
        ),
    }
}

#[test]
fn invalid_arguments_of_a_calibration_are_reported_before_any_request() {
    let service = ["--service", "ClusterIP"];
    for (arguments, part) in [
        (&["--yes"][..], "name at least one way"),
        (&["--service", "ClusterIP", "--yes", "--quiet", "1s"], "--quiet must be at least 5 s"),
        (&["--service", "ClusterIP", "--yes", "--window", "6s"], "--window must be at least twice"),
        (&["--service", "ClusterIP", "--yes", "--window", "2h"], "at most 3600 s"),
        (&["--service", "ClusterIP", "--yes", "--limit", "25h"], "at most 24 h"),
        (&["--service", "ClusterIP", "--yes", "--rate", "1001"], "at most 1000"),
        (&["--service", "ClusterIP", "--yes", "--terminations", "0"], "--terminations"),
        (&["--service", "ClusterIP", "--yes", "--policy", "measured"], "--apply"),
        (&service, "use --yes"),
    ] {
        let finished = adieu(&[&["calibrate"], arguments].concat(), "");
        assert_eq!(finished.code, 2, "{arguments:?}");
        assert!(finished.stderr.contains(part), "{part} is missing in {}", finished.stderr);
    }
}

#[test]
fn missing_permissions_of_a_calibration_are_reported_together() {
    let config = kubeconfig("calibrate-forbidden", server(forbidden));
    let finished = calibrate(&config, &["--ingress-class", "nginx", "--apply", "--yes"]);
    assert_eq!(finished.code, 2);
    for part in [
        "missing RBAC permissions: create jobs.batch in namespace \"shop\"",
        "get pods/log in namespace \"shop\"",
        "create ingresses.networking.k8s.io",
        "patch clustergracefulpolicies.adieu.dev in the whole cluster",
    ] {
        assert!(finished.stderr.contains(part), "{part} is missing in {}", finished.stderr);
    }
}

#[test]
fn without_a_cluster_a_calibration_names_the_kubeconfig() {
    let finished = calibrate(&"/nowhere/config".into(), &["--yes"]);
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.contains("KUBECONFIG"), "{}", finished.stderr);
}
