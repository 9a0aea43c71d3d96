use std::{slice::from_ref, sync::Arc};

use adieu_core::{
    api::{ClusterGracefulPolicy, GracefulPolicy, WorkloadKind as Kind, check_policy},
    keys::WorkloadKey,
    plan::NamespaceContext,
};
use serde_json::{Value, json};

use crate::{AnnotatedOptIn, Candidate, Namespace, Options, RECOMMENDED, Recommended, Times, recommend};

pub(crate) const CLUSTER: Options = Options { replaces_earlier: true, sets_defaults: true };
const NAMESPACE: Options = Options { replaces_earlier: true, sets_defaults: false };
const SELECTION: Options = Options { replaces_earlier: false, sets_defaults: false };

/// A Deployment with these labels, separated by spaces, which needs these times.
fn deployment(name: &str, labels: &str, wanted: Option<[i64; 2]>) -> Candidate {
    let labels = labels.split_whitespace().filter_map(|label| label.split_once('='));
    Candidate {
        key: WorkloadKey { namespace: "shop".into(), kind: Kind::Deployment, name: name.into() },
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        opt_in: AnnotatedOptIn::None,
        wanted: wanted.map(times),
    }
}

fn times([drain, shutdown]: [i64; 2]) -> Times {
    Times { drain_seconds: Some(drain), shutdown_timeout_seconds: Some(shutdown) }
}

fn annotated(mut candidate: Candidate, opt_in: AnnotatedOptIn) -> Candidate {
    candidate.opt_in = opt_in;
    candidate
}

fn policy(name: &str, spec: Value) -> Arc<GracefulPolicy> {
    let mut policy = GracefulPolicy::new(name, serde_json::from_value(spec).unwrap());
    policy.metadata.namespace = Some("shop".into());
    Arc::new(policy)
}

fn cluster_policy(name: &str, spec: Value) -> Arc<ClusterGracefulPolicy> {
    Arc::new(ClusterGracefulPolicy::new(name, serde_json::from_value(spec).unwrap()))
}

fn shop(candidates: Vec<Candidate>) -> Namespace {
    Namespace { name: "shop".into(), candidates, context: NamespaceContext::default() }
}

fn with_policies(candidates: Vec<Candidate>, policies: Vec<Arc<GracefulPolicy>>) -> Namespace {
    let context = NamespaceContext { policies, ..NamespaceContext::default() };
    Namespace { context, ..shop(candidates) }
}

/// The specs of the policies by their names. Each is valid.
pub(crate) fn specs(recommended: &Recommended) -> Value {
    let policies = recommended.policies.iter().map(|recommended| {
        let policy = json!(*recommended.policy);
        assert_eq!(check_policy(&policy), [], "{policy:#}");
        (policy["metadata"]["name"].as_str().unwrap().to_owned(), policy["spec"].clone())
    });
    Value::Object(policies.collect())
}

/// The spec of the cluster policy, which is valid.
pub(crate) fn defaults(recommended: &Recommended) -> Value {
    let Some(policy) = &recommended.cluster_policy else { return Value::Null };
    let policy = json!(**policy);
    assert_eq!(check_policy(&policy), [], "{policy:#}");
    policy["spec"].clone()
}

fn notes(recommended: &Recommended) -> Vec<String> {
    let notes = recommended.notes.iter();
    notes.map(|note| format!("{}: {}", note.workload.name, note.message)).collect()
}

#[test]
fn workloads_with_the_same_times_share_a_policy_and_most_have_the_defaults() {
    let candidates = vec![
        deployment("web", "app=web", Some([30, 30])),
        deployment("worker", "app=worker", Some([30, 120])),
        deployment("api", "app=api", Some([30, 30])),
        deployment("other", "app=other", None),
    ];
    let recommended = recommend(&[shop(candidates)], CLUSTER);
    assert_eq!(defaults(&recommended), json!({"drainSeconds": 30, "shutdownTimeoutSeconds": 30}));
    let values = json!([{"key": "app", "operator": "In", "values": ["api", "web"]}]);
    assert_eq!(
        specs(&recommended),
        json!({
            "recommended-drain-30-shutdown-30": {"selector": {"matchExpressions": values}},
            "recommended-drain-30-shutdown-120": {
                "selector": {"matchLabels": {"app": "worker"}}, "shutdownTimeoutSeconds": 120,
            },
        })
    );
    assert_eq!(recommended.notes, []);
    let labels = recommended.policies[0].policy.metadata.labels.clone().unwrap();
    assert_eq!(labels.get(RECOMMENDED).map(String::as_str), Some("true"));
}

#[test]
fn an_annotated_workload_with_the_defaults_needs_no_policy() {
    let opted_in = |times| annotated(deployment("web", "app=web", Some(times)), AnnotatedOptIn::Graceful);
    let others = || vec![deployment("a", "app=a", Some([20, 40])), deployment("b", "app=b", Some([20, 40]))];
    let recommended = recommend(&[shop([others(), vec![opted_in([10, 60])]].concat())], CLUSTER);
    // With the times of the others, there would be two policies.
    assert_eq!(defaults(&recommended), json!({"drainSeconds": 10, "shutdownTimeoutSeconds": 60}));
    assert_eq!(specs(&recommended).as_object().unwrap().len(), 1);
    let recommended = recommend(&[shop(vec![opted_in([10, 30])])], NAMESPACE);
    assert_eq!((specs(&recommended), defaults(&recommended)), (json!({}), Value::Null));
    let recommended = recommend(&[shop(vec![opted_in([20, 30])])], NAMESPACE);
    assert_eq!(
        specs(&recommended),
        json!({"recommended-drain-20-shutdown-30": {
            "selector": {"matchLabels": {"app": "web"}}, "drainSeconds": 20,
        }})
    );
}

#[test]
fn a_selector_matches_the_workloads_of_its_group_only() {
    let in_ = |key: &str, values: &[&str]| json!({"key": key, "operator": "In", "values": values});
    let absent = |key: &str| json!({"key": key, "operator": "DoesNotExist"});
    for (members, others, expected) in [
        (&["app=web"][..], &[""; 0][..], json!([{"matchLabels": {"app": "web"}}])),
        (
            &["app=web tier=front", "app=api tier=front"],
            &["app=db tier=back"],
            json!([{"matchLabels": {"tier": "front"}}]),
        ),
        (
            &["app=web tier=front", "app=api tier=front"],
            &["app=db tier=front"],
            json!([{"matchExpressions": [in_("app", &["api", "web"])]}]),
        ),
        // Labels that change with each release, or with the injection, are not used.
        (
            &["app=web helm.sh/chart=web-1 adieu.dev/injection=enabled version=1"],
            &["app=api"],
            json!([{"matchLabels": {"app": "web"}}]),
        ),
        (&["app=web version=1"], &["app=web version=2"], json!([{"matchLabels": {"version": "1"}}])),
        (
            &["app=web"],
            &["app=web track=canary"],
            json!([{"matchLabels": {"app": "web"}, "matchExpressions": [absent("track")]}]),
        ),
        (
            &["app=a tier=x", "app=b tier=y"],
            &["app=a tier=y"],
            json!([{"matchLabels": {"app": "b"}}, {"matchLabels": {"tier": "x"}}]),
        ),
        (&["helm.sh/chart=web-1"], &[], json!([])),
        (&["app=web"], &["app=web"], json!([])),
    ] {
        let members = members.iter().map(|labels| (labels, Some([20, 30])));
        let others = others.iter().map(|labels| (labels, None));
        let candidates = members.chain(others).enumerate();
        let candidates = candidates.map(|(at, (labels, wanted))| deployment(&at.to_string(), labels, wanted));
        let recommended = recommend(&[shop(candidates.collect())], NAMESPACE);
        let specs = specs(&recommended);
        let selectors = specs.as_object().unwrap().values().map(|spec| spec["selector"].clone());
        let mut selectors: Vec<_> = selectors.collect();
        selectors.sort_by_key(Value::to_string);
        assert_eq!(json!(selectors), expected);
        let remedy = "0: no selector tells its pods from those of other workloads: annotate it with \
                      adieu.dev/graceful: \"true\", adieu.dev/drain-seconds: \"20\", \
                      adieu.dev/shutdown-timeout-seconds: \"30\"";
        let expected = if selectors.is_empty() { vec![remedy] } else { vec![] };
        assert_eq!(notes(&recommended), expected);
    }
}

#[test]
fn more_workloads_than_values_of_a_selector_need_several_policies() {
    let numbered =
        |number: usize| deployment(&format!("{number:03}"), &format!("app={number:03}"), Some([20, 30]));
    let all = (0..150).map(numbered);
    let other = deployment("other", "app=other", None);
    let recommended = recommend(&[shop(all.chain([other]).collect())], NAMESPACE);
    let counts: Vec<_> = recommended.policies.iter().map(|policy| policy.workloads.len()).collect();
    assert_eq!(counts, [64, 64, 22]);
    let names: Vec<_> = specs(&recommended).as_object().unwrap().keys().cloned().collect();
    let name = "recommended-drain-20-shutdown-30";
    assert_eq!(names, [name.to_owned(), format!("{name}-2"), format!("{name}-3")]);
    assert_eq!(recommended.notes, []);
}

#[test]
fn a_policy_of_a_user_keeps_its_fields_and_the_minority_of_its_workloads_gets_another() {
    let candidates = vec![
        deployment("a", "app=a team=shop", Some([30, 30])),
        deployment("b", "app=b team=shop", Some([30, 30])),
        deployment("c", "app=c team=shop", Some([30, 120])),
    ];
    let spec = json!({
        "selector": {"matchLabels": {"team": "shop"}}, "drainSeconds": 5, "disruptionBudget": {"maxUnavailable": 1},
    });
    let namespace = with_policies(candidates, vec![policy("checkout", spec)]);
    let recommended = recommend(from_ref(&namespace), NAMESPACE);
    let budget = json!({"maxUnavailable": 1});
    assert_eq!(
        specs(&recommended),
        json!({
            "checkout": {
                "selector": {"matchLabels": {"team": "shop"}}, "drainSeconds": 30, "disruptionBudget": budget,
            },
            "checkout-drain-30-shutdown-120": {
                "selector": {"matchLabels": {"app": "c"}}, "priority": 1, "drainSeconds": 30,
                "shutdownTimeoutSeconds": 120, "disruptionBudget": budget,
            },
        })
    );
    assert_eq!(recommended.policies.iter().map(|policy| policy.is_edited).collect::<Vec<_>>(), [true, false]);
    let context = recommended.context("shop", &namespace.context);
    let again = recommend(&[Namespace { context, ..namespace }], NAMESPACE);
    assert_eq!(specs(&again), specs(&recommended));
}

#[test]
fn a_workload_that_names_a_policy_gets_its_times_from_it_or_by_annotation() {
    let named = |name, times| {
        annotated(deployment(name, "app=x", Some(times)), AnnotatedOptIn::Policy("checkout".into()))
    };
    let candidates = vec![named("a", [20, 30]), named("b", [20, 30]), named("c", [40, 30])];
    let recommended = recommend(&[with_policies(candidates, vec![policy("checkout", json!({}))])], NAMESPACE);
    assert_eq!(specs(&recommended), json!({"checkout": {"drainSeconds": 20, "shutdownTimeoutSeconds": 30}}));
    assert_eq!(
        notes(&recommended),
        [
            "c: the other workloads of GracefulPolicy checkout need other times: annotate it with adieu.dev/graceful: \"true\", \
          adieu.dev/drain-seconds: \"40\", adieu.dev/shutdown-timeout-seconds: \"30\""
        ]
    );
}

#[test]
fn workloads_with_the_same_labels_get_the_longest_times() {
    let candidates =
        vec![deployment("blue", "app=web", Some([30, 30])), deployment("green", "app=web", Some([20, 60]))];
    let recommended = recommend(&[shop(candidates)], NAMESPACE);
    assert_eq!(
        specs(&recommended),
        json!({"recommended-drain-30-shutdown-60": {
            "selector": {"matchLabels": {"app": "web"}}, "drainSeconds": 30, "shutdownTimeoutSeconds": 60,
        }})
    );
    assert_eq!(recommended.notes.len(), 2, "{:?}", recommended.notes);
}

#[test]
fn the_maximum_is_raised_for_times_that_exceed_it() {
    let recommended = recommend(&[shop(vec![deployment("web", "app=web", Some([300, 600]))])], CLUSTER);
    let expected = json!({"drainSeconds": 300, "shutdownTimeoutSeconds": 600, "maxGracePeriodSeconds": 905});
    assert_eq!(defaults(&recommended), expected);
    let expected = json!({"selector": {"matchLabels": {"app": "web"}}});
    assert_eq!(specs(&recommended)["recommended-drain-300-shutdown-600"], expected);
    let recommended = recommend(&[shop(vec![deployment("web", "app=web", Some([10, 600]))])], NAMESPACE);
    let spec = &specs(&recommended)["recommended-drain-10-shutdown-600"];
    assert_eq!((&spec["shutdownTimeoutSeconds"], &spec["maxGracePeriodSeconds"]), (&json!(600), &json!(615)));
}

#[test]
fn defaults_of_a_user_are_edited_and_those_of_other_namespaces_apply() {
    let web = || deployment("web", "app=web", Some([30, 30]));
    let context = |spec: Value| NamespaceContext {
        cluster_policies: vec![cluster_policy("platform", spec)],
        ..NamespaceContext::default()
    };
    let spec = json!({"drainSeconds": 20, "marginSeconds": 3});
    let namespace = Namespace { context: context(spec), ..shop(vec![web()]) };
    let recommended = recommend(&[namespace], CLUSTER);
    assert_eq!(
        defaults(&recommended),
        json!({"drainSeconds": 30, "marginSeconds": 3, "shutdownTimeoutSeconds": 30})
    );
    // It applies only in some namespaces, so it is not edited.
    let spec = json!({"namespaceSelector": {"matchLabels": {"a": "b"}}, "drainSeconds": 20});
    let namespace = Namespace { context: context(spec), ..shop(vec![web()]) };
    let recommended = recommend(&[namespace], NAMESPACE);
    let selector = json!({"matchLabels": {"app": "web"}});
    assert_eq!(
        specs(&recommended),
        json!({"recommended-drain-30-shutdown-30": {"selector": selector, "drainSeconds": 30}})
    );
}

#[test]
fn earlier_recommendations_are_replaced_only_if_all_workloads_are_known() {
    let web = || vec![deployment("web", "app=web", Some([20, 30]))];
    let first = recommend(&[shop(web())], NAMESPACE);
    let context = first.context("shop", &NamespaceContext::default());
    let [earlier] = first.policies.as_slice() else { panic!("{first:?}") };
    let later = |wanted| vec![deployment("web", "app=web", Some(wanted))];
    let namespace = |candidates| Namespace { context: context.clone(), ..shop(candidates) };

    let replaced = recommend(&[namespace(later([40, 30]))], NAMESPACE);
    assert!(replaced.is_obsolete(&earlier.policy));
    assert_eq!(
        replaced.policies[0].policy.metadata.name.as_deref(),
        Some("recommended-drain-40-shutdown-30")
    );
    assert!(!recommend(&[namespace(web())], NAMESPACE).is_obsolete(&earlier.policy));

    let edited = recommend(&[namespace(later([40, 30]))], SELECTION);
    assert!(!edited.is_obsolete(&earlier.policy) && edited.policies[0].is_edited);
    assert_eq!(edited.policies[0].policy.metadata.name, earlier.policy.metadata.name);
    assert_eq!(edited.policies[0].policy.spec.shutdown_timeout_seconds, None);
}
