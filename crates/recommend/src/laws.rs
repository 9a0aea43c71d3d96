//! Laws of recommendations, as properties over namespaces of any content.

use std::{collections::BTreeMap, slice::from_ref, sync::Arc};

use adieu_core::{
    api::{
        ClusterGracefulPolicy, GracefulPolicy, WorkloadKind as Kind,
        annotations::{GRACEFUL, POLICY},
    },
    keys::WorkloadKey,
    plan::{NamespaceContext, OptIn, Resolution, Workload, resolve},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

use crate::{
    AnnotatedOptIn, Candidate, Namespace, Times, policy_times, recommend,
    tests::{CLUSTER, defaults, specs},
};

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let value = |values: &'static [&'static str]| option::of(select(values));
    (value(&["a", "b", "c"]), value(&["x", "y"]), value(&["canary"])).prop_map(|(app, tier, track)| {
        let pairs = [("app", app), ("tier", tier), ("track", track)];
        pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect()
    })
}

fn wanted() -> impl Strategy<Value = Option<Times>> {
    let one_of = |seconds: Vec<i64>| option::weighted(0.9, select(seconds));
    let times = (one_of(vec![10, 30]), one_of(vec![15, 30, 120]));
    let times = times.prop_map(|(drain_seconds, shutdown_timeout_seconds)| Times {
        drain_seconds,
        shutdown_timeout_seconds,
    });
    option::weighted(0.8, times)
}

fn opt_in() -> impl Strategy<Value = AnnotatedOptIn> {
    prop_oneof![
        6 => Just(AnnotatedOptIn::None),
        2 => Just(AnnotatedOptIn::Graceful),
        1 => Just(AnnotatedOptIn::Policy("p0".to_owned())),
    ]
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    vec((select(Kind::ALL.to_vec()), labels(), opt_in(), wanted()), 0..10).prop_map(|all| {
        let all = all.into_iter().enumerate();
        all.map(|(at, (kind, labels, opt_in, wanted))| {
            let key = WorkloadKey { namespace: "shop".into(), kind, name: at.to_string() };
            Candidate { key, labels, opt_in, wanted }
        })
        .collect()
    })
}

/// The spec of a policy, with or without a selector.
fn spec() -> impl Strategy<Value = Value> {
    let selector = select(vec![
        json!({}),
        json!({"selector": {}}),
        json!({"selector": {"matchLabels": {"app": "a"}}, "kinds": Kind::ALL}),
        json!({"selector": {"matchLabels": {"tier": "x"}}, "priority": 3}),
    ]);
    (selector, option::of(5_i64..40), option::of(5_i64..40)).prop_map(|(mut spec, drain, shutdown)| {
        for (key, seconds) in [("drainSeconds", drain), ("shutdownTimeoutSeconds", shutdown)] {
            if let Some(seconds) = seconds {
                spec[key] = seconds.into();
            }
        }
        spec
    })
}

fn namespace() -> impl Strategy<Value = Namespace> {
    (candidates(), vec(spec(), 0..3), vec(spec(), 0..3)).prop_map(
        |(candidates, policies, cluster_policies)| {
            let policies = policies.into_iter().enumerate().map(|(at, spec)| {
                let mut policy =
                    GracefulPolicy::new(&format!("p{at}"), serde_json::from_value(spec).unwrap());
                policy.metadata.namespace = Some("shop".to_owned());
                Arc::new(policy)
            });
            let cluster_policies = cluster_policies.into_iter().enumerate().map(|(at, spec)| {
                Arc::new(ClusterGracefulPolicy::new(&format!("c{at}"), serde_json::from_value(spec).unwrap()))
            });
            let context = NamespaceContext {
                policies: policies.collect(),
                cluster_policies: cluster_policies.collect(),
                ..NamespaceContext::default()
            };
            Namespace { name: "shop".to_owned(), candidates, context }
        },
    )
}

/// The settings of a workload with its annotations.
fn resolved(candidate: &Candidate, context: &NamespaceContext) -> Resolution {
    let annotation = match &candidate.opt_in {
        AnnotatedOptIn::None => None,
        AnnotatedOptIn::Graceful => Some((GRACEFUL.to_owned(), "true".to_owned())),
        AnnotatedOptIn::Policy(name) => Some((POLICY.to_owned(), name.clone())),
    };
    let annotations = annotation.into_iter().collect();
    let template = json!({"metadata": {"labels": candidate.labels}});
    resolve(&Workload::new(candidate.key.kind, &annotations, &template), context)
}

fn is_opted_in(resolution: &Resolution) -> bool {
    matches!(resolution.opt_in, OptIn::In(_))
}

proptest! {
    #[test]
    fn every_workload_gets_the_times_that_it_needs_and_no_other_is_opted_in(namespace in namespace()) {
        let recommended = recommend(from_ref(&namespace), CLUSTER);
        let context = recommended.context("shop", &namespace.context);
        for candidate in &namespace.candidates {
            let after = resolved(candidate, &context);
            let has_note = recommended.notes.iter().any(|note| note.workload == candidate.key);
            match candidate.wanted {
                Some(_) if has_note => {}
                Some(wanted) => {
                    prop_assert!(is_opted_in(&after), "{candidate:?}: {recommended:#?}");
                    let times = policy_times::times(&after);
                    prop_assert!(wanted.is_compatible(times), "{candidate:?} has {times:?}: {recommended:#?}");
                }
                None => {
                    let before = is_opted_in(&resolved(candidate, &namespace.context));
                    prop_assert_eq!(is_opted_in(&after), before, "{:?}: {:#?}", candidate, recommended);
                }
            }
        }
    }

    #[test]
    fn the_order_of_the_input_and_policies_that_are_applied_change_nothing(namespace in namespace()) {
        let recommended = recommend(from_ref(&namespace), CLUSTER);
        let (policies, cluster_policy) = (specs(&recommended), defaults(&recommended));
        let mut others = namespace.clone();
        others.candidates.reverse();
        let reversed = recommend(&[others], CLUSTER);
        prop_assert_eq!((specs(&reversed), &reversed.notes), (policies.clone(), &recommended.notes));
        let context = recommended.context("shop", &namespace.context);
        let again = recommend(&[Namespace { context, ..namespace }], CLUSTER);
        prop_assert_eq!((specs(&again), defaults(&again)), (policies, cluster_policy));
    }
}
