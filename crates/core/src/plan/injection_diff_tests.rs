use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::{api::GracefulPolicy, plan::Kind};

pub(in crate::plan) type Annotations = BTreeMap<String, String>;

fn plain() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web:1"}], "terminationGracePeriodSeconds": 30},
    })
}

pub(in crate::plan) fn annotated(pairs: &[(&str, &str)]) -> Annotations {
    pairs.iter().map(|(key, value)| (format!("adieu.dev/{key}"), (*value).to_owned())).collect()
}

/// A context with a policy that selects every workload.
pub(in crate::plan) fn policy(mut spec: Value) -> NamespaceContext {
    spec["selector"] = json!({});
    let policy: GracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"}, "spec": spec,
    }))
    .unwrap();
    NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() }
}

/// The template as it is injected in this context.
fn injected(annotations: &Annotations, template: &Value, context: &NamespaceContext) -> Value {
    evaluate(&Workload::new(Kind::Deployment, annotations, template), context).template.unwrap()
}

/// The effect of a change from one workload and context to another.
fn diff(
    live: Option<(&Annotations, &Value, &NamespaceContext)>,
    (annotations, template, context): (&Annotations, &Value, &NamespaceContext),
) -> InjectionDiff {
    let new = Workload::new(Kind::Deployment, annotations, template);
    let live = live.map(|(annotations, template, context)| {
        (Workload::new(Kind::Deployment, annotations, template), context)
    });
    injection_diff(live.as_ref().map(|(live, context)| (live, *context)), &new, context)
}

/// The fields that change, with their values.
fn fields(diff: &InjectionDiff) -> Vec<(&str, Value, Value)> {
    let value = |value: &Option<Value>| value.clone().unwrap_or_default();
    diff.changes.iter().map(|change| (change.field, value(&change.before), value(&change.after))).collect()
}

fn sleep(seconds: i64) -> Value {
    json!({"sleep": {"seconds": seconds}})
}

#[test]
fn a_changed_annotation_changes_hook_and_grace_period() {
    let context = NamespaceContext::default();
    let (before, after) =
        (annotated(&[("graceful", "true")]), annotated(&[("graceful", "true"), ("drain-seconds", "20")]));
    let template = injected(&before, &plain(), &context);
    let live = Some((&before, &template, &context));
    let changed = diff(live, (&after, &template, &context));
    assert_eq!(
        fields(&changed),
        [(PRE_STOP_FIELD, sleep(10), sleep(20)), (GRACE_PERIOD, json!(45), json!(55))]
    );
    assert_eq!(changed.changes[0].container.as_deref(), Some("web"));
    assert_eq!((changed.state, changed.rollout), (ManagementState::Injected, Some(RolloutTiming::Immediate)));
    assert_eq!((changed.opted_in, changed.injected), (both(true), both(true)));
    assert!(changed.is_change());

    let same = diff(live, (&before, &template, &context));
    assert_eq!((fields(&same), same.rollout, same.is_change()), (vec![], None, false));
}

#[test]
fn a_hook_of_the_user_that_is_replaced_is_the_value_before() {
    let (context, mut own) = (NamespaceContext::default(), plain());
    own["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 5}}});
    let on = annotated(&[("graceful", "true")]);
    let replacing = policy(json!({"preStop": {"existingHookPolicy": "Replace"}}));
    let template = injected(&on, &own, &context);
    let live = Some((&on, &template, &context));
    let replaced = diff(live, (&on, &template, &replacing));
    assert_eq!(
        fields(&replaced),
        [(PRE_STOP_FIELD, sleep(5), sleep(10)), (GRACE_PERIOD, json!(40), json!(45))]
    );

    // A value that was reverted, as by a Git sync, is not there.
    let mut reverted = injected(&on, &plain(), &context);
    reverted["spec"]["terminationGracePeriodSeconds"] = json!(30);
    let mut released = reverted.clone();
    released["spec"]["containers"][0]["image"] = json!("web:2");
    let repaired = diff(Some((&on, &reverted, &context)), (&on, &released, &context));
    assert_eq!(fields(&repaired), [(GRACE_PERIOD, json!(30), json!(45))]);
}

fn both(value: bool) -> BeforeAfter<bool> {
    BeforeAfter { before: value, after: value }
}

#[test]
fn a_new_workload_has_no_values_before() {
    let (context, on) = (NamespaceContext::default(), annotated(&[("graceful", "true")]));
    let created = diff(None, (&on, &plain(), &context));
    assert_eq!(
        fields(&created),
        [(PRE_STOP_FIELD, Value::Null, sleep(10)), (GRACE_PERIOD, Value::Null, json!(45))]
    );
    assert_eq!(created.injected, BeforeAfter { before: false, after: true });
    assert_eq!((created.rollout, created.containers), (None, 1));

    let unmanaged = diff(None, (&annotated(&[]), &plain(), &context));
    assert_eq!((unmanaged.state, unmanaged.is_change()), (ManagementState::NotManaged, false));
}

#[test]
fn an_opt_out_removes_the_values() {
    let (context, on) = (NamespaceContext::default(), annotated(&[("graceful", "true")]));
    let template = injected(&on, &plain(), &context);
    let reverted =
        diff(Some((&on, &template, &context)), (&annotated(&[("graceful", "false")]), &template, &context));
    assert_eq!(
        fields(&reverted),
        [(PRE_STOP_FIELD, sleep(10), Value::Null), (GRACE_PERIOD, json!(45), json!(30))]
    );
    assert_eq!(reverted.opted_in, BeforeAfter { before: true, after: false });
    assert_eq!(reverted.injected, BeforeAfter { before: true, after: false });
    assert_eq!(reverted.state, ManagementState::OptedOut);
}

#[test]
fn a_changed_policy_waits_for_a_slot_and_is_compared_with_the_present_one() {
    let (none, before, after) = (annotated(&[]), policy(json!({})), policy(json!({"drainSeconds": 20})));
    let template = injected(&none, &plain(), &before);
    let queued = diff(Some((&none, &template, &before)), (&none, &template, &after));
    assert_eq!(
        fields(&queued),
        [(PRE_STOP_FIELD, sleep(10), sleep(20)), (GRACE_PERIOD, json!(45), json!(55))]
    );
    assert_eq!((queued.state, queued.rollout), (ManagementState::Queued, Some(RolloutTiming::Queued)));

    // The same rollout is due without the change.
    let waiting = diff(Some((&none, &template, &after)), (&none, &template, &after));
    assert_eq!((fields(&waiting), waiting.rollout), (vec![], None));
    assert_eq!(waiting.state, ManagementState::Queued);
    assert!(!waiting.is_change());

    // Another image changes the template anyway.
    let mut released = template.clone();
    released["spec"]["containers"][0]["image"] = json!("web:2");
    let with_image = diff(Some((&none, &template, &after)), (&none, &released, &after));
    assert_eq!((fields(&with_image), with_image.rollout), (fields(&queued), Some(RolloutTiming::Immediate)));
}

#[test]
fn another_image_changes_the_template_and_no_injected_value() {
    let (context, on) = (NamespaceContext::default(), annotated(&[("graceful", "true")]));
    let template = injected(&on, &plain(), &context);
    let mut released = template.clone();
    released["spec"]["containers"][0]["image"] = json!("web:2");
    let changed = diff(Some((&on, &template, &context)), (&on, &released, &context));
    assert_eq!((fields(&changed), changed.rollout), (vec![], Some(RolloutTiming::Immediate)));
    assert!(!changed.is_change());
}

#[test]
fn without_the_webhook_a_new_workload_waits_for_the_controller() {
    let context = NamespaceContext { injection_enabled: false, ..policy(json!({})) };
    let created = diff(None, (&annotated(&[]), &plain(), &context));
    assert_eq!((created.changes.len(), created.rollout), (2, Some(RolloutTiming::Queued)));
    let mut labelled = plain();
    labelled["metadata"]["labels"]["adieu.dev/graceful"] = json!("true");
    let labelled = diff(None, (&annotated(&[]), &labelled, &context));
    assert_eq!((labelled.changes.len(), labelled.rollout), (2, None), "the webhook warns about the label");
    let annotated = diff(None, (&annotated(&[("margin-seconds", "5")]), &plain(), &context));
    assert_eq!((annotated.changes.len(), annotated.rollout), (2, None));
}

#[test]
fn values_of_pods_that_are_injected_when_they_are_created_are_compared() {
    let none = annotated(&[]);
    let context = |drain: i64| policy(json!({"injectionTarget": "Pod", "drainSeconds": drain}));
    let changed = diff(Some((&none, &plain(), &context(10))), (&none, &plain(), &context(20)));
    assert_eq!(
        fields(&changed),
        [(PRE_STOP_FIELD, sleep(10), sleep(20)), (GRACE_PERIOD, json!(45), json!(55))]
    );
    assert_eq!((changed.state, changed.rollout), (ManagementState::PodInjection, None));
}

#[test]
fn a_malformed_annotation_is_a_denial_and_an_audit_changes_nothing() {
    let context = NamespaceContext::default();
    let denied = diff(None, (&annotated(&[("graceful", "yes")]), &plain(), &context));
    assert_eq!(denied.denials.len(), 1);
    let audited = diff(None, (&annotated(&[]), &plain(), &policy(json!({"mode": "Audit"}))));
    assert_eq!((fields(&audited), audited.state), (vec![], ManagementState::Audit));
    assert!(audited.is_change(), "it is opted in");
}
