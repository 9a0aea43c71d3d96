use serde_json::json;

use super::*;

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn parsed(annotations: &BTreeMap<String, String>) -> ParsedAnnotations {
    parse(annotations, "metadata.annotations")
}

#[test]
fn every_annotation_is_parsed() {
    let parsed = parsed(&map([
        (GRACEFUL, "true"),
        (POLICY, "checkout"),
        (DRAIN_SECONDS, "0"),
        (SHUTDOWN_TIMEOUT_SECONDS, "86400"),
        (MARGIN_SECONDS, "007"),
        (PRE_STOP_METHOD, "HTTPGet"),
        (EXCLUDE_CONTAINERS, "log-shipper, istio-proxy"),
        (READINESS_PROBE, "never"),
        (INJECTED, "{}"),
        ("adieu.example/else", "x"),
    ]));
    let settings = GracefulPolicySpec {
        drain_seconds: Some(DrainSeconds::Seconds(0)),
        shutdown_timeout_seconds: Some(86_400),
        margin_seconds: Some(7),
        pre_stop: Some(PreStop { method: Some(PreStopMethod::HttpGet), ..PreStop::default() }),
        excluded_containers: Some(vec!["log-shipper".into(), "istio-proxy".into()]),
        readiness_probe: Some(ReadinessProbe { mode: Some(ProbeMode::Never), probe: None }),
        ..GracefulPolicySpec::default()
    };
    let annotations = Annotations { graceful: Some(true), policy: Some("checkout".into()), settings };
    assert_eq!(parsed, ParsedAnnotations { annotations, ..ParsedAnnotations::default() });
}

#[test]
fn malformed_value_is_reported_with_its_rule() {
    for (key, value, rule) in [
        (GRACEFUL, "yes", "\"true\" or \"false\""),
        (GRACEFUL, "", "\"true\" or \"false\""),
        (POLICY, "Check_Out", "name of a GracefulPolicy"),
        (POLICY, "", "name of a GracefulPolicy"),
        (POLICY, "-a", "name of a GracefulPolicy"),
        (DRAIN_SECONDS, "ten", "whole number of seconds from 0 to 3600"),
        (DRAIN_SECONDS, "10s", "without a unit"),
        (DRAIN_SECONDS, "AUTO", "or \"auto\""),
        (DRAIN_SECONDS, "+5", "whole number"),
        (DRAIN_SECONDS, "-1", "from 0"),
        (DRAIN_SECONDS, "3601", "to 3600"),
        (MARGIN_SECONDS, "99999999999999999999", "to 3600"),
        (SHUTDOWN_TIMEOUT_SECONDS, " 30", "whole number"),
        (PRE_STOP_METHOD, "sleep", "\"Sleep\""),
        (EXCLUDE_CONTAINERS, "a,,b", "separated by commas"),
        (EXCLUDE_CONTAINERS, "", "separated by commas"),
        (READINESS_PROBE, "http", "http:PORT/PATH"),
        (READINESS_PROBE, "tcp:0", "http:PORT/PATH"),
        (READINESS_PROBE, "tcp:65536", "http:PORT/PATH"),
        (READINESS_PROBE, "grpc:api", "http:PORT/PATH"),
        (READINESS_PROBE, "Never", "or never"),
        (READINESS_PROBE, "HTTPS:8443/", "https:PORT/PATH"),
        (READINESS_PROBE, "https:/ready", "https:PORT/PATH"),
        (READINESS_PROBE, &format!("http:80/{}", "x".repeat(1017)), "at most 1024 characters"),
        (EXCLUDE_CONTAINERS, &["c"; 33].join(","), "at most 32 container names, not 33"),
        // The names are not read before they are counted.
        (EXCLUDE_CONTAINERS, &",".repeat(100_000), "at most 32 container names, not 100001"),
    ] {
        let parsed = parsed(&map([(key, value)]));
        assert_eq!(parsed.annotations, Annotations::default(), "{key}={value}");
        let [invalid] = parsed.invalid.as_slice() else { unreachable!("{key}={value}: {parsed:?}") };
        let message = invalid.to_string();
        let value = if value.len() <= 253 {
            format!("{value:?}")
        } else {
            format!("{:?}", format!("{}…", &value[..252]))
        };
        assert!(
            message.starts_with(&format!("metadata.annotations[{key}]: Invalid value: {value}: ")),
            "{message}"
        );
        assert!(message.contains(rule), "{message}");
    }
}

#[test]
fn readiness_probe_annotation_is_parsed_in_each_form() {
    for (value, expected) in [
        ("http:8080/ready?deep=1", json!({"httpGet": {"path": "/ready?deep=1", "port": 8080}})),
        ("http:web", json!({"httpGet": {"path": "/", "port": "web"}})),
        ("https:8443/ready", json!({"httpGet": {"path": "/ready", "port": 8443, "scheme": "HTTPS"}})),
        ("https:web", json!({"httpGet": {"path": "/", "port": "web", "scheme": "HTTPS"}})),
        ("tcp:6379", json!({"tcpSocket": {"port": 6379}})),
        ("tcp:redis", json!({"tcpSocket": {"port": "redis"}})),
        ("grpc:9000", json!({"grpc": {"port": 9000}})),
    ] {
        let settings = parsed(&map([(READINESS_PROBE, value)])).annotations.settings;
        let probe = settings.readiness_probe.and_then(|given| given.probe);
        assert_eq!(serde_json::to_value(probe).unwrap(), expected, "{value}");
    }
}

#[test]
fn a_drain_may_be_automatic() {
    for value in ["auto", "Auto"] {
        let parsed = parsed(&map([(DRAIN_SECONDS, value)]));
        assert_eq!(parsed.invalid, [], "{value}");
        assert_eq!(parsed.annotations.settings.drain_seconds, Some(DrainSeconds::Auto), "{value}");
    }
}

#[test]
fn unknown_key_is_reported() {
    let parsed = parsed(&map([("adieu.dev/drain-second", "10"), ("adieu.devil/x", "1")]));
    assert_eq!(parsed.unknown, ["adieu.dev/drain-second"]);
}

#[test]
fn values_at_their_bounds_are_accepted() {
    let path = format!("http:80/{}", "x".repeat(1016));
    let containers = ["c"; 32].join(",");
    let container = "c".repeat(63);
    let policy = [63, 63, 63, 61].map(|length| "p".repeat(length)).join(".");
    for (key, value) in [
        (READINESS_PROBE, path.as_str()),
        (READINESS_PROBE, "tcp:65535"),
        (READINESS_PROBE, "tcp:a-port-of-15-ch"),
        (EXCLUDE_CONTAINERS, &containers),
        (EXCLUDE_CONTAINERS, &container),
        (POLICY, &policy),
        (DRAIN_SECONDS, "3600"),
    ] {
        assert_eq!(parsed(&map([(key, value)])).invalid, [], "{key}={value}");
    }
    for (key, value) in [
        (READINESS_PROBE, "tcp:a-port-of-16-cha"),
        (READINESS_PROBE, "tcp:a--b"),
        (READINESS_PROBE, "tcp:a-"),
        (EXCLUDE_CONTAINERS, &format!("{container}c")),
        (POLICY, &format!("{policy}p")),
    ] {
        assert_eq!(parsed(&map([(key, value)])).invalid.len(), 1, "{key}={value}");
    }
}

#[test]
fn instructions_are_the_annotations_that_users_set() {
    let others = OTHERS.map(|key| (key, "{}"));
    let mut all = map([(GRACEFUL, "true"), ("team", "a")]);
    all.extend(map(others));
    assert_eq!(parsed(&all).unknown, Vec::<String>::new());
    assert_eq!(instructions(&all).map(|(key, _)| key.as_str()).collect::<Vec<_>>(), [GRACEFUL]);
}
