use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, future::join};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use super::*;
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    index::{cached_workload::CachedWorkload, caches::Caches, unusable_objects::UnusableReason},
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

#[test]
fn only_changed_workloads_and_policies_are_requeued() {
    let index = Index::default();
    index.refresh(&two_namespaces(20, 1, &json!({})));
    assert!(index.get(&key("attic", "web")).is_none(), "it is not managed");
    assert_eq!(changed(index.other_changes(Kind::Deployment)), [key("bank", "web"), key("shop", "web")]);
    assert_eq!(changed(index.changed_policies(false)), [of("bank", "all"), of("shop", "all")]);
    let version = *index.version().borrow();
    index.refresh(&two_namespaces(20, 1, &json!({})));
    assert!(changed(index.other_changes(Kind::Deployment)).is_empty());
    assert!(changed(index.changed_policies(false)).is_empty());
    assert!(*index.version().borrow() > version, "another batch was evaluated");

    // A status change alone matters to the scheduler, but not to writers.
    index.refresh(&two_namespaces(20, 1, &json!({"updatedReplicas": 1})));
    assert!(changed(index.other_changes(Kind::Deployment)).is_empty());
    assert!(changed(index.changed_policies(false)).is_empty());

    index.refresh(&two_namespaces(30, 2, &json!({})));
    assert_eq!(changed(index.other_changes(Kind::Deployment)), [key("shop", "web")]);
    assert_eq!(changed(index.changed_policies(false)), [of("shop", "all")]);
}

#[test]
fn changes_of_budgets_marks_and_warnings_requeue_the_workload() {
    let (kind, mut object) = deployment("shop", "web", json!({}));
    let with = |object: &DynamicObject, spec: Value, labels: Value| {
        let mut policy = policy("shop", "all", 1, 10);
        policy.spec = serde_json::from_value(spec).unwrap();
        let namespace = json!({"metadata": {"name": "shop", "labels": labels}});
        let caches = Caches::fixed(vec![policy], vec![], vec![(kind, object.clone())]);
        caches.with_namespaces(vec![serde_json::from_value(namespace).unwrap()])
    };
    let index = Index::default();
    let is_requeued = |caches: &Caches| {
        index.refresh(caches);
        !changed(index.other_changes(Kind::Deployment)).is_empty()
    };
    let budget =
        |most: i32| json!({"selector": {}, "disruptionBudget": {"maxUnavailable": most}, "drainSeconds": 10});
    let enabled = json!({"adieu.dev/injection": "enabled"});
    assert!(is_requeued(&with(&object, budget(1), enabled.clone())));
    assert!(!is_requeued(&with(&object, budget(1), enabled.clone())));
    assert!(is_requeued(&with(&object, budget(2), enabled.clone())), "another PodDisruptionBudget");
    let later = json!({"selector": {}, "rollout": {"mode": "NextUpdate"}});
    assert!(is_requeued(&with(&object, later.clone(), enabled)));
    assert!(is_requeued(&with(&object, later.clone(), json!({}))), "it needs the mark");
    object.metadata.annotations = Some([("adieu.dev/unknown".into(), "1".into())].into());
    assert!(is_requeued(&with(&object, later, json!({}))), "a warning");
}

#[test]
fn only_a_template_that_is_to_be_written_immediately_is_urgent() {
    let (kind, mut annotated) = deployment("shop", "annotated", json!({}));
    annotated.metadata.annotations = Some([("adieu.dev/graceful".into(), "true".into())].into());
    let workloads = vec![(kind, annotated), deployment("shop", "web", json!({}))];
    let index = Index::default();
    index.refresh(&Caches::fixed(vec![policy("shop", "all", 1, 20)], vec![], workloads));
    assert_eq!(changed(index.urgent_changes(kind)), [key("shop", "annotated")]);
    assert_eq!(changed(index.other_changes(kind)), [key("shop", "web")], "it waits for the scheduler");
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
fn a_policy_that_can_be_used_again_requeues_the_workloads_that_it_may_manage() {
    let caches = two_namespaces(20, 1, &json!({}));
    let index = Index::default();
    index.refresh(&caches);
    changed(index.other_changes(Kind::Deployment));
    let reference = ObjectReference {
        namespace: Some("shop".into()),
        name: Some("all".into()),
        ..ObjectReference::default()
    };
    caches.unusable().add("GracefulPolicy", reference, UnusableReason::Undecodable("a new field".into()));
    index.refresh(&caches);
    assert_eq!(changed(index.other_changes(Kind::Deployment)), [key("shop", "web")]);
    caches.unusable().remove("GracefulPolicy", Some("shop"), Some("all"));
    index.refresh(&caches);
    assert_eq!(changed(index.other_changes(Kind::Deployment)), [key("shop", "web")]);
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
fn policies_are_requeued_when_inherited_values_change() {
    let policies = || vec![policy("shop", "all", 1, 20), policy("bank", "all", 1, 10)];
    let defaults = |spec: Value| -> ClusterGracefulPolicy {
        serde_json::from_value(json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
            "metadata": {"name": "defaults"}, "spec": spec,
        }))
        .unwrap()
    };
    let namespaces = |team: &str| {
        let namespace = json!({"metadata": {"name": "shop", "labels": {"team": team}}});
        vec![serde_json::from_value(namespace).unwrap()]
    };
    let index = Index::default();
    let requeued = |namespaces, defaults| {
        let caches = Caches::fixed(policies(), vec![], vec![]).with_namespaces(namespaces);
        index.refresh(&caches.with_cluster_policies(defaults));
        changed(index.changed_policies(false))
    };
    let both = [of("bank", "all"), of("shop", "all")];
    assert_eq!(requeued(namespaces("a"), vec![]), both);
    let drain = || vec![defaults(json!({"drainSeconds": 30}))];
    assert_eq!(requeued(namespaces("a"), drain()), [], "they set the value themselves");
    assert_eq!(requeued(namespaces("a"), vec![defaults(json!({"marginSeconds": 7}))]), both);
    let team =
        || vec![defaults(json!({"namespaceSelector": {"matchLabels": {"team": "a"}}, "marginSeconds": 7}))];
    assert_eq!(requeued(namespaces("a"), team()), [of("bank", "all")], "it has no team");
    assert_eq!(requeued(namespaces("b"), team()), [of("shop", "all")], "no longer of the team");
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

#[tokio::test]
async fn a_workload_waits_until_a_reconciliation_begins_but_not_for_its_own_event() {
    let index = Index::default();
    index.refresh(&two_namespaces(20, 1, &json!({})));
    changed(index.other_changes(Kind::Deployment));
    let web = key("shop", "web");
    assert!(index.is_waiting(&web) && index.is_waiting(&key("bank", "web")));
    index.drop_waiting(&web);
    assert!(!index.is_waiting(&web) && index.is_waiting(&key("bank", "web")));

    // Its controller reconciles it for the same event.
    let (kind, mut written) = deployment("shop", "web", json!({}));
    written.metadata.generation = Some(2);
    written.data["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(70);
    let caches = Caches::fixed(vec![policy("shop", "all", 1, 20)], vec![], vec![(kind, written)]);
    changed(index.changed_policies(false));
    let batch = Batch { workloads: [web.clone()].into(), ..Batch::default() };
    index.evaluate(&caches, batch.clone()).await;
    assert_eq!(changed(index.changed_policies(false)), [of("shop", "all")], "its desired state changed");
    assert!(changed(index.other_changes(Kind::Deployment)).is_empty() && !index.is_waiting(&web));

    let batch = Batch { namespaces: ["shop".to_owned()].into(), ..batch };
    index.evaluate(&two_namespaces(30, 2, &json!({})), batch).await;
    assert_eq!(changed(index.other_changes(Kind::Deployment)), std::slice::from_ref(&web));
    assert!(index.is_waiting(&web), "a policy changed");
}

#[tokio::test]
async fn a_workload_is_requeued_for_a_policy_that_the_evaluation_for_its_own_event_had_already() {
    let index = Index::default();
    index.refresh(&two_namespaces(20, 1, &json!({})));
    let web = key("shop", "web");
    let requeued = || {
        index.drop_waiting(&web);
        changed(index.other_changes(Kind::Deployment))
    };
    requeued();
    // Its controller reconciled it for the event, then the policy was stored, and now it is evaluated.
    let (kind, mut labelled) = deployment("shop", "web", json!({}));
    labelled.metadata.labels = Some([("team".into(), "a".into())].into());
    let changed_policy = vec![policy("shop", "all", 2, 30)];
    let caches = Caches::fixed(changed_policy.clone(), vec![], vec![(kind, labelled)]);
    let own_event = Batch { workloads: [web.clone()].into(), ..Batch::default() };
    index.evaluate(&caches, own_event.clone()).await;
    assert!(requeued().is_empty());
    let mark_of_policy = Batch { namespaces: ["shop".to_owned()].into(), ..Batch::default() };
    index.evaluate(&caches, mark_of_policy.clone()).await;
    assert_eq!(requeued(), std::slice::from_ref(&web));
    index.evaluate(&caches, mark_of_policy.clone()).await;
    assert!(requeued().is_empty(), "once");

    // The same for the policy that opts it in, and for one that is deleted.
    for policies in [vec![], changed_policy] {
        let (kind, object) = deployment("shop", "web", json!({"replicas": 1}));
        let caches = Caches::fixed(policies, vec![], vec![(kind, object)]);
        index.evaluate(&caches, own_event.clone()).await;
        assert!(requeued().is_empty());
        index.evaluate(&caches, mark_of_policy.clone()).await;
        assert_eq!(requeued(), std::slice::from_ref(&web));
    }
}

#[tokio::test]
async fn a_deleted_workload_does_not_wait() {
    let index = Index::default();
    let policies = vec![policy("shop", "all", 1, 20)];
    index.refresh(&Caches::fixed(policies.clone(), vec![], vec![deployment("shop", "web", json!({}))]));
    let web = key("shop", "web");
    assert!(index.is_waiting(&web));
    let own_event = Batch { workloads: [web.clone()].into(), ..Batch::default() };
    let caches = Caches::fixed(policies, vec![], vec![]);
    index.evaluate(&caches, own_event).await;
    assert!(!index.is_waiting(&web) && index.all().is_empty());
    changed(index.other_changes(Kind::Deployment));
    index.refresh(&caches);
    assert!(changed(index.other_changes(Kind::Deployment)).is_empty() && !index.is_waiting(&web));
}
