//! Hooks and probes.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{fields, maybe};

/// A container's `lifecycle`. Its sleeps may be longer than the grace period.
pub fn lifecycle() -> BoxedStrategy<Option<Value>> {
    let stop_signal = prop_oneof![9 => Just(None), 1 => Just(Some(json!("SIGUSR1")))];
    let lifecycle = (maybe(handler()), maybe(handler()), stop_signal).prop_map(|(pre, post, signal)| {
        fields([("preStop", pre), ("postStart", post), ("stopSignal", signal)])
    });
    maybe(lifecycle).boxed()
}

/// A hook's handler.
pub fn handler() -> BoxedStrategy<Value> {
    let sleep = prop_oneof![Just(0), 1..=400i64].prop_map(|s| json!({"sleep": {"seconds": s}}));
    let commands: Vec<fn(i64) -> Value> = vec![
        |s| json!(["sleep", s.to_string()]),
        |s| json!(["/bin/sleep", format!("{s}s")]),
        |s| json!(["sh", "-c", format!("sleep {s}")]),
        |s| json!(["/bin/sh", "-c", format!("sleep {s} && nginx -s quit")]),
        |s| json!(["bash", "-ec", format!("  sleep {s}; kill -TERM 1")]),
        |s| json!(["sh", "-c", format!("touch /tmp/draining && sleep {s}")]),
        |s| json!(["bash", "-lc", format!("exec sleep {s}")]),
        |s| json!(["sh", "-c", format!("sleep {s}.5 || true")]),
        |s| json!(["sh", "-c", format!("sleep {s}; /drain --timeout=300s")]),
        |s| json!(["sh", "-c", format!("sleep {s}s 1m; sleep 1")]),
        |s| json!(["powershell.exe", "-Command", format!("Start-Sleep -Seconds {s}")]),
        |s| json!(["sleep", format!("{s}ss")]),
        |_| json!(["/wait-shutdown"]),
        |_| json!(["sh", "-c", "sleep $DELAY"]),
    ];
    let exec = (prop::sample::select(commands), 0..=120i64)
        .prop_map(|(command, seconds)| json!({"exec": {"command": command(seconds)}}));
    let others = prop::sample::select(vec![
        json!({"httpGet": {"path": "/prestop", "port": 8081}}),
        json!({"httpGet": {"port": "http", "scheme": "HTTPS", "httpHeaders": [{"name": "X-Drain", "value": "1"}]}}),
        json!({"httpGet": {"path": "/quit", "port": 15020, "host": "127.0.0.1"}}),
        json!({"tcpSocket": {"port": 8080}}),
    ]);
    // The API server rejects these.
    let wrong = prop::sample::select(vec![
        json!({}),
        json!({"sleep": {"seconds": 5}, "exec": {"command": ["true"]}}),
        json!({"sleep": {}}),
        json!({"exec": {"command": []}}),
        json!({"wasm": {"module": "drain"}}),
    ]);
    prop_oneof![25 => sleep, 20 => exec, 15 => others, 1 => wrong].boxed()
}

/// Readiness probes also count successes.
pub fn readiness() -> impl Strategy<Value = Option<Value>> {
    let mut probes = probes();
    probes.push(json!({"tcpSocket": {"port": "http"}, "successThreshold": 3, "periodSeconds": 2}));
    probe_of(probes)
}

/// A liveness or startup probe, which may have a grace period of its own.
pub fn liveness() -> impl Strategy<Value = Option<Value>> {
    let mut probes = probes();
    probes.push(json!({"tcpSocket": {"port": 5432}, "terminationGracePeriodSeconds": 60}));
    probes.push(json!({"grpc": {"port": 9000}, "terminationGracePeriodSeconds": 1, "successThreshold": 1}));
    probe_of(probes)
}

fn probe_of(probes: Vec<Value>) -> impl Strategy<Value = Option<Value>> {
    let absent = vec![None, None, None, None, None, None, Some(Value::Null), Some(Value::Null)];
    // The API server rejects this one.
    let wrong = Some(json!({"periodSeconds": 5}));
    prop::sample::select(
        absent.into_iter().chain(probes.into_iter().map(Some)).chain([wrong]).collect::<Vec<_>>(),
    )
}

/// With every action and threshold.
fn probes() -> Vec<Value> {
    vec![
        json!({"httpGet": {"path": "/healthz", "port": "http"}}),
        json!({"httpGet": {"path": "/healthz", "port": "admin"}, "initialDelaySeconds": 30, "timeoutSeconds": 5}),
        json!({"httpGet": {"path": "/ready", "port": 8080, "scheme": "HTTPS", "httpHeaders": [{"name": "Host", "value": "web"}]}}),
        json!({"httpGet": {"port": 8080, "host": "127.0.0.1"}, "failureThreshold": 1}),
        json!({"tcpSocket": {"port": "http"}, "initialDelaySeconds": 0, "periodSeconds": 60}),
        json!({"tcpSocket": {"port": 5432}, "timeoutSeconds": 30, "successThreshold": 1, "failureThreshold": 10}),
        json!({"exec": {"command": ["pg_isready", "-U", "postgres"]}, "timeoutSeconds": 1, "periodSeconds": 1}),
        json!({"exec": {"command": ["true"]}, "tcpSocket": null, "httpGet": null}),
        json!({"grpc": {"port": 9000}}),
        json!({"grpc": {"port": 9000, "service": "liveness"}, "periodSeconds": 3}),
    ]
}
