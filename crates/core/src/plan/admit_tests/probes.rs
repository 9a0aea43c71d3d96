//! Deployments that exist and have no Service: a warning when they are opted in, and no probe.

use super::*;

/// A Deployment with a port of this name, if it has one, such as a worker that shares the template of a web application.
fn worker(name: Option<&str>) -> Deployment {
    let mut worker = Deployment::plain();
    let port = match name {
        Some(name) => json!({"containerPort": 3000, "name": name}),
        None => json!({"containerPort": 3000}),
    };
    worker.template["spec"]["containers"][0]["ports"] = json!([port]);
    worker
}

fn probe(template: &Value) -> Option<&Value> {
    template["spec"]["containers"][0].get("readinessProbe")
}

fn warnings(new: &Deployment, old: &Deployment, context: &NamespaceContext) -> Vec<String> {
    new.sent(Some(old), context).warnings
}

#[test]
fn opting_in_without_a_service_gets_a_warning_and_no_probe() {
    for name in [None, Some("metrics"), Some("http")] {
        let plain = worker(name);
        let annotated = plain.clone().annotated("graceful", "true");
        let Admission { template, warnings, .. } = annotated.sent(Some(&plain), &no_policies());
        let [warning] = warnings.as_slice() else { unreachable!("{name:?}: {warnings:?}") };
        for part in [
            "container \"web\": no readiness probe, because no Service selects the pods and the workload exists",
            "set adieu.dev/readiness-probe to tcp:3000 or never",
        ] {
            assert!(warning.contains(part), "{warning}");
        }
        assert!(warning.chars().count() <= 256, "the API server would cut it: {warning}");
        assert_eq!(template.as_ref().and_then(probe), None, "{name:?}");
        assert!(template.is_some(), "the rest is injected");
    }
}

#[test]
fn opting_in_by_a_label_that_a_policy_selects_gets_the_warning() {
    let selecting = policy_of(&json!({"selector": {"matchLabels": {"tier": "worker"}}}));
    let plain = worker(None);
    let mut labelled = plain.clone();
    labelled.template["metadata"]["labels"]["tier"] = json!("worker");
    assert_eq!(warnings(&labelled, &plain, &selecting).len(), 1);
    assert_eq!(warnings(&labelled.clone().image("v2"), &labelled, &selecting), Vec::<String>::new());
}

#[test]
fn warning_about_a_missing_probe_is_not_repeated_on_other_updates() {
    let plain = worker(None).annotated("graceful", "true");
    let managed = plain.clone().admitted(Some(&worker(None)), &no_policies());
    let none = Vec::<String>::new();
    for other in [
        managed.clone(),
        managed.clone().image("v2"),
        managed.clone().annotated("drain-seconds", "20"),
        // As a manifest without the injection.
        plain.image("v2"),
    ] {
        assert_eq!(warnings(&other, &managed, &no_policies()), none, "{:?}", other.annotations);
    }
    let never = managed.clone().annotated("readiness-probe", "never");
    assert_eq!(warnings(&never, &managed, &no_policies()), none);
    assert_eq!(warnings(&managed, &never, &no_policies()).len(), 1, "the choice changes");
    let chosen = managed.clone().annotated("readiness-probe", "tcp:3000");
    let Admission { template, warnings, .. } = chosen.sent(Some(&managed), &no_policies());
    assert_eq!(warnings, none);
    assert!(template.as_ref().and_then(probe).is_some());
}

#[test]
fn opting_in_a_workload_that_gets_or_keeps_a_probe_gets_no_warning() {
    let none = Vec::<String>::new();
    let mut own = worker(None);
    own.template["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 3000}});
    assert_eq!(warnings(&own.clone().annotated("graceful", "true"), &own, &no_policies()), none);

    let service = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ports": [{"port": 3000}]},
    }));
    let served = NamespaceContext { services: vec![Arc::new(service.unwrap())], ..no_policies() };
    let plain = worker(None);
    assert_eq!(warnings(&plain.clone().annotated("graceful", "true"), &plain, &served), none);

    // Injected when a policy selected it on creation; then it is annotated.
    let created = worker(Some("http")).admitted(None, &policy(10));
    assert!(probe(&created.template).is_some());
    let annotated = created.clone().annotated("graceful", "true");
    assert_eq!(warnings(&annotated, &created, &no_policies()), none);
    let kept = annotated.admitted(Some(&created), &no_policies());
    assert_eq!(probe(&kept.template), probe(&created.template));
}

#[test]
fn pods_that_are_injected_themselves_get_no_warning_about_a_probe() {
    let by_pod = policy_of(&json!({"selector": {"matchLabels": {"app": "none"}}, "injectionTarget": "Pod"}));
    let plain = worker(None);
    let annotated = plain.clone().annotated("policy", "all");
    assert_eq!(warnings(&annotated, &plain, &by_pod), Vec::<String>::new());
}
