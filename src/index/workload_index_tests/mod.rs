//! The evaluations of the index.

mod exposures;
mod requeues;

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, future::join};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use super::*;
use crate::{
    api::GracefulPolicy,
    index::{cached_workload::CachedWorkload, caches::Caches},
};

const LIMIT: Duration = Duration::from_secs(10);

fn policy(namespace: &str, name: &str, generation: i64, drain: i64) -> GracefulPolicy {
    serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": name, "namespace": namespace, "uid": name, "generation": generation},
        "spec": {"selector": {}, "drainSeconds": drain},
    }))
    .unwrap()
}

fn deployment(namespace: &str, name: &str, status: Value) -> (Kind, DynamicObject) {
    let object = json!({
        "metadata": {"name": name, "namespace": namespace, "uid": name, "generation": 1},
        "spec": {"replicas": 1, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "app"}], "terminationGracePeriodSeconds": 30},
        }},
        "status": status,
    });
    (Kind::Deployment, serde_json::from_value(object).unwrap())
}

fn key(namespace: &str, name: &str) -> WorkloadKey {
    WorkloadKey { namespace: namespace.into(), kind: Kind::Deployment, name: name.into() }
}

fn of(namespace: &str, name: &str) -> PolicyKey {
    policy_key(namespace, &Source::Policy(name.into()))
}

/// The changes so far.
fn changed<T: Ord + Send + 'static>(changes: ChangeSet<T>) -> Vec<T> {
    let mut stream = Box::pin(changes.stream(Duration::ZERO));
    std::iter::from_fn(|| stream.next().now_or_never().flatten()).collect()
}

fn two_namespaces(drain: i64, generation: i64, status: &Value) -> Caches {
    let policies = vec![policy("shop", "all", generation, drain), policy("bank", "all", 1, 10)];
    let workloads = vec![
        deployment("shop", "web", status.clone()),
        deployment("bank", "web", json!({})),
        deployment("attic", "web", json!({})),
    ];
    Caches::fixed(policies, vec![], workloads)
}

#[tokio::test]
async fn a_change_of_the_status_alone_keeps_the_desired_state() {
    let index = Index::default();
    let caches = two_namespaces(20, 1, &json!({}));
    index.refresh(&caches);
    let before = index.get(&key("shop", "web")).unwrap();
    // Another policy shows whether the desired state is computed again.
    let one = Batch { workloads: [key("shop", "web")].into(), ..Batch::default() };
    let next = |status: &Value| two_namespaces(30, 2, status);
    let complete =
        json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1});
    index.evaluate(&next(&complete), one.clone()).await;
    let after = index.get(&key("shop", "web")).unwrap();
    assert_eq!(after.desired, before.desired);
    assert_ne!(after.rollout, before.rollout);

    let (kind, mut labelled) = deployment("shop", "web", json!({}));
    labelled.metadata.labels = Some([("team".into(), "a".into())].into());
    let caches = Caches::fixed(vec![policy("shop", "all", 2, 30)], vec![], vec![(kind, labelled)]);
    index.evaluate(&caches, one).await;
    assert_ne!(index.get(&key("shop", "web")).unwrap().desired, before.desired, "its labels changed");

    let index = Index::default();
    index.refresh(&two_namespaces(20, 1, &json!({})));
    let namespace = Batch { namespaces: ["shop".to_owned()].into(), ..Batch::default() };
    index.evaluate(&next(&json!({})), namespace).await;
    assert_ne!(index.get(&key("shop", "web")).unwrap().desired, before.desired, "its namespace changed");
}

#[test]
fn a_workload_of_which_only_a_stub_is_cached_is_evaluated_again() {
    let (kind, object) = deployment("shop", "web", json!({}));
    let context = two_namespaces(20, 1, &json!({})).namespace_context("shop");
    let cached = CachedWorkload::from(object);
    let evaluation = EvaluatedWorkload::of(kind, &cached, &context, &PolicyKeys::default()).unwrap();
    assert!(evaluation.with_status(kind, &cached, &context).is_some());
    assert!(evaluation.with_status(kind, &cached.stub("no room"), &context).is_none());
}

#[test]
fn a_policy_is_applied_once_its_workloads_are_evaluated_with_it() {
    let index = Index::default();
    let (now, later) = (policy("shop", "all", 1, 20), policy("shop", "all", 2, 30));
    let has_applied = |policy: &GracefulPolicy| index.has_applied(&of("shop", "all"), &policy.metadata);
    assert!(!has_applied(&now) && !index.is_complete());
    index.refresh(&two_namespaces(20, 1, &json!({})));
    assert!(has_applied(&now) && !has_applied(&later) && index.is_complete());
    index.refresh(&two_namespaces(30, 2, &json!({})));
    assert!(has_applied(&now) && has_applied(&later));
    let mut another = later.clone();
    another.metadata.uid = Some("another".into());
    assert!(!has_applied(&another));
}

#[test]
fn workloads_are_found_by_policy_and_namespace() {
    let index = Index::default();
    index.refresh(&two_namespaces(20, 1, &json!({})));
    let keys = |found: Vec<(WorkloadKey, _)>| found.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(index.of_policy(&of("shop", "all"))), [key("shop", "web")]);
    assert_eq!(keys(index.all()), [key("bank", "web"), key("shop", "web")]);
    assert_eq!(index.in_namespace("shop"), [key("shop", "web")]);
    assert!(index.in_namespace("sho").is_empty());
    changed(index.other_changes(Kind::Deployment));
    index.requeue_workloads(Some("bank"));
    assert_eq!(changed(index.other_changes(Kind::Deployment)), [key("bank", "web")]);
    // A deleted workload is removed.
    index.refresh(&Caches::fixed(vec![policy("shop", "all", 1, 20)], vec![], vec![]));
    assert!(index.all().is_empty() && index.of_policy(&of("shop", "all")).is_empty());
}

#[tokio::test]
async fn only_affected_workloads_are_evaluated() {
    let caches = two_namespaces(20, 1, &json!({}));
    let evaluations = Counter::default();
    let index = Index::new(evaluations.clone());
    let (shop, bank) = (key("shop", "web"), key("bank", "web"));
    let batch = |namespaces: &[&str], workloads: &[&WorkloadKey]| Batch {
        namespaces: namespaces.iter().map(|namespace| (*namespace).to_owned()).collect(),
        workloads: workloads.iter().map(|key| (*key).clone()).collect(),
        ..Batch::default()
    };
    for (batch, expected, count) in [
        (Batch { all: true, ..Batch::default() }, vec![&bank, &shop], 3),
        (batch(&[], &[&shop]), vec![&shop], 1),
        (batch(&["bank"], &[]), vec![&bank], 1),
        // Each once, though one is marked twice.
        (batch(&["bank"], &[&bank, &shop]), vec![&bank, &shop], 2),
    ] {
        index.clear();
        let before = evaluations.get();
        index.evaluate(&caches, batch).await;
        assert_eq!(index.keys().iter().collect::<Vec<_>>(), expected);
        assert_eq!(evaluations.get() - before, count, "{expected:?}");
    }
}

#[tokio::test]
async fn a_leader_evaluates_marked_workloads_and_clears_the_index_when_it_stops() {
    let caches = two_namespaces(20, 1, &json!({}));
    let evaluations = Counter::default();
    let index = Index::new(evaluations.clone());
    let (leader_sender, is_leader) = watch::channel(true);
    let check = async {
        let mut version = index.version();
        version.wait_for(|_| index.is_complete()).await.unwrap();
        assert_eq!((index.all().len(), evaluations.get()), (2, 3), "of all workloads");
        caches.dirty().workload(key("bank", "web"));
        caches.dirty().namespace("bank");
        version.changed().await.unwrap();
        assert_eq!(evaluations.get(), 4);
        leader_sender.send_replace(false);
        version.wait_for(|_| index.all().is_empty()).await.unwrap();
        drop(leader_sender);
    };
    let both = join(index.run(&caches, is_leader), check);
    timeout(LIMIT, both).await.expect("the end");
    assert!(!index.is_complete(), "a replica that does not lead has no evaluations");
}

#[tokio::test]
async fn a_batch_of_a_namespace_drops_only_the_deleted_policies_of_that_namespace() {
    let index = Index::default();
    let policies = ["bank", "shop", "shop-2"].map(|namespace| policy(namespace, "all", 1, 20));
    index.refresh(&Caches::fixed(policies.clone().into(), vec![], vec![]));
    changed(index.changes());
    let batch = Batch { namespaces: ["shop".to_owned()].into(), ..Batch::default() };
    index.evaluate(&Caches::fixed(vec![], vec![], vec![]), batch).await;
    assert_eq!(changed(index.changes()), [IndexChange::Policy(of("shop", "all"))]);
    let has_applied = |policy: &GracefulPolicy| {
        let namespace = policy.metadata.namespace.as_deref().unwrap();
        index.has_applied(&of(namespace, "all"), &policy.metadata)
    };
    assert_eq!(policies.each_ref().map(has_applied), [true, false, true]);
}
