//! `adieu diff`, against a mock API server.

use std::{path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::support::{Finished, documents, kubeconfig, run, server, succeed};

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  annotations: {adieu.dev/graceful: \"true\"}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: \"web:1\"}]
";

const POLICY: &str = "\
---
apiVersion: adieu.dev/v1alpha1
kind: GracefulPolicy
metadata: {name: all}
spec: {selector: {}, drainSeconds: 20}
";

fn diff(config: &PathBuf, arguments: &[&str], input: &str) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.env("KUBECONFIG", config).args(["diff", "-f", "-"]).args(arguments);
    run(&mut command, input)
}

/// The Deployment as it is injected in the cluster: with defaults of the API server, applied by kubectl.
fn live() -> Value {
    let applied = &documents(WEB)[0];
    let injected = succeed(&["inject", "-f", "-", "-o", "json"], WEB).0;
    let mut live: Value = serde_json::from_str(&injected).unwrap();
    live["metadata"]["namespace"] = json!("shop");
    live["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] =
        json!(applied.to_string());
    let spec = &mut live["spec"]["template"]["spec"];
    spec["restartPolicy"] = json!("Always");
    spec["containers"][0]["imagePullPolicy"] = json!("IfNotPresent");
    live
}

/// A kubeconfig for a cluster with the Deployment and without policies.
fn cluster(name: &str) -> PathBuf {
    let live = live();
    let address = server(move |target| {
        let list = || (200, json!({"metadata": {}, "items": []}));
        let path = target.split('?').next().unwrap();
        match path.rsplit('/').next().unwrap() {
            "web" => (200, live.clone()),
            "shop" => (200, json!({"metadata": {"name": "shop"}})),
            "gracefulpolicies" | "clustergracefulpolicies" | "services" => list(),
            "broken" => (500, json!({"kind": "Status", "status": "Failure", "code": 500, "message": "etcd"})),
            _ => (
                404,
                json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no"}),
            ),
        }
    });
    kubeconfig(name, address)
}

#[test]
fn changes_of_the_injection_are_shown_and_set_the_exit_code() {
    let config = cluster("diff");
    let line = |input: &str| {
        let finished = diff(&config, &[], input);
        assert_eq!(finished.stderr, "", "{}", finished.stdout);
        (finished.code, finished.stdout)
    };
    let expected = |code: i32, text: &str| (code, format!("Deployment shop/web: {text}\n"));
    assert_eq!(line(WEB), expected(0, "no change"));
    let other_image = WEB.replace("web:1", "web:2");
    assert_eq!(line(&other_image), expected(0, "no change; pods will be replaced because of other changes"));
    let values = "drain 10 s → 20 s, grace period 45 s → 55 s; pods will be replaced";
    let annotated = WEB.replace("\"true\"}", "\"true\", adieu.dev/drain-seconds: \"20\"}");
    assert_eq!(line(&annotated), expected(1, values));
    let slot = format!("{values} once a rollout slot is free");
    assert_eq!(line(&format!("{WEB}{POLICY}")), expected(1, &slot));
    // The annotation was applied, so it is removed.
    let opted_out = WEB.replace("  annotations: {adieu.dev/graceful: \"true\"}\n", "");
    let reverted =
        "the injection will be reverted: drain 10 s → none, grace period 45 s → 30 s; pods will be replaced";
    assert_eq!(line(&opted_out), expected(1, reverted));
    let new = WEB.replace("name: web\n  annot", "name: api\n  annot");
    let created =
        "Deployment shop/api: not in the cluster yet: will be injected with drain 10 s, grace period 45 s\n";
    assert_eq!(line(&new), (1, created.to_owned()));
}

#[test]
fn the_comparison_as_json_has_values_before_and_after() {
    let input = format!("{WEB}{POLICY}");
    let finished = diff(&cluster("diff-json"), &["-o", "json"], &input);
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    let sleep = |seconds: i64| json!({"sleep": {"seconds": seconds}});
    assert_eq!(
        report,
        json!({
            "workloads": [{
                "kind": "Deployment", "namespace": "shop", "name": "web", "exists": true,
                "optedIn": {"before": true, "after": true}, "injected": {"before": true, "after": true},
                "changes": [
                    {"field": "preStop", "container": "web", "before": sleep(10), "after": sleep(20)},
                    {"field": "terminationGracePeriodSeconds", "before": 45, "after": 55},
                ],
                "rollout": "Queued", "state": "Queued",
                "reason": "its template is changed once a rollout slot is free", "warnings": [],
            }],
            "summary": {"changed": 1, "unchanged": 0},
        })
    );
}

#[test]
fn errors_have_their_own_exit_code() {
    let config = cluster("diff-errors");
    let malformed = WEB.replace("graceful: \"true\"", "drain-seconds: \"ten\"");
    let broken = WEB.replace("name: web\n  annot", "name: broken\n  annot");
    for (input, message) in [
        (
            malformed.as_str(),
            "standard input:5: Deployment web: metadata.annotations[adieu.dev/drain-seconds]",
        ),
        (&broken, "cannot get Deployment shop/broken"),
        ("a: [", "standard input"),
    ] {
        let finished = diff(&config, &[], input);
        assert_eq!((finished.code, finished.stdout.as_str()), (2, ""), "{}", finished.stderr);
        assert!(finished.stderr.contains(message), "{}", finished.stderr);
    }
    let nothing = diff(&config, &[], "kind: ConfigMap\napiVersion: v1\n");
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""));
    assert!(nothing.stderr.contains("is in the input"), "{}", nothing.stderr);
}
