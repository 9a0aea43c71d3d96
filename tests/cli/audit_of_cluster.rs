//! `adieu audit` of a cluster.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    audit::{WEB, rules},
    support::{documents, kubeconfig, run, server},
};

#[test]
fn a_cluster_is_audited_by_pages_and_kinds_that_are_missing_or_forbidden_are_skipped() {
    let documents: Vec<Value> = documents(WEB);
    let with_fields = |mut object: Value| {
        object["metadata"]["namespace"] = json!("shop");
        object["metadata"]["managedFields"] = json!([{"manager": "kubectl", "fieldsV1": {"f:a": {}}}]);
        object
    };
    let [deployment, service, _] = [0, 1, 2].map(|number| with_fields(documents[number].clone()));
    let address = server(move |target| {
        let list = |items: Value, more: &str| (200, json!({"metadata": {"continue": more}, "items": items}));
        if target.contains("/deployments") {
            let other = json!({"metadata": {"name": "other", "namespace": "shop"}, "spec": null});
            return if target.contains("continue=") {
                list(json!([{"metadata": 5}, other]), "")
            } else {
                list(json!([deployment]), "next")
            };
        }
        let reason = |code: u16, reason: &str| {
            (
                code,
                json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}),
            )
        };
        match target.split('?').next().unwrap().rsplit('/').next().unwrap() {
            "services" => list(json!([service]), ""),
            "poddisruptionbudgets" => reason(403, "Forbidden"),
            "jobs" => list(json!(null), ""),
            "cronjobs" | "gracefulpolicies" | "clustergracefulpolicies" => reason(404, "NotFound"),
            _ => list(json!([]), ""),
        }
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.env("KUBECONFIG", kubeconfig("audit-cluster", address)).args(["audit", "-A", "-o", "json"]);
    let finished = run(&mut command, "");
    let report: Value =
        serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{}", finished.stderr));
    let found = report["findings"].as_array().unwrap().clone();
    assert_eq!(rules(&found), ["no-prestop-behind-service"], "a budget may exist: {}", finished.stderr);
    assert_eq!((&found[0]["namespace"], &report["summary"]["workloads"]), (&json!("shop"), &json!(2)));
    assert!(finished.stderr.contains("PodDisruptionBudgets cannot be listed"), "{}", finished.stderr);
    assert!(finished.stderr.contains("a Deployment cannot be read"), "{}", finished.stderr);
}

/// An answer with a list.
fn list(items: Value) -> (u16, Value) {
    (200, json!({"metadata": {}, "items": items}))
}

/// The kinds of clouds that a cluster serves.
fn clouds(path: &str) -> Option<(u16, Value)> {
    let version = |version: &str| json!({"groupVersion": version, "version": version.rsplit('/').next()});
    let group = |name: &str, of: &str| json!({"name": name, "versions": [version(&format!("{name}/{of}"))]});
    let kinds = |version: &str, kind: &str| {
        let name = format!("{}s", kind.to_lowercase());
        let resource =
            json!({"kind": kind, "name": name, "singularName": "", "namespaced": true, "verbs": ["list"]});
        json!({"kind": "APIResourceList", "groupVersion": version, "resources": [resource]})
    };
    let body = match path {
        "/apis" => {
            let groups = [group("cloud.google.com", "v1"), group("elbv2.k8s.aws", "v1beta1")];
            json!({"kind": "APIGroupList", "groups": groups})
        }
        "/apis/cloud.google.com/v1" => kinds("cloud.google.com/v1", "BackendConfig"),
        "/apis/elbv2.k8s.aws/v1beta1" => kinds("elbv2.k8s.aws/v1beta1", "TargetGroupBinding"),
        _ => return None,
    };
    Some((200, body))
}

/// Audits a cluster with the Deployment and the Service of `WEB`, with a preStop hook of 10 s, a grace period of 45 s and
/// a budget. `answer` answers requests by the last part of their path. Returns the findings and the standard error.
fn audit_of_cluster(
    name: &str,
    arguments: &[&str],
    answer: impl Fn(&str) -> Option<(u16, Value)> + Send + Sync + 'static,
) -> (Vec<Value>, String) {
    let mut objects: Vec<Value> = documents(WEB);
    let pod = &mut objects[0]["spec"]["template"]["spec"];
    pod["terminationGracePeriodSeconds"] = json!(45);
    pod["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 10}}});
    objects[1]["metadata"]["annotations"] =
        json!({"cloud.google.com/backend-config": "{\"default\": \"slow\"}"});
    let address = server(move |target| {
        let path = target.split('?').next().unwrap();
        let last = path.rsplit('/').next().unwrap();
        answer(last).or_else(|| clouds(path)).unwrap_or_else(|| match last {
            "deployments" => list(json!([objects[0]])),
            "services" => list(json!([objects[1]])),
            "poddisruptionbudgets" => list(json!([objects[2]])),
            _ => list(json!([])),
        })
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.env("KUBECONFIG", kubeconfig(name, address)).args(["audit", "-o", "json"]).args(arguments);
    let finished = run(&mut command, "");
    let report: Value =
        serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{}", finished.stderr));
    (report["findings"].as_array().unwrap().clone(), finished.stderr)
}

#[test]
fn delays_of_cloud_load_balancers_are_read_from_a_cluster() {
    let config =
        json!({"metadata": {"name": "slow"}, "spec": {"connectionDraining": {"drainingTimeoutSec": 60}}});
    let binding = json!({"metadata": {"name": "public"}, "spec": {"serviceRef": {"name": "web"}}});
    for (kind, object, parts) in [
        ("backendconfigs", config, ["BackendConfig slow", "60 s"]),
        ("targetgroupbindings", binding, ["TargetGroupBinding public", "300 s (the default"]),
    ] {
        let answer = move |last: &str| (last == kind).then(|| list(json!([object])));
        let (found, stderr) = audit_of_cluster(kind, &[], answer);
        assert_eq!(rules(&found), ["drain-shorter-than-lb"], "{kind}: {stderr}");
        let message = found[0]["message"].as_str().unwrap();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn kinds_of_clouds_that_cannot_be_listed_are_skipped_and_named() {
    let failure = |code: u16| {
        (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": "R", "message": "m"}))
    };
    for (code, reason) in [(403, "you may not list BackendConfig"), (500, "unreadable: BackendConfig")] {
        let answer =
            move |last: &str| ["backendconfigs", "kubelet-config"].contains(&last).then(|| failure(code));
        let (found, stderr) = audit_of_cluster(&format!("clouds-{code}"), &[], answer);
        assert!(found.is_empty() && stderr.contains(reason), "{code}: {stderr}");
    }
    // They are not installed.
    let (found, stderr) = audit_of_cluster("clouds-none", &[], move |last: &str| {
        (last == "apis").then(|| (200, json!({"kind": "APIGroupList", "groups": []})))
    });
    assert_eq!((found, stderr.as_str()), (vec![], ""));
}

#[test]
fn the_time_of_a_node_that_shuts_down_is_read_from_the_configuration_of_kubeadm() {
    let config =
        "kind: KubeletConfiguration\nshutdownGracePeriod: 40s\nshutdownGracePeriodCriticalPods: 10s\n";
    for (name, arguments, limit) in [
        ("kubeadm", vec![], Some("30 s")),
        ("kubeadm-and-another-limit", vec!["--limits", "spot=120"], Some("30 s")),
        ("kubeadm-replaced", vec!["--limits", "node-shutdown=20"], Some("20 s")),
        ("kubeadm-replaced-by-more", vec!["--limits", "node-shutdown=60"], None),
    ] {
        let answer =
            move |last: &str| (last == "kubelet-config").then(|| (200, json!({"data": {"kubelet": config}})));
        let (found, stderr) = audit_of_cluster(name, &arguments, answer);
        let expected: Vec<_> = limit.iter().map(|_| "grace-over-limit").collect();
        assert_eq!(rules(&found), expected, "{name}: {stderr}");
        let given = limit.is_none_or(|limit| found[0]["message"].as_str().unwrap().ends_with(limit));
        assert!(given, "{found:?}");
    }
}
