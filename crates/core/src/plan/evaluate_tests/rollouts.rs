//! Changes that cause rollouts, and changes that don't.

use super::*;

#[test]
fn annotations_are_immediate_and_policies_are_queued() {
    let by_policy = evaluated(&plain(), &annotated(&[]), &policy(20)).template.unwrap();
    let changed = evaluated(&by_policy, &annotated(&[]), &policy(30));
    assert!(changed.template.is_some() && changed.timing == RolloutTiming::Queued);
    let overridden = evaluated(&by_policy, &annotated(&[("drain-seconds", "7")]), &policy(20));
    assert!(overridden.template.is_some() && overridden.timing == RolloutTiming::Immediate);
}

#[test]
fn max_concurrent_does_not_override_the_rollout_mode() {
    let mut context = policy_of(json!({"selector": {}, "rollout": {"maxConcurrent": 2}}));
    context.cluster_policies =
        cluster_policies([json!({"rollout": {"mode": "NextUpdate"}})]).cluster_policies;
    let evaluated = evaluated(&plain(), &annotated(&[]), &context);
    assert!(evaluated.template.is_some() && evaluated.timing == RolloutTiming::NextUpdate);
}

#[test]
fn new_defaults_and_services_cause_no_rollout() {
    let annotation = annotated(&[("graceful", "true")]);
    let mut context = NamespaceContext::default();
    let injected = evaluated(&plain(), &annotation, &context).template.unwrap();
    context.services = vec![Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 8080}]},
        }))
        .unwrap(),
    )];
    assert_eq!(evaluated(&injected, &annotation, &context).template, None);

    let settings = |value| {
        let drain_seconds = Setting { value, from: Source::Default };
        Settings { drain_seconds, ..Settings::default() }
    };
    let trigger = ChangeTrigger::between(&settings(10), &settings(15), &context);
    assert!(trigger.is_none());
}

#[test]
fn users_later_hook_is_kept() {
    let annotation = annotated(&[("graceful", "true")]);
    let context = NamespaceContext::default();
    let mut template = evaluated(&plain(), &annotation, &context).template.unwrap();
    template["spec"]["containers"][0]["lifecycle"]["preStop"] = json!({"sleep": {"seconds": 3}});
    assert_eq!(evaluated(&template, &annotation, &context).template, None);
}

fn with_log_shipper() -> Value {
    let mut template = plain();
    template["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "log"}));
    template
}

#[test]
fn container_without_a_hook_causes_no_rollout() {
    for instructions in [
        annotated(&[("graceful", "true"), ("exclude-containers", "log")]),
        annotated(&[("graceful", "true"), ("drain-seconds", "0")]),
    ] {
        let mut context = NamespaceContext::default();
        let injected = evaluated(&with_log_shipper(), &instructions, &context).template.unwrap();
        context.services.push(service());
        assert_eq!(evaluated(&injected, &instructions, &context).template, None, "{instructions:?}");
    }
}

#[test]
fn excluded_container_does_not_change_the_timing() {
    let context =
        |drain| policy_of(json!({"selector": {}, "drainSeconds": drain, "excludedContainers": ["log"]}));
    let injected = evaluated(&with_log_shipper(), &annotated(&[]), &context(10)).template.unwrap();
    let changed = evaluated(&injected, &annotated(&[]), &context(20));
    assert!(changed.template.is_some() && changed.timing == RolloutTiming::Queued);
}

#[test]
fn deleted_policy_causes_no_rollout_and_a_changed_one_does() {
    let empty = NamespaceContext::default();
    let annotation = annotated(&[("graceful", "true")]);
    let injected = evaluated(&plain(), &annotation, &policy(20)).template.unwrap();
    assert_eq!(evaluated(&injected, &annotation, &empty).template, None, "the policy is deleted");
    let narrowed = policy_of(json!({"selector": {"matchLabels": {"app": "other"}}, "drainSeconds": 20}));
    let changed = evaluated(&injected, &annotation, &narrowed);
    assert!(
        changed.template.is_some() && changed.timing == RolloutTiming::Queued,
        "the policy has other values"
    );
}

#[test]
fn replacement_of_a_deleted_policy_is_pending_until_the_template_changes() {
    let named = |name: &str, drain| {
        let mut policy = policy(drain);
        let all = Arc::make_mut(&mut policy.policies[0]);
        all.metadata.name = Some(name.into());
        policy
    };
    let injected = evaluated(&plain(), &annotated(&[]), &named("before", 20)).template.unwrap();
    let renamed = evaluated(&injected, &annotated(&[]), &named("now", 30));
    assert_eq!((renamed.template, renamed.state), (None, InjectionState::Pending));
    assert_eq!((renamed.timing, renamed.requested_by), (RolloutTiming::NextUpdate, BTreeMap::new()));
    let same = evaluated(&injected, &annotated(&[]), &named("now", 20));
    assert_eq!(
        (same.template, same.state),
        (None, InjectionState::Injected),
        "it has the values of the policy"
    );
    let deleted = evaluated(&injected, &annotated(&[("graceful", "true")]), &NamespaceContext::default());
    assert_eq!(
        (deleted.template, deleted.state),
        (None, InjectionState::Injected),
        "no policy has other values"
    );
}

#[test]
fn changed_and_opting_in_policies_trigger_the_rollout() {
    let context = |drain: i64, cap: i64, of_cluster: i64| {
        let mut context =
            policy_of(json!({"selector": {}, "drainSeconds": drain, "rollout": {"maxConcurrent": 5}}));
        let cluster = [
            json!({"shutdownTimeoutSeconds": of_cluster, "disruptionBudget": {"maxUnavailable": 1}}),
            json!({"maxGracePeriodSeconds": cap, "priority": -1, "rollout": {"maxConcurrent": 2}}),
        ];
        context.cluster_policies = cluster_policies(cluster).cluster_policies;
        context
    };
    let requested_by =
        |template: &Value, annotations: &BTreeMap<String, String>, context: &NamespaceContext| {
            evaluated(template, annotations, context).requested_by
        };
    let none = annotated(&[]);
    let before = context(20, 600, 40);
    let own = (Source::Policy("all".into()), 5);
    let defaults = (Source::ClusterPolicy("policy-0".into()), 1);
    let capping = (Source::ClusterPolicy("policy-1".into()), 2);
    assert_eq!(requested_by(&plain(), &none, &before), [own.clone()].into(), "it opts in");
    let injected = evaluated(&plain(), &none, &before).template.unwrap();
    assert_eq!(requested_by(&injected, &none, &before), [].into());
    assert_eq!(requested_by(&injected, &none, &context(30, 600, 40)), [own.clone()].into());
    assert_eq!(requested_by(&injected, &none, &context(20, 600, 50)), [own.clone(), defaults.clone()].into());
    let annotated = annotated(&[("policy", "all")]);
    assert_eq!(requested_by(&injected, &annotated, &context(20, 600, 50)), [defaults.clone()].into());
    let all = evaluated(&injected, &none, &context(30, 500, 50));
    assert_eq!(all.requested_by, [own, defaults, capping].into());

    let by_annotation = evaluated(&plain(), &annotated, &NamespaceContext::default());
    assert_eq!(by_annotation.requested_by, [].into());
}

#[test]
fn settings_without_effect_cause_no_rollout() {
    let mut long = plain();
    long["spec"]["terminationGracePeriodSeconds"] = json!(300);
    let shutdown = |seconds| policy_of(json!({"selector": {}, "shutdownTimeoutSeconds": seconds}));
    let injected = evaluated(&long, &annotated(&[]), &shutdown(30)).template.unwrap();
    let mut context = shutdown(40);
    context.services.push(service());
    assert_eq!(evaluated(&injected, &annotated(&[]), &context).template, None);
}

fn without_hook(template: &Value) -> Value {
    let mut template = template.clone();
    template["spec"]["terminationGracePeriodSeconds"] = json!(30);
    template["spec"]["containers"][0].as_object_mut().unwrap().remove("lifecycle");
    template
}

#[test]
fn drift_is_repaired_in_rollout_slots_or_immediately_for_annotated_workloads() {
    let none = annotated(&[]);
    let injected = evaluated(&plain(), &none, &policy(20)).template.unwrap();
    let mut added = injected.clone();
    added["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "late"}));
    let later = policy_of(json!({"selector": {}, "drainSeconds": 20, "rollout": {"mode": "NextUpdate"}}));
    for drifted in [without_hook(&injected), added] {
        let queued = evaluated(&drifted, &none, &policy(20));
        assert!(queued.template.is_some());
        assert_eq!((queued.timing, queued.state), (RolloutTiming::Queued, InjectionState::Pending));
        assert_eq!(queued.requested_by, [(Source::Policy("all".into()), 1)].into());
        assert_eq!(evaluated(&drifted, &none, &later).timing, RolloutTiming::NextUpdate);
        let annotation = annotated(&[("graceful", "true")]);
        assert_eq!(evaluated(&drifted, &annotation, &policy(20)).timing, RolloutTiming::Immediate);
    }

    let empty = NamespaceContext::default();
    let rendered = render(&Workload::new(Kind::Deployment, &none, &plain()), &empty, true).template.unwrap();
    let queued = evaluated(&without_hook(&rendered), &none, &empty);
    assert_eq!((queued.template, queued.timing), (Some(rendered), RolloutTiming::Queued));
}

#[test]
fn values_restored_by_a_git_sync_are_injected_again() {
    let annotation = annotated(&[("graceful", "true")]);
    let context = NamespaceContext::default();
    let injected = evaluated(&plain(), &annotation, &context).template.unwrap();
    let mut synced = injected.clone();
    synced["spec"]["terminationGracePeriodSeconds"] = json!(30);
    assert_eq!(evaluated(&synced, &annotation, &context).template, Some(injected));
}

#[test]
fn container_added_without_the_webhook_is_injected() {
    let annotation = annotated(&[("graceful", "true")]);
    let context = NamespaceContext::default();
    let mut template = evaluated(&plain(), &annotation, &context).template.unwrap();
    template["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "late"}));
    let completed = evaluated(&template, &annotation, &context);
    assert_eq!(completed.timing, RolloutTiming::Immediate);
    let containers = &completed.template.unwrap()["spec"]["containers"];
    assert_eq!(containers[1]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
}

#[test]
fn removed_probe_and_spread_constraint_are_drift() {
    let none = annotated(&[]);
    let context = policy_of(json!({
        "selector": {}, "readinessProbe": {"probe": {"tcpSocket": {"port": 80}}}, "topologySpread": {"topologyKey": "zone"},
    }));
    let selector = json!({"matchLabels": {"app": "web"}});
    let evaluated = |template: &Value| {
        let workload =
            Workload { selector: Some(&selector), ..Workload::new(Kind::Deployment, &none, template) };
        evaluate(&workload, &context).template
    };
    let injected = evaluated(&plain()).unwrap();
    assert_eq!(evaluated(&injected), None);
    let mut without_probe = injected.clone();
    without_probe["spec"]["containers"][0].as_object_mut().unwrap().remove("readinessProbe").unwrap();
    let mut without_spread = injected.clone();
    without_spread["spec"].as_object_mut().unwrap().remove("topologySpreadConstraints").unwrap();
    for drifted in [without_probe, without_spread] {
        assert_eq!(evaluated(&drifted).as_ref(), Some(&injected));
    }
}

#[test]
fn related_policies_are_those_of_the_present_and_the_desired_template() {
    let none = annotated(&[]);
    let related = |template: &Value, context: &NamespaceContext| {
        let workload = Workload::new(Kind::Deployment, &none, template);
        rolled_out_by(&workload, &evaluate(&workload, context))
    };
    let all = Source::Policy("all".into());
    let cluster = Source::ClusterPolicy("policy-0".into());
    assert_eq!(related(&plain(), &NamespaceContext::default()), [].into());
    assert_eq!(related(&plain(), &policy(20)), [all.clone()].into());
    let injected = evaluated(&plain(), &none, &policy(20)).template.unwrap();
    assert_eq!(related(&injected, &NamespaceContext::default()), [all.clone()].into(), "of the record");
    let mut context = policy(20);
    let reverting = json!({"rollout": {"mode": "Revert"}});
    context.cluster_policies = cluster_policies([reverting]).cluster_policies;
    assert_eq!(related(&plain(), &context), [all, cluster].into(), "one opts in, the other reverts");
}
