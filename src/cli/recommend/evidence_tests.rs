use adieu_exposures::{NamespaceExposures, Pods, TrafficObject, exposures_of};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

/// Policies of a kind, by their names.
fn policies<T: DeserializeOwned>(kind: &str, policies: &[(Value, Value)]) -> Vec<Arc<T>> {
    let policy = |(metadata, spec): &(Value, Value)| {
        let policy =
            json!({"apiVersion": "adieu.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        Arc::new(serde_json::from_value(policy).unwrap())
    };
    policies.iter().map(policy).collect()
}

fn workload(annotations: &Value) -> DynamicObject {
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}});
    let metadata = json!({"name": "web", "namespace": "shop", "annotations": annotations});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"template": template}})).unwrap()
}

/// The exposures of a Service, and of an Ingress of ingress-nginx, which needs 30 s.
fn exposures() -> Vec<Exposure> {
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}}});
    let service = serde_json::from_value(service).unwrap();
    let ingress = json!({
        "metadata": {"name": "shop"},
        "spec": {"ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web"}}},
    });
    let ingress = TrafficObject::read("networking.k8s.io", "Ingress", "shop", &ingress).unwrap();
    let labels = [("app".to_owned(), "web".to_owned())].into();
    exposures_of(Pods { namespace: "shop", labels: &labels }, [&service], &[Arc::new(ingress)])
}

fn known<'a>(object: &'a DynamicObject, context: &'a NamespaceContext) -> Known<'a> {
    Known {
        kind: Kind::Deployment,
        object,
        context,
        exposures: exposures(),
        profile: None,
        is_selected: true,
        kinds: &[Kind::Deployment],
    }
}

fn times(drain: Option<i64>, shutdown: Option<i64>) -> Times {
    Times { drain_seconds: drain, shutdown_timeout_seconds: shutdown }
}

#[test]
fn the_drain_follows_from_exposures_unless_an_annotation_or_policy_sets_a_longer_one() {
    let graceful = |drain: &str| json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": drain});
    let own = |drain: i64| (json!({"name": "own"}), json!({"selector": {}, "drainSeconds": drain}));
    let earlier = (
        json!({"name": "earlier", "labels": {"adieu.dev/recommended": "true"}}),
        json!({"selector": {}, "drainSeconds": 60}),
    );
    let needed = "Ingress shop/shop (Ingress or Gateway of NGINX, IngressClass/nginx): ";
    for (annotations, policies_in_cluster, wanted, line, has_note) in [
        (json!({}), vec![], Some(times(None, Some(30))), format!("drain 30 s: {needed}"), false),
        (json!({}), vec![own(5)], Some(times(Some(30), Some(30))), format!("drain 30 s: {needed}"), false),
        (
            json!({}),
            vec![own(60)],
            Some(times(Some(60), Some(30))),
            format!("drain 60 s: policy own; it is longer than the 30 s of {needed}"),
            false,
        ),
        (json!({}), vec![earlier], Some(times(None, Some(30))), format!("drain 30 s: {needed}"), false),
        (graceful("5"), vec![], Some(times(None, Some(30))), "drain 5 s: annotation".into(), true),
        (graceful("40"), vec![], Some(times(None, Some(30))), "drain 40 s: annotation".into(), false),
    ] {
        let context = NamespaceContext {
            policies: policies("GracefulPolicy", &policies_in_cluster),
            ..NamespaceContext::default()
        };
        let object = workload(&annotations);
        let evidence = evidence(&known(&object, &context)).unwrap();
        assert_eq!(evidence.candidate.wanted, wanted, "{line}");
        assert!(evidence.lines[0].starts_with(&line), "{line}: {:?}", evidence.lines);
        assert_eq!(evidence.notes.len(), usize::from(has_note), "{:?}", evidence.notes);
        let remedy = "that its exposures need (Ingress shop/shop";
        assert!(evidence.notes.iter().all(|note| note.contains(remedy)), "{:?}", evidence.notes);
    }
}

#[test]
fn an_earlier_recommendation_is_kept_while_the_exposures_are_incomplete() {
    let metadata = json!({"name": "earlier", "labels": {"adieu.dev/recommended": "true"}});
    let policy = (metadata, json!({"selector": {}, "drainSeconds": 60}));
    let object = workload(&json!({}));
    for (completeness, expected) in
        [(Completeness::Complete, None), (Completeness::Incomplete { object: None }, Some(60))]
    {
        let context = NamespaceContext {
            policies: policies("GracefulPolicy", std::slice::from_ref(&policy)),
            ..NamespaceContext::default()
        };
        let context = NamespaceExposures::added_to(context, "shop", Arc::from([]), completeness);
        let evidence = evidence(&known(&object, &context)).unwrap();
        assert_eq!(evidence.candidate.wanted, Some(times(expected, Some(30))), "{:?}", evidence.lines);
    }
}

#[test]
fn workloads_without_evidence_or_of_other_kinds_are_not_opted_in() {
    let context = NamespaceContext::default();
    let (plain, opted_in) = (workload(&json!({})), workload(&json!({"adieu.dev/graceful": "true"})));
    let wanted = |known: Known<'_>| evidence(&known).unwrap().candidate.wanted;
    let without = |object| Known { exposures: vec![], ..known(object, &context) };
    assert_eq!(wanted(without(&plain)), None);
    assert_eq!(wanted(without(&opted_in)), Some(times(None, Some(30))));
    let of_other_kind = |object| Known { kinds: &[Kind::StatefulSet], ..known(object, &context) };
    assert_eq!(wanted(of_other_kind(&plain)), None);
    assert_eq!(wanted(of_other_kind(&opted_in)), Some(times(None, Some(30))));
    // Its times are kept.
    let unselected = |object| Known { is_selected: false, ..known(object, &context) };
    assert_eq!(wanted(unselected(&plain)), None);
    assert_eq!(wanted(unselected(&opted_in)), Some(times(None, Some(30))));
    let opted_out = workload(&json!({"adieu.dev/graceful": "false"}));
    assert!(evidence(&known(&opted_out, &context)).is_none());
}

#[test]
fn the_annotation_that_opts_in_is_recognized() {
    let context = NamespaceContext::default();
    for (annotations, expected) in [
        (json!({}), AnnotatedOptIn::None),
        (json!({"adieu.dev/graceful": "true"}), AnnotatedOptIn::Graceful),
        (
            json!({"adieu.dev/graceful": "true", "adieu.dev/policy": "a"}),
            AnnotatedOptIn::Policy("a".to_owned()),
        ),
    ] {
        let object = workload(&annotations);
        let evidence = evidence(&known(&object, &context)).unwrap();
        assert_eq!(evidence.candidate.opt_in, expected, "{annotations}");
    }
}
