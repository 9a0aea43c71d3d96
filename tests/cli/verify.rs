//! `adieu verify` up to the disruption, against a mock API server.

use std::{fs, net::TcpListener, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::{
    folder,
    support::{Finished, adieu, kubeconfig, run, server},
};

fn verify(config: &PathBuf, arguments: &[&str]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.env("KUBECONFIG", config).arg("verify").args(arguments);
    run(&mut command, "")
}

/// The answers of an API server about the Deployment `web`.
fn web(spec: Value) -> impl Fn(&str) -> (u16, Value) + Send + Sync {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    move |path| match path.split('?').next().unwrap() {
        "/apis/apps/v1/namespaces/shop/deployments/web" => {
            let metadata = json!({"name": "web", "namespace": "shop"});
            (200, json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}))
        }
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

const URL: [&str; 3] = ["--yes", "--url", "http://127.0.0.1:9/"];

#[test]
fn invalid_arguments_are_reported_before_any_request() {
    for (arguments, part) in [
        (&["web"][..], "such as deployment/web"),
        (&["pod/web"], "not a kind of workload"),
        (&["deploy/web", "--disrupt", "explode"], "drain-node or none"),
        (&["deploy/web", "--disrupt", "scale-down=0"], "not a number of replicas to keep"),
        (&["deploy/web", "--duration", "10"], "with its unit"),
        (&["deploy/web", "--rate", "0"], "--rate"),
        (&["deploy/web", "--header", "Host"], "Name: value"),
        (&["deploy/web", "--image", "adieu"], "--in-cluster"),
        (&["deploy/web", "--lb-idle", "60"], "--idle"),
        (&["deploy/web", "--tune-max", "60"], "--tune"),
        (&["deploy/web", "--tune", "--report", "report.html"], "cannot be used with"),
        (&["deploy/web", "--yes", "--tune", "--disrupt", "none"], "--tune needs terminations"),
        (&["deploy/web", "--yes", "--websocket", "events"], "not a path such as /events"),
        (&["deploy/web", "--yes", "--grpc-stream", "Watch"], "not a method such as"),
        (&["deploy/web", "--insecure", "--cacert", "ca.pem"], "cannot be used with"),
    ] {
        let arguments = [&["verify", "--url", "http://127.0.0.1:9/"], arguments].concat();
        let finished = adieu(&arguments, "");
        assert_eq!(finished.code, 2, "{arguments:?}");
        assert!(finished.stderr.contains(part), "{part} is missing in {}", finished.stderr);
    }
    for (url, part) in [("web.shop", "http://"), ("ftp://web", "http://"), ("http://", "http://")] {
        let finished = adieu(&["verify", "deploy/web", "--yes", "--url", url], "");
        assert_eq!(finished.code, 2);
        assert!(finished.stderr.contains("--url") && finished.stderr.contains(part), "{}", finished.stderr);
    }
}

#[test]
fn no_workload_is_disrupted_without_confirmation() {
    let finished = adieu(&["verify", "deploy/web", "--url", "http://127.0.0.1:9/"], "y\n");
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.contains("use --yes"), "{}", finished.stderr);
}

#[test]
fn without_a_cluster_the_error_names_the_kubeconfig() {
    let finished = verify(&"/nowhere/config".into(), &[&["deploy/web"], &URL[..]].concat());
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.contains("KUBECONFIG"), "{}", finished.stderr);
}

#[test]
fn a_missing_workload_is_reported_with_its_namespace() {
    let config = kubeconfig("verify-missing", server(web(json!({}))));
    let finished = verify(&config, &[&["deploy/shop"], &URL[..]].concat());
    assert_eq!(finished.code, 2);
    assert_eq!(finished.stderr, "adieu: Deployment \"shop\" not found in namespace \"shop\"\n");
}

#[test]
fn a_workload_that_cannot_roll_out_is_not_disrupted() {
    let config = kubeconfig("verify-paused", server(web(json!({"paused": true}))));
    let finished = verify(&config, &[&["deploy/web"], &URL[..]].concat());
    assert_eq!(finished.code, 2);
    assert!(
        finished.stderr.contains("Deployment/web cannot be disrupted: it is paused"),
        "{}",
        finished.stderr
    );
}

#[test]
fn all_missing_permissions_are_reported_together() {
    let config = kubeconfig("verify-forbidden", server(web(json!({"replicas": 2}))));
    let finished = verify(&config, &[&["deploy/web", "--in-cluster", "--image", "adieu"], &URL[..]].concat());
    assert_eq!(finished.code, 2);
    for part in [
        "missing RBAC permissions: list pods in namespace \"shop\"",
        "watch endpointslices.discovery.k8s.io",
        "patch deployments.apps in namespace \"shop\"",
        "create jobs.batch",
        "get pods/log",
    ] {
        assert!(finished.stderr.contains(part), "{part} is missing in {}", finished.stderr);
    }
}

#[test]
fn a_service_that_does_not_answer_is_not_disrupted() {
    let answers = web(json!({"replicas": 2}));
    let config = kubeconfig(
        "verify-silent",
        server(move |path| {
            if let Some(kind) = [("/pods?", "PodList"), ("/endpointslices?", "EndpointSliceList")]
                .into_iter()
                .find_map(|(part, kind)| path.contains(part).then_some(kind))
            {
                return (200, json!({"kind": kind, "metadata": {"resourceVersion": "1"}, "items": []}));
            }
            let (code, mut body) = answers(path);
            if let Some(allowed) = body.pointer_mut("/status/allowed") {
                *allowed = json!(true);
            }
            (code, body)
        }),
    );
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let finished = verify(&config, &["deploy/web", "--yes", "--url", &format!("http://{closed}/")]);
    assert_eq!(finished.code, 2);
    assert!(
        finished.stderr.contains("does not answer (connection refused), so nothing was disrupted"),
        "{}",
        finished.stderr
    );
}

#[test]
fn an_unwritable_report_is_an_error_before_the_disruption() {
    let report = folder("verify-report", &[]).join("nowhere/report.html");
    let finished =
        adieu(&[&["verify", "deploy/web", "--report", report.to_str().unwrap()], &URL[..]].concat(), "");
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.contains("cannot create"), "{}", finished.stderr);
    assert!(fs::metadata(report).is_err());
}
