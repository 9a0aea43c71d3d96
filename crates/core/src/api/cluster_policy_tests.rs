use serde_json::json;

use super::*;

fn of_kind(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": "adieu.dev/v1alpha1", "kind": kind, "metadata": {"name": "web"}, "spec": spec})
}

fn check(kind: &str, spec: &Value) -> Vec<String> {
    check_policy(&of_kind(kind, spec)).iter().map(ToString::to_string).collect()
}

const OWN: &str = "GracefulPolicy";
const CLUSTER: &str = "ClusterGracefulPolicy";

#[test]
fn only_a_cluster_policy_limits_the_rollouts_of_a_namespace() {
    let spec = json!({"rollout": {"maxConcurrentPerNamespace": 2, "maxConcurrent": 2.0}});
    assert_eq!(check(CLUSTER, &spec), [""; 0]);
    let found = check(OWN, &spec);
    assert!(found.len() == 1 && found[0].contains("is only allowed in a ClusterGracefulPolicy"), "{found:?}");
}

#[test]
fn only_a_cluster_policy_has_drain_profiles() {
    let spec = |profiles: Value| json!({"drainProfiles": profiles});
    let measured = json!({"time": "2026-01-31T12:00:00Z", "terminations": 200, "version": "v3.6.0"});
    let valid = spec(json!([
        {"exposure": "cluster-ip", "seconds": 2, "measured": measured},
        {"exposure": "IngressClass/alb", "seconds": 120, "source": "tried in May"},
    ]));
    assert_eq!(check(CLUSTER, &valid), [""; 0]);
    let found = check(OWN, &valid);
    let unknown = "spec.drainProfiles: Invalid value: unknown field";
    assert!(found.len() == 1 && found[0].starts_with(unknown), "{found:?}");
}

#[test]
fn invalid_drain_profiles_are_rejected() {
    let profile = |exposure: &str| json!({"exposure": exposure, "seconds": 20});
    for (profiles, path, rule) in [
        (json!([{"seconds": 20}]), "[0].exposure", "is required"),
        (json!([{"exposure": "alb"}]), "[0].seconds", "is required"),
        (json!([profile("Service/web")]), "[0].exposure", "must match"),
        (json!([{"exposure": "alb", "seconds": 3601}]), "[0].seconds", "at most 3600"),
        (json!([profile("alb"), profile("alb")]), "[1]", "must not have the exposure of another"),
        (json!(vec![profile("alb"); 25]), "", "at most 24 items"),
    ] {
        let found = check(CLUSTER, &json!({"drainProfiles": profiles}));
        let is_expected = |message: &String| {
            message.starts_with(&format!("spec.drainProfiles{path}: ")) && message.contains(rule)
        };
        assert!(found.iter().any(is_expected), "{path}: {found:?}");
    }
}
