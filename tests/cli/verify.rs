//! `adieu verify` up to where it would disturb something, against an API server that says what a test wants.

use std::{fs, net::TcpListener, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::{
    folder,
    support::{Ran, adieu, kubeconfig, run, server},
};

fn verify(config: &PathBuf, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.env("KUBECONFIG", config).arg("verify").args(arguments);
    run(&mut command, "")
}

/// What an API server has to say of the Deployment `web`.
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
fn arguments_that_make_no_sense_are_told_before_a_cluster_is_asked() {
    for (arguments, part) in [
        (&["web"][..], "such as deployment/web"),
        (&["pod/web"], "no kind of workload"),
        (&["deploy/web", "--disrupt", "explode"], "drain-node or none"),
        (&["deploy/web", "--disrupt", "scale-down=0"], "no number of replicas"),
        (&["deploy/web", "--duration", "10"], "with its unit"),
        (&["deploy/web", "--rate", "0"], "--rate"),
        (&["deploy/web", "--header", "Host"], "Name: value"),
        (&["deploy/web", "--image", "adieu"], "--in-cluster"),
        (&["deploy/web", "--insecure", "--cacert", "ca.pem"], "cannot be used with"),
    ] {
        let arguments = [&["verify", "--url", "http://127.0.0.1:9/"], arguments].concat();
        let ran = adieu(&arguments, "");
        assert_eq!(ran.code, 2, "{arguments:?}");
        assert!(ran.stderr.contains(part), "{part} is missing in {}", ran.stderr);
    }
    for (url, part) in [("web.shop", "http://"), ("ftp://web", "http://"), ("http://", "http://")] {
        let ran = adieu(&["verify", "deploy/web", "--yes", "--url", url], "");
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.contains("--url") && ran.stderr.contains(part), "{}", ran.stderr);
    }
}

#[test]
fn nobody_is_disrupted_unasked() {
    let ran = adieu(&["verify", "deploy/web", "--url", "http://127.0.0.1:9/"], "y\n");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("give --yes"), "{}", ran.stderr);
}

#[test]
fn without_a_cluster_the_kubeconfig_is_named() {
    let ran = verify(&"/nowhere/config".into(), &[&["deploy/web"], &URL[..]].concat());
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("KUBECONFIG"), "{}", ran.stderr);
}

#[test]
fn a_workload_that_is_not_there_is_named_with_its_namespace() {
    let config = kubeconfig("verify-missing", server(web(json!({}))));
    let ran = verify(&config, &[&["deploy/shop"], &URL[..]].concat());
    assert_eq!(ran.code, 2);
    assert_eq!(ran.stderr, "adieu: there is no Deployment \"shop\" in the namespace \"shop\"\n");
}

#[test]
fn a_workload_that_cannot_roll_out_is_left_alone() {
    let config = kubeconfig("verify-paused", server(web(json!({"paused": true}))));
    let ran = verify(&config, &[&["deploy/web"], &URL[..]].concat());
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("Deployment/web can't be disrupted: it is paused"), "{}", ran.stderr);
}

#[test]
fn what_rbac_does_not_allow_is_named_all_at_once() {
    let config = kubeconfig("verify-forbidden", server(web(json!({"replicas": 2}))));
    let ran = verify(&config, &[&["deploy/web", "--in-cluster", "--image", "adieu"], &URL[..]].concat());
    assert_eq!(ran.code, 2);
    for part in [
        "RBAC doesn't let you list pods in the namespace \"shop\"",
        "watch endpointslices.discovery.k8s.io",
        "patch deployments.apps in the namespace \"shop\"",
        "create jobs.batch",
        "get pods/log",
    ] {
        assert!(ran.stderr.contains(part), "{part} is missing in {}", ran.stderr);
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
    let ran = verify(&config, &["deploy/web", "--yes", "--url", &format!("http://{closed}/")]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("doesn't answer (connection refused), so nothing was disrupted"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_anything_is_done() {
    let report = folder("verify-report", &[]).join("nowhere/report.html");
    let ran =
        adieu(&[&["verify", "deploy/web", "--report", report.to_str().unwrap()], &URL[..]].concat(), "");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("creating"), "{}", ran.stderr);
    assert!(fs::metadata(report).is_err());
}
