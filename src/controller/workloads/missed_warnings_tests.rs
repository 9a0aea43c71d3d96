use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::{
    controller::test_support::publishing, index::caches::Caches, runtime::client::LIMIT,
    runtime::test_support::client_of_bodies,
};

const DEPLOYMENT: Kind = Kind::Deployment;

#[tokio::test(start_paused = true)]
async fn a_workload_opted_in_without_the_webhook_gets_the_warning_about_its_probe_as_an_event() {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "of-web", "generation": 1, "resourceVersion": "7",
            "annotations": {"adieu.dev/graceful": "true"},
        },
        "spec": {"replicas": 1, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [{"name": "web", "ports": [{"containerPort": 3000}]}],
                "terminationGracePeriodSeconds": 30,
            },
        }},
    });
    let workload: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let notes: Arc<Mutex<Vec<String>>> = Arc::default();
    let published = notes.clone();
    let client = client_of_bodies(move |_, target, body| {
        if target.contains("/events") {
            let event: Value = serde_json::from_slice(body).unwrap();
            published.lock().unwrap().push(format!("{}: {}", event["reason"], event["note"]));
        }
        Some((200, object.clone()))
    });
    let caches = Caches::fixed(vec![], vec![], vec![(DEPLOYMENT, workload.clone())]);
    let (context, _senders, publishing) = publishing(client, caches, 1);
    reconcile_cached(DEPLOYMENT, Arc::new(workload.into()), Arc::new(context)).await.unwrap();
    timeout(LIMIT, publishing).await.expect("all Events are published");
    let notes = notes.lock().unwrap();
    let is_warning = |note: &&String| {
        note.starts_with("\"Degraded\"")
            && note.contains("no readiness probe, because no Service selects the pods")
    };
    assert_eq!(notes.iter().filter(is_warning).count(), 1, "{notes:?}");
}
