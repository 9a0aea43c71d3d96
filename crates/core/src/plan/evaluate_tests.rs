use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::*;
use crate::{
    api::GracefulPolicy,
    plan::{Kind, Setting, Source, admit, render},
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

fn policy(drain: i64) -> NamespaceContext {
    let policy: GracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": "all"}, "spec": {"selector": {}, "drainSeconds": drain},
    }))
    .unwrap();
    NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() }
}

fn evaluated(
    template: &Value,
    annotations: &BTreeMap<String, String>,
    around: &NamespaceContext,
) -> Evaluation {
    evaluate(&Workload::new(Kind::Deployment, annotations, template), around)
}

#[test]
fn what_slipped_past_is_brought_in() {
    let nobody = NamespaceContext::default();
    assert_eq!(evaluated(&plain(), &annotated(&[]), &nobody).template, None);

    let by_annotation = evaluated(&plain(), &annotated(&[("graceful", "true")]), &nobody);
    assert_eq!(by_annotation.timing, RolloutTiming::Immediate);
    let template = by_annotation.template.unwrap();
    assert_eq!(template["spec"]["terminationGracePeriodSeconds"], 45);
    assert_eq!(evaluated(&template, &annotated(&[("graceful", "true")]), &nobody).template, None);

    let by_policy = evaluated(&plain(), &annotated(&[]), &policy(20));
    assert_eq!(by_policy.timing, RolloutTiming::Queued, "a policy's rollout waits for its turn");
    assert_eq!(by_policy.template.unwrap()["spec"]["terminationGracePeriodSeconds"], 55);
}

#[test]
fn opting_out_is_followed_and_a_vanished_policy_is_not() {
    let nobody = NamespaceContext::default();
    let annotation = annotated(&[("graceful", "true")]);
    let by_annotation = evaluated(&plain(), &annotation, &nobody).template.unwrap();
    for said in [annotated(&[]), annotated(&[("graceful", "false")])] {
        let opted_out = evaluated(&by_annotation, &said, &nobody);
        assert_eq!((opted_out.template, opted_out.timing), (Some(plain()), RolloutTiming::Immediate));
    }
    let by_policy = evaluated(&plain(), &annotated(&[]), &policy(20)).template.unwrap();
    assert_eq!(evaluated(&by_policy, &annotated(&[]), &nobody).template, None);
}

#[test]
fn opting_out_is_followed_also_where_a_policy_only_audits() {
    let annotation = annotated(&[("graceful", "true")]);
    let injected = evaluated(&plain(), &annotation, &NamespaceContext::default()).template.unwrap();
    let policy = policy_of(json!({"selector": {}, "mode": "Audit"}));
    let defaults = cluster_policies([json!({"mode": "Audit"})]);
    assert_eq!(evaluated(&plain(), &annotation, &policy).timing, RolloutTiming::DryRun);
    for (around, said) in [
        (policy, annotated(&[("graceful", "false")])),
        (defaults.clone(), annotated(&[("graceful", "false")])),
        (defaults, annotated(&[])),
    ] {
        let opted_out = evaluated(&injected, &said, &around);
        assert_eq!(
            (opted_out.template, opted_out.timing),
            (Some(plain()), RolloutTiming::Immediate),
            "{said:?}"
        );
    }
}

#[test]
fn what_the_command_line_injected_stays_whether_its_policy_is_known_or_not() {
    let none = annotated(&[]);
    let nobody = NamespaceContext::default();
    let rendered = |around: &NamespaceContext, all| {
        render(&Workload::new(Kind::Deployment, &none, &plain()), around, all).template.unwrap()
    };
    for template in [rendered(&nobody, true), rendered(&policy(20), false)] {
        let unknown = evaluated(&template, &none, &nobody);
        assert_eq!(unknown.template, None);
        assert_eq!(unknown.resolution.opt_in, OptIn::In(Source::CommandLine));
        let out = evaluated(&template, &annotated(&[("graceful", "false")]), &nobody);
        assert_eq!((out.template, out.timing), (Some(plain()), RolloutTiming::Immediate));
    }
    assert_eq!(evaluated(&rendered(&policy(20), false), &none, &policy(20)).template, None);
    let changed = evaluated(&rendered(&policy(20), false), &none, &policy(30));
    assert!(changed.template.is_some() && changed.timing == RolloutTiming::Queued);

    let annotation = annotated(&[("graceful", "true")]);
    let template = render(&Workload::new(Kind::Deployment, &annotation, &plain()), &nobody, false).template;
    let unannotated = evaluated(&template.unwrap(), &none, &nobody);
    assert_eq!((unannotated.template, unannotated.timing), (Some(plain()), RolloutTiming::Immediate));
}

#[test]
fn annotations_act_at_once_and_policies_in_turn() {
    let by_policy = evaluated(&plain(), &annotated(&[]), &policy(20)).template.unwrap();
    let changed = evaluated(&by_policy, &annotated(&[]), &policy(30));
    assert!(changed.template.is_some() && changed.timing == RolloutTiming::Queued);
    let overridden = evaluated(&by_policy, &annotated(&[("drain-seconds", "7")]), &policy(20));
    assert!(overridden.template.is_some() && overridden.timing == RolloutTiming::Immediate);
}

#[test]
fn how_many_roll_out_at_a_time_does_not_say_when() {
    let mut around = policy_of(json!({"selector": {}, "rollout": {"maxConcurrent": 2}}));
    around.cluster_policies = cluster_policies([json!({"rollout": {"mode": "NextUpdate"}})]).cluster_policies;
    let evaluated = evaluated(&plain(), &annotated(&[]), &around);
    assert!(evaluated.template.is_some() && evaluated.timing == RolloutTiming::NextUpdate);
}

#[test]
fn another_default_or_a_service_that_appears_rolls_nothing() {
    let annotation = annotated(&[("graceful", "true")]);
    let mut around = NamespaceContext::default();
    let injected = evaluated(&plain(), &annotation, &around).template.unwrap();
    around.services = vec![Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 8080}]},
        }))
        .unwrap(),
    )];
    assert_eq!(evaluated(&injected, &annotation, &around).template, None);

    let settings = |value| {
        let drain_seconds = Setting { value, from: Source::Default };
        Settings { drain_seconds, ..Settings::default() }
    };
    let asked = ChangeTrigger::between(&settings(10), &settings(15), &around);
    assert!(asked.is_by_nobody());
}

#[test]
fn a_container_that_came_while_the_webhook_was_away_is_brought_in() {
    let annotation = annotated(&[("graceful", "true")]);
    let around = NamespaceContext::default();
    let mut template = evaluated(&plain(), &annotation, &around).template.unwrap();
    template["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "late"}));
    let completed = evaluated(&template, &annotation, &around);
    assert_eq!(completed.timing, RolloutTiming::Immediate);
    let containers = &completed.template.unwrap()["spec"]["containers"];
    assert_eq!(containers[1]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
}

#[test]
fn a_users_later_hook_is_left_alone() {
    let annotation = annotated(&[("graceful", "true")]);
    let around = NamespaceContext::default();
    let mut template = evaluated(&plain(), &annotation, &around).template.unwrap();
    template["spec"]["containers"][0]["lifecycle"]["preStop"] = json!({"sleep": {"seconds": 3}});
    assert_eq!(evaluated(&template, &annotation, &around).template, None);
}

fn service() -> Arc<k8s_openapi::api::core::v1::Service> {
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 8080}]});
    Arc::new(serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap())
}

fn with_log_shipper() -> Value {
    let mut template = plain();
    template["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "log"}));
    template
}

#[test]
fn a_container_without_a_hook_is_no_reason_to_roll() {
    for said in [
        annotated(&[("graceful", "true"), ("exclude-containers", "log")]),
        annotated(&[("graceful", "true"), ("drain-seconds", "0")]),
    ] {
        let mut around = NamespaceContext::default();
        let injected = evaluated(&with_log_shipper(), &said, &around).template.unwrap();
        around.services.push(service());
        assert_eq!(evaluated(&injected, &said, &around).template, None, "{said:?}");
    }
}

#[test]
fn an_excluded_container_does_not_hurry_a_policy() {
    let around =
        |drain| policy_of(json!({"selector": {}, "drainSeconds": drain, "excludedContainers": ["log"]}));
    let injected = evaluated(&with_log_shipper(), &annotated(&[]), &around(10)).template.unwrap();
    let changed = evaluated(&injected, &annotated(&[]), &around(20));
    assert!(changed.template.is_some() && changed.timing == RolloutTiming::Queued);
}

fn policy_of(spec: Value) -> NamespaceContext {
    let policy: GracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "all"}, "spec": spec,
    }))
    .unwrap();
    NamespaceContext { policies: vec![Arc::new(policy)], ..NamespaceContext::default() }
}

fn cluster_policies<const N: usize>(specs: [Value; N]) -> NamespaceContext {
    let policy = |(index, spec)| {
        let metadata = json!({"name": format!("policy-{index}")});
        let kind = "ClusterGracefulPolicy";
        let policy =
            json!({"apiVersion": "adieu.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        Arc::new(serde_json::from_value(policy).unwrap())
    };
    let cluster_policies = specs.into_iter().enumerate().map(policy).collect();
    NamespaceContext { cluster_policies, ..NamespaceContext::default() }
}

#[test]
fn a_policy_that_vanishes_rolls_nobody_and_one_that_changes_does() {
    let nobody = NamespaceContext::default();
    let annotation = annotated(&[("graceful", "true")]);
    let injected = evaluated(&plain(), &annotation, &policy(20)).template.unwrap();
    assert_eq!(evaluated(&injected, &annotation, &nobody).template, None, "the policy is gone");
    let narrowed = policy_of(json!({"selector": {"matchLabels": {"app": "other"}}, "drainSeconds": 20}));
    let changed = evaluated(&injected, &annotation, &narrowed);
    assert!(
        changed.template.is_some() && changed.timing == RolloutTiming::Queued,
        "the policy is there, and says otherwise"
    );
}

#[test]
fn what_follows_a_vanished_policy_is_pending_until_the_template_changes() {
    let named = |name: &str, drain| {
        let mut policy = policy(drain);
        let all = Arc::make_mut(&mut policy.policies[0]);
        all.metadata.name = Some(name.into());
        policy
    };
    let injected = evaluated(&plain(), &annotated(&[]), &named("before", 20)).template.unwrap();
    let renamed = evaluated(&injected, &annotated(&[]), &named("now", 30));
    assert_eq!((renamed.template, renamed.state), (None, InjectionState::Pending));
    assert_eq!((renamed.timing, renamed.asked_by), (RolloutTiming::NextUpdate, BTreeMap::new()));
    let same = evaluated(&injected, &annotated(&[]), &named("now", 20));
    assert_eq!(
        (same.template, same.state),
        (None, InjectionState::Injected),
        "it carries what the policy says"
    );
    let gone = evaluated(&injected, &annotated(&[("graceful", "true")]), &NamespaceContext::default());
    assert_eq!((gone.template, gone.state), (None, InjectionState::Injected), "no policy says otherwise");
}

#[test]
fn the_policies_that_ask_are_those_that_changed_and_the_one_that_opted_in() {
    let around = |drain: i64, cap: i64, of_cluster: i64| {
        let mut around =
            policy_of(json!({"selector": {}, "drainSeconds": drain, "rollout": {"maxConcurrent": 5}}));
        let cluster = [
            json!({"shutdownTimeoutSeconds": of_cluster, "disruptionBudget": {"maxUnavailable": 1}}),
            json!({"maxGracePeriodSeconds": cap, "priority": -1, "rollout": {"maxConcurrent": 2}}),
        ];
        around.cluster_policies = cluster_policies(cluster).cluster_policies;
        around
    };
    let asked_by = |template: &Value, annotations: &BTreeMap<String, String>, around: &NamespaceContext| {
        evaluated(template, annotations, around).asked_by
    };
    let none = annotated(&[]);
    let before = around(20, 600, 40);
    let own = (Source::Policy("all".into()), 5);
    let defaults = (Source::ClusterPolicy("policy-0".into()), 1);
    let capping = (Source::ClusterPolicy("policy-1".into()), 2);
    assert_eq!(asked_by(&plain(), &none, &before), [own.clone()].into(), "it opts in");
    let injected = evaluated(&plain(), &none, &before).template.unwrap();
    assert_eq!(asked_by(&injected, &none, &before), [].into());
    assert_eq!(asked_by(&injected, &none, &around(30, 600, 40)), [own.clone()].into());
    assert_eq!(asked_by(&injected, &none, &around(20, 600, 50)), [own.clone(), defaults.clone()].into());
    let annotated = annotated(&[("policy", "all")]);
    assert_eq!(asked_by(&injected, &annotated, &around(20, 600, 50)), [defaults.clone()].into());
    let all = evaluated(&injected, &none, &around(30, 500, 50));
    assert_eq!(all.asked_by, [own, defaults, capping].into());

    let by_annotation = evaluated(&plain(), &annotated, &NamespaceContext::default());
    assert_eq!(by_annotation.asked_by, [].into());
}

#[test]
fn settings_that_make_no_difference_are_no_reason_to_roll() {
    let mut long = plain();
    long["spec"]["terminationGracePeriodSeconds"] = json!(300);
    let shutdown = |seconds| policy_of(json!({"selector": {}, "shutdownTimeoutSeconds": seconds}));
    let injected = evaluated(&long, &annotated(&[]), &shutdown(30)).template.unwrap();
    let mut around = shutdown(40);
    around.services.push(service());
    assert_eq!(evaluated(&injected, &annotated(&[]), &around).template, None);
}

#[test]
fn what_a_git_sync_put_back_meanwhile_is_injected_again() {
    let annotation = annotated(&[("graceful", "true")]);
    let around = NamespaceContext::default();
    let injected = evaluated(&plain(), &annotation, &around).template.unwrap();
    let mut synced = injected.clone();
    synced["spec"]["terminationGracePeriodSeconds"] = json!(30);
    assert_eq!(evaluated(&synced, &annotation, &around).template, Some(injected));
}

#[test]
fn pods_that_pass_the_webhook_by_are_not_said_to_be_injected() {
    let by_pod =
        NamespaceContext { all_pods: false, ..policy_of(json!({"selector": {}, "injectionTarget": "Pod"})) };
    let mut template = plain();
    let found = evaluated(&template, &annotated(&[]), &by_pod);
    assert_eq!(found.state, InjectionState::Unsatisfiable);
    assert!(found.warnings[0].contains("on the namespace or on the pod template"), "{:?}", found.warnings);
    let none = annotated(&[]);
    let told = admit(&Workload::new(Kind::Deployment, &none, &template), None, &by_pod).warnings;
    assert_eq!(told, found.warnings);

    let labelled = NamespaceContext { all_pods: true, ..by_pod.clone() };
    assert_eq!(evaluated(&template, &none, &labelled).state, InjectionState::PodInjection);
    // The webhook isn't asked about pods for their annotations.
    template["metadata"]["annotations"] = json!({"adieu.dev/drain-seconds": "10"});
    assert_eq!(evaluated(&template, &none, &by_pod).state, InjectionState::Unsatisfiable);
    template["metadata"]["labels"]["adieu.dev/injection"] = json!("disabled");
    assert_eq!(evaluated(&template, &none, &by_pod).state, InjectionState::Unsatisfiable);
    template["metadata"]["labels"]["adieu.dev/injection"] = json!("enabled");
    let found = evaluated(&template, &none, &by_pod);
    assert_eq!((found.state, found.warnings.is_empty()), (InjectionState::PodInjection, true));
}

#[test]
fn admission_passes_what_the_controller_writes() {
    let annotation = annotated(&[("graceful", "true")]);
    let (none, nobody) = (annotated(&[]), NamespaceContext::default());
    let injected = evaluated(&plain(), &annotation, &nobody).template.unwrap();
    let by_policy = evaluated(&plain(), &none, &policy(20)).template.unwrap();
    let long = {
        let mut template = plain();
        template["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 50}}});
        evaluated(&template, &annotation, &nobody).template.unwrap()
    };
    for (case, template, annotations, around) in [
        ("annotated", &plain(), &annotation, &nobody),
        ("the annotation was taken away", &injected, &none, &nobody),
        ("a sleep is longer than the grace period was", &long, &none, &nobody),
        ("opted out", &injected, &annotated(&[("graceful", "false")]), &nobody),
        ("the policy changed", &by_policy, &none, &policy(30)),
        (
            "only the pods are to be injected",
            &by_policy,
            &none,
            &policy_of(json!({"selector": {}, "injectionTarget": "Pod"})),
        ),
        ("the policy reverts", &by_policy, &none, &reverting()),
    ] {
        let old = Workload::new(Kind::Deployment, annotations, template);
        let planned = evaluate(&old, around).template;
        let planned = planned.unwrap_or_else(|| unreachable!("{case}: nothing to write"));
        let new = Workload { template: &planned, ..old };
        assert_eq!(admit(&new, Some(&old), around).template, None, "{case}");
        assert_eq!(evaluate(&new, around).template, None, "{case}: it is done");
    }
}

#[test]
fn over_the_maximum_a_workload_is_prevented_and_not_injected() {
    let evaluated = evaluated(
        &plain(),
        &annotated(&[("graceful", "true"), ("drain-seconds", "900")]),
        &NamespaceContext::default(),
    );
    assert_eq!((evaluated.template, evaluated.state), (None, InjectionState::Unsatisfiable));
    assert!(evaluated.warnings[0].contains("more than the maximum"), "{:?}", evaluated.warnings);
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
fn what_keeps_pods_from_their_injection_is_told_on_the_workload() {
    let none = annotated(&[]);
    let mut hooked = plain();
    hooked["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"exec": {"command": ["/drain"]}}});
    for (controlled, around) in by_pod_in_both_ways(json!({"drainSeconds": 900})) {
        let template = plain();
        let workload = Workload { controlled, ..Workload::new(Kind::Deployment, &none, &template) };
        let found = evaluate(&workload, &around);
        assert_eq!((found.template, found.state), (None, InjectionState::Unsatisfiable));
        assert!(found.warnings[0].contains("more than the maximum"), "{:?}", found.warnings);
        let admission = admit(&workload, None, &around);
        assert_eq!((admission.template, admission.warnings), (None, found.warnings));
    }
    for (controlled, around) in by_pod_in_both_ways(json!({})) {
        let workload = Workload { controlled, ..Workload::new(Kind::Deployment, &none, &hooked) };
        let found = evaluate(&workload, &around);
        assert_eq!((found.template, found.state), (None, InjectionState::PodInjection));
        assert!(found.warnings[0].contains("can't be read from it"), "{:?}", found.warnings);
        assert_eq!(admit(&workload, None, &around).warnings, found.warnings);
    }
}

#[test]
fn what_pods_would_get_where_a_policy_only_audits_is_told() {
    let none = annotated(&[]);
    for (controlled, around) in by_pod_in_both_ways(json!({"mode": "Audit"})) {
        let template = plain();
        let workload = Workload { controlled, ..Workload::new(Kind::Deployment, &none, &template) };
        let found = evaluate(&workload, &around);
        assert_eq!((found.state, found.timing), (InjectionState::Pending, RolloutTiming::DryRun));
        assert_eq!(found.template.unwrap()["spec"]["terminationGracePeriodSeconds"], 45);
        assert_eq!(admit(&workload, None, &around).template, None);
    }
}

fn without_hook(template: &Value) -> Value {
    let mut template = template.clone();
    template["spec"]["terminationGracePeriodSeconds"] = json!(30);
    template["spec"]["containers"][0].as_object_mut().unwrap().remove("lifecycle");
    template
}

#[test]
fn drift_is_repaired_as_a_policy_change_is_unless_an_annotation_opted_the_workload_in() {
    let none = annotated(&[]);
    let injected = evaluated(&plain(), &none, &policy(20)).template.unwrap();
    let mut added = injected.clone();
    added["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "late"}));
    let later = policy_of(json!({"selector": {}, "drainSeconds": 20, "rollout": {"mode": "NextUpdate"}}));
    for drifted in [without_hook(&injected), added] {
        let in_turn = evaluated(&drifted, &none, &policy(20));
        assert!(in_turn.template.is_some());
        assert_eq!((in_turn.timing, in_turn.state), (RolloutTiming::Queued, InjectionState::Pending));
        assert_eq!(in_turn.asked_by, [(Source::Policy("all".into()), 1)].into());
        assert_eq!(evaluated(&drifted, &none, &later).timing, RolloutTiming::NextUpdate);
        let annotation = annotated(&[("graceful", "true")]);
        assert_eq!(evaluated(&drifted, &annotation, &policy(20)).timing, RolloutTiming::Immediate);
    }

    let nobody = NamespaceContext::default();
    let rendered = render(&Workload::new(Kind::Deployment, &none, &plain()), &nobody, true).template.unwrap();
    let in_turn = evaluated(&without_hook(&rendered), &none, &nobody);
    assert_eq!((in_turn.template, in_turn.timing), (Some(rendered), RolloutTiming::Queued));
}

#[test]
fn a_lowered_maximum_takes_nothing_from_workloads_that_are_injected() {
    let annotation = annotated(&[("graceful", "true")]);
    let mut around = policy(20);
    let injected = evaluated(&plain(), &annotated(&[]), &around).template.unwrap();
    around.cluster_policies = cluster_policies([json!({"maxGracePeriodSeconds": 40})]).cluster_policies;
    for said in [annotated(&[]), annotation] {
        let capped = evaluated(&injected, &said, &around);
        assert_eq!((capped.template, capped.state), (None, InjectionState::Unsatisfiable));
        assert!(capped.warnings.iter().any(|warning| warning == KEPT), "{:?}", capped.warnings);
        let new = evaluated(&plain(), &said, &around);
        assert_eq!((new.template, new.state), (None, InjectionState::Unsatisfiable));
        assert!(!new.warnings.iter().any(|warning| warning == KEPT), "{:?}", new.warnings);
    }
    let out = evaluated(&injected, &annotated(&[("graceful", "false")]), &around);
    assert_eq!(
        (out.template, out.timing),
        (Some(plain()), RolloutTiming::Immediate),
        "a person's word counts"
    );
}

#[test]
fn a_template_keeps_its_injection_while_its_pods_would_get_none() {
    let injected = evaluated(&plain(), &annotated(&[]), &policy(20)).template.unwrap();
    let by_pod = policy_of(json!({"selector": {}, "injectionTarget": "Pod", "drainSeconds": 20}));
    let reached = evaluated(&injected, &annotated(&[]), &by_pod);
    assert_eq!((reached.template, reached.state), (Some(plain()), InjectionState::PodInjection));
    let bypassed = NamespaceContext { all_pods: false, ..by_pod.clone() };
    let caps = cluster_policies([json!({"maxGracePeriodSeconds": 40})]).cluster_policies;
    let capped = NamespaceContext { cluster_policies: caps, ..by_pod };
    for around in [bypassed, capped] {
        let found = evaluated(&injected, &annotated(&[]), &around);
        assert_eq!((found.template, found.state), (None, InjectionState::Unsatisfiable));
        assert!(found.warnings.iter().any(|warning| warning == KEPT), "{:?}", found.warnings);
        let mut changed = injected.clone();
        changed["spec"]["containers"][0]["image"] = json!("v2");
        let none = annotated(&[]);
        let workload = |template| Workload::new(Kind::Deployment, &none, template);
        let admitted = admit(&workload(&changed), Some(&workload(&injected)), &around);
        assert_eq!(admitted.template, None, "it is as it shall be");
        assert!(admitted.warnings.iter().any(|warning| warning == KEPT), "{:?}", admitted.warnings);
    }
}

/// The workload as the controller leaves it: its marks are set, and its template, where it is not to wait.
fn reconciled(
    template: &mut Value,
    annotations: &mut BTreeMap<String, String>,
    around: &NamespaceContext,
) -> Evaluation {
    let found = evaluated(template, annotations, around);
    for (key, value) in marks(&Workload::new(Kind::Deployment, annotations, template), &found, around) {
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
fn a_service_that_appears_after_a_policy_allowed_probes_rolls_nothing() {
    let (mut template, mut annotations) = (plain(), annotated(&[]));
    reconciled(&mut template, &mut annotations, &probing("Never"));
    let injected = template.clone();
    assert!(!annotations.contains_key(ACCEPTED));
    // Without a Service it makes no difference.
    reconciled(&mut template, &mut annotations, &probing("Auto"));
    assert_eq!(template, injected);
    let accepted = annotations.clone();
    assert!(accepted.contains_key(ACCEPTED), "{accepted:?}");
    let mut around = probing("Auto");
    around.services.push(service());
    let found = reconciled(&mut template, &mut annotations, &around);
    assert_eq!((found.template, found.state), (None, InjectionState::Injected));
    assert_eq!(annotations, accepted, "it is not written again");

    // Another change that makes no difference either.
    let mut shorter =
        policy_of(json!({"selector": {}, "readinessProbe": {"mode": "Auto"}, "sidecarSeconds": 9}));
    shorter.services.push(service());
    assert_eq!(reconciled(&mut template, &mut annotations, &shorter).template, None);

    // A person's later act with an effect is followed, and brings the probe along.
    let mut longer =
        policy_of(json!({"selector": {}, "readinessProbe": {"mode": "Auto"}, "drainSeconds": 20}));
    longer.services.push(service());
    let changed = reconciled(&mut template, &mut annotations, &longer).template.unwrap();
    assert!(changed["spec"]["containers"][0].get("readinessProbe").is_some());
    reconciled(&mut template, &mut annotations, &longer);
    assert!(!annotations.contains_key(ACCEPTED), "the record says it now");
}

#[test]
fn a_policy_that_goes_to_and_fro_is_followed_again() {
    let (mut template, mut annotations) = (plain(), annotated(&[]));
    let with_service = |mode| NamespaceContext { services: vec![service()], ..probing(mode) };
    for mode in ["Never", "Auto"] {
        reconciled(&mut template, &mut annotations, &probing(mode));
    }
    assert_eq!(reconciled(&mut template, &mut annotations, &with_service("Auto")).template, None);
    assert_eq!(reconciled(&mut template, &mut annotations, &with_service("Never")).template, None);
    assert!(!annotations.contains_key(ACCEPTED), "{annotations:?}");
    let allowed = reconciled(&mut template, &mut annotations, &with_service("Auto"));
    assert!(allowed.template.is_some(), "now it makes a difference, and a person asks for it");
}

#[test]
fn kubelets_that_are_upgraded_after_a_policy_left_them_the_choice_roll_nothing() {
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
fn settings_that_were_accepted_for_another_injection_count_no_more() {
    let (mut template, mut annotations) = (plain(), annotated(&[]));
    for mode in ["Never", "Auto"] {
        reconciled(&mut template, &mut annotations, &probing(mode));
    }
    // `kubectl rollout undo` brings annotations of the workload back.
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
    assert!(!annotations.contains_key(ACCEPTED), "what can't be read goes");
}

#[test]
fn the_mark_of_who_waits_goes_when_nobody_manages_the_workload() {
    let later = NamespaceContext {
        all_pods: false,
        ..policy_of(json!({"selector": {}, "rollout": {"mode": "NextUpdate"}}))
    };
    let waiting = annotated(&[("pending", "NextUpdate")]);
    let changed = |annotations: &BTreeMap<String, String>, around: &NamespaceContext| {
        let template = plain();
        let found = evaluated(&template, annotations, around);
        marks(&Workload::new(Kind::Deployment, annotations, &template), &found, around)
    };
    assert_eq!(changed(&annotated(&[]), &later), [(PENDING, Some("NextUpdate".into()))].into());
    assert_eq!(changed(&waiting, &later), [].into());
    for (annotations, around) in [
        (waiting.clone(), NamespaceContext::default()),
        (annotated(&[("pending", "NextUpdate"), ("graceful", "false")]), later.clone()),
        (waiting, policy_of(json!({"selector": {}}))),
    ] {
        assert_eq!(changed(&annotations, &around), [(PENDING, None)].into(), "{annotations:?}");
    }
}

fn reverting() -> NamespaceContext {
    policy_of(json!({"selector": {}, "drainSeconds": 20, "rollout": {"mode": "Revert", "maxConcurrent": 2}}))
}

#[test]
fn a_policy_that_reverts_takes_back_in_turn_what_was_injected() {
    let none = annotated(&[]);
    let injected = evaluated(&plain(), &none, &policy(20)).template.unwrap();
    let found = evaluated(&injected, &none, &reverting());
    assert_eq!((found.template.as_ref(), found.state), (Some(&plain()), InjectionState::Pending));
    assert_eq!(
        (found.timing, found.asked_by),
        (RolloutTiming::Queued, [(Source::Policy("all".into()), 2)].into())
    );

    let reverted = evaluated(&plain(), &none, &reverting());
    assert_eq!((reverted.template.as_ref(), reverted.state), (None, InjectionState::Reverted));
}

#[test]
fn who_only_names_a_policy_that_reverts_is_reverted_and_who_is_annotated_as_graceful_stays() {
    let names = annotated(&[("policy", "all")]);
    let injected = evaluated(&plain(), &names, &policy(20)).template.unwrap();
    let named = evaluated(&injected, &names, &reverting());
    assert_eq!((named.template, named.timing), (Some(plain()), RolloutTiming::Queued));
    for said in [annotated(&[("graceful", "true")]), annotated(&[("graceful", "true"), ("policy", "all")])] {
        let injected = evaluated(&plain(), &said, &policy(20)).template.unwrap();
        let stays = evaluated(&injected, &said, &reverting());
        assert_eq!((stays.template, stays.state), (None, InjectionState::Injected), "{said:?}");
        assert!(evaluated(&plain(), &said, &reverting()).template.is_some());
    }
}

#[test]
fn a_cluster_policy_that_reverts_reaches_all_that_policies_opted_in() {
    let none = annotated(&[]);
    let mut around = policy(20);
    let injected = evaluated(&plain(), &none, &around).template.unwrap();
    let platform = json!({"rollout": {"mode": "Revert", "maxConcurrent": 3}});
    around.cluster_policies = cluster_policies([platform]).cluster_policies;
    let found = evaluated(&injected, &none, &around);
    assert_eq!(found.template, Some(plain()));
    let asking = [(Source::Policy("all".into()), 3), (Source::ClusterPolicy("policy-0".into()), 3)];
    assert_eq!(found.asked_by, asking.into());
    // What the command line injected is the manifest's own.
    let rendered = render(&Workload::new(Kind::Deployment, &none, &plain()), &policy(20), false).template;
    assert_eq!(evaluated(&rendered.unwrap(), &none, &around).state, InjectionState::Injected);
}
