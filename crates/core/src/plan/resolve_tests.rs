use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{ProbeMode, RolloutMode},
    plan::{Kind, applies_to, cluster_policy_applies_to, matches, matching_policies},
};

fn policy(name: &str, created: &str, spec: Value) -> Arc<GracefulPolicy> {
    let metadata = json!({"name": name, "namespace": "shop", "creationTimestamp": created});
    Arc::new(serde_json::from_value(object("GracefulPolicy", metadata, spec)).unwrap())
}

fn cluster_policy(name: &str, spec: Value) -> Arc<ClusterGracefulPolicy> {
    Arc::new(serde_json::from_value(object("ClusterGracefulPolicy", json!({"name": name}), spec)).unwrap())
}

fn object(kind: &str, metadata: Value, spec: Value) -> Value {
    json!({"apiVersion": "adieu.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

fn resolved(
    kind: Kind,
    on_workload: &[(&str, &str)],
    on_template: &[(&str, &str)],
    context: &NamespaceContext,
) -> Resolution {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (format!("adieu.dev/{k}"), (*v).to_owned())).collect()
    };
    let template =
        json!({"metadata": {"labels": {"app": "checkout"}, "annotations": map(on_template)}, "spec": {}});
    resolve(&Workload::new(kind, &map(on_workload), &template), context)
}

fn context(
    policies: &[Arc<GracefulPolicy>],
    cluster_policies: &[Arc<ClusterGracefulPolicy>],
) -> NamespaceContext {
    NamespaceContext {
        policies: policies.to_vec(),
        cluster_policies: cluster_policies.to_vec(),
        ..NamespaceContext::default()
    }
}

#[test]
fn false_always_wins_and_the_default_is_not_opted_in() {
    use Kind::{Deployment, StatefulSet};
    let empty = context(&[], &[]);
    let all = context(&[policy("all", "2026-01-01T00:00:00Z", json!({"selector": {}}))], &[]);
    let opt_in = |kind, on_workload: &[(&str, &str)], on_template: &[(&str, &str)], context| {
        resolved(kind, on_workload, on_template, context).opt_in
    };
    assert_eq!(opt_in(Deployment, &[], &[], &empty), OptIn::Unspecified);
    assert_eq!(opt_in(Deployment, &[], &[], &all), OptIn::In(Source::Policy("all".into())));
    assert_eq!(opt_in(StatefulSet, &[], &[], &all), OptIn::Unspecified);
    assert_eq!(opt_in(StatefulSet, &[("policy", "all")], &[], &all), OptIn::In(Source::WorkloadAnnotation));
    assert_eq!(opt_in(Deployment, &[("graceful", "false")], &[], &all), OptIn::Out);
    assert_eq!(opt_in(Deployment, &[("graceful", "false")], &[("graceful", "true")], &all), OptIn::Out);
    // Of the two annotations the workload's counts, as for every other key.
    let by_workload = OptIn::In(Source::WorkloadAnnotation);
    assert_eq!(opt_in(Deployment, &[("graceful", "true")], &[("graceful", "false")], &all), by_workload);
    assert_eq!(opt_in(Deployment, &[], &[("graceful", "false")], &all), OptIn::Out);
    assert_eq!(opt_in(Deployment, &[("policy", "all")], &[("graceful", "false")], &all), OptIn::Out);
    assert_eq!(
        opt_in(Deployment, &[], &[("graceful", "true")], &empty),
        OptIn::In(Source::TemplateAnnotation)
    );
    let defaults = context(
        &[policy("defaults", "2026-01-01T00:00:00Z", json!({}))],
        &[cluster_policy("all", json!({}))],
    );
    assert_eq!(opt_in(Deployment, &[], &[], &defaults), OptIn::Unspecified);
}

#[test]
fn selector_matches_the_kinds_of_the_policy() {
    let spec = json!({"selector": {}, "kinds": ["StatefulSet", "DaemonSet"]});
    let context = context(&[], &[cluster_policy("sets", spec)]);
    let by = OptIn::In(Source::ClusterPolicy("sets".into()));
    assert_eq!(resolved(Kind::StatefulSet, &[], &[], &context).opt_in, by);
    assert_eq!(resolved(Kind::DaemonSet, &[], &[], &context).opt_in, by);
    assert_eq!(resolved(Kind::Deployment, &[], &[], &context).opt_in, OptIn::Unspecified);
}

#[test]
fn settings_merge_field_by_field_with_their_source() {
    let named = policy("named", "2026-03-01T00:00:00Z", json!({"drainSeconds": 20, "marginSeconds": 1}));
    let selecting = policy(
        "selecting",
        "2026-01-01T00:00:00Z",
        json!({"selector": {"matchLabels": {"app": "checkout"}}, "drainSeconds": 30, "shutdownTimeoutSeconds": 50}),
    );
    let everywhere =
        cluster_policy("everywhere", json!({"selector": {}, "sidecarSeconds": 7, "drainSeconds": 1}));
    let defaults = cluster_policy(
        "defaults",
        json!({"sidecarSeconds": 9, "gracePeriodPolicy": "Exact", "topologySpread": {"topologyKey": "zone"}}),
    );
    let found = resolved(
        Kind::Deployment,
        &[("policy", "named"), ("margin-seconds", "2"), ("pre-stop-method", "Exec")],
        &[("margin-seconds", "3"), ("drain-seconds", "15"), ("exclude-containers", "proxy")],
        &context(&[selecting, named], &[everywhere, defaults]),
    );
    assert_eq!(
        serde_json::to_value(&found.settings).unwrap(),
        json!({
            "drainSeconds": {"value": 15, "from": "template annotation"},
            "shutdownTimeoutSeconds": {"value": 50, "from": "policy selecting"},
            "sidecarSeconds": {"value": 7, "from": "cluster policy everywhere"},
            "marginSeconds": {"value": 2, "from": "annotation"},
            "gracePeriod": {"value": "Exact", "from": "cluster policy defaults"},
            "preStopMethod": {"value": "Exec", "from": "annotation"},
            "exclude": {"value": ["proxy"], "from": "template annotation"},
            "spread": {"value": {"topologyKey": "zone"}, "from": "cluster policy defaults"},
        })
    );
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
}

#[test]
fn rollout_mode_merges_and_max_concurrent_is_per_policy() {
    let web = policy("web", "2026-01-01T00:00:00Z", json!({"selector": {}, "rollout": {"maxConcurrent": 2}}));
    let defaults = cluster_policy("defaults", json!({"rollout": {"mode": "NextUpdate", "maxConcurrent": 9}}));
    let api = policy("api", "2026-01-01T00:00:00Z", json!({}));
    let context = context(&[web, api.clone()], &[defaults]);
    let found = resolved(Kind::Deployment, &[], &[], &context).settings;
    let by_cluster = Source::ClusterPolicy("defaults".into());
    assert_eq!(found.rollout_mode, Setting { value: RolloutMode::NextUpdate, from: by_cluster.clone() });
    assert_eq!(serde_json::to_value(&found).unwrap(), json!({}), "nothing is injected because of it");
    let by = |name: &str| Source::Policy(name.into());
    assert_eq!(max_concurrent(&by("web"), &context), 2);
    assert_eq!(max_concurrent(&by("api"), &context), 9, "the cluster's defaults hold");
    assert_eq!(max_concurrent(&by_cluster, &context), 9);
    let alone = NamespaceContext { policies: vec![api], ..NamespaceContext::default() };
    assert_eq!(max_concurrent(&by("api"), &alone), 1);
}

#[test]
fn the_lowest_limit_of_the_cluster_policies_is_the_limit_of_a_namespace() {
    let limit = |limit: i32| json!({"rollout": {"maxConcurrentPerNamespace": limit}});
    let policies = [("a", limit(3)), ("b", limit(2)), ("c", json!({}))];
    let policies = policies.map(|(name, spec)| cluster_policy(name, spec));
    assert_eq!(max_concurrent_per_namespace(&context(&[], &policies)), Some(2));
    assert_eq!(max_concurrent_per_namespace(&context(&[], &policies[2..])), None);
}

#[test]
fn priority_then_age_then_name_ranks_policies() {
    let all =
        |drain: i64, priority: i64| json!({"selector": {}, "drainSeconds": drain, "priority": priority});
    let first = policy("c", "2026-02-01T00:00:00Z", all(1, 5));
    let second = policy("b", "2026-01-01T00:00:00Z", all(2, 0));
    let third = policy("a", "2026-02-01T00:00:00Z", all(3, 0));
    let fourth = policy("d", "2026-02-01T00:00:00Z", all(4, 0));
    let ordered = [first, second, third, fourth];
    for winner in 0..ordered.len() {
        let mut rest = ordered[winner..].to_vec();
        rest.reverse();
        let found = resolved(Kind::Deployment, &[], &[], &context(&rest, &[]));
        let name = ordered[winner].name_any();
        assert_eq!(found.settings.drain_seconds.from, Source::Policy(name));
        assert_eq!(found.overridden_policies.len(), rest.len() - 1);
    }
}

#[test]
fn overridden_policy_sets_no_value() {
    let winner = policy("a", "2026-01-01T00:00:00Z", json!({"selector": {}}));
    let loser = policy("b", "2026-02-01T00:00:00Z", json!({"selector": {}, "drainSeconds": 99}));
    let found = resolved(Kind::Deployment, &[], &[], &context(&[winner, loser], &[]));
    assert_eq!(found.settings.drain_seconds.from, Source::Default);
    assert_eq!(found.overridden_policies, [Source::Policy("b".into())]);
}

#[test]
fn lowest_maximum_of_the_cluster_policies_applies() {
    let own = |max: i64| {
        policy("own", "2026-01-01T00:00:00Z", json!({"selector": {}, "maxGracePeriodSeconds": max}))
    };
    let caps = [
        cluster_policy("low", json!({"maxGracePeriodSeconds": 120, "priority": -1})),
        cluster_policy("high", json!({"maxGracePeriodSeconds": 1200})),
    ];
    let maximum = |policies: &[Arc<GracefulPolicy>], caps: &[Arc<ClusterGracefulPolicy>]| {
        let setting =
            resolved(Kind::Deployment, &[], &[], &context(policies, caps)).settings.max_grace_period_seconds;
        (setting.value, setting.from.to_string())
    };
    assert_eq!(maximum(&[], &[]), (600, "default".into()));
    assert_eq!(maximum(&[own(900)], &[]), (900, "policy own".into()));
    assert_eq!(maximum(&[own(900)], &caps), (120, "cluster policy low".into()));
    assert_eq!(maximum(&[own(60)], &caps), (60, "policy own".into()));
    assert_eq!(maximum(&[], &caps[1..]), (1200, "cluster policy high".into()));
}

#[test]
fn policy_inherits_omitted_fields_from_the_cluster_defaults() {
    let own = json!({"selector": {}, "drainSeconds": 20});
    let defaults = [
        cluster_policy("defaults", json!({"drainSeconds": 15, "marginSeconds": 7, "mode": "Audit"})),
        cluster_policy(
            "selecting",
            json!({"selector": {}, "marginSeconds": 9, "shutdownTimeoutSeconds": 90}),
        ),
    ];
    let found = |cluster_policies| {
        let own = policy("own", "2026-01-01T00:00:00Z", own.clone());
        serde_json::to_value(effective(&own.spec, &context(&[], cluster_policies))).unwrap()
    };
    let expected = |mode: &str, margin: i64| {
        json!({
            "mode": mode, "drain": 20, "drainSeconds": 20, "shutdownTimeoutSeconds": 30, "marginSeconds": margin,
            "gracePeriodSeconds": 50 + margin,
        })
    };
    assert_eq!(found(&[]), expected("Enforce", 5));
    assert_eq!(found(&defaults), expected("Audit", 7));
}

#[test]
fn missing_policy_and_unknown_key_are_warnings() {
    let found = resolved(Kind::Deployment, &[("policy", "gone"), ("drain", "5")], &[], &context(&[], &[]));
    assert_eq!(found.opt_in, OptIn::In(Source::WorkloadAnnotation));
    assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
    assert!(found.warnings[0].contains("adieu.dev/drain "), "{:?}", found.warnings);
    assert!(found.warnings[1].contains("\"gone\" does not exist"), "{:?}", found.warnings);
    let label = resolved(Kind::Deployment, &[("injection", "enabled")], &[], &context(&[], &[]));
    assert!(label.warnings[0].contains("set it as a label"), "{:?}", label.warnings);
}

#[test]
fn overridden_default_policy_is_conflicted() {
    let defaults = cluster_policy("defaults", json!({"drainSeconds": 20, "priority": 1}));
    let loser = cluster_policy("loser", json!({"drainSeconds": 30, "marginSeconds": 9}));
    let cap = cluster_policy("cap", json!({"maxGracePeriodSeconds": 300, "priority": -1}));
    let selecting = cluster_policy("selecting", json!({"selector": {}}));
    let found = resolved(Kind::Deployment, &[], &[], &context(&[], &[loser, cap, selecting, defaults]));
    assert_eq!(found.settings.drain_seconds.from, Source::ClusterPolicy("defaults".into()));
    assert_eq!(found.settings.margin_seconds.from, Source::Default);
    assert_eq!(
        found.overridden_policies,
        [Source::ClusterPolicy("loser".into())],
        "the maximum counts anyway"
    );
}

#[test]
fn cap_policy_does_not_replace_the_defaults() {
    let of = |name: &str, created: &str, spec: Value| -> Arc<ClusterGracefulPolicy> {
        let metadata = json!({"name": name, "creationTimestamp": created});
        Arc::new(serde_json::from_value(object("ClusterGracefulPolicy", metadata, spec)).unwrap())
    };
    let cap = of("cap", "2026-01-01T00:00:00Z", json!({"maxGracePeriodSeconds": 300}));
    let limit = json!({"rollout": {"maxConcurrentPerNamespace": 2}, "priority": 1});
    let limit = of("limit", "2026-01-01T00:00:00Z", limit);
    let defaults = of("defaults", "2026-02-01T00:00:00Z", json!({"drainSeconds": 20}));
    let found = resolved(Kind::Deployment, &[], &[], &context(&[], &[cap, limit, defaults]));
    let by = |name: &str| Source::ClusterPolicy(name.into());
    assert_eq!(found.settings.drain_seconds, Setting { value: 20, from: by("defaults") });
    assert_eq!(found.settings.max_grace_period_seconds, Setting { value: 300, from: by("cap") });
    assert_eq!(found.overridden_policies, []);
}

#[test]
fn empty_object_overrides_nothing() {
    let defaults = cluster_policy(
        "defaults",
        json!({"readinessProbe": {"mode": "Never"}, "excludedContainers": ["log-shipper"]}),
    );
    let found = |spec: Value| {
        let own = policy("own", "2026-01-01T00:00:00Z", spec);
        let context = context(&[own], std::slice::from_ref(&defaults));
        let settings = resolved(Kind::Deployment, &[], &[], &context).settings;
        (settings.readiness_probe.value.mode, settings.exclude.value)
    };
    let empty = json!({"selector": {}, "readinessProbe": {}, "containers": {}});
    assert_eq!(found(empty), (ProbeMode::Never, vec!["log-shipper".to_owned()]));
    let present = json!({"selector": {}, "readinessProbe": {"mode": "Auto"}, "excludedContainers": []});
    assert_eq!(found(present), (ProbeMode::Auto, vec![]));
}

#[test]
fn selectors_match_like_kube() {
    use kube::core::{Selector, SelectorExt as _};

    let labels = |text: &str| -> BTreeMap<String, String> {
        text.split_terminator(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(k, v)| (k.into(), v.into()))
            .collect()
    };
    let selectors = [
        json!({}),
        json!({"matchLabels": {"app": "web"}}),
        json!({"matchLabels": {"app": "web", "tier": "front"}}),
        json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}),
        json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
        json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
        json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}),
        json!({"matchExpressions": [{"key": "app", "operator": "In"}]}),
        json!({"matchExpressions": [{"key": "app", "operator": "Near", "values": ["web"]}]}),
        json!({"matchLabels": {"tier": "front"}, "matchExpressions": [{"key": "app", "operator": "Exists"}]}),
    ];
    for selector in selectors {
        let selector: LabelSelector = serde_json::from_value(selector).unwrap();
        for labels in
            ["", "app=web", "app=api", "app=other,tier=front", "app=web,tier=front", "tier=back"].map(labels)
        {
            let kubes = Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(&labels));
            assert_eq!(matches(&selector, &labels), kubes, "{selector:?} {labels:?}");
        }
    }
}

#[test]
fn policy_applies_to_workloads_that_it_selects_or_that_name_it() {
    let created = "2026-01-01T00:00:00Z";
    let selecting = policy("selecting", created, json!({"selector": {"matchLabels": {"app": "checkout"}}}));
    let named = policy("named", created, json!({}));
    let everywhere = cluster_policy("everywhere", json!({"selector": {}}));
    let defaults = cluster_policy("defaults", json!({"drainSeconds": 5}));
    let context = context(&[selecting.clone(), named.clone()], &[everywhere.clone(), defaults.clone()]);
    let template = json!({"metadata": {"labels": {"app": "checkout"}}, "spec": {}});
    for (key, value, applying) in [
        ("unrelated", "x", &["selecting", "everywhere"][..]),
        ("adieu.dev/policy", "named", &["named", "selecting", "everywhere"]),
        ("adieu.dev/graceful", "true", &["selecting", "everywhere"]),
        ("adieu.dev/graceful", "false", &[]),
    ] {
        let annotations = [(key.to_owned(), value.to_owned())].into();
        let workload = Workload::new(Kind::Deployment, &annotations, &template);
        for policy in [&selecting, &named] {
            assert_eq!(applies_to(policy, &workload), applying.contains(&&*policy.name_any()), "{value}");
        }
        for policy in [&everywhere, &defaults] {
            assert_eq!(cluster_policy_applies_to(policy, &workload), applying.contains(&&*policy.name_any()));
        }
        let names = matching_policies(&workload, &context).into_iter().map(|source| match source {
            Source::Policy(name) | Source::ClusterPolicy(name) => name,
            source => source.to_string(),
        });
        assert_eq!(names.collect::<Vec<_>>(), applying, "{key}={value}");
    }
}

#[test]
fn policies_of_a_resolution_opt_in_or_set_a_value() {
    let selecting = policy("selecting", "2026-01-01T00:00:00Z", json!({"selector": {}}));
    let defaults = cluster_policy("defaults", json!({"drainSeconds": 5}));
    let found = resolved(Kind::Deployment, &[], &[], &context(&[selecting], &[defaults]));
    let expected = [Source::Policy("selecting".into()), Source::ClusterPolicy("defaults".into())];
    assert_eq!(found.policies(), expected.iter().collect());
}

#[test]
fn the_effective_drain_of_a_policy_is_auto_unless_a_number_is_set() {
    let number = json!({"drainSeconds": 20});
    for (own, defaults, drain, seconds) in [
        (json!({}), json!({}), json!("Auto"), defaults::DRAIN_SECONDS),
        (json!({}), number.clone(), json!(20), 20),
        (json!({"drainSeconds": "Auto"}), number.clone(), json!("Auto"), defaults::DRAIN_SECONDS),
        (number.clone(), json!({"drainSeconds": "Auto"}), json!(20), 20),
    ] {
        let context = context(&[], &[cluster_policy("defaults", defaults.clone())]);
        let own: GracefulPolicySpec = serde_json::from_value(own).unwrap();
        let found = effective(&own, &context);
        assert_eq!((json!(found.drain), found.drain_seconds), (drain, seconds), "{own:?}, {defaults}");
        assert_eq!(found.grace_period_seconds, seconds + 30 + 5);
    }
}

#[test]
fn many_unknown_keys_share_a_warning() {
    for (count, warnings) in [(7, 7), (8, 8), (9, 9), (50, 9)] {
        let keys: Vec<_> = (0..count).map(|number| format!("unknown-{number}")).collect();
        let pairs: Vec<_> = keys.iter().map(|key| (key.as_str(), "x")).collect();
        let found = resolved(Kind::Deployment, &pairs, &[], &context(&[], &[])).warnings;
        assert_eq!(found.len(), warnings, "{count}");
        let others = format!("{} more unknown annotation", count - 8);
        assert_eq!(found[warnings - 1].starts_with(&others), count > 8, "{found:?}");
    }
}
