//! The `adieu.dev/` annotations: on a workload's metadata or on its pod template.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    GracefulPolicySpec, GrpcProbe, HttpProbe, IntOrString, PreStop, PreStopMethod, Probe, ProbeMode,
    ReadinessProbe, Scheme, TcpProbe, limits,
};

/// `"true"` opts a workload in, `"false"` opts it out whatever else selects it.
pub const GRACEFUL: &str = "adieu.dev/graceful";
/// The name of a `GracefulPolicy` in the workload's namespace; opts the workload in.
pub const POLICY: &str = "adieu.dev/policy";
/// Seconds between the start of termination and SIGTERM.
pub const DRAIN_SECONDS: &str = "adieu.dev/drain-seconds";
/// Seconds that the application may take from SIGTERM to its exit.
pub const SHUTDOWN_TIMEOUT_SECONDS: &str = "adieu.dev/shutdown-timeout-seconds";
/// Seconds of reserve on top.
pub const MARGIN_SECONDS: &str = "adieu.dev/margin-seconds";
/// How the drain is done: `Auto`, `Sleep`, `Exec` or `HTTPGet`.
pub const PRE_STOP_METHOD: &str = "adieu.dev/pre-stop-method";
/// Names of containers that are left alone, separated by commas.
pub const EXCLUDE_CONTAINERS: &str = "adieu.dev/exclude-containers";
/// The readiness probe: `http:PORT/PATH`, `https:PORT/PATH`, `tcp:PORT`, `grpc:PORT`, or `never`.
pub const READINESS_PROBE: &str = "adieu.dev/readiness-probe";
/// What was injected; written by adieu into the pod template.
pub const INJECTED: &str = "adieu.dev/injected";
/// That the workload waits for the next change of its template (`NextUpdate`); written by adieu on the
/// workload, which meets the webhook by it wherever it is.
pub const PENDING: &str = "adieu.dev/pending";
/// Settings that were changed since the injection without any effect, so that nothing was rolled out; written by adieu
/// on the workload. If they have an effect later, because a Service appears or kubelets are upgraded, that is no
/// reason to roll out.
pub const ACCEPTED: &str = "adieu.dev/accepted";

/// The keys by which a person tells adieu something.
pub const KEYS: [&str; 8] = [
    GRACEFUL,
    POLICY,
    DRAIN_SECONDS,
    SHUTDOWN_TIMEOUT_SECONDS,
    MARGIN_SECONDS,
    PRE_STOP_METHOD,
    EXCLUDE_CONTAINERS,
    READINESS_PROBE,
];

const PREFIX: &str = "adieu.dev/";

/// What a set of annotations says. A malformed value counts as absent here and is named in
/// [`Parsed::invalid`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    /// [`GRACEFUL`].
    pub graceful: Option<bool>,
    /// [`POLICY`].
    pub policy: Option<String>,
    /// All others, as a policy would say it.
    pub settings: GracefulPolicySpec,
}

/// The outcome of reading annotations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The values that are well-formed.
    pub annotations: Annotations,
    /// The values that are not.
    pub invalid: Vec<Invalid>,
    /// Keys under `adieu.dev/` that mean nothing, most likely typing mistakes.
    pub unknown: Vec<String>,
}

/// A malformed annotation: where, its value, and the rule it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}[{key}]: Invalid value: {:?}: {rule}", shown(value))]
pub struct Invalid {
    /// The field path of the annotations.
    pub path: &'static str,
    /// The annotation's key.
    pub key: &'static str,
    /// The value as it was given.
    pub value: String,
    /// What a value must be, with an example.
    pub rule: String,
}

/// The beginning of a value, if it is long: a message is for people.
fn shown(value: &str) -> Cow<'_, str> {
    const SHOWN: usize = 253;
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &value[..end]).into(),
        None => value.into(),
    }
}

/// Reads the `adieu.dev/` annotations that lie at the field path `path`, and passes over all others.
#[must_use]
pub fn parse(annotations: &BTreeMap<String, String>, path: &'static str) -> Parsed {
    let mut parsed = Parsed::default();
    let Parsed { annotations: read, invalid, unknown } = &mut parsed;
    let settings = &mut read.settings;
    for (key, value) in under_prefix(annotations) {
        let mut refuse = |key, rule| invalid.push(Invalid { path, key, value: value.clone(), rule });
        match key.as_str() {
            GRACEFUL => read.graceful = boolean(value).map_err(|rule| refuse(GRACEFUL, rule)).ok(),
            POLICY => read.policy = object_name(value).map_err(|rule| refuse(POLICY, rule)).ok(),
            DRAIN_SECONDS => {
                let given = seconds(value, limits::DRAIN_SECONDS, 15);
                settings.drain_seconds = given.map_err(|rule| refuse(DRAIN_SECONDS, rule)).ok();
            }
            SHUTDOWN_TIMEOUT_SECONDS => {
                let given = seconds(value, limits::SHUTDOWN_TIMEOUT_SECONDS, 30);
                settings.shutdown_timeout_seconds =
                    given.map_err(|rule| refuse(SHUTDOWN_TIMEOUT_SECONDS, rule)).ok();
            }
            MARGIN_SECONDS => {
                let given = seconds(value, limits::MARGIN_SECONDS, 5);
                settings.margin_seconds = given.map_err(|rule| refuse(MARGIN_SECONDS, rule)).ok();
            }
            PRE_STOP_METHOD => {
                let given = pre_stop_method(value).map_err(|rule| refuse(PRE_STOP_METHOD, rule));
                let method = given.ok();
                settings.pre_stop =
                    method.map(|method| PreStop { method: Some(method), ..PreStop::default() });
            }
            EXCLUDE_CONTAINERS => {
                let given = container_names(value).map_err(|rule| refuse(EXCLUDE_CONTAINERS, rule));
                settings.excluded_containers = given.ok();
            }
            READINESS_PROBE => {
                let given = readiness_probe(value).map_err(|rule| refuse(READINESS_PROBE, rule));
                settings.readiness_probe = given.ok();
            }
            INJECTED | PENDING | ACCEPTED => {}
            _ => unknown.push(key.clone()),
        }
    }
    parsed
}

/// The annotations by which a person tells adieu something: all of `adieu.dev/` but those that it writes itself.
pub fn instructions(
    annotations: &BTreeMap<String, String>,
) -> impl Iterator<Item = (&String, &String)> + use<'_> {
    under_prefix(annotations).filter(|(key, _)| ![INJECTED, PENDING, ACCEPTED].contains(&key.as_str()))
}

/// Whether a key is one of adieu's.
#[must_use]
pub fn is_own(key: &str) -> bool {
    key.starts_with(PREFIX)
}

fn under_prefix(
    annotations: &BTreeMap<String, String>,
) -> impl Iterator<Item = (&String, &String)> + use<'_> {
    annotations.range(PREFIX.to_owned()..).take_while(|(key, _)| key.starts_with(PREFIX))
}

fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(r#"must be "true" or "false""#.into()),
    }
}

/// Decimal digits only: what `str::parse` takes beyond them, such as a plus sign, is a typing mistake
/// more often than an intention.
fn seconds(value: &str, max: i64, example: i64) -> Result<i64, String> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten().filter(|seconds| *seconds <= max).ok_or_else(|| {
        format!(
            "must be a whole number of seconds from 0 to {max}, without a unit, for example \"{example}\""
        )
    })
}

fn pre_stop_method(value: &str) -> Result<PreStopMethod, String> {
    match value {
        "Auto" => Ok(PreStopMethod::Auto),
        "Sleep" => Ok(PreStopMethod::Sleep),
        "Exec" => Ok(PreStopMethod::Exec),
        "HTTPGet" => Ok(PreStopMethod::HttpGet),
        _ => Err(r#"must be "Auto", "Sleep", "Exec" or "HTTPGet""#.into()),
    }
}

fn container_names(value: &str) -> Result<Vec<String>, String> {
    let names: Vec<_> = value.split(',').map(str::trim).collect();
    if names.len() > limits::EXCLUDED_CONTAINERS {
        return Err(format!(
            "must be names of at most {} containers, and these are {}: where most are left alone, set \
             {DRAIN_SECONDS} to \"0\" instead",
            limits::EXCLUDED_CONTAINERS,
            names.len()
        ));
    }
    if names.iter().all(|name| name.len() <= 63 && is_dns_label(name)) {
        Ok(names.into_iter().map(str::to_owned).collect())
    } else {
        Err("must be names of containers separated by commas, for example \"log-shipper,istio-proxy\"".into())
    }
}

/// `http:PORT/PATH`, `https:PORT/PATH`, `tcp:PORT`, `grpc:PORT`, `never`. A port is a number or, but for gRPC, a name.
fn readiness_probe(value: &str) -> Result<ReadinessProbe, String> {
    if value.len() > limits::PATH_LENGTH {
        return Err(format!("must have at most {} characters", limits::PATH_LENGTH));
    }
    if value == "never" {
        return Ok(ReadinessProbe { mode: Some(ProbeMode::Never), probe: None });
    }
    let probe = value.split_once(':').and_then(|(scheme, rest)| match scheme {
        "http" | "https" => {
            let (port, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let path = if path.is_empty() { "/" } else { path };
            let action = HttpProbe {
                http_headers: None,
                path: Some(path.into()),
                port: port_of(port)?,
                scheme: (scheme == "https").then_some(Scheme::Https),
            };
            Some(Probe { http_get: Some(action), ..Probe::default() })
        }
        "tcp" => {
            let action = TcpProbe { port: port_of(rest)? };
            Some(Probe { tcp_socket: Some(action), ..Probe::default() })
        }
        "grpc" => match port_of(rest)? {
            IntOrString::Int(port) => {
                let port = port.try_into().ok()?;
                Some(Probe { grpc: Some(GrpcProbe { port, service: None }), ..Probe::default() })
            }
            IntOrString::String(_) => None,
        },
        _ => None,
    });
    let rule = "must be http:PORT/PATH, https:PORT/PATH, tcp:PORT, grpc:PORT or never, for example \"http:8080/ready\"";
    probe.map(|probe| ReadinessProbe { mode: None, probe: Some(probe) }).ok_or_else(|| rule.into())
}

/// A port by number, or by name as Kubernetes has it (`IANA_SVC_NAME`: at most 15 characters, a letter among
/// them).
fn port_of(text: &str) -> Option<IntOrString> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|port| (1..=65535).contains(port)).map(IntOrString::Int);
    }
    let name = text.len() <= 15
        && is_dns_label(text)
        && !text.contains("--")
        && text.bytes().any(|b| b.is_ascii_lowercase());
    name.then(|| IntOrString::String(text.to_owned()))
}

fn is_dns_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

/// A DNS subdomain name (RFC 1123), as Kubernetes wants the name of a custom resource.
pub(super) fn is_object_name(value: &str) -> bool {
    value.len() <= 253 && value.split('.').all(is_dns_label)
}

fn object_name(value: &str) -> Result<String, String> {
    if is_object_name(value) {
        Ok(value.to_owned())
    } else {
        Err("must be the name of a GracefulPolicy in the workload's namespace: lower case letters, \
             digits, '-' and '.', at most 253 characters, for example \"checkout\""
            .into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    fn read(annotations: &BTreeMap<String, String>) -> Parsed {
        parse(annotations, "metadata.annotations")
    }

    #[test]
    fn every_annotation_is_read() {
        let parsed = read(&map([
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
            drain_seconds: Some(0),
            shutdown_timeout_seconds: Some(86_400),
            margin_seconds: Some(7),
            pre_stop: Some(PreStop { method: Some(PreStopMethod::HttpGet), ..PreStop::default() }),
            excluded_containers: Some(vec!["log-shipper".into(), "istio-proxy".into()]),
            readiness_probe: Some(ReadinessProbe { mode: Some(ProbeMode::Never), probe: None }),
            ..GracefulPolicySpec::default()
        };
        let annotations = Annotations { graceful: Some(true), policy: Some("checkout".into()), settings };
        assert_eq!(parsed, Parsed { annotations, ..Parsed::default() });
    }

    #[test]
    fn a_malformed_value_is_named_with_its_rule() {
        for (key, value, rule) in [
            (GRACEFUL, "yes", "\"true\" or \"false\""),
            (GRACEFUL, "", "\"true\" or \"false\""),
            (POLICY, "Check_Out", "name of a GracefulPolicy"),
            (POLICY, "", "name of a GracefulPolicy"),
            (POLICY, "-a", "name of a GracefulPolicy"),
            (DRAIN_SECONDS, "ten", "whole number of seconds from 0 to 3600"),
            (DRAIN_SECONDS, "10s", "without a unit"),
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
            (EXCLUDE_CONTAINERS, &["c"; 33].join(","), "at most 32 containers, and these are 33"),
        ] {
            let parsed = read(&map([(key, value)]));
            assert_eq!(parsed.annotations, Annotations::default(), "{key}={value}");
            let [invalid] = parsed.invalid.as_slice() else { unreachable!("{key}={value}: {parsed:?}") };
            let message = invalid.to_string();
            let beginning = &value[..value.len().min(253)];
            let value = if beginning == value {
                format!("{value:?}")
            } else {
                format!("{:?}", format!("{beginning}…"))
            };
            assert!(
                message.starts_with(&format!("metadata.annotations[{key}]: Invalid value: {value}: ")),
                "{message}"
            );
            assert!(message.contains(rule), "{message}");
        }
    }

    #[test]
    fn a_readiness_probe_is_read_in_each_of_its_forms() {
        for (value, expected) in [
            ("http:8080/ready?deep=1", json!({"httpGet": {"path": "/ready?deep=1", "port": 8080}})),
            ("http:web", json!({"httpGet": {"path": "/", "port": "web"}})),
            ("https:8443/ready", json!({"httpGet": {"path": "/ready", "port": 8443, "scheme": "HTTPS"}})),
            ("https:web", json!({"httpGet": {"path": "/", "port": "web", "scheme": "HTTPS"}})),
            ("tcp:6379", json!({"tcpSocket": {"port": 6379}})),
            ("tcp:redis", json!({"tcpSocket": {"port": "redis"}})),
            ("grpc:9000", json!({"grpc": {"port": 9000}})),
        ] {
            let settings = read(&map([(READINESS_PROBE, value)])).annotations.settings;
            let probe = settings.readiness_probe.and_then(|given| given.probe);
            assert_eq!(serde_json::to_value(probe).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn a_key_that_means_nothing_is_reported() {
        let parsed = read(&map([("adieu.dev/drain-second", "10"), ("adieu.devil/x", "1")]));
        assert_eq!(parsed.unknown, ["adieu.dev/drain-second"]);
    }
}
