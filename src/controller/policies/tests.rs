use std::sync::{
    Mutex,
    atomic::{AtomicU16, Ordering},
};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::*;
use crate::{
    controller::test_support::{context, context_with},
    index::caches::Caches,
    keys::policy_key,
    plan::Source,
    runtime::test_support::{client, client_of_bodies},
};

fn policy(spec: Value) -> GracefulPolicy {
    serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": "all", "namespace": "shop", "generation": 3}, "spec": spec,
    }))
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn no_status_is_written_before_all_workloads_are_listed() {
    let policy = policy(json!({"selector": {}}));
    let listed = Caches::fixed(vec![policy.clone()], vec![], vec![]);
    let policy = Arc::new(policy);
    // The API server never answers, so a write times out.
    let writes = async |caches| {
        let context = Arc::new(context(caches, 1));
        timeout(RETRY_WAIT, reconcile(policy.clone(), context)).await.is_err()
    };
    assert!(writes(listed.clone()).await && !writes(listed.unfilled()).await);
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_not_ready_before_its_workloads_are_evaluated() {
    async fn is_written<P: Policy>(caches: Caches, policy: &P, change: impl Fn(&mut P)) -> bool {
        let mut policy = policy.clone();
        change(&mut policy);
        let context = Arc::new(context(caches, 1));
        // The API server never answers, so a write times out.
        timeout(RETRY_WAIT, reconcile(Arc::new(policy), context)).await.is_err()
    }
    async fn check<P: Policy>(caches: Caches, policy: &P) {
        let empty = Caches::fixed(vec![], vec![], vec![]);
        assert!(is_written(caches.clone(), policy, |_| {}).await);
        assert!(is_written(caches.clone(), policy, |older| older.meta_mut().generation = Some(2)).await);
        assert!(!is_written(caches.clone(), policy, |newer| newer.meta_mut().generation = Some(4)).await);
        assert!(!is_written(caches, policy, |again| again.meta_mut().uid = Some("another".into())).await);
        assert!(!is_written(empty, policy, |_| {}).await);
    }
    let policy = policy(json!({"selector": {}}));
    check(Caches::fixed(vec![policy.clone()], vec![], vec![]), &policy).await;
    let cluster_policy: ClusterGracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
        "metadata": {"name": "all", "generation": 3},
        "spec": {"namespaceSelector": {"matchLabels": {"team": "shop"}}},
    }))
    .unwrap();
    let caches = Caches::fixed(vec![], vec![], vec![]).with_cluster_policies(vec![cluster_policy.clone()]);
    check(caches, &cluster_policy).await;
}

#[tokio::test(start_paused = true)]
async fn eight_statuses_of_a_kind_are_written_at_a_time() {
    let policies = (0..3 * CONCURRENCY).map(|number| {
        let mut policy = policy(json!({"selector": {}}));
        policy.metadata.name = Some(format!("policy-{number}"));
        policy
    });
    let writes = Arc::new(AtomicU16::default());
    let counter = writes.clone();
    // The API server never answers.
    let client = client(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        None
    });
    let caches = Caches::fixed(policies.collect(), vec![], vec![]);
    let (context, [_leader, pause]) = context_with(client, caches, 1);
    let control = tokio::spawn(control(Arc::new(context)));
    // All policies are reconciled.
    pause.send_replace(true);
    sleep(2 * DEBOUNCE).await;
    assert_eq!(writes.load(Ordering::Relaxed), CONCURRENCY);
    control.abort();
}

#[tokio::test(start_paused = true)]
async fn failures_are_written_before_the_status_of_hundreds_of_other_policies() {
    let policies = (0..300).map(|number| {
        let mut policy = policy(json!({"selector": {}}));
        policy.metadata.name = Some(format!("policy-{number:03}"));
        policy
    });
    let written: Arc<Mutex<Vec<String>>> = Arc::default();
    let paths = written.clone();
    let client = client(move |_, path| {
        paths.lock().unwrap().push(path.to_owned());
        Some((200, json!({"metadata": {}})))
    });
    let (context, _senders) = context_with(client, Caches::fixed(policies.collect(), vec![], vec![]), 1);
    let context = Arc::new(context);
    let key = |number: usize| policy_key("shop", &Source::Policy(format!("policy-{number:03}")));
    context.index.requeue_policies((0..300).map(key));
    let control = tokio::spawn(control(context.clone()));
    sleep(2 * DEBOUNCE).await;
    context.scheduling.changed_failures(false).add(key(299));
    sleep(2 * DEBOUNCE).await;
    let written = written.lock().unwrap();
    assert!(written.iter().any(|path| path.contains("policy-299/status")), "{written:?}");
    assert!(written.len() < 100, "the others are queued");
    control.abort();
}

#[tokio::test]
async fn a_status_is_written_only_over_the_version_that_was_read() {
    let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
    let sent = bodies.clone();
    let client = client_of_bodies(move |_, _, body| {
        sent.lock().unwrap().push(serde_json::from_slice(body).unwrap());
        Some((200, json!({"metadata": {}})))
    });
    let mut policy = policy(json!({"selector": {}}));
    policy.metadata.resource_version = Some("7".into());
    let (context, _senders) = context_with(client, Caches::fixed(vec![policy.clone()], vec![], vec![]), 1);
    reconcile(Arc::new(policy), Arc::new(context)).await.unwrap();
    let bodies = bodies.lock().unwrap();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(bodies[0]["metadata"], json!({"resourceVersion": "7"}));
    assert_eq!(bodies[0]["status"]["workloads"]["matched"], 0);
}

#[tokio::test]
async fn a_status_that_another_client_wrote_meanwhile_is_retried_soon() {
    let policy = Arc::new(policy(json!({"selector": {}})));
    let context = Arc::new(context(Caches::fixed(vec![], vec![], vec![]), 1));
    for (code, action) in [
        (404, Action::await_change()),
        (409, Action::requeue(CONFLICT_WAIT)),
        (500, Action::requeue(RETRY_WAIT)),
    ] {
        let status = json!({"code": code, "message": "", "reason": ""});
        let error = kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()));
        assert_eq!(error_policy(policy.clone(), &error, context.clone()), action, "{code}");
    }
}
