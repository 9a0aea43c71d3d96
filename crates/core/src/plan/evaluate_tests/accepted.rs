//! Annotations that adieu sets on workloads.

use super::*;
use crate::{
    api::annotations::{ACCEPTED, PENDING, ROLLOUT},
    plan::{DrainOrigin, annotation_changes, auto_drain::tests::exposed},
};

/// Reconciles the workload: sets its annotations and its template.
fn reconciled(
    template: &mut Value,
    annotations: &mut BTreeMap<String, String>,
    context: &NamespaceContext,
) -> Evaluation {
    let found = evaluated(template, annotations, context);
    for (key, value) in
        annotation_changes(&Workload::new(Kind::Deployment, annotations, template), &found, context)
    {
        match value {
            Some(value) => drop(annotations.insert(key.into(), value)),
            None => drop(annotations.remove(key)),
        }
    }
    if let Some(injected) = &found.template {
        *template = injected.clone();
    }
    found
}

fn probing(mode: &str) -> NamespaceContext {
    policy_of(json!({"selector": {}, "readinessProbe": {"mode": mode}}))
}

#[test]
fn new_service_after_a_policy_allowed_probes_causes_no_rollout() {
    let (mut template, mut annotations) = (plain(), annotated(&[]));
    reconciled(&mut template, &mut annotations, &probing("Never"));
    let injected = template.clone();
    assert!(!annotations.contains_key(ACCEPTED));
    // Without a Service it has no effect.
    reconciled(&mut template, &mut annotations, &probing("Auto"));
    assert_eq!(template, injected);
    let accepted = annotations.clone();
    assert!(accepted.contains_key(ACCEPTED), "{accepted:?}");
    let mut context = probing("Auto");
    context.services.push(service());
    let found = reconciled(&mut template, &mut annotations, &context);
    assert_eq!((found.template, found.state), (None, InjectionState::Injected));
    assert_eq!(annotations, accepted, "it is not written again");

    // Another change without effect.
    let mut shorter =
        policy_of(json!({"selector": {}, "readinessProbe": {"mode": "Auto"}, "sidecarSeconds": 9}));
    shorter.services.push(service());
    assert_eq!(reconciled(&mut template, &mut annotations, &shorter).template, None);

    // A later change with an effect is rolled out, together with the probe.
    let mut longer =
        policy_of(json!({"selector": {}, "readinessProbe": {"mode": "Auto"}, "drainSeconds": 20}));
    longer.services.push(service());
    let changed = reconciled(&mut template, &mut annotations, &longer).template.unwrap();
    assert!(changed["spec"]["containers"][0].get("readinessProbe").is_some());
    reconciled(&mut template, &mut annotations, &longer);
    assert!(!annotations.contains_key(ACCEPTED), "the record has the settings now");
}

#[test]
fn policy_that_changes_back_and_forth_is_applied_again() {
    let (mut template, mut annotations) = (plain(), annotated(&[]));
    let with_service = |mode| NamespaceContext { services: vec![service()], ..probing(mode) };
    for mode in ["Never", "Auto"] {
        reconciled(&mut template, &mut annotations, &probing(mode));
    }
    assert_eq!(reconciled(&mut template, &mut annotations, &with_service("Auto")).template, None);
    assert_eq!(reconciled(&mut template, &mut annotations, &with_service("Never")).template, None);
    assert!(!annotations.contains_key(ACCEPTED), "{annotations:?}");
    let allowed = reconciled(&mut template, &mut annotations, &with_service("Auto"));
    assert!(allowed.template.is_some(), "now the change has an effect");
}

#[test]
fn kubelet_upgrade_after_a_policy_chose_auto_causes_no_rollout() {
    let method = |method: &str, native_sleep| NamespaceContext {
        native_sleep,
        ..policy_of(json!({"selector": {}, "preStop": {"method": method}}))
    };
    let (mut template, mut annotations) = (plain(), annotated(&[]));
    reconciled(&mut template, &mut annotations, &method("Exec", false));
    let injected = template.clone();
    reconciled(&mut template, &mut annotations, &method("Auto", false));
    assert_eq!(reconciled(&mut template, &mut annotations, &method("Auto", true)).template, None);
    assert_eq!(template, injected);
}

#[test]
fn an_exposure_that_changes_after_a_policy_chose_auto_causes_no_rollout() {
    let with = |drain: Value, needed| {
        exposed(&policy_of(json!({"selector": {}, "drainSeconds": drain})), needed, DrainOrigin::BuiltIn)
    };
    let (mut template, mut annotations) = (plain(), annotated(&[]));
    reconciled(&mut template, &mut annotations, &with(json!(30), 30));
    let injected = template.clone();
    // With these exposures it has no effect.
    reconciled(&mut template, &mut annotations, &with(json!("Auto"), 30));
    let accepted = annotations.clone();
    assert!(accepted.contains_key(ACCEPTED), "{accepted:?}");
    for needed in [90, 10] {
        let found = reconciled(&mut template, &mut annotations, &with(json!("Auto"), needed));
        assert_eq!((found.template, &template), (None, &injected), "{needed}");
    }
    assert_eq!(annotations, accepted, "it is not written again");
    // Another number is a change of the policy.
    assert!(reconciled(&mut template, &mut annotations, &with(json!(20), 30)).template.is_some());
}

#[test]
fn other_exposures_are_not_written_to_a_workload_without_an_injection() {
    let mut own = plain();
    own["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 10}}});
    own["spec"]["terminationGracePeriodSeconds"] = json!(60);
    let (mut template, mut annotations) = (own.clone(), annotated(&[("graceful", "true")]));
    let mut written = None;
    for needed in [10, 90, 300] {
        let context = exposed(&NamespaceContext::default(), needed, DrainOrigin::BuiltIn);
        assert_eq!(reconciled(&mut template, &mut annotations, &context).template, None, "{needed}");
        let now = annotations.get(ACCEPTED).cloned();
        assert!(now.is_some() && (written.is_none() || written == now), "{needed}: {now:?}");
        written = now;
    }
    assert_eq!(template, own);
}

#[test]
fn accepted_settings_of_another_injection_are_ignored() {
    let (mut template, mut annotations) = (plain(), annotated(&[]));
    for mode in ["Never", "Auto"] {
        reconciled(&mut template, &mut annotations, &probing(mode));
    }
    // `kubectl rollout undo` restores annotations of the workload.
    let injected =
        policy_of(json!({"selector": {}, "readinessProbe": {"mode": "Never"}, "drainSeconds": 20}));
    let mut template = evaluated(&plain(), &annotated(&[]), &injected).template.unwrap();
    let allowed = NamespaceContext {
        services: vec![service()],
        ..policy_of(json!({"selector": {}, "readinessProbe": {"mode": "Auto"}, "drainSeconds": 20}))
    };
    assert!(reconciled(&mut template, &mut annotations, &allowed).template.is_some());
    annotations.insert(ACCEPTED.into(), "{\"from\":".into());
    assert_eq!(reconciled(&mut template, &mut annotations, &allowed).template, None);
    assert!(!annotations.contains_key(ACCEPTED), "an unreadable annotation is removed");
}

#[test]
fn a_service_that_appears_causes_no_rollout_of_a_workload_without_an_injection() {
    let own_hook = json!({"preStop": {"sleep": {"seconds": 10}}});
    let mut plain = plain();
    plain["spec"]["containers"][0]["lifecycle"] = own_hook;
    plain["spec"]["terminationGracePeriodSeconds"] = json!(60);
    for opted_in in ["annotation", "policy"] {
        let given = if opted_in == "policy" { annotated(&[]) } else { annotated(&[("graceful", "true")]) };
        let (mut template, mut annotations) = (plain.clone(), given.clone());
        let mut context = probing("Auto");
        reconciled(&mut template, &mut annotations, &context);
        assert_eq!(template, plain, "there is nothing to inject");
        assert!(annotations.contains_key(ACCEPTED));
        context.services.push(service());
        let found = reconciled(&mut template, &mut annotations, &context);
        assert_eq!((found.template, found.state), (None, InjectionState::Injected), "{opted_in}");

        // The user changes the template while the webhook is unavailable.
        let mut without = plain.clone();
        without["spec"]["terminationGracePeriodSeconds"] = json!(20);
        let found = reconciled(&mut without, &mut annotations.clone(), &context);
        assert!(found.template.is_some(), "{opted_in}");
        // Another setting is the user's change.
        let mut annotations = annotations.clone();
        annotations.insert("adieu.dev/drain-seconds".into(), "20".into());
        annotations.insert("adieu.dev/shutdown-timeout-seconds".into(), "90".into());
        let found = reconciled(&mut template, &mut annotations, &context);
        assert_eq!(found.timing, RolloutTiming::Immediate);
        assert!(found.template.is_some(), "{opted_in}");
        assert_eq!(reconciled(&mut template, &mut annotations, &context).template, None);
        assert!(!annotations.contains_key(ACCEPTED), "the record has the settings now");
    }
}

#[test]
fn auditing_accepts_nothing() {
    let mut plain = plain();
    plain["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 10}}});
    plain["spec"]["terminationGracePeriodSeconds"] = json!(60);
    let (mut template, mut annotations) = (plain.clone(), annotated(&[]));
    let mut context = policy_of(json!({"selector": {}, "mode": "Audit"}));
    reconciled(&mut template, &mut annotations, &context);
    assert_eq!((&template, annotations.len()), (&plain, 0));
    context.services.push(service());
    let found = evaluated(&template, &annotations, &context);
    assert_eq!((found.template.is_some(), found.timing), (true, RolloutTiming::DryRun));
}

#[test]
fn the_mark_of_a_rollout_stays_with_the_injection() {
    let annotations = annotated(&[("graceful", "false"), ("rollout", "1f")]);
    let context = NamespaceContext::default();
    let template = plain();
    let found = evaluated(&template, &annotations, &context);
    let workload = Workload::new(Kind::Deployment, &annotations, &template);
    assert_eq!(annotation_changes(&workload, &found, &context), [(ROLLOUT, None)].into());

    let annotations = annotated(&[("graceful", "true"), ("rollout", "1f")]);
    let template = evaluated(&template, &annotations, &context).template.unwrap();
    let found = evaluated(&template, &annotations, &context);
    let workload = Workload::new(Kind::Deployment, &annotations, &template);
    assert_eq!(annotation_changes(&workload, &found, &context), [].into());
}

#[test]
fn pending_annotation_is_removed_when_the_workload_waits_for_nothing() {
    let later = NamespaceContext {
        injection_enabled: false,
        ..policy_of(json!({"selector": {}, "rollout": {"mode": "NextUpdate"}}))
    };
    let waiting = annotated(&[("pending", "NextUpdate")]);
    let changed = |annotations: &BTreeMap<String, String>, context: &NamespaceContext| {
        let template = plain();
        let found = evaluated(&template, annotations, context);
        annotation_changes(&Workload::new(Kind::Deployment, annotations, &template), &found, context)
    };
    assert_eq!(changed(&annotated(&[]), &later), [(PENDING, Some("NextUpdate".into()))].into());
    assert_eq!(changed(&waiting, &later), [].into());
    for (annotations, context) in [
        (waiting.clone(), NamespaceContext::default()),
        (annotated(&[("pending", "NextUpdate"), ("graceful", "false")]), later.clone()),
        (waiting, policy_of(json!({"selector": {}}))),
    ] {
        assert_eq!(changed(&annotations, &context), [(PENDING, None)].into(), "{annotations:?}");
    }
}
