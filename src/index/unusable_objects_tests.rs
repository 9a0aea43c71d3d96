use std::ops::Range;

use futures::FutureExt as _;

use super::*;

fn reference(name: &str) -> ObjectReference {
    ObjectReference { name: Some(name.into()), ..ObjectReference::default() }
}

#[test]
fn unusable_objects_are_counted_by_kind_until_they_are_usable_or_deleted() {
    let metrics = Metrics::default();
    let objects = UnusableObjects::new(&metrics);
    let counts = |kind: &'static str| {
        let labels = ObjectLabels { kind: KindLabel(kind) };
        let [undecodable, too_large] = [&metrics.undecodable_objects, &metrics.oversized_objects]
            .map(|family| family.get_or_create(&labels).get());
        (undecodable, too_large)
    };
    let too_large = || UnusableReason::too_large("spec", 20 << 10, 10 << 10);
    objects.list_begins("Service");
    objects.add("Service", reference("a"), too_large());
    objects.add("Service", reference("b"), UnusableReason::Undecodable("why".into()));
    objects.add("Namespace", reference("a"), too_large());
    objects.list_ends("Service");
    assert_eq!((counts("Service"), counts("Namespace")), ((1, 1), (0, 1)));
    objects.remove("Service", None, Some("b"));
    assert_eq!(counts("Service"), (0, 1));
    objects.list_begins("Service");
    objects.list_ends("Service");
    assert_eq!((counts("Service"), counts("Namespace")), ((0, 0), (0, 1)));
}

#[test]
fn an_unusable_policy_affects_its_namespace_or_all() {
    let objects = UnusableObjects::default();
    let policy = ObjectReference { namespace: Some("shop".into()), ..reference("all") };
    let reason = || UnusableReason::Undecodable("why".into());
    objects.add("Service", policy.clone(), reason());
    assert!(!objects.has_policy_for("shop"));
    objects.add("GracefulPolicy", policy, reason());
    assert!(objects.has_policy_for("shop") && !objects.has_policy_for("bank"));
    objects.add("ClusterGracefulPolicy", reference("all"), reason());
    assert!(objects.has_policy_for("bank"));
    let budget = ObjectReference { namespace: Some("shop".into()), ..reference("web") };
    objects.add("PodDisruptionBudget", budget, reason());
    assert!(objects.has_budget_in("shop") && !objects.has_budget_in("bank"));
    objects.add("PodDisruptionBudget", ObjectReference::default(), reason());
    assert!(objects.has_budget_in("bank"));
    assert_eq!(objects.namespaces_of("Ingress"), [""; 0]);
    assert_eq!(objects.namespaces_of("PodDisruptionBudget"), ["", "shop"]);
}

#[test]
fn only_some_unusable_objects_of_a_namespace_are_known_by_name() {
    let metrics = Metrics::default();
    let objects = UnusableObjects::new(&metrics);
    let labels = ObjectLabels { kind: KindLabel("GracefulPolicy") };
    let too_large = metrics.oversized_objects.get_or_create_owned(&labels);
    let of = |namespace: &str, number: i64| ObjectReference {
        namespace: Some(namespace.into()),
        ..reference(&number.to_string())
    };
    let list = |numbers: Range<i64>| {
        objects.list_begins("GracefulPolicy");
        objects.add("GracefulPolicy", of("shop", 0), UnusableReason::too_large("spec", 2, 1));
        for number in numbers {
            objects.add("GracefulPolicy", of("greedy", number), UnusableReason::too_large("spec", 2, 1));
        }
        objects.list_ends("GracefulPolicy");
    };
    list(0..100_000);
    assert_eq!((objects.all().len(), too_large.get()), (MAX_NAMED + 1, 100_001));
    assert!(objects.has_policy_for("shop") && objects.has("GracefulPolicy", "shop", "0"));
    assert!(objects.has("GracefulPolicy", "greedy", "99999") && !objects.has_policy_for("bank"));
    assert!(!objects.should_relist("GracefulPolicy"));
    // Once those that are known by name can be used, a list tells the names of others.
    for number in 0..1_000 {
        objects.remove("GracefulPolicy", Some("greedy"), Some(&number.to_string()));
    }
    assert!(objects.has_policy_for("greedy") && objects.should_relist("GracefulPolicy"));
    list(1_000..1_050);
    assert_eq!((objects.all().len(), too_large.get()), (51, 51));
    assert!(!objects.should_relist("GracefulPolicy"));
    list(0..0);
    assert!(!objects.has_policy_for("greedy") && objects.has_policy_for("shop"));
}

#[test]
fn each_change_of_a_namespace_is_received_once() {
    let objects = UnusableObjects::default();
    let changed = || {
        let changed = objects.changed_groups().take().now_or_never().unwrap_or_default();
        changed.into_iter().map(|(kind, namespace)| format!("{kind} {namespace}")).collect::<Vec<_>>()
    };
    let add = || {
        let object = ObjectReference { namespace: Some("shop".into()), ..reference("a") };
        objects.add("Ingress", object, UnusableReason::Undecodable("why".into()));
    };
    let remove = || objects.remove("Ingress", Some("shop"), Some("a"));
    let list = || {
        objects.list_begins("Ingress");
        objects.list_ends("Ingress");
    };
    let list_many = || {
        objects.list_begins("Ingress");
        for number in 0..=MAX_NAMED {
            let namespace = Some("shop".into());
            let object = ObjectReference { namespace, ..reference(&number.to_string()) };
            objects.add("Ingress", object, UnusableReason::Undecodable("why".into()));
        }
        objects.list_ends("Ingress");
    };
    for (change, expected) in [
        (&add as &dyn Fn(), &["Ingress shop"][..]),
        (&add, &[]),
        (&remove, &["Ingress shop"]),
        (&remove, &[]),
        (&add, &["Ingress shop"]),
        (&list, &["Ingress shop"]),
        (&list, &[]),
        (&list_many, &["Ingress shop"]),
        (&list_many, &[]),
    ] {
        change();
        assert_eq!(changed(), expected);
    }
}

#[test]
fn an_unchanged_unusable_object_is_not_reported_again() {
    let objects = UnusableObjects::default();
    let mut changed = objects.changed();
    for (reason, is_change) in [("a", true), ("a", false), ("b", true)] {
        objects.add("Service", reference("a"), UnusableReason::Undecodable(reason.into()));
        assert_eq!(changed.has_changed().unwrap(), is_change);
        changed.mark_unchanged();
    }
}
