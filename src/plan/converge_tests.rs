use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::*;
use crate::{
    api::GracefulPolicy,
    plan::{Kind, Setting, Source},
};

fn plain() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web"}], "terminationGracePeriodSeconds": 30},
    })
}

fn annotated(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (format!("adieu.dev/{k}"), (*v).to_owned())).collect()
}

fn policy(drain: i64) -> Surroundings {
    let policy: GracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": "all"}, "spec": {"selector": {}, "drainSeconds": drain},
    }))
    .unwrap();
    Surroundings { policies: vec![Arc::new(policy)], ..Surroundings::default() }
}

fn converged(template: &Value, annotations: &BTreeMap<String, String>, around: &Surroundings) -> Convergence {
    converge(&Workload::new(Kind::Deployment, annotations, template), around)
}

#[test]
fn what_slipped_past_is_brought_in() {
    let nobody = Surroundings::default();
    assert_eq!(converged(&plain(), &annotated(&[]), &nobody).template, None);

    let by_annotation = converged(&plain(), &annotated(&[("graceful", "true")]), &nobody);
    assert_eq!(by_annotation.when, When::AtOnce);
    let template = by_annotation.template.unwrap();
    assert_eq!(template["spec"]["terminationGracePeriodSeconds"], 45);
    assert_eq!(converged(&template, &annotated(&[("graceful", "true")]), &nobody).template, None);

    let by_policy = converged(&plain(), &annotated(&[]), &policy(20));
    assert_eq!(by_policy.when, When::InTurn, "a policy's rollout waits for its turn");
    assert_eq!(by_policy.template.unwrap()["spec"]["terminationGracePeriodSeconds"], 55);
}

#[test]
fn opting_out_is_followed_and_a_vanished_policy_is_not() {
    let nobody = Surroundings::default();
    let annotation = annotated(&[("graceful", "true")]);
    let by_annotation = converged(&plain(), &annotation, &nobody).template.unwrap();
    for said in [annotated(&[]), annotated(&[("graceful", "false")])] {
        let opted_out = converged(&by_annotation, &said, &nobody);
        assert_eq!((opted_out.template, opted_out.when), (Some(plain()), When::AtOnce));
    }
    let by_policy = converged(&plain(), &annotated(&[]), &policy(20)).template.unwrap();
    assert_eq!(converged(&by_policy, &annotated(&[]), &nobody).template, None);
}

#[test]
fn annotations_act_at_once_and_policies_in_turn() {
    let by_policy = converged(&plain(), &annotated(&[]), &policy(20)).template.unwrap();
    let changed = converged(&by_policy, &annotated(&[]), &policy(30));
    assert!(changed.template.is_some() && changed.when == When::InTurn);
    let overridden = converged(&by_policy, &annotated(&[("drain-seconds", "7")]), &policy(20));
    assert!(overridden.template.is_some() && overridden.when == When::AtOnce);
}

#[test]
fn another_default_or_a_service_that_appears_rolls_nothing() {
    let annotation = annotated(&[("graceful", "true")]);
    let mut around = Surroundings::default();
    let injected = converged(&plain(), &annotation, &around).template.unwrap();
    around.services = vec![Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 8080}]},
        }))
        .unwrap(),
    )];
    assert_eq!(converged(&injected, &annotation, &around).template, None);

    let settings = |value| {
        let drain_seconds = Setting { value, from: Source::Default };
        Settings { drain_seconds, ..Settings::default() }
    };
    let asked = Asked::between(&settings(10), &settings(15));
    assert!(!asked.on_workload && !asked.by_policy);
}

#[test]
fn a_container_that_came_while_the_webhook_was_away_is_brought_in() {
    let annotation = annotated(&[("graceful", "true")]);
    let around = Surroundings::default();
    let mut template = converged(&plain(), &annotation, &around).template.unwrap();
    template["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "late"}));
    let completed = converged(&template, &annotation, &around);
    assert_eq!(completed.when, When::AtOnce);
    let containers = &completed.template.unwrap()["spec"]["containers"];
    assert_eq!(containers[1]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
}

#[test]
fn a_users_later_hook_is_left_alone() {
    let annotation = annotated(&[("graceful", "true")]);
    let around = Surroundings::default();
    let mut template = converged(&plain(), &annotation, &around).template.unwrap();
    template["spec"]["containers"][0]["lifecycle"]["preStop"] = json!({"sleep": {"seconds": 3}});
    assert_eq!(converged(&template, &annotation, &around).template, None);
}
