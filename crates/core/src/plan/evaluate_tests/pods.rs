//! Workloads whose pods are injected when they are created.

use super::*;

#[test]
fn pods_that_bypass_the_webhook_are_unsatisfiable() {
    let by_pod = NamespaceContext {
        injection_enabled: false,
        ..policy_of(json!({"selector": {}, "injectionTarget": "Pod"}))
    };
    let mut template = plain();
    let found = evaluated(&template, &annotated(&[]), &by_pod);
    assert_eq!(found.state, InjectionState::Unsatisfiable);
    assert!(found.warnings[0].contains("on the namespace or on the pod template"), "{:?}", found.warnings);
    let none = annotated(&[]);
    let on_admission = admit(&Workload::new(Kind::Deployment, &none, &template), None, &by_pod).warnings;
    assert_eq!(on_admission, found.warnings);

    let labelled = NamespaceContext { injection_enabled: true, ..by_pod.clone() };
    assert_eq!(evaluated(&template, &none, &labelled).state, InjectionState::PodInjection);
    // Annotations of pods don't route them to the webhook.
    template["metadata"]["annotations"] = json!({"adieu.dev/drain-seconds": "10"});
    assert_eq!(evaluated(&template, &none, &by_pod).state, InjectionState::Unsatisfiable);
    template["metadata"]["labels"]["adieu.dev/injection"] = json!("disabled");
    assert_eq!(evaluated(&template, &none, &by_pod).state, InjectionState::Unsatisfiable);
    template["metadata"]["labels"]["adieu.dev/injection"] = json!("enabled");
    let found = evaluated(&template, &none, &by_pod);
    assert_eq!((found.state, found.warnings.is_empty()), (InjectionState::PodInjection, true));
}

/// An `injectionTarget: Pod`, and a workload that another controller owns.
fn by_pod_in_both_ways(more: Value) -> [(bool, NamespaceContext); 2] {
    let with = |spec: Value| {
        let mut spec = spec;
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        policy_of(spec)
    };
    [(false, with(json!({"selector": {}, "injectionTarget": "Pod"}))), (true, with(json!({"selector": {}})))]
}

#[test]
fn workload_gets_the_warnings_of_its_pods() {
    let none = annotated(&[]);
    let mut hooked = plain();
    hooked["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"exec": {"command": ["/drain"]}}});
    for (controlled, context) in by_pod_in_both_ways(json!({"drainSeconds": 900})) {
        let template = plain();
        let workload = Workload { controlled, ..Workload::new(Kind::Deployment, &none, &template) };
        let found = evaluate(&workload, &context);
        assert_eq!((found.template, found.state), (None, InjectionState::Unsatisfiable));
        assert!(found.warnings[0].contains("more than the maximum"), "{:?}", found.warnings);
        let admission = admit(&workload, None, &context);
        assert_eq!((admission.template, admission.warnings), (None, found.warnings));
    }
    for (controlled, context) in by_pod_in_both_ways(json!({})) {
        let workload = Workload { controlled, ..Workload::new(Kind::Deployment, &none, &hooked) };
        let found = evaluate(&workload, &context);
        assert_eq!((found.template, found.state), (None, InjectionState::PodInjection));
        assert!(found.warnings[0].contains("its own preStop is unknown"), "{:?}", found.warnings);
        assert_eq!(admit(&workload, None, &context).warnings, found.warnings);
    }
}

#[test]
fn audit_of_pod_injection_is_a_dry_run() {
    let none = annotated(&[]);
    for (controlled, context) in by_pod_in_both_ways(json!({"mode": "Audit"})) {
        let template = plain();
        let workload = Workload { controlled, ..Workload::new(Kind::Deployment, &none, &template) };
        let found = evaluate(&workload, &context);
        assert_eq!((found.state, found.timing), (InjectionState::Pending, RolloutTiming::DryRun));
        assert_eq!(found.template.unwrap()["spec"]["terminationGracePeriodSeconds"], 45);
        assert_eq!(admit(&workload, None, &context).template, None);
    }
}

#[test]
fn template_keeps_its_injection_while_its_pods_would_get_none() {
    let injected = evaluated(&plain(), &annotated(&[]), &policy(20)).template.unwrap();
    let by_pod = policy_of(json!({"selector": {}, "injectionTarget": "Pod", "drainSeconds": 20}));
    let reached = evaluated(&injected, &annotated(&[]), &by_pod);
    assert_eq!((reached.template, reached.state), (Some(plain()), InjectionState::PodInjection));
    let lower = cluster_policies([json!({"maxGracePeriodSeconds": 40})]).cluster_policies;
    let lower = NamespaceContext { cluster_policies: lower, ..by_pod.clone() };
    let reached = evaluated(&injected, &annotated(&[]), &lower);
    assert_eq!((reached.template, reached.state), (Some(plain()), InjectionState::PodInjection));
    assert!(reached.warnings[0].starts_with("the shutdown timeout is 15 s instead of 30 s"));
    let bypassed = NamespaceContext { injection_enabled: false, ..by_pod.clone() };
    let caps = cluster_policies([json!({"maxGracePeriodSeconds": 44})]).cluster_policies;
    let longer = policy_of(json!({"selector": {}, "injectionTarget": "Pod", "drainSeconds": 40}));
    let capped = NamespaceContext { cluster_policies: caps, ..longer };
    for context in [bypassed, capped] {
        let found = evaluated(&injected, &annotated(&[]), &context);
        assert_eq!((found.template, found.state), (None, InjectionState::Unsatisfiable));
        assert!(found.warnings.iter().any(|warning| warning == INJECTION_KEPT), "{:?}", found.warnings);
        let mut changed = injected.clone();
        changed["spec"]["containers"][0]["image"] = json!("v2");
        let none = annotated(&[]);
        let workload = |template| Workload::new(Kind::Deployment, &none, template);
        let admitted = admit(&workload(&changed), Some(&workload(&injected)), &context);
        assert_eq!(admitted.template, None, "it stays injected");
        assert!(admitted.warnings.iter().any(|warning| warning == INJECTION_KEPT), "{:?}", admitted.warnings);
    }
}
