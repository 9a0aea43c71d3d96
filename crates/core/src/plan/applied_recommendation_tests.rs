use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    plan::{
        Evaluation, Kind, NamespaceContext, RolloutTiming, admit, annotation_changes, evaluate, explain,
        preserve_applied_recommendation, render, resolve,
    },
};

const TIME: &str = "2026-01-31T12:00:00Z";
const SHUTDOWN_TIMEOUT: &str = "adieu.dev/shutdown-timeout-seconds";

fn applied(seconds: i64) -> (&'static str, String) {
    (APPLIED_RECOMMENDATION, json!({"shutdownTimeoutSeconds": seconds, "since": TIME}).to_string())
}

/// Of 55 s, applied when the policy had this value.
fn instead_of(seconds: i64) -> (&'static str, String) {
    let applied = json!({"shutdownTimeoutSeconds": 55, "since": TIME, "insteadOf": seconds});
    (APPLIED_RECOMMENDATION, applied.to_string())
}

fn annotated<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value)).into()
}

fn plain() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web"}], "terminationGracePeriodSeconds": 30},
    })
}

/// A policy for all workloads with these fields.
fn policy(fields: &Value) -> NamespaceContext {
    let mut spec = json!({"selector": {}, "shutdownTimeoutSeconds": 30});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let policy: GracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"}, "spec": spec,
    }))
    .unwrap();
    NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() }
}

fn applying() -> NamespaceContext {
    policy(&json!({"recommendations": "Apply"}))
}

fn workload<'a>(annotations: &'a BTreeMap<String, String>, template: &'a Value) -> Workload<'a> {
    Workload::new(Kind::Deployment, annotations, template)
}

fn evaluated(
    template: &Value,
    annotations: &BTreeMap<String, String>,
    context: &NamespaceContext,
) -> Evaluation {
    evaluate(&workload(annotations, template), context)
}

#[test]
fn an_applied_recommendation_is_read_within_its_limits() {
    let template = json!({});
    let read = |text: &str| {
        let annotations = annotated([(APPLIED_RECOMMENDATION, text.to_owned())]);
        AppliedRecommendation::of(&workload(&annotations, &template)).map(|of| of.shutdown_timeout_seconds)
    };
    let of = |seconds: i64| applied(seconds).1;
    assert_eq!(AppliedRecommendation::text(55, TIME.parse().unwrap(), None), Some(of(55)));
    for (text, seconds) in [
        (of(55), Some(55)),
        (of(0), Some(0)),
        (of(86_400), Some(86_400)),
        (of(-1), None),
        (of(86_401), None),
        (of(55).replace(TIME, "yesterday"), None),
        ("55".into(), None),
        (of(55) + &" ".repeat(256), None),
        ("[".repeat(100_000), None),
    ] {
        assert_eq!(read(&text), seconds, "{text:.80}");
    }
}

#[test]
fn an_applied_recommendation_wins_over_policies_and_loses_against_annotations() {
    let user = |value: &str| (SHUTDOWN_TIMEOUT, value.to_owned());
    let by_policy = (30, "policy all");
    let by_recommendation = |seconds| (seconds, "recommendation, policy all");
    let apply = |bounds: Value| policy(&json!({"recommendations": "Apply", "recommendationBounds": bounds}));
    let capped = policy(&json!({"recommendations": "Apply", "maxGracePeriodSeconds": 60}));
    for (annotations, context, expected) in [
        (annotated([applied(55)]), applying(), by_recommendation(55)),
        (annotated([applied(7)]), applying(), by_recommendation(7)),
        (annotated([applied(55), user("20")]), applying(), (20, "annotation")),
        (annotated([applied(55), user("no")]), applying(), by_recommendation(55)),
        (annotated([instead_of(30)]), applying(), by_recommendation(55)),
        (annotated([instead_of(20)]), applying(), by_policy),
        // It is clamped.
        (annotated([applied(1)]), applying(), by_recommendation(5)),
        (annotated([applied(55)]), apply(json!({"maxSeconds": 40})), by_recommendation(40)),
        (annotated([applied(55)]), apply(json!({"minSeconds": 60})), by_recommendation(60)),
        (annotated([applied(55)]), apply(json!({"maxSeconds": 3})), by_recommendation(3)),
        (annotated([applied(55)]), capped, by_recommendation(45)),
        // Nothing is applied.
        (annotated([(APPLIED_RECOMMENDATION, "55".into())]), applying(), by_policy),
        (annotated([applied(55)]), policy(&json!({"recommendations": "Report"})), by_policy),
        (annotated([applied(55)]), policy(&json!({})), by_policy),
        (annotated([]), applying(), by_policy),
    ] {
        let (template, shown) = (plain(), format!("{annotations:?} {:?}", context.policies[0].spec));
        let found = resolve(&workload(&annotations, &template), &context);
        let Setting { value, from } = &found.settings.shutdown_timeout_seconds;
        assert_eq!((*value, from.to_string().as_str()), expected, "{shown}");
        assert!(found.policies().iter().all(|source| source.is_policy()));
    }
    let (mut template, annotations) = (plain(), annotated([applied(55)]));
    template["metadata"]["annotations"] = json!({SHUTDOWN_TIMEOUT: "20"});
    let found = resolve(&workload(&annotations, &template), &applying());
    assert_eq!(found.settings.shutdown_timeout_seconds.from, Source::TemplateAnnotation);
}

#[test]
fn recommendations_and_their_bounds_are_merged_like_other_settings() {
    let cluster_policy = |spec: Value| -> Arc<ClusterGracefulPolicy> {
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy", "metadata": {"name": "defaults"},
            "spec": spec,
        });
        Arc::new(serde_json::from_value(policy).unwrap())
    };
    let defaults =
        json!({"recommendations": "Apply", "recommendationBounds": {"minSeconds": 20, "maxSeconds": 50}});
    let with = |own: Value| NamespaceContext {
        cluster_policies: vec![cluster_policy(defaults.clone())],
        ..policy(&own)
    };
    let (template, annotations) = (plain(), annotated([applied(55)]));
    for (own, expected) in [
        (json!({}), (50, "recommendation, cluster policy defaults")),
        (json!({"recommendations": "Apply"}), (50, "recommendation, policy all")),
        (
            json!({"recommendationBounds": {"maxSeconds": 52}}),
            (52, "recommendation, cluster policy defaults"),
        ),
        (json!({"recommendations": "Report"}), (30, "policy all")),
    ] {
        let found = resolve(&workload(&annotations, &template), &with(own.clone())).settings;
        let Setting { value, from } = found.shutdown_timeout_seconds;
        assert_eq!((value, from.to_string().as_str()), expected, "{own}");
    }
}

#[test]
fn an_applied_recommendation_is_rolled_out_as_a_policy_change() {
    let (none, longer) = (annotated([]), annotated([applied(55)]));
    let injected = evaluated(&plain(), &none, &applying()).template.unwrap();
    let later = policy(&json!({"recommendations": "Apply", "rollout": {"mode": "NextUpdate"}}));
    let by = || [(Source::Policy("all".into()), 1)].into();
    let raised = evaluated(&injected, &longer, &applying());
    assert_eq!((raised.timing, raised.requested_by), (RolloutTiming::Queued, by()));
    let raised = raised.template.unwrap();
    assert_eq!(raised["spec"]["terminationGracePeriodSeconds"], 10 + 55 + 5);
    assert_eq!(evaluated(&raised, &longer, &applying()).template, None);
    assert_eq!(evaluated(&injected, &longer, &later).timing, RolloutTiming::NextUpdate);
    // The webhook leaves that to the controller, until the template changes anyway.
    let old = workload(&none, &injected);
    assert_eq!(admit(&workload(&longer, &injected), Some(&old), &applying()).template, None);
    let mut image = injected.clone();
    image["spec"]["containers"][0]["image"] = json!("web:2");
    let admitted = admit(&workload(&longer, &image), Some(&old), &applying()).template.unwrap();
    assert_eq!(admitted["spec"]["terminationGracePeriodSeconds"], 70);
    // The policy reports again, and its own value applies.
    let reporting = policy(&json!({}));
    let lowered = evaluated(&raised, &longer, &reporting);
    assert_eq!((lowered.timing, lowered.requested_by), (RolloutTiming::Queued, by()));
    assert_eq!(lowered.template, Some(injected.clone()));
    let changes = annotation_changes(
        &workload(&longer, &injected),
        &evaluated(&injected, &longer, &reporting),
        &reporting,
    );
    assert_eq!(changes, [(APPLIED_RECOMMENDATION, None)].into());
    // A deleted policy causes no rollout.
    let deleted = NamespaceContext::default();
    assert_eq!(evaluated(&raised, &longer, &deleted).template, None);
}

#[test]
fn the_annotation_is_removed_once_nothing_is_applied() {
    let removed = |annotations: &BTreeMap<String, String>, context: &NamespaceContext| {
        let template = plain();
        let workload = workload(annotations, &template);
        let changes = annotation_changes(&workload, &evaluate(&workload, context), context);
        changes.get(APPLIED_RECOMMENDATION) == Some(&None)
    };
    let opted_out = annotated([applied(55), ("adieu.dev/graceful", "false".into())]);
    assert!(!removed(&annotated([applied(55)]), &applying()));
    assert!(!removed(&annotated([]), &policy(&json!({}))));
    assert!(removed(&annotated([(APPLIED_RECOMMENDATION, "{}".into())]), &applying()), "malformed");
    assert!(removed(&opted_out, &applying()));
    for mode in ["Off", "Report"] {
        assert!(removed(&annotated([applied(55)]), &policy(&json!({"recommendations": mode}))), "{mode}");
    }
    assert!(removed(&annotated([instead_of(20)]), &applying()), "the policy has another value now");
    assert!(!removed(&annotated([instead_of(30)]), &applying()));
    // The policy may be replaced, or can't be read at the moment.
    assert!(!removed(&annotated([applied(55)]), &NamespaceContext::default()));
    let unusable = NamespaceContext { has_unusable_policy: true, ..policy(&json!({})) };
    assert!(!removed(&annotated([applied(55)]), &unusable));
}

#[test]
fn a_request_that_drops_or_changes_the_annotation_keeps_it_while_it_is_applied() {
    let (template, old) = (plain(), annotated([applied(55), ("team", "shop".into())]));
    let kept = |new: &BTreeMap<String, String>, context: &NamespaceContext| {
        preserve_applied_recommendation(&workload(new, &template), &workload(&old, &template), context)
    };
    let team = || ("team", "web".to_owned());
    let malformed = annotated([(APPLIED_RECOMMENDATION, "{}".into())]);
    let none = annotated([]);
    assert_eq!(
        preserve_applied_recommendation(
            &workload(&none, &template),
            &workload(&malformed, &template),
            &applying()
        ),
        None
    );
    assert_eq!(kept(&annotated([team()]), &applying()), Some(annotated([team(), applied(55)])));
    assert_eq!(kept(&annotated([]), &applying()), Some(annotated([applied(55)])));
    // One from an older manifest would undo what is applied.
    assert_eq!(kept(&annotated([applied(20)]), &applying()), Some(annotated([applied(55)])));
    assert_eq!(kept(&annotated([applied(55)]), &applying()), None);
    assert_eq!(kept(&annotated([]), &policy(&json!({}))), None);
    assert_eq!(kept(&annotated([("adieu.dev/graceful", "false".into())]), &applying()), None);
}

#[test]
fn command_line_and_explanation_use_an_applied_recommendation() {
    let (template, annotations) = (plain(), annotated([applied(55), (SHUTDOWN_TIMEOUT, "no".into())]));
    let longer = annotated([applied(55)]);
    let rendered = render(&workload(&longer, &template), &applying(), false).template.unwrap();
    assert_eq!(rendered["spec"]["terminationGracePeriodSeconds"], 70);
    let explained = |annotations: &BTreeMap<String, String>| {
        let settings = explain(&workload(annotations, &template), &applying()).settings;
        let found = settings.into_iter().find(|setting| setting.field == "shutdownTimeoutSeconds").unwrap();
        let lost = found.overridden.iter().map(|lost| format!("{} {}", lost.value, lost.from));
        (format!("{} {}", found.value, found.from), lost.collect::<Vec<_>>())
    };
    let by_policy = || ["30 policy all".to_owned(), "30 default".to_owned()];
    assert_eq!(explained(&annotations), ("55 recommendation, policy all".into(), by_policy().into()));
    let user = annotated([applied(55), (SHUTDOWN_TIMEOUT, "20".into())]);
    let mut lost = vec!["55 recommendation, policy all".to_owned()];
    lost.extend(by_policy());
    assert_eq!(explained(&user), ("20 annotation".into(), lost));
}
