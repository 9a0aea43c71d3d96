//! `adieu recommend`, against a mock API server.

use std::{path::PathBuf, process::Command};

use adieu::api::{TerminationProfileStatus, check_policy};
use serde_json::{Value, json};

use crate::support::{Finished, documents, kubeconfig, run, server};

fn recommend(config: &PathBuf, arguments: &[&str]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adieu"));
    command.env("KUBECONFIG", config).arg("recommend").args(arguments);
    run(&mut command, "")
}

fn deployment(name: &str) -> Value {
    let pods = json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web"}]}});
    json!({"metadata": {"name": name, "namespace": "shop", "uid": name}, "spec": {"template": pods}})
}

/// The profile of `web`, which needs 12 s.
fn profile() -> Value {
    let mut status = TerminationProfileStatus::default();
    status.current_outcomes.completed = 214;
    let mut status = json!(status);
    status["shutdownSeconds"] = json!({"p50": 1, "p90": 2, "p99": 9, "max": 11});
    status["recommendation"] = json!({
        "summary": "", "field": "shutdownTimeoutSeconds", "currentSeconds": 30, "recommendedSeconds": 12,
        "confidence": "High",
    });
    let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "web"});
    json!({
        "metadata": {"name": "deployment-web", "namespace": "shop", "ownerReferences": [owner]},
        "spec": {"kind": "Deployment", "name": "web"}, "status": status,
    })
}

/// The answer to a request for the kinds of a version.
fn kinds(path: &str) -> Option<(u16, Value)> {
    let version = json!({"groupVersion": "networking.k8s.io/v1", "version": "v1"});
    let body = match path {
        "/apis" => {
            let group = json!({"name": "networking.k8s.io", "versions": [version]});
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]})
        }
        "/apis/networking.k8s.io/v1" => json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "networking.k8s.io/v1",
            "resources": [{
                "kind": "Ingress", "name": "ingresses", "namespaced": true, "singularName": "",
                "verbs": ["get", "list"],
            }],
        }),
        _ => return None,
    };
    Some((200, body))
}

/// A kubeconfig for a cluster with these policies of both kinds. `web` is behind an Ingress and a Service, `api` behind a
/// Service, and `worker` behind none. The API server denies lists of `denied`.
fn cluster(name: &str, policies: &[Value], denied: &'static str) -> PathBuf {
    let of_kind = |kind: &str| -> Vec<Value> {
        policies.iter().filter(|policy| policy["kind"] == kind).cloned().collect()
    };
    let (namespaced, cluster) = (of_kind("GracefulPolicy"), of_kind("ClusterGracefulPolicy"));
    let service = |name: &str| json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"selector": {"app": name}}});
    let services = json!([service("web"), service("api")]);
    let ingress = json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web"}}},
    });
    let address = server(move |target| {
        let path = target.split('?').next().unwrap();
        let list = |items: Value| (200, json!({"metadata": {}, "items": items}));
        let failed = |code: u16| {
            (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": "", "message": ""}))
        };
        if let Some(kinds) = kinds(path) {
            return kinds;
        }
        match path.rsplit('/').next().unwrap() {
            kind if kind == denied => failed(403),
            "deployments" if target.contains("labelSelector=") => list(json!([deployment("web")])),
            "deployments" => list(json!([deployment("worker"), deployment("web"), deployment("api")])),
            "gracefulpolicies" => list(json!(namespaced)),
            "clustergracefulpolicies" => list(json!(cluster)),
            "terminationprofiles" => list(json!([profile()])),
            "services" => list(services.clone()),
            "ingresses" => list(json!([ingress])),
            "shop" => (200, json!({"metadata": {"name": "shop", "labels": {}}})),
            "statefulsets" | "daemonsets" | "namespaces" => list(json!([])),
            _ => failed(404),
        }
    });
    kubeconfig(name, address)
}

#[test]
fn policies_are_recommended_from_exposures_and_terminations() {
    let finished = recommend(&cluster("recommend", &[], ""), &["-A"]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let policies = documents(&finished.stdout);
    let found: Vec<_> =
        policies.iter().map(|policy| (&policy["metadata"]["name"], &policy["spec"])).collect();
    let selector = |name: &str| json!({"matchLabels": {"app": name}});
    assert_eq!(
        found,
        [
            (&json!("recommended"), &json!({"shutdownTimeoutSeconds": 30})),
            (
                &json!("recommended-shutdown-15"),
                &json!({"selector": selector("web"), "shutdownTimeoutSeconds": 15}),
            ),
            (&json!("recommended-shutdown-30"), &json!({"selector": selector("api")})),
        ]
    );
    assert_eq!(policies[1]["metadata"]["labels"], json!({"adieu.dev/recommended": "true"}));
    for comment in [
        "# GracefulPolicy shop/recommended-shutdown-15\n# Deployment web\n",
        "#   drain 30 s: Ingress shop/web (Ingress or Gateway of NGINX, IngressClass/nginx): it may take",
        "#   shutdown timeout 15 s: p99 of 214 terminations is 9 s, 0 killed\n",
        "#   shutdown timeout 30 s: no termination was observed, so it is kept\n",
    ] {
        assert!(finished.stdout.contains(comment), "{comment}: {}", finished.stdout);
    }
    let summary = "adieu: 2 workloads: 2 protected for the first time, 0 with longer times, 0 with shorter times, 0 unchanged; \
                   2 GracefulPolicies and 1 ClusterGracefulPolicy; one pod of each drains for 40 s instead of 0 s in total, \
                   and has a grace period of 95 s instead of 60 s\n";
    assert!(finished.stderr.ends_with(summary), "{}", finished.stderr);
}

#[test]
fn policies_that_are_applied_are_recommended_again_and_differ_in_nothing() {
    let config = cluster("recommend-first", &[], "");
    let first = recommend(&config, &["-A"]);
    let differences = recommend(&config, &["-A", "--diff"]);
    assert_eq!(differences.code, 1, "{}", differences.stderr);
    for line in ["+ ClusterGracefulPolicy recommended\n", "+   spec.shutdownTimeoutSeconds: 15\n"] {
        assert!(differences.stdout.contains(line), "{line}: {}", differences.stdout);
    }
    let json = recommend(&config, &["-A", "-o", "json"]).stdout;
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["summary"]["protected"], 2);
    let web = &report["workloads"][1];
    assert_eq!((&web["name"], &web["change"]), (&json!("web"), &json!("Protected")));
    assert_eq!(
        (&web["before"]["gracePeriodSeconds"], &web["after"]["gracePeriodSeconds"]),
        (&json!(30), &json!(50))
    );

    let mut policies = report["policies"].as_array().unwrap().clone();
    let config = cluster("recommend-applied", &policies, "");
    let again = recommend(&config, &["-A"]);
    assert_eq!(again.stdout, first.stdout, "{}", again.stderr);
    let differences = recommend(&config, &["-A", "--diff"]);
    assert_eq!((differences.code, differences.stdout.as_str()), (0, ""), "{}", differences.stderr);

    // One that is no longer needed, and one that was changed.
    let mut obsolete = policies[1].clone();
    obsolete["metadata"]["name"] = json!("recommended-old");
    policies[2]["spec"]["drainSeconds"] = json!(5);
    policies.push(obsolete);
    let differences = recommend(&cluster("recommend-changed", &policies, ""), &["-A", "--diff"]);
    let expected = "~ GracefulPolicy shop/recommended-shutdown-30\n-   spec.drainSeconds: 5\n\
                    - GracefulPolicy shop/recommended-old\n";
    assert_eq!((differences.code, differences.stdout.as_str()), (1, expected), "{}", differences.stderr);
}

#[test]
fn only_selected_workloads_of_a_namespace_get_policies_and_defaults_are_not_set() {
    let finished = recommend(&cluster("recommend-selected", &[], ""), &["-n", "shop", "-l", "tier=front"]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let policies = documents(&finished.stdout);
    let specs: Vec<_> = policies.iter().map(|policy| &policy["spec"]).collect();
    let selector = json!({"matchLabels": {"app": "web"}});
    assert_eq!(specs, [&json!({"selector": selector, "shutdownTimeoutSeconds": 15})]);
}

#[test]
fn without_the_right_to_list_policies_nothing_is_recommended() {
    let finished = recommend(&cluster("recommend-denied", &[], "gracefulpolicies"), &["-A"]);
    assert_eq!((finished.code, finished.stdout.as_str()), (2, ""));
    assert!(finished.stderr.contains("so what they set is unknown"), "{}", finished.stderr);

    let finished = recommend(&cluster("recommend-profiles", &[], "terminationprofiles"), &["-A"]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(finished.stderr.contains("so shutdown timeouts are kept"), "{}", finished.stderr);
    assert!(finished.stdout.contains("no termination was observed"), "{}", finished.stdout);
}

#[test]
fn the_budget_of_the_adoption_guide_is_valid() {
    let guide = include_str!("../../docs/adopting.md");
    let budget = guide.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let budget = &documents(budget)[0];
    assert_eq!(check_policy(budget), []);
    assert_eq!(budget["kind"], "ClusterGracefulPolicy");
}
