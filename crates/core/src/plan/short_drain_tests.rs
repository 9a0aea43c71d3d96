use serde_json::{Value, json};

use super::*;

/// The record of an injection with this hook and drain.
fn record(hook: &Value, settings: &Value) -> Record {
    let containers = if hook.is_null() { json!({}) } else { json!({"web": {"preStop": {"injected": hook}}}) };
    let record = json!({"optedInBy": "annotation", "settings": settings, "containers": containers});
    serde_json::from_value(record).unwrap()
}

#[test]
fn an_injected_drain_that_is_shorter_than_needed_is_found() {
    let reason = "Ingress shop/web (class alb) needs 300 s (built in)";
    let needed = Setting { value: 300, from: Source::auto(Source::Default, Some(reason.into())) };
    let number = Setting { value: 300, from: Source::Policy("all".into()) };
    let unknown = Setting { value: 300, from: Source::auto(Source::Policy("all".into()), None) };
    let sleep = |seconds: i64| json!({"sleep": {"seconds": seconds}});
    let drain = |seconds: i64| json!({"drainSeconds": {"value": seconds, "from": "policy all"}});
    let request = json!({"httpGet": {"path": "/drain", "port": 8080}});
    for (name, hook, settings, now, expected) in [
        ("an older record with the default", sleep(10), json!({}), &needed, Some(10)),
        ("a shorter one", sleep(90), drain(90), &needed, Some(90)),
        ("one that is long enough", sleep(300), drain(300), &needed, None),
        ("a longer one", sleep(400), drain(400), &needed, None),
        ("no hook, because the drain was 0", json!(null), drain(0), &needed, Some(0)),
        ("only hooks of the user", json!(null), drain(90), &needed, None),
        ("a request to the application", request, drain(90), &needed, None),
        ("a number is the user's decision", sleep(90), drain(90), &number, None),
        ("unknown exposures", sleep(90), drain(90), &unknown, None),
    ] {
        let now = Settings { drain_seconds: now.clone(), ..Settings::default() };
        let found = ShortDrain::of(&record(&hook, &settings), &now);
        let expected =
            expected.map(|seconds| ShortDrain { seconds, needed_seconds: 300, reason: reason.to_owned() });
        assert_eq!(found, expected, "{name}");
    }
}
