//! Changes of injected values as texts.

use serde_json::Value;

use crate::plan::{
    GRACE_PERIOD_FIELD, InjectionChange, PRE_STOP_FIELD, READINESS_PROBE_FIELD, pre_stop_seconds,
};

/// The changes as texts, each with its key, and with the values before if they are to be shown. Containers with the same
/// change and key share a text, which names them unless they are all `containers` of the pod.
pub(super) fn changed_values<'a, K: PartialEq>(
    changes: impl IntoIterator<Item = (&'a InjectionChange, K)>,
    containers: usize,
    with_before: bool,
) -> Vec<(String, K)> {
    let mut texts: Vec<(String, K, Vec<&str>)> = Vec::new();
    for (change, key) in changes {
        let text = value(change, with_before);
        let container = change.container.as_deref();
        match texts.iter_mut().find(|(known, of, _)| *known == text && *of == key) {
            Some((_, _, containers)) => containers.extend(container),
            None => texts.push((text, key, container.into_iter().collect())),
        }
    }
    let texts = texts.into_iter().map(|(text, key, changed)| {
        if changed.is_empty() || changed.len() == containers {
            (text, key)
        } else {
            (format!("{text} ({})", changed.join(", ")), key)
        }
    });
    texts.collect()
}

/// A value that changes.
fn value(change: &InjectionChange, with_before: bool) -> String {
    let shown = |value: &Option<Value>| {
        value.as_ref().map_or_else(|| "none".to_owned(), |value| short(change.field, value))
    };
    let name = match change.field {
        PRE_STOP_FIELD => "drain",
        READINESS_PROBE_FIELD => "readiness probe",
        GRACE_PERIOD_FIELD => "grace period",
        _ => "topology spread",
    };
    let (before, after) = (shown(&change.before), shown(&change.after));
    if !with_before {
        return format!("{name} {after}");
    }
    if before != after {
        return format!("{name} {before} → {after}");
    }
    let whole = |value: &Option<Value>| value.clone().unwrap_or_default();
    format!("{} {} → {}", change.field, whole(&change.before), whole(&change.after))
}

/// A short form of the value of a field.
fn short(field: &str, value: &Value) -> String {
    match field {
        PRE_STOP_FIELD => drain(value),
        READINESS_PROBE_FIELD => probe(value),
        GRACE_PERIOD_FIELD => format!("{value} s"),
        _ => spread(value),
    }
}

/// The duration of a hook, or the hook.
fn drain(hook: &Value) -> String {
    pre_stop_seconds(hook).map_or_else(|| hook.to_string(), |seconds| format!("{seconds} s"))
}

/// A readiness probe as the annotation `adieu.dev/readiness-probe` has it.
fn probe(probe: &Value) -> String {
    let port = |action: &Value| match &action["port"] {
        Value::String(name) => name.clone(),
        number => number.to_string(),
    };
    match probe {
        Value::Object(fields) if fields.contains_key("tcpSocket") => {
            format!("tcp:{}", port(&probe["tcpSocket"]))
        }
        Value::Object(fields) if fields.contains_key("grpc") => format!("grpc:{}", port(&probe["grpc"])),
        Value::Object(fields) if fields.contains_key("httpGet") => {
            let action = &probe["httpGet"];
            let scheme = if action["scheme"] == "HTTPS" { "https" } else { "http" };
            format!("{scheme}:{}{}", port(action), action["path"].as_str().unwrap_or_default())
        }
        other => other.to_string(),
    }
}

/// The topology key of a constraint.
fn spread(constraints: &Value) -> String {
    constraints[0]["topologyKey"].as_str().map_or_else(|| constraints.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::cli) fn change(
        field: &'static str,
        container: Option<&str>,
        before: Value,
        after: Value,
    ) -> InjectionChange {
        let some = |value: Value| Some(value).filter(|value| !value.is_null());
        InjectionChange {
            field,
            container: container.map(str::to_owned),
            before: some(before),
            after: some(after),
        }
    }

    pub(in crate::cli) fn sleep(seconds: i64) -> Value {
        json!({"sleep": {"seconds": seconds}})
    }

    #[test]
    fn values_have_a_short_form_unless_that_is_the_same() {
        let exec = json!({"exec": {"command": ["sleep", "10"]}});
        let tcp = json!({"tcpSocket": {"port": "http"}, "periodSeconds": 1});
        for (field, before, after, expected) in [
            (
                PRE_STOP_FIELD,
                sleep(10),
                exec,
                r#"preStop {"sleep":{"seconds":10}} → {"exec":{"command":["sleep","10"]}}"#,
            ),
            (
                PRE_STOP_FIELD,
                Value::Null,
                json!({"httpGet": {"port": 1}}),
                r#"drain none → {"httpGet":{"port":1}}"#,
            ),
            (
                READINESS_PROBE_FIELD,
                tcp,
                json!({"httpGet": {"port": 80, "path": "/ready", "scheme": "HTTPS"}}),
                "readiness probe tcp:http → https:80/ready",
            ),
            (
                READINESS_PROBE_FIELD,
                json!({"grpc": {"port": 9}}),
                Value::Null,
                "readiness probe grpc:9 → none",
            ),
            (
                "topologySpreadConstraints",
                Value::Null,
                json!([{"topologyKey": "kubernetes.io/hostname"}]),
                "topology spread none → kubernetes.io/hostname",
            ),
        ] {
            assert_eq!(value(&change(field, None, before, after), true), expected);
        }
    }

    #[test]
    fn containers_with_the_same_change_and_key_share_a_text() {
        let changes = [
            change(PRE_STOP_FIELD, Some("web"), Value::Null, sleep(10)),
            change(PRE_STOP_FIELD, Some("log"), Value::Null, sleep(10)),
            change(GRACE_PERIOD_FIELD, None, json!(30), json!(45)),
        ];
        let texts =
            |keys: [&'static str; 3], containers| changed_values(changes.iter().zip(keys), containers, true);
        let all = [("drain none → 10 s".to_owned(), "a"), ("grace period 30 s → 45 s".to_owned(), "a")];
        assert_eq!(texts(["a", "a", "a"], 2), all);
        assert_eq!(texts(["a", "a", "a"], 3)[0].0, "drain none → 10 s (web, log)");
        assert_eq!(texts(["a", "b", "b"], 2)[1], ("drain none → 10 s (log)".to_owned(), "b"));
    }
}
