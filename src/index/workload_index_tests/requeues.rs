//! Which workloads and policies are requeued.

use k8s_openapi::api::core::v1::ObjectReference;

use super::*;
use crate::{
    api::ClusterGracefulPolicy,
    index::unusable_objects::UnusableReason,
    plan::{self, Workload},
};

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

#[tokio::test]
async fn a_workload_for_which_a_recommendation_may_wait_is_requeued_when_its_rollout_is_complete() {
    for (mode, is_requeued) in [("Apply", true), ("Report", false)] {
        let mut policy = policy("shop", "all", 1, 20);
        policy.spec = serde_json::from_value(json!({"selector": {}, "recommendations": mode})).unwrap();
        let index = Index::default();
        let with_status = |updated: i64| {
            let status = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": updated, "availableReplicas": 1});
            Caches::fixed(vec![policy.clone()], vec![], vec![deployment("shop", "web", status)])
        };
        index.refresh(&with_status(1));
        let own_event = Batch { workloads: [key("shop", "web")].into(), ..Batch::default() };
        let of_namespace = Batch { namespaces: ["shop".to_owned()].into(), ..Batch::default() };
        // An evaluation of the namespace may come with the event.
        for batch in [own_event, of_namespace] {
            for (updated, expected) in [(0, false), (1, is_requeued), (1, false)] {
                changed(index.other_changes(Kind::Deployment));
                index.evaluate(&with_status(updated), batch.clone()).await;
                let requeued = !changed(index.other_changes(Kind::Deployment)).is_empty();
                assert_eq!(requeued, expected, "{mode}, {updated} updated");
            }
        }
    }
}

#[test]
fn a_workload_is_requeued_only_for_what_its_writers_do() {
    let (kind, object) = deployment("shop", "web", json!({}));
    let with = |object: &DynamicObject, spec: Value| {
        let mut policy = policy("shop", "all", 1, 20);
        policy.spec = serde_json::from_value(spec).unwrap();
        Caches::fixed(vec![policy], vec![], vec![(kind, object.clone())])
    };
    let next_update =
        |drain: i64| json!({"selector": {}, "drainSeconds": drain, "rollout": {"mode": "NextUpdate"}});
    let at_once = |drain: i64| json!({"selector": {}, "drainSeconds": drain});
    let mut applied = next_update(50);
    applied["recommendations"] = json!("Apply");
    let mut other_applied = applied.clone();
    other_applied["drainSeconds"] = json!(60);
    let mut audit = at_once(20);
    audit["mode"] = json!("Audit");

    let index = Index::default();
    for (spec, is_requeued) in [
        (next_update(20), true),
        (next_update(30), false),
        (applied, true),
        (other_applied, true),
        (at_once(20), true),
        (at_once(30), true),
        (audit.clone(), true),
    ] {
        changed(index.changed_policies(false));
        index.refresh(&with(&object, spec.clone()));
        assert_eq!(!changed(index.other_changes(kind)).is_empty(), is_requeued, "{spec}");
        assert_eq!(changed(index.changed_policies(false)), [of("shop", "all")], "{spec}");
    }

    // The Event about what would be injected names the policy with the mode.
    let audits = || -> ClusterGracefulPolicy {
        serde_json::from_value(json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
            "metadata": {"name": "audits"}, "spec": {"mode": "Audit"},
        }))
        .unwrap()
    };
    for (spec, is_requeued) in [(at_once(20), true), (at_once(20), false), (audit.clone(), true)] {
        index.refresh(&with(&object, spec.clone()).with_cluster_policies(vec![audits()]));
        assert_eq!(!changed(index.other_changes(kind)).is_empty(), is_requeued, "{spec}");
    }

    // The same for a workload whose template is up to date.
    let context = with(&object, at_once(20)).namespace_context("shop");
    let mut injected = object.clone();
    injected.data["spec"]["template"] =
        plan::evaluate(&Workload::of(kind, &object), &context).template.unwrap();
    for (spec, is_requeued) in [(at_once(20), true), (next_update(20), false), (audit, true)] {
        index.refresh(&with(&injected, spec.clone()));
        assert_eq!(!changed(index.other_changes(kind)).is_empty(), is_requeued, "{spec}");
    }
}
