use serde_json::json;

use super::*;
use crate::api::{DrainSeconds, GracefulPolicy};

fn policy(spec: &Value) -> Value {
    json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": "web", "namespace": "shop"}, "spec": spec,
    })
}

fn cluster_policy(spec: &Value) -> Value {
    json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
        "metadata": {"name": "web"}, "spec": spec,
    })
}

#[test]
fn valid_policy_passes() {
    for spec in [
        json!({}),
        json!({
            "selector": {
                "matchLabels": {"app.kubernetes.io/name": "web", "tier": ""},
                "matchExpressions": [
                    {"key": "example.com/tier", "operator": "In", "values": ["a", "b_c.D"]},
                    {"key": "legacy", "operator": "DoesNotExist"},
                ],
            },
            "kinds": ["Deployment", "StatefulSet"],
            "priority": -5,
            "mode": "Audit",
            "drainSeconds": 20, "shutdownTimeoutSeconds": 60, "sidecarSeconds": 0, "marginSeconds": 5,
            "maxGracePeriodSeconds": 85,
            "gracePeriodPolicy": "Exact",
            "preStop": {"method": "HTTPGet", "httpGet": {"path": "/prestop", "port": "admin-1"}, "existingHookPolicy": "Replace"},
            "readinessProbe": {"probe": {
                "httpGet": {
                    "path": "/ready", "port": 8080, "scheme": "HTTPS",
                    "httpHeaders": [{"name": "X-Probe", "value": "anything: at all"}],
                },
                "periodSeconds": 5, "initialDelaySeconds": 0,
            }},
            "excludedContainers": ["log-shipper"],
            "injectionTarget": "Pod", "recommendationBounds": {"minSeconds": 20, "maxSeconds": 20},
            "rollout": {"mode": "Progressive", "maxConcurrent": 3},
            "topologySpread": {"topologyKey": "topology.kubernetes.io/zone"},
        }),
        json!({"readinessProbe": {"mode": "Never"}, "drainSeconds": 0}),
        json!({"drainSeconds": "Auto", "shutdownTimeoutSeconds": 595, "rollout": {"onExposureChange": "Progressive"}}),
        json!({"drainSeconds": "Auto", "shutdownTimeoutSeconds": 0, "marginSeconds": 0}),
        json!({"drainSeconds": null, "preStop": {"method": "Sleep", "httpGet": null}}),
        json!({"selector": {
            "matchLabels": {"app": null},
            "matchExpressions": [{"key": "app", "operator": "Exists", "values": null}],
        }}),
        json!({"priority": 5.0, "sidecarSeconds": 1e3, "rollout": {"maxConcurrent": 2.0}}),
        json!({"disruptionBudget": {"maxUnavailable": 1.0}}),
        json!({"readinessProbe": {"probe": {"grpc": {"port": 9000}}}}),
    ] {
        assert_eq!(check_policy(&policy(&spec)), []);
        assert_eq!(check_policy(&cluster_policy(&spec)), []);
    }
    let namespaces = json!({"namespaceSelector": {"matchLabels": {"team": "shop"}}});
    assert_eq!(check_policy(&cluster_policy(&namespaces)), []);
}

/// Asserts that each spec breaks one rule, at that path.
fn assert_rejected<const N: usize>(specs: [(Value, &str, &str); N]) {
    for (spec, path, rule) in specs {
        for policy in [policy(&spec), cluster_policy(&spec)] {
            let found: Vec<String> = check_policy(&policy).iter().map(ToString::to_string).collect();
            let [message] = found.as_slice() else { unreachable!("{spec}: {found:?}") };
            assert!(message.starts_with(&format!("{path}: ")), "{spec}: {message}");
            assert!(message.contains(rule), "{spec}: {message}");
        }
    }
}

#[test]
fn invalid_seconds_and_priorities_are_rejected() {
    assert_rejected([
        (json!({"drainSecond": 5}), "spec.drainSecond", "unknown field"),
        (json!({"drainSeconds": "10"}), "spec.drainSeconds", "must match ^Auto$, or be an integer"),
        (json!({"drainSeconds": "auto"}), "spec.drainSeconds", "must match ^Auto$"),
        (json!({"drainSeconds": "automatic"}), "spec.drainSeconds", "at most 4"),
        (json!({"drainSeconds": true}), "spec.drainSeconds", "an integer or a string"),
        (json!({"drainSeconds": 1.5}), "spec.drainSeconds", "an integer"),
        (json!({"drainSeconds": -1}), "spec.drainSeconds", "at least 0"),
        (json!({"drainSeconds": 3601}), "spec.drainSeconds", "at most 3600"),
        (json!({"shutdownTimeoutSeconds": 86_401}), "spec.shutdownTimeoutSeconds", "at most 86400"),
        (json!({"marginSeconds": 3601}), "spec.marginSeconds", "at most 3600"),
        (json!({"sidecarSeconds": -1}), "spec.sidecarSeconds", "at least 0"),
        (json!({"maxGracePeriodSeconds": 0}), "spec.maxGracePeriodSeconds", "at least 1"),
        (json!({"drainSeconds": 600, "shutdownTimeoutSeconds": 1}), "spec", "must not exceed"),
        (json!({"drainSeconds": 30, "maxGracePeriodSeconds": 29}), "spec", "must not exceed"),
        (json!({"drainSeconds": "Auto", "shutdownTimeoutSeconds": 601}), "spec", "must not exceed"),
        (
            json!({"drainSeconds": 0, "shutdownTimeoutSeconds": 0, "marginSeconds": 0, "gracePeriodPolicy": "Exact"}),
            "spec",
            "must not all be 0",
        ),
        (json!({"drainSeconds": 5.0}), "spec.drainSeconds", "without a decimal point"),
        (json!({"priority": 1_000_001}), "spec.priority", "at most 1000000"),
        (json!({"priority": 1e300}), "spec.priority", "an integer"),
        (json!({"priority": 9_007_199_254_740_992.0}), "spec.priority", "an integer"),
    ]);
}

#[test]
fn invalid_selectors_are_rejected() {
    let expression = |expression: Value| json!({"selector": {"matchExpressions": [expression]}});
    assert_rejected([
        (json!({"selector": {"matchLabels": {"a key": "web"}}}), "spec.selector", "label keys"),
        (json!({"selector": {"matchLabels": {"a".repeat(318): "web"}}}), "spec.selector", "at most 317"),
        (
            json!({"selector": {"matchExpressions": [
                {"key": "a", "operator": "In", "values": vec!["a"; 40]},
                {"key": "b", "operator": "NotIn", "values": vec!["b"; 25]},
            ]}}),
            "spec.selector",
            "at most 64 values in total",
        ),
        (json!({"kinds": []}), "spec.kinds", "at least 1"),
        (json!({"kinds": ["Job"]}), "spec.kinds[0]", "must be one of \"Deployment\""),
        (json!({"kinds": ["Deployment", "Deployment"]}), "spec.kinds[1]", "not be repeated"),
        (json!({"selector": []}), "spec.selector", "an object"),
        (json!({"selector": {"app": "web"}}), "spec.selector.app", "unknown field"),
        (json!({"selector": {"matchLabels": {"app": "a b"}}}), "spec.selector.matchLabels.app", "must match"),
        (json!({"selector": {"matchLabels": {"app": 1}}}), "spec.selector.matchLabels.app", "a string"),
        (
            expression(json!({"key": "a b", "operator": "Exists"})),
            "spec.selector.matchExpressions[0].key",
            "match",
        ),
        (
            expression(json!({"key": "a", "operator": "Is"})),
            "spec.selector.matchExpressions[0].operator",
            "\"In\"",
        ),
        (expression(json!({"key": "a", "operator": "In"})), "spec.selector", "values are required"),
        (
            expression(json!({"key": "a", "operator": "Exists", "values": ["b"]})),
            "spec.selector",
            "not allowed for Exists",
        ),
        (
            expression(json!({"key": "a", "operator": "In", "values": ["-"]})),
            "spec.selector.matchExpressions[0].values[0]",
            "must match",
        ),
        (expression(json!({"operator": "Exists"})), "spec.selector.matchExpressions[0].key", "is required"),
    ]);
}

#[test]
fn invalid_hooks_are_rejected() {
    let pre_stop =
        |port: Value| json!({"preStop": {"method": "HTTPGet", "httpGet": {"path": "/", "port": port}}});
    assert_rejected([
        (json!({"preStop": {"method": "Http"}}), "spec.preStop.method", "\"HTTPGet\""),
        (json!({"preStop": {"method": "HTTPGet"}}), "spec.preStop", "is required for method HTTPGet"),
        (
            json!({"preStop": {"httpGet": {"path": "/", "port": 80}}}),
            "spec.preStop",
            "not allowed for other methods",
        ),
        (pre_stop(json!(0)), "spec.preStop.httpGet.port", "at least 1"),
        (pre_stop(json!(65_536)), "spec.preStop.httpGet.port", "at most 65535"),
        (pre_stop(json!("8080")), "spec.preStop.httpGet.port", "must match"),
        (pre_stop(json!("a--b")), "spec.preStop.httpGet.port", "must match"),
        (pre_stop(json!("a-name-too-long-for-it")), "spec.preStop.httpGet.port", "at most 15"),
        (pre_stop(json!(true)), "spec.preStop.httpGet.port", "an integer or a string"),
        (
            json!({"preStop": {"method": "HTTPGet", "httpGet": {"path": "prestop", "port": 80}}}),
            "spec.preStop.httpGet.path",
            "must match",
        ),
    ]);
}

#[test]
fn invalid_probes_are_rejected() {
    let probe = |probe: Value| json!({"readinessProbe": {"probe": probe}});
    let tcp = |field: &str, value: Value| probe(json!({"tcpSocket": {"port": 80}, field: value}));
    assert_rejected([
        (
            json!({"readinessProbe": {"mode": "Never", "probe": {"grpc": {"port": 1}}}}),
            "spec.readinessProbe",
            "must not be set if mode is Never",
        ),
        (probe(json!({})), "spec.readinessProbe.probe", "exactly one"),
        (probe(json!({"exec": {"command": ["true"]}})), "spec.readinessProbe.probe.exec", "unknown field"),
        (
            probe(json!({"grpc": {"port": 1}, "tcpSocket": {"port": 1}})),
            "spec.readinessProbe.probe",
            "exactly one",
        ),
        (probe(json!({"grpc": {"port": 0}})), "spec.readinessProbe.probe.grpc.port", "at least 1"),
        (
            probe(json!({"tcpSocket": {"port": 70_000}})),
            "spec.readinessProbe.probe.tcpSocket.port",
            "at most 65535",
        ),
        (
            probe(json!({"tcpSocket": {"port": 1, "host": "a"}})),
            "spec.readinessProbe.probe.tcpSocket.host",
            "unknown field",
        ),
        (tcp("periodSeconds", json!(0)), "spec.readinessProbe.probe.periodSeconds", "at least 1"),
        (tcp("timeoutSeconds", json!(0)), "spec.readinessProbe.probe.timeoutSeconds", "at least 1"),
        (tcp("failureThreshold", json!(0)), "spec.readinessProbe.probe.failureThreshold", "at least 1"),
        (tcp("successThreshold", json!(0)), "spec.readinessProbe.probe.successThreshold", "at least 1"),
        (
            tcp("initialDelaySeconds", json!(-1)),
            "spec.readinessProbe.probe.initialDelaySeconds",
            "at least 0",
        ),
        (
            tcp("terminationGracePeriodSeconds", json!(5)),
            "spec.readinessProbe.probe.terminationGracePeriodSeconds",
            "unknown field",
        ),
    ]);
}

#[test]
fn invalid_http_probes_are_rejected() {
    let http = |field: &str, value: Value| {
        let mut action = json!({"port": 80});
        action[field] = value;
        json!({"readinessProbe": {"probe": {"httpGet": action}}})
    };
    assert_rejected([
        (
            http("httpHeaders", json!([{"name": "X-Probe", "value": "a\nb"}])),
            "spec.readinessProbe.probe.httpGet.httpHeaders[0].value",
            "must match",
        ),
        (http("scheme", json!("https")), "spec.readinessProbe.probe.httpGet.scheme", "\"HTTPS\""),
        (http("path", json!("ready")), "spec.readinessProbe.probe.httpGet.path", "must match"),
        (
            http("httpHeaders", json!([{"name": "X Probe", "value": "1"}])),
            "spec.readinessProbe.probe.httpGet.httpHeaders[0].name",
            "must match",
        ),
    ]);
}

#[test]
fn other_invalid_fields_are_rejected() {
    let crossed = json!({"recommendationBounds": {"minSeconds": 21, "maxSeconds": 20}});
    assert_rejected([
        (
            json!({"disruptionBudget": {"maxUnavailable": 3_000_000_000_i64}}),
            "spec.disruptionBudget.maxUnavailable",
            "at most 10000",
        ),
        (
            json!({"disruptionBudget": {"maxUnavailable": "101%"}}),
            "spec.disruptionBudget.maxUnavailable",
            "must match",
        ),
        (
            json!({"disruptionBudget": {"maxUnavailable": u64::MAX}}),
            "spec.disruptionBudget.maxUnavailable",
            "an integer or a string",
        ),
        (json!({"mode": "audit"}), "spec.mode", "\"Audit\""),
        (json!({"gracePeriodPolicy": "Lower"}), "spec.gracePeriodPolicy", "\"AtLeast\""),
        (json!({"injectionTarget": "pod"}), "spec.injectionTarget", "\"Pod\""),
        (json!({"rollout": {"maxConcurrent": 0}}), "spec.rollout.maxConcurrent", "at least 1"),
        (json!({"rollout": {"onExposureChange": "Now"}}), "spec.rollout.onExposureChange", "\"Progressive\""),
        (crossed, "spec.recommendationBounds", "must not exceed maxSeconds"),
        (json!({"excludedContainers": ["Proxy"]}), "spec.excludedContainers[0]", "must match"),
        (json!({"excludedContainers": ["a", "a"]}), "spec.excludedContainers[1]", "not be repeated"),
        (json!({"topologySpread": {}}), "spec.topologySpread.topologyKey", "is required"),
        (json!({"topologySpread": {"topologyKey": ""}}), "spec.topologySpread.topologyKey", "must match"),
        (
            json!({"topologySpread": {"topologyKey": "a/b/c"}}),
            "spec.topologySpread.topologyKey",
            "must match",
        ),
        (
            json!({"topologySpread": {"topologyKey": format!("{}/c", "a".repeat(254))}}),
            "spec.topologySpread",
            "at most 253",
        ),
    ]);
}

#[test]
fn fields_beside_the_spec_are_validated() {
    let with = |change: fn(&mut Value)| {
        let mut policy = policy(&json!({}));
        change(&mut policy);
        check_policy(&policy).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let of_kind = with(|p| p["kind"] = json!("Policy"));
    assert!(of_kind.starts_with("kind: Invalid value: \"Policy\": must be Graceful"));
    assert!(with(|p| p["apiVersion"] = json!("adieu.dev/v1")).contains("must be adieu.dev/v1alpha1"));
    assert!(with(|p| p["metadata"] = json!({})).starts_with("metadata.name: Required value: "));
    let named = with(|p| p["metadata"]["name"] = json!("A_b"));
    assert!(named.starts_with("metadata.name: Invalid value: \"A_b\": "));
    assert_eq!(with(|p| p["metadata"] = json!({"generateName": "a-"})), "");
    assert!(with(|p| p["specs"] = json!({})).starts_with("specs: Invalid value: unknown field"));
    assert!(with(|p| drop(p.as_object_mut().unwrap().remove("spec"))).starts_with("spec: Required value"));
    assert_eq!(with(|p| p["status"] = json!({"observedGeneration": 3})), "");
}

#[test]
fn valid_policy_is_readable_as_stored() {
    let given = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": "web", "labels": null},
        "spec": {
            "selector": {"matchLabels": {"app": null, "tier": "front"}},
            "readinessProbe": {"probe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "A", "value": "b"}], "path": null}}},
        },
        "status": {"conditions": "of another client"},
    });
    assert_eq!(check_policy(&given), []);
    let stored = as_stored(&given);
    assert_eq!(stored["metadata"], json!({"name": "web"}));
    let policy: GracefulPolicy = serde_json::from_value(stored).unwrap();
    assert!(policy.status.is_none());
    let labels = policy.spec.selector.unwrap().match_labels.unwrap();
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), [("tier".to_owned(), "front".to_owned())]);
}

#[test]
fn policy_of_an_older_version_is_readable_beyond_the_bounds() {
    let spec = json!({
        "priority": i32::MAX, "disruptionBudget": {"maxUnavailable": 3_000_000_000_i64},
        "readinessProbe": {"probe": {"tcpSocket": {"port": 80}, "periodSeconds": i32::MAX}},
        "selector": {"matchLabels": {"a".repeat(400): "b"}},
    });
    for policy in [policy(&spec), cluster_policy(&spec)] {
        assert_ne!(check_policy(&policy), []);
    }
    let policy: GracefulPolicy = serde_json::from_value(policy(&spec)).unwrap();
    assert_eq!(serde_json::to_value(&policy.spec).unwrap(), spec);
}

#[test]
fn unreadable_condition_hides_no_policy() {
    let condition = |type_: &str, time: &str| json!({"type": type_, "status": "True", "reason": "R", "message": "", "lastTransitionTime": time});
    let mut policy = policy(&json!({"drainSeconds": 7}));
    policy["status"] = json!({"conditions": [
        condition("Ready", "2026-02-31T12:00:00Z"), condition("Blocked", "2026-01-31T12:00:00Z"),
    ]});
    assert_eq!(check_status(&policy), []);
    let policy: GracefulPolicy = serde_json::from_value(policy).unwrap();
    let types: Vec<_> =
        policy.status.iter().flat_map(|status| &status.conditions).map(|c| c.type_.as_str()).collect();
    assert_eq!((policy.spec.drain_seconds, types), (Some(DrainSeconds::Seconds(7)), vec!["Blocked"]));
}

#[test]
fn unknown_field_is_rejected_even_if_null() {
    let found: Vec<_> = check_policy(&policy(&json!({"drainSecond": null, "rollout": {"x": null}})));
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(
        found.len() == 2
            && found[0].starts_with("spec.drainSecond: ")
            && found[1].starts_with("spec.rollout.x: "),
        "{found:?}"
    );
}

#[test]
fn status_is_validated() {
    let with = |status: Value| {
        let mut policy = policy(&json!({}));
        policy["status"] = status;
        check_status(&policy).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Injected", "message": "", "observedGeneration": 3,
        "lastTransitionTime": "2026-01-31T12:00:00Z",
    });
    let counts = json!({"matched": 1, "injected": 1, "pending": 0});
    assert_eq!(with(json!({"observedGeneration": 3, "workloads": counts, "conditions": [ready]})), "");
    let changed = |field: &str, value: Value| {
        let mut condition = ready.clone();
        condition[field] = value;
        with(json!({"conditions": [condition]}))
    };
    let twice = with(json!({"conditions": [ready, ready]}));
    assert!(twice.contains("conditions[1]: Invalid value: must not have the type"));
    assert!(changed("message", json!("a".repeat(4097))).contains("at most 4096"));
    assert!(changed("status", json!("true")).contains("\"True\""));
    assert!(changed("lastTransitionTime", json!("2026-01-31t12:00:00+99:99")).contains("at most 20"));
    assert!(changed("lastTransitionTime", json!("2026-01-31t12:00:00z")).contains("must match"));
    // With `format: date-time` the API server would accept this one.
    assert!(changed("lastTransitionTime", json!([])).contains("must be a string"));
    assert!(with(json!({"workloads": {"matched": -1, "injected": 0, "pending": 0}})).contains("at least 0"));
}
