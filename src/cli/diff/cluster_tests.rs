use std::{fs, sync::Arc};

use clap::Parser as _;
use serde_json::{Value, json};

use super::*;
use crate::{
    plan::{Completeness, ManagementState, RolloutTiming, evaluate},
    runtime::test_support::{client, failure, not_found},
};

/// The arguments of the command alone.
#[derive(Debug, clap::Parser)]
struct Command {
    #[command(flatten)]
    arguments: Arguments,
}

fn deployment(annotations: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]},
        }},
    })
}

/// The Deployment as it is injected in this context.
fn injected(mut object: Value, context: &NamespaceContext) -> Value {
    let parsed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let evaluation = evaluate(&Workload::of(Kind::Deployment, &parsed), context);
    object["spec"]["template"] = evaluation.template.unwrap();
    object
}

fn policy(drain: i64) -> Value {
    json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": "all", "namespace": "shop"}, "spec": {"selector": {}, "drainSeconds": drain},
    })
}

fn context(policy: &Value) -> NamespaceContext {
    let policy = serde_json::from_value(policy.clone()).unwrap();
    NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() }
}

/// A client of a cluster with this Deployment, if any, and this policy.
fn cluster(live: Option<Value>, policy: Value) -> Client {
    cluster_with(live, policy, vec![])
}

/// The same with these Services. The objects that lead to them can't be read.
fn cluster_with(live: Option<Value>, policy: Value, services: Vec<Value>) -> Client {
    client(move |_, target| {
        let page = |items: &[Value]| (200, json!({"metadata": {"resourceVersion": "1"}, "items": items}));
        Some(match (target.split('?').next().unwrap().rsplit('/').next().unwrap(), &live) {
            ("web", Some(live)) => (200, live.clone()),
            ("denied", _) => (403, failure(403, "forbidden")),
            ("shop", _) => (200, json!({"metadata": {"name": "shop"}})),
            ("gracefulpolicies", _) => page(std::slice::from_ref(&policy)),
            ("clustergracefulpolicies", _) => page(&[]),
            ("services", _) => page(&services),
            _ => (404, not_found()),
        })
    })
}

/// Compares these manifests with a cluster.
async fn compared(client: &Client, manifests: &[Value]) -> anyhow::Result<Vec<ComparedWorkload>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.json");
    fs::write(&path, json!({"apiVersion": "v1", "kind": "List", "items": manifests}).to_string()).unwrap();
    let file = path.to_str().unwrap();
    let Command { arguments } = Command::try_parse_from(["diff", "-n", "shop", "-f", file]).unwrap();
    compare(client, &arguments).await
}

#[tokio::test]
async fn a_policy_of_the_input_replaces_that_of_the_cluster() {
    let manifest = deployment(&json!({}));
    let live = injected(manifest.clone(), &context(&policy(10)));
    let client = cluster(Some(live), policy(10));
    let same = compared(&client, std::slice::from_ref(&manifest)).await.unwrap();
    assert!(same[0].exists && !same[0].diff.is_change());
    assert_eq!((same[0].diff.state, same[0].diff.rollout), (ManagementState::Injected, None));

    let changed = compared(&client, &[manifest, policy(20)]).await.unwrap();
    let diff = &changed[0].diff;
    assert_eq!((diff.state, diff.rollout), (ManagementState::Queued, Some(RolloutTiming::Queued)));
    let hook = diff.changes.iter().find(|change| change.field == "preStop").unwrap();
    let sleep = |seconds: i64| Some(json!({"sleep": {"seconds": seconds}}));
    assert_eq!((&hook.before, &hook.after), (&sleep(10), &sleep(20)));
}

#[tokio::test]
async fn a_workload_that_does_not_exist_is_compared_with_nothing() {
    let client = cluster(None, policy(10));
    let mut generated = deployment(&json!({}));
    generated["metadata"] = json!({"generateName": "web-"});
    let mut ignored = deployment(&json!({}));
    ignored["metadata"]["namespace"] = json!("kube-system");
    let manifests = [deployment(&json!({"adieu.dev/graceful": "false"})), generated, ignored];
    let found = compared(&client, &manifests).await.unwrap();
    let summary: Vec<_> = found
        .iter()
        .map(|one| {
            (one.namespace.as_str(), one.name.as_str(), one.exists, one.diff.changes.len(), one.diff.state)
        })
        .collect();
    assert_eq!(
        summary,
        [
            ("shop", "web", false, 0, ManagementState::OptedOut),
            ("shop", "web-", false, 2, ManagementState::Queued),
            ("kube-system", "web", false, 0, ManagementState::NotManaged),
        ]
    );
}

#[tokio::test]
async fn an_injected_drain_is_not_shortened_while_the_exposures_are_incomplete() {
    let mut policy = policy(10);
    policy["spec"]["drainSeconds"] = json!("Auto");
    let service =
        json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"selector": {"app": "web"}}});
    let services = vec![Arc::new(serde_json::from_value(service.clone()).unwrap())];
    let ingress = json!({
        "metadata": {"name": "shop"},
        "spec": {"ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web"}}},
    });
    let ingress = TrafficObject::read("networking.k8s.io", "Ingress", "shop", &ingress).unwrap();
    let context = NamespaceExposures::added_to(
        NamespaceContext { services, ..context(&policy) },
        "shop",
        Arc::from([Arc::new(ingress)]),
        Completeness::Complete,
    );
    let mut manifest = deployment(&json!({}));
    let live = injected(manifest.clone(), &context);
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    let client = cluster_with(Some(live), policy, vec![service]);
    let found = compared(&client, &[manifest]).await.unwrap();
    assert_eq!(found[0].diff.changes, []);
}

#[tokio::test]
async fn denied_annotations_and_requests_are_errors() {
    let client = cluster(None, policy(10));
    let malformed = deployment(&json!({"adieu.dev/drain-seconds": "ten"}));
    let error = compared(&client, &[malformed]).await.unwrap_err().to_string();
    assert!(
        error.contains(".json:1: Deployment web: metadata.annotations[adieu.dev/drain-seconds]"),
        "{error}"
    );
    let mut denied = deployment(&json!({}));
    denied["metadata"]["name"] = json!("denied");
    let error = compared(&client, &[denied]).await.unwrap_err();
    assert!(format!("{error:#}").starts_with("cannot get Deployment shop/denied"), "{error:#}");
}
