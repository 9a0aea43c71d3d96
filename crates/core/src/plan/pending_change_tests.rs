use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::plan::{
    Kind,
    evaluate::evaluate_with_later,
    injection_diff::tests::{Annotations, annotated, policy},
    original,
};

fn plain() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web"}], "terminationGracePeriodSeconds": 30},
    })
}

fn pending(annotations: &Annotations, template: &Value, context: &NamespaceContext) -> Option<PendingChange> {
    let workload = Workload::new(Kind::Deployment, annotations, template);
    let (evaluation, later) = evaluate_with_later(&workload, context);
    pending_change(&workload, (&evaluation, later.as_ref()), context)
}

/// The template as it is injected in this context.
fn injected(annotations: &Annotations, template: &Value, context: &NamespaceContext) -> Value {
    let (evaluation, _) =
        evaluate_with_later(&Workload::new(Kind::Deployment, annotations, template), context);
    evaluation.template.unwrap()
}

/// Each change with the settings that cause it.
fn lines(pending: &PendingChange) -> Vec<String> {
    let line = |changed: &ExplainedChange| {
        let InjectionChange { field, container, before, after } = &changed.change;
        let shown = |value: &Option<Value>| value.clone().unwrap_or_default();
        let causes = changed.settings.iter().map(|one| format!("{} {} ({})", one.field, one.value, one.from));
        let container = container.as_deref().unwrap_or("pod");
        let causes = causes.collect::<Vec<_>>().join(", ");
        format!("{field} of {container} {} → {}: {causes}", shown(before), shown(after))
    };
    pending.changes.iter().map(line).collect()
}

#[test]
fn a_first_injection_names_the_settings_that_its_values_are_made_of() {
    let found =
        pending(&annotated(&[("margin-seconds", "9")]), &plain(), &policy(json!({"drainSeconds": 20})));
    let found = found.unwrap();
    assert_eq!(found.timing, RolloutTiming::Queued);
    assert_eq!(
        lines(&found),
        [
            "preStop of web null → {\"sleep\":{\"seconds\":20}}: drainSeconds 20 (policy all)",
            "terminationGracePeriodSeconds of pod 30 → 59: drainSeconds 20 (policy all), \
             shutdownTimeoutSeconds 30 (default), marginSeconds 9 (annotation)",
        ]
    );
}

#[test]
fn hooks_of_the_user_take_the_place_of_the_drain_and_are_replaced_by_a_policy() {
    let mut template = plain();
    let graceful = annotated(&[("graceful", "true")]);
    template["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 60}}});
    template["spec"]["initContainers"] = json!([{"name": "proxy", "restartPolicy": "Always"}]);
    let kept = pending(&graceful, &template, &NamespaceContext::default()).unwrap();
    assert_eq!(
        lines(&kept),
        ["terminationGracePeriodSeconds of pod 30 → 100: shutdownTimeoutSeconds 30 (default), \
          sidecarSeconds 5 (default), marginSeconds 5 (default)"]
    );
    let replacing = policy(json!({"preStop": {"existingHookPolicy": "Replace", "method": "Exec"}}));
    let replaced = pending(&graceful, &template, &replacing).unwrap();
    assert_eq!(
        lines(&replaced)[0],
        "preStop of web {\"sleep\":{\"seconds\":60}} → {\"exec\":{\"command\":[\"sleep\",\"10\"]}}: drainSeconds 10 \
         (default), preStop.method \"Exec\" (policy all), preStop.existingHookPolicy \"Replace\" (policy all)"
    );
}

#[test]
fn a_change_names_the_settings_that_differ_from_those_of_the_injection() {
    let none = annotated(&[]);
    let template = injected(&none, &plain(), &policy(json!({"drainSeconds": 10})));
    assert_eq!(pending(&none, &template, &policy(json!({"drainSeconds": 10}))), None);
    let changed =
        pending(&none, &template, &policy(json!({"drainSeconds": 20, "marginSeconds": 9}))).unwrap();
    assert_eq!(
        lines(&changed),
        [
            "preStop of web {\"sleep\":{\"seconds\":10}} → {\"sleep\":{\"seconds\":20}}: drainSeconds 20 (policy all)",
            "terminationGracePeriodSeconds of pod 45 → 59: drainSeconds 20 (policy all), marginSeconds 9 (policy all)",
        ]
    );
    let annotations = annotated(&[("exclude-containers", "web")]);
    let excluded = pending(&annotations, &template, &policy(json!({"drainSeconds": 10}))).unwrap();
    assert_eq!(excluded.timing, RolloutTiming::Immediate);
    assert_eq!(
        lines(&excluded)[0],
        "preStop of web {\"sleep\":{\"seconds\":10}} → null: excludedContainers [\"web\"] (annotation)"
    );
}

#[test]
fn a_container_that_stays_included_does_not_change_because_another_is_excluded() {
    let mut two = plain();
    two["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "log"}));
    let none = annotated(&[]);
    let template = injected(&none, &two, &policy(json!({"drainSeconds": 10})));
    let changed =
        pending(&none, &template, &policy(json!({"drainSeconds": 20, "excludedContainers": ["log"]})))
            .unwrap();
    let causes: Vec<_> =
        changed.changes.iter().map(|one| (&one.change.container, one.settings.len())).collect();
    assert_eq!(causes, [(&Some("web".to_owned()), 1), (&Some("log".to_owned()), 2), (&None, 2)]);
}

#[test]
fn a_value_that_was_reverted_is_compared_with_the_present_one() {
    let (none, context) = (annotated(&[]), policy(json!({"drainSeconds": 20})));
    let mut template = injected(&none, &plain(), &context);
    template["spec"]["terminationGracePeriodSeconds"] = json!(30);
    assert_eq!(
        lines(&pending(&none, &template, &context).unwrap()),
        ["terminationGracePeriodSeconds of pod 30 → 55: drainSeconds 20 (policy all), \
          shutdownTimeoutSeconds 30 (default), marginSeconds 5 (default)"]
    );
}

#[test]
fn a_reverted_injection_names_the_rollout_mode_or_nothing() {
    let (none, context) = (annotated(&[]), policy(json!({})));
    let template = injected(&none, &plain(), &context);
    let reverting = pending(&none, &template, &policy(json!({"rollout": {"mode": "Revert"}}))).unwrap();
    assert_eq!(
        lines(&reverting),
        [
            "preStop of web {\"sleep\":{\"seconds\":10}} → null: rollout.mode \"Revert\" (policy all)",
            "terminationGracePeriodSeconds of pod 45 → 30: rollout.mode \"Revert\" (policy all)",
        ]
    );
    let opted_out = pending(&annotated(&[("graceful", "false")]), &template, &context).unwrap();
    assert_eq!((opted_out.timing, opted_out.changes.len()), (RolloutTiming::Immediate, 2));
    assert!(opted_out.changes.iter().all(|changed| changed.settings.is_empty()));
}

#[test]
fn a_change_that_waits_for_the_next_update_is_pending() {
    let (none, context) = (annotated(&[]), policy(json!({})));
    let template = injected(&none, &plain(), &context);
    // The policy is deleted.
    let mut without = NamespaceContext::default();
    let deleted = pending(&none, &template, &without).unwrap();
    assert_eq!((deleted.timing, deleted.changes.len()), (RolloutTiming::NextUpdate, 2));
    without.has_unusable_policy = true;
    assert_eq!(pending(&none, &template, &without), None);

    // A Service is created.
    let service = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 80}]},
    });
    let mut template = template;
    template["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    let services = vec![Arc::new(serde_json::from_value(service).unwrap())];
    let with_service = NamespaceContext { services, ..context };
    let probed = pending(&none, &template, &with_service).unwrap();
    assert_eq!(probed.timing, RolloutTiming::NextUpdate);
    let [line]: [String; 1] = lines(&probed).try_into().unwrap();
    assert!(line.starts_with("readinessProbe of web null → {"), "{line}");
    assert!(line.ends_with(": readinessProbe {\"mode\":\"Auto\"} (default)"), "{line}");
}

#[test]
fn an_audit_shows_the_values_that_would_be_injected() {
    for target in ["Template", "Pod"] {
        let context = policy(json!({"mode": "Audit", "injectionTarget": target}));
        let audited = pending(&annotated(&[]), &plain(), &context).unwrap();
        assert_eq!((audited.timing, audited.changes.len()), (RolloutTiming::DryRun, 2), "{target}");
    }
}

#[test]
fn pods_that_are_injected_instead_of_the_template_keep_the_values() {
    let (none, context) = (annotated(&[]), policy(json!({})));
    let template = injected(&none, &plain(), &context);
    let by_pod = pending(&none, &template, &policy(json!({"injectionTarget": "Pod"}))).unwrap();
    assert_eq!((by_pod.timing, lines(&by_pod)), (RolloutTiming::Queued, vec![]));
    let own = original(&Workload::new(Kind::Deployment, &none, &template).template, None);
    assert_eq!(pending(&none, &own, &policy(json!({"injectionTarget": "Pod"}))), None);
}
