use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::*;
use crate::{
    controller::test_support::{context, context_with},
    index::caches::Caches,
    runtime::test_support::client,
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
    let control = tokio::spawn(control(Arc::new(context), CancellationToken::new()));
    // All policies are reconciled.
    pause.send_replace(true);
    sleep(2 * DEBOUNCE).await;
    assert_eq!(writes.load(Ordering::Relaxed), CONCURRENCY);
    control.abort();
}
