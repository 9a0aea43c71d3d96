use std::sync::Mutex;

use adieu_observer::status_time;
use http::Method;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, core::DynamicObject};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::{
    controller::test_support::context_with,
    index::caches::Caches,
    plan::Kind,
    runtime::test_support::{client_of_bodies, not_found},
};

const START: i64 = 1_800_000_000;

type Writes = Arc<Mutex<Vec<(String, Value)>>>;

fn time(second: i64) -> String {
    status_time(Timestamp::from_second(START + second).unwrap())
}

/// A pod that was killed at the end of its grace period.
fn pod() -> Value {
    let state = json!({"terminated": {"exitCode": 137, "finishedAt": time(30)}});
    json!({
        "metadata": {
            "namespace": "shop", "name": "web-7d4b9-x2x", "uid": "uid-1", "resourceVersion": "8",
            "labels": {"pod-template-hash": "7d4b9"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9", "uid": "2", "controller": true}],
            "deletionTimestamp": time(30), "deletionGracePeriodSeconds": 30,
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "app"}]},
        "status": {"containerStatuses": [{"name": "app", "state": state}]},
    })
}

fn deployment() -> (Kind, DynamicObject) {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "of-web",
            "annotations": {"deployment.kubernetes.io/revision": "2"},
        },
        "spec": {"replicas": 3, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app"}]}}},
    });
    (Kind::Deployment, serde_json::from_value(object).unwrap())
}

/// An API server with a pod that is gone after the list, and these profiles. Returns the writes to profiles, which fail
/// with these codes first.
fn api_server(profiles: Value, fails: Vec<u16>) -> (Client, Writes) {
    let (writes, gone) = (Writes::default(), Mutex::new(false));
    let (recorded, fails) = (writes.clone(), Mutex::new(fails.into_iter()));
    let client = client_of_bodies(move |method, target, body| {
        let list = |items: Value| Some((200, json!({"metadata": {"resourceVersion": "9"}, "items": items})));
        let is_watch = target.contains("watch=");
        if *method != Method::GET {
            if target.contains("terminationprofiles") {
                let path = target.split('?').next().unwrap();
                let body = serde_json::from_slice(body).unwrap();
                recorded.lock().unwrap().push((format!("{method} {path}"), body));
                if *method == Method::PATCH
                    && let Some(code) = fails.lock().unwrap().next()
                {
                    return Some((code, not_found()));
                }
            }
            return Some((201, json!({})));
        }
        match target {
            _ if is_watch && target.contains("/api/v1/pods") => {
                let was_gone = std::mem::replace(&mut *gone.lock().unwrap(), true);
                (!was_gone).then(|| (200, json!({"type": "DELETED", "object": pod()})))
            }
            _ if is_watch => None,
            _ if target.starts_with("/api/v1/pods") => list(json!([pod()])),
            _ if target.contains("/replicasets/web-7d4b9") => {
                let annotations = json!({"deployment.kubernetes.io/revision": "1"});
                Some((200, json!({"metadata": {"annotations": annotations}, "spec": {"replicas": 0}})))
            }
            _ if target.contains("terminationprofiles") => list(profiles.clone()),
            _ => list(json!([])),
        }
    });
    (client, writes)
}

/// Runs the report for some minutes. Returns the writes, and the metrics.
async fn report_with(
    profiles: Value,
    fails: Vec<u16>,
    scope: ObserverScope,
    leads: bool,
) -> (Vec<(String, Value)>, String) {
    let (client, writes) = api_server(profiles, fails);
    let caches = Caches::fixed(vec![], vec![], vec![deployment()]);
    let (context, [is_leader, _paused]) = context_with(client, caches, 1);
    is_leader.send_replace(leads);
    let context = Arc::new(context);
    let observation = Observation {
        scope,
        writes_profiles: true,
        field_selector: "metadata.namespace!=kube-system".into(),
    };
    let reporting =
        Box::pin(report(context.clone(), observation, Replicas::default(), CancellationToken::new()));
    drop(timeout(Duration::from_mins(5), reporting).await);
    let writes = writes.lock().unwrap().clone();
    (writes, context.metrics.render().unwrap())
}

const OBJECT: &str = "/apis/adieu.dev/v1alpha1/namespaces/shop/terminationprofiles";

#[tokio::test(start_paused = true)]
async fn the_leader_writes_a_profile_of_the_workload() {
    let (writes, metrics) = report_with(json!([]), vec![], ObserverScope::All, true).await;
    let [(create, object), (patch, status)] = writes.as_slice() else { panic!("{writes:?}") };
    assert_eq!(*create, format!("POST {OBJECT}"));
    assert_eq!(object["metadata"]["name"], "deployment-web");
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "of-web");
    assert_eq!(object["spec"], json!({"kind": "Deployment", "name": "web"}));
    assert_eq!(*patch, format!("PATCH {OBJECT}/deployment-web/status"));
    let status = &status["status"];
    assert_eq!((&status["terminations"], &status["outcomes"]["Killed"]), (&json!(1), &json!(1)));
    assert_eq!(status["causes"]["Rollout"], 1, "the ReplicaSet has an older revision");
    for line in [
        "adieu_terminations_total{kind=\"Deployment\",outcome=\"killed\",cause=\"rollout\"} 1",
        "adieu_failed_terminations_total{workload_namespace=\"shop\",outcome=\"killed\"} 1",
        "adieu_termination_shutdown_duration_seconds_sum 30.0",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_replicas_and_scopes_write_nothing() {
    for (scope, leads) in
        [(ObserverScope::All, false), (ObserverScope::Managed, true), (ObserverScope::Off, true)]
    {
        let (writes, metrics) = report_with(json!([]), vec![], scope, leads).await;
        assert!(writes.is_empty() && !metrics.contains("adieu_terminations_total{"), "{scope:?}: {writes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_adds_to_the_profile_of_the_previous_one() {
    let (first, _) = report_with(json!([]), vec![], ObserverScope::All, true).await;
    let [(_, object), (_, status)] = first.as_slice() else { panic!("{first:?}") };
    let mut stored = object.clone();
    stored["metadata"]["namespace"] = "shop".into();
    stored["status"] = status["status"].clone();
    let (writes, _) = report_with(json!([stored]), vec![], ObserverScope::All, true).await;
    let [(patch, status)] = writes.as_slice() else { panic!("{writes:?}") };
    assert!(patch.starts_with("PATCH"), "{patch}");
    assert_eq!(status["status"]["terminations"], 2);
    assert_eq!(status["status"]["histograms"]["shutdownSeconds"], json!([{"seconds": 30, "count": 2}]));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_profile_is_created_again() {
    let (writes, _) = report_with(json!([]), vec![404], ObserverScope::All, true).await;
    let requests: Vec<_> = writes.iter().map(|(request, _)| request.split(' ').next().unwrap()).collect();
    assert_eq!(requests, ["POST", "PATCH", "POST", "PATCH"]);
    assert_eq!(writes[3].1["status"]["terminations"], 1, "it counts once");
}

#[test]
fn only_some_namespaces_have_metrics_of_their_own() {
    let namespaces = Namespaces::default();
    for number in 0..MAX_NAMESPACES {
        assert_eq!(namespaces.label(&number.to_string()), number.to_string());
    }
    assert_eq!((namespaces.label("shop").as_str(), namespaces.label("7").as_str()), ("other", "7"));
}
