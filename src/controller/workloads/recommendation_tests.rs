use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::{
    api::{Confidence, Recommendation},
    controller::test_support::context_with,
    index::caches::Caches,
    runtime::test_support::{client_of_bodies, failure},
};

const DEPLOYMENT: Kind = Kind::Deployment;

type Bodies = Arc<Mutex<Vec<Value>>>;

/// A policy for all Deployments, with these recommendations.
fn caches(recommendations: &str, workload: &DynamicObject) -> Caches {
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": "all", "namespace": "shop"},
        "spec": {"selector": {}, "recommendations": recommendations},
    });
    let policies = vec![serde_json::from_value(policy).unwrap()];
    Caches::fixed(policies, vec![], vec![(DEPLOYMENT, workload.clone())])
}

/// A Deployment with its injection, whose rollout is complete.
fn injected() -> DynamicObject {
    let mut object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "of-web", "generation": 1, "resourceVersion": "7"},
        "spec": {"replicas": 1, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web"}], "terminationGracePeriodSeconds": 30},
        }},
        "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1},
    }))
    .unwrap();
    let context = caches("Report", &object).namespace_context("shop");
    let evaluation = plan::evaluate(&Workload::of(DEPLOYMENT, &object), &context);
    object.data["spec"]["template"] = evaluation.template.unwrap();
    object
}

/// The context of a leader with a recommendation of 55 s for the workload of this uid, and the bodies of the requests,
/// which an API server answers with this code.
fn context(
    caches: Caches,
    uid: &str,
    code: u16,
) -> (Arc<ReconcileContext>, [watch::Sender<bool>; 2], Bodies) {
    let bodies = Bodies::default();
    let sent = bodies.clone();
    let client = client_of_bodies(move |_, _, body| {
        sent.lock().unwrap().push(serde_json::from_slice(body).unwrap());
        let answer =
            if code == 200 { json!(injected()) } else { failure(code, "the object has been modified") };
        Some((code, answer))
    });
    let (context, senders) = context_with(client, caches, 1);
    let recommendation = Recommendation {
        summary: "shutdownTimeoutSeconds 30 -> 55: 7 of 40 were killed at the deadline".into(),
        field: Recommendation::SHUTDOWN_TIMEOUT.into(),
        current_seconds: 30,
        recommended_seconds: 55,
        confidence: Confidence::Medium,
    };
    context.recommendations.set(&Key::of(DEPLOYMENT, &injected()), uid, Some(recommendation));
    (Arc::new(context), senders, bodies)
}

async fn reconciled(context: &Arc<ReconcileContext>, object: DynamicObject) -> Result<Action, write::Error> {
    reconcile_cached(DEPLOYMENT, Arc::new(object.into()), context.clone()).await
}

#[tokio::test]
async fn an_applied_recommendation_is_annotated_once_and_then_rolled_out() {
    let object = injected();
    let (leader, _senders, bodies) = context(caches("Apply", &object), "of-web", 200);
    reconciled(&leader, object.clone()).await.unwrap();
    let annotation = {
        let bodies = bodies.lock().unwrap();
        let [patch] = bodies.as_slice() else { panic!("{bodies:?}") };
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch.get("spec"), None, "the annotation alone rolls out nothing");
        patch["metadata"]["annotations"][APPLIED_RECOMMENDATION].as_str().unwrap().to_owned()
    };
    assert!(annotation.starts_with(r#"{"shutdownTimeoutSeconds":55,"since":""#), "{annotation}");

    let mut annotated = object;
    annotated.metadata.annotations = Some([(APPLIED_RECOMMENDATION.to_owned(), annotation)].into());
    let (leader, _senders, bodies) = context(caches("Apply", &annotated), "of-web", 200);
    reconciled(&leader, annotated.clone()).await.unwrap();
    let rolled_out = json!({
        "op": "replace", "path": "/spec/template/spec/terminationGracePeriodSeconds", "value": 10 + 55 + 5,
    });
    let bodies = bodies.lock().unwrap();
    assert!(bodies[0].as_array().unwrap().contains(&rolled_out), "{bodies:?}");
    assert!(bodies.iter().all(Value::is_array), "the annotation is not written again: {bodies:?}");
}

#[tokio::test]
async fn a_recommendation_is_not_written_without_the_policy_for_another_workload_or_while_paused() {
    for (mode, uid, is_paused) in [
        ("Report", "of-web", false),
        ("Off", "of-web", false),
        ("Apply", "other", false),
        ("Apply", "of-web", true),
    ] {
        let object = injected();
        let (context, [_leader, paused], bodies) = context(caches(mode, &object), uid, 200);
        paused.send_replace(is_paused);
        reconciled(&context, object).await.unwrap();
        assert!(bodies.lock().unwrap().is_empty(), "{mode} {uid} {is_paused}");
    }
}

#[tokio::test]
async fn a_recommendation_waits_until_the_rollout_is_complete() {
    let mut object = injected();
    let (context, _senders, bodies) = context(caches("Apply", &object), "of-web", 200);
    for (updated, written) in [(0, 0), (1, 1)] {
        object.data["status"]["updatedReplicas"] = json!(updated);
        assert_eq!(reconciled(&context, object.clone()).await.unwrap(), Action::await_change());
        assert_eq!(bodies.lock().unwrap().len(), written, "{updated}");
    }
}

#[tokio::test]
async fn a_recommendation_for_an_object_that_changed_meanwhile_is_retried() {
    let object = injected();
    let (context, _senders, bodies) = context(caches("Apply", &object), "of-web", 409);
    assert!(reconciled(&context, object).await.unwrap_err().is_conflict());
    assert_eq!(bodies.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_annotation_is_removed_once_the_policy_only_reports() {
    let mut object = injected();
    let text = json!({"shutdownTimeoutSeconds": 55, "since": "2026-01-31T12:00:00Z"}).to_string();
    object.metadata.annotations = Some([(APPLIED_RECOMMENDATION.to_owned(), text)].into());
    let (context, _senders, bodies) = context(caches("Report", &object), "of-web", 200);
    reconciled(&context, object).await.unwrap();
    let bodies = bodies.lock().unwrap();
    let [patch] = bodies.as_slice() else { panic!("{bodies:?}") };
    assert_eq!(patch["metadata"]["annotations"], json!({APPLIED_RECOMMENDATION: null}));
}
