use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    api::{GracefulPolicy, annotations::INJECTED},
    plan::{
        DrainOrigin, Evaluation, Exposures, InjectionState, Kind, PodTemplate, RequiredDrain, RolloutTiming,
        admit, evaluate, render, resolve,
    },
};

/// The exposures of pods with the label `app: web`.
#[derive(Debug)]
struct OfWeb(RequiredDrain);

impl Exposures for OfWeb {
    fn required_drain(&self, labels: &BTreeMap<String, String>) -> Option<RequiredDrain> {
        labels.get("app").filter(|app| *app == "web").map(|_| self.0.clone())
    }
}

/// The context with exposures: pods with the label `app: web` need this drain.
pub(in crate::plan) fn exposed(
    context: &NamespaceContext,
    seconds: i64,
    origin: DrainOrigin,
) -> NamespaceContext {
    let exposure = "Ingress shop/web (class alb)".to_owned();
    let exposures = OfWeb(RequiredDrain { seconds, exposure, origin });
    NamespaceContext { exposures: Some(Arc::new(exposures)), ..context.clone() }
}

/// Such exposures while others are unknown, because of an object or because they aren't listed yet.
#[derive(Debug)]
struct Incomplete(OfWeb, Option<String>);

impl Exposures for Incomplete {
    fn required_drain(&self, labels: &BTreeMap<String, String>) -> Option<RequiredDrain> {
        self.0.required_drain(labels)
    }

    fn completeness(&self, _labels: &BTreeMap<String, String>) -> Completeness {
        Completeness::Incomplete { object: self.1.clone() }
    }
}

/// A context with such exposures.
fn incomplete(seconds: i64, origin: DrainOrigin, object: Option<&str>) -> NamespaceContext {
    let of_web =
        OfWeb(RequiredDrain { seconds, exposure: "Service shop/web (cluster-ip)".to_owned(), origin });
    let exposures = Incomplete(of_web, object.map(str::to_owned));
    NamespaceContext { exposures: Some(Arc::new(exposures)), ..NamespaceContext::default() }
}

/// A context with such a policy; `null` for none.
fn policy(spec: &Value) -> NamespaceContext {
    let policy = || Arc::new(GracefulPolicy::new("all", serde_json::from_value(spec.clone()).unwrap()));
    let policies = if spec.is_null() { vec![] } else { vec![policy()] };
    NamespaceContext { policies, ..NamespaceContext::default() }
}

fn annotated(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (format!("adieu.dev/{key}"), (*value).to_owned())).collect()
}

fn template(app: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "web", "image": "v1"}], "terminationGracePeriodSeconds": 30},
    })
}

fn drain(template: &Value) -> Option<i64> {
    template["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64()
}

/// The template of a Deployment that a request ends with.
fn admitted(
    template: &Value,
    old: Option<&Value>,
    annotations: &BTreeMap<String, String>,
    context: &NamespaceContext,
) -> Value {
    let workload = |template| Workload::new(Kind::Deployment, annotations, template);
    let admission = admit(&workload(template), old.map(workload).as_ref(), context);
    assert_eq!(admission.denials, []);
    admission.template.unwrap_or_else(|| template.clone())
}

fn evaluated(
    template: &Value,
    annotations: &BTreeMap<String, String>,
    context: &NamespaceContext,
) -> Evaluation {
    evaluate(&Workload::new(Kind::Deployment, annotations, template), context)
}

const ALB: &str = "Ingress shop/web (class alb) needs 300 s (built in)";

#[test]
fn an_automatic_drain_is_the_longest_that_an_exposure_needs() {
    const AUTO: &str = r#"{"selector": {}, "drainSeconds": "Auto"}"#;
    const NUMBER: &str = r#"{"selector": {}, "drainSeconds": 20}"#;
    let graceful = [("graceful", "true")];
    let auto = [("graceful", "true"), ("drain-seconds", "auto")];
    let seven = [("graceful", "true"), ("drain-seconds", "7")];
    let built_in = |seconds| Some((seconds, DrainOrigin::BuiltIn));
    let of = |spec: &str| -> Value { serde_json::from_str(spec).unwrap() };
    for (annotations, spec, exposures, seconds, from) in [
        (&graceful[..], "null", None, 10, "default"),
        (&graceful, "null", built_in(300), 300, &*format!("Auto: {ALB}")),
        (&graceful, "null", built_in(3), 10, "Auto: Ingress shop/web (class alb) needs 10 s (built in)"),
        (
            &graceful,
            "null",
            Some((3, DrainOrigin::Measured)),
            3,
            "Auto: Ingress shop/web (class alb) needs 3 s (measured)",
        ),
        (&[], NUMBER, built_in(300), 20, "policy all"),
        (&[], AUTO, built_in(300), 300, &format!("Auto, policy all: {ALB}")),
        (&[], AUTO, None, 10, "Auto, policy all"),
        (&auto, NUMBER, built_in(300), 300, &format!("Auto, annotation: {ALB}")),
        (&seven, AUTO, built_in(300), 7, "annotation"),
    ] {
        let mut context = policy(&of(spec));
        if let Some((needed, origin)) = exposures {
            context = exposed(&context, needed, origin);
        }
        let annotations = annotated(annotations);
        let template = template("web");
        let workload = Workload::new(Kind::Deployment, &annotations, &template);
        let Setting { value, from: found } = resolve(&workload, &context).settings.drain_seconds;
        assert_eq!((value, found.to_string().as_str()), (seconds, from), "{spec}, {exposures:?}");
    }
}

#[test]
fn pods_without_an_exposure_have_the_default_drain() {
    let annotations = annotated(&[("graceful", "true")]);
    let context = exposed(&NamespaceContext::default(), 300, DrainOrigin::BuiltIn);
    let template = template("worker");
    let workload = Workload::new(Kind::Deployment, &annotations, &template);
    let found = resolve(&workload, &context).settings.drain_seconds;
    assert_eq!(found, Setting { value: defaults::DRAIN_SECONDS, from: Source::Default });
}

#[test]
fn an_automatic_drain_is_limited_by_the_maximum_grace_period() {
    for (maximum, own, expected, grace_period) in [
        (600, 30, Some(300), 335),
        (60, 30, Some(25), 60),
        // The maximum limits only what is computed.
        (60, 400, Some(300), 400),
        // Not even the default fits.
        (40, 30, None, 30),
    ] {
        let context = policy(&json!({"selector": {}, "maxGracePeriodSeconds": maximum}));
        let context = exposed(&context, 300, DrainOrigin::BuiltIn);
        let mut template = template("web");
        template["spec"]["terminationGracePeriodSeconds"] = json!(own);
        let found = evaluated(&template, &annotated(&[]), &context);
        let injected = found.template.unwrap_or(template);
        let grace = &injected["spec"]["terminationGracePeriodSeconds"];
        assert_eq!((drain(&injected), grace), (expected, &json!(grace_period)), "{maximum}, {own}");
        let limited = "instead of 300 s, because the maximum grace period is";
        let is_limited = |warning: &String| warning.contains(limited);
        assert_eq!(found.warnings.iter().any(is_limited), expected != Some(300), "{:?}", found.warnings);
        if expected.is_some() {
            let again = evaluated(&injected, &annotated(&[]), &context);
            assert_eq!((again.template, again.state), (None, InjectionState::Injected), "{maximum}, {own}");
        }
    }
}

#[test]
fn an_exposure_that_appears_or_changes_causes_no_rollout() {
    for (pairs, spec) in [
        (&[("graceful", "true")][..], json!(null)),
        (&[("graceful", "true"), ("drain-seconds", "auto")], json!(null)),
        (&[], json!({"selector": {}})),
        (&[], json!({"selector": {}, "drainSeconds": "Auto"})),
    ] {
        let (annotations, context) = (annotated(pairs), policy(&spec));
        let of = |seconds| exposed(&context, seconds, DrainOrigin::BuiltIn);
        let created = admitted(&template("web"), None, &annotations, &context);
        assert_eq!(drain(&created), Some(10), "{spec}");
        assert_eq!(evaluated(&created, &annotations, &of(10)).warnings, [""; 0]);

        let found = evaluated(&created, &annotations, &of(300));
        assert_eq!((found.template, found.state), (None, InjectionState::Injected), "{spec}");
        let [warning] = found.warnings.as_slice() else { unreachable!("{:?}", found.warnings) };
        assert!(warning.starts_with(&format!("the pods drain for 10 s, but {ALB}: ")), "{warning}");
        assert!(warning.chars().count() <= 256, "the API server would cut it: {warning}");
        assert_eq!(admitted(&created, Some(&created), &annotations, &of(300)), created);

        let mut changed = created.clone();
        changed["spec"]["containers"][0]["image"] = json!("v2");
        let longer = admitted(&changed, Some(&created), &annotations, &of(300));
        assert_eq!(drain(&longer), Some(300), "{spec}");
        assert_eq!(longer["spec"]["terminationGracePeriodSeconds"], 335);
        for seconds in [300, 30] {
            let found = evaluated(&longer, &annotations, &of(seconds));
            assert_eq!((found.template, found.warnings), (None, vec![]), "{seconds}: {spec}");
        }
        let mut changed = longer.clone();
        changed["spec"]["containers"][0]["image"] = json!("v3");
        assert_eq!(drain(&admitted(&changed, Some(&longer), &annotations, &of(30))), Some(30));
    }
}

#[test]
fn a_policy_change_without_an_effect_does_not_roll_out_a_longer_drain() {
    let with = |spec: &Value, needed| exposed(&policy(spec), needed, DrainOrigin::BuiltIn);
    let none = annotated(&[]);
    let injected = admitted(&template("web"), None, &none, &with(&json!({"selector": {}}), 10));
    let without_effect = json!({"selector": {}, "sidecarSeconds": 9});
    assert_eq!(evaluated(&injected, &none, &with(&without_effect, 300)).template, None);
    let found = evaluated(&injected, &none, &with(&json!({"selector": {}, "marginSeconds": 6}), 300));
    assert_eq!(found.timing, RolloutTiming::Queued);
    assert_eq!(found.template.as_ref().and_then(drain), Some(300), "it comes with another change");
}

#[test]
fn the_record_has_an_automatic_drain_with_its_reason_and_is_reverted() {
    let annotations = annotated(&[("graceful", "true")]);
    let context = exposed(&NamespaceContext::default(), 300, DrainOrigin::BuiltIn);
    let plain = template("web");
    let injected = admitted(&plain, None, &annotations, &context);
    let record = injected["metadata"]["annotations"][INJECTED].as_str().unwrap();
    let drain = format!(r#""settings":{{"drainSeconds":{{"value":300,"from":"Auto: {ALB}"}}}}"#);
    assert!(record.contains(&drain), "{record}");
    assert_eq!(original(&PodTemplate::new(&injected), None), plain);
    assert_eq!(admitted(&injected, None, &annotations, &context), injected, "it is idempotent");
    // The text is kept as long as the values are the same.
    let measured = exposed(&NamespaceContext::default(), 300, DrainOrigin::Measured);
    assert_eq!(admitted(&injected, None, &annotations, &measured), injected);
}

#[test]
fn an_injected_drain_is_kept_while_the_exposures_are_unknown() {
    let annotations = annotated(&[("graceful", "true")]);
    let unknown = NamespaceContext::default();
    let known = exposed(&unknown, 300, DrainOrigin::BuiltIn);
    let injected = admitted(&template("web"), None, &annotations, &known);
    let mut changed = injected.clone();
    changed["spec"]["containers"][0]["image"] = json!("v2");
    let later = admitted(&changed, Some(&injected), &annotations, &unknown);
    assert_eq!(drain(&later), Some(300));
    assert_eq!(evaluated(&later, &annotations, &unknown).template, None);
    // Of another record, values beyond the limits don't count.
    let record = later["metadata"]["annotations"][INJECTED].as_str().unwrap();
    let forged = record.replace("\"value\":300", "\"value\":999999");
    let mut later = later.clone();
    later["metadata"]["annotations"][INJECTED] = json!(forged);
    let workload = Workload::new(Kind::Deployment, &annotations, &later);
    assert!(resolve(&workload, &unknown).settings.drain_seconds.value <= limits::DRAIN_SECONDS);
}

#[test]
fn while_exposures_are_unknown_a_request_that_drops_the_record_shortens_no_drain() {
    let annotations = annotated(&[("graceful", "true")]);
    let with = |seconds| exposed(&NamespaceContext::default(), seconds, DrainOrigin::BuiltIn);
    let injected = admitted(&template("web"), None, &annotations, &with(300));
    let mut replaced = template("web");
    replaced["spec"]["containers"][0]["image"] = json!("v2");
    for (context, expected) in [
        (NamespaceContext::default(), 300),
        (incomplete(10, DrainOrigin::BuiltIn, None), 300),
        (incomplete(400, DrainOrigin::BuiltIn, None), 400),
        (with(10), 10),
    ] {
        let later = admitted(&replaced, Some(&injected), &annotations, &context);
        assert_eq!(drain(&later), Some(expected), "{:?}", context.exposures);
        assert_eq!(evaluated(&later, &annotations, &context).template, None);
    }
}

#[test]
fn a_drain_that_is_injected_while_exposures_are_unknown_is_corrected_once_they_are_known() {
    let annotations = annotated(&[("graceful", "true")]);
    let measured = |seconds| incomplete(seconds, DrainOrigin::Measured, None);
    // Only if all exposures are measured is less than the default enough.
    let created = admitted(&template("web"), None, &annotations, &measured(3));
    assert_eq!(drain(&created), Some(10));
    let known = exposed(&NamespaceContext::default(), 300, DrainOrigin::BuiltIn);
    let found = evaluated(&created, &annotations, &known);
    assert_eq!(found.template, None);
    let [warning] = found.warnings.as_slice() else { unreachable!("{:?}", found.warnings) };
    assert!(warning.starts_with(&format!("the pods drain for 10 s, but {ALB}: ")), "{warning}");
    // What was measured before stays, and causes no rollout.
    let of_measured = exposed(&NamespaceContext::default(), 3, DrainOrigin::Measured);
    let created = admitted(&template("web"), None, &annotations, &of_measured);
    let found = evaluated(&created, &annotations, &measured(3));
    assert_eq!((drain(&created), found.template, found.warnings), (Some(3), None, vec![]));
}

#[test]
fn an_object_that_cannot_be_used_causes_a_warning_and_shortens_no_drain() {
    let annotations = annotated(&[("graceful", "true")]);
    let known = exposed(&NamespaceContext::default(), 300, DrainOrigin::BuiltIn);
    let injected = admitted(&template("web"), None, &annotations, &known);
    let name = format!("Ingress shop/{}", "x".repeat(253));
    let context = incomplete(10, DrainOrigin::BuiltIn, Some(&name));
    let mut changed = injected.clone();
    changed["spec"]["containers"][0]["image"] = json!("v2");
    let later = admitted(&changed, Some(&injected), &annotations, &context);
    assert_eq!(drain(&later), Some(300));
    let warnings = evaluated(&later, &annotations, &context).warnings;
    let [warning] = warnings.as_slice() else { unreachable!("{warnings:?}") };
    assert!(warning.contains("because adieu cannot use Ingress shop/xxx"), "{warning}");
    assert!(warning.chars().count() <= 256, "the API server would cut it: {warning}");
}

#[test]
fn an_injection_by_the_command_line_keeps_its_drain_unless_the_cluster_needs_a_longer_one() {
    let plain = template("web");
    let by_policy = json!({"selector": {}, "drainSeconds": "Auto"});
    for (pairs, spec) in [(&[("graceful", "true")][..], json!(null)), (&[], by_policy)] {
        let annotations = annotated(pairs);
        let offline = exposed(&policy(&spec), 300, DrainOrigin::BuiltIn);
        let workload = Workload::new(Kind::Deployment, &annotations, &plain);
        let rendered = render(&workload, &offline, false).template.unwrap();
        assert_eq!(drain(&rendered), Some(300));
        let none = BTreeMap::new();
        let all = render(&Workload::new(Kind::Deployment, &none, &plain), &offline, true).template.unwrap();
        assert_eq!(drain(&all), Some(300), "--all");
        let cluster = NamespaceContext::default();
        for (context, expected) in [
            (cluster.clone(), 300),
            (exposed(&cluster, 10, DrainOrigin::BuiltIn), 300),
            (exposed(&cluster, 400, DrainOrigin::BuiltIn), 400),
        ] {
            let created = admitted(&rendered, None, &annotations, &context);
            assert_eq!(drain(&created), Some(expected), "{spec}");
            assert_eq!(created == rendered, expected == 300, "{spec}");
            assert_eq!(evaluated(&created, &annotations, &context).template, None, "{spec}");
        }
    }
}

#[test]
fn a_policy_may_roll_out_a_longer_drain_when_exposures_change() {
    let rollout =
        |mode: &str| json!({"selector": {}, "rollout": {"mode": mode, "onExposureChange": "Progressive"}});
    let with = |spec: &Value, seconds| exposed(&policy(spec), seconds, DrainOrigin::BuiltIn);
    for mode in ["Progressive", "NextUpdate"] {
        let spec = rollout(mode);
        let none = annotated(&[]);
        let injected = admitted(&template("web"), None, &none, &with(&spec, 30));
        let found = evaluated(&injected, &none, &with(&spec, 300));
        assert_eq!(found.timing, RolloutTiming::Queued, "{mode}");
        assert_eq!(found.requested_by, BTreeMap::from([(Source::Policy("all".into()), 1)]));
        let longer = found.template.unwrap();
        assert_eq!(drain(&longer), Some(300));
        assert_eq!(evaluated(&longer, &none, &with(&spec, 300)).template, None);
        let shorter = evaluated(&longer, &none, &with(&spec, 30));
        assert_eq!(shorter.template, None, "a shorter drain is not rolled out");
        assert_eq!(evaluated(&injected, &none, &with(&spec, 30)).template, None);
    }
    // A number stays a number.
    let mut number = rollout("Progressive");
    number["drainSeconds"] = json!(20);
    let injected = admitted(&template("web"), None, &annotated(&[]), &with(&number, 30));
    let found = evaluated(&injected, &annotated(&[]), &with(&number, 300));
    assert_eq!((drain(&injected), found.template, found.warnings), (Some(20), None, vec![]));
}
