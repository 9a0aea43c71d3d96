//! The `adieu.dev/` annotations: on a workload's metadata or on its pod template.

use std::collections::BTreeMap;

use super::{
    DrainSeconds, GracefulPolicySpec, GrpcProbe, HttpProbe, IntOrString, PreStop, PreStopMethod, Probe,
    ProbeMode, ReadinessProbe, Scheme, TcpProbe, limits,
};
use crate::text::truncate_chars;

/// `"true"` opts a workload in, `"false"` opts it out even if a policy selects it.
pub const GRACEFUL: &str = "adieu.dev/graceful";
/// The name of a `GracefulPolicy` in the workload's namespace; opts the workload in.
pub const POLICY: &str = "adieu.dev/policy";
/// Seconds between the start of termination and SIGTERM, or `auto`.
pub const DRAIN_SECONDS: &str = "adieu.dev/drain-seconds";
/// Seconds that the application may take from SIGTERM to its exit.
pub const SHUTDOWN_TIMEOUT_SECONDS: &str = "adieu.dev/shutdown-timeout-seconds";
/// Seconds of reserve on top of drain and shutdown timeout.
pub const MARGIN_SECONDS: &str = "adieu.dev/margin-seconds";
/// How the drain is done: `Auto`, `Sleep`, `Exec` or `HTTPGet`.
pub const PRE_STOP_METHOD: &str = "adieu.dev/pre-stop-method";
/// Names of containers that are not injected, separated by commas.
pub const EXCLUDE_CONTAINERS: &str = "adieu.dev/exclude-containers";
/// The readiness probe: `http:PORT/PATH`, `https:PORT/PATH`, `tcp:PORT`, `grpc:PORT`, or `never`.
pub const READINESS_PROBE: &str = "adieu.dev/readiness-probe";
/// Findings of `adieu audit` that are accepted: `RULE: reason`, one in each line or separated by semicolons. It has no
/// effect on the injection.
pub const AUDIT_IGNORE: &str = "adieu.dev/audit-ignore";
/// The record of the injection; adieu sets it on the pod template.
pub const INJECTED: &str = "adieu.dev/injected";
/// The workload waits for the next change of its template (`NextUpdate`). adieu sets it on the workload, so that its
/// updates reach the webhook in any namespace.
pub const PENDING: &str = "adieu.dev/pending";
/// Settings that changed since the injection without effect, so that there was no rollout. adieu sets it on the workload.
/// If they have an effect later, because of a new Service or upgraded kubelets, that causes no rollout either.
pub const ACCEPTED: &str = "adieu.dev/accepted";
/// The injection that adieu last rolled out for a policy, as a hash. adieu sets it on the workload. By it the next leader
/// tells rollouts that adieu started from those of users.
pub const ROLLOUT: &str = "adieu.dev/rollout";
/// The recommendation that adieu applies, because the workload's policy has `recommendations: Apply`. adieu sets it on the
/// workload, where it causes no rollout by itself.
pub const APPLIED_RECOMMENDATION: &str = "adieu.dev/applied-recommendation";

/// The keys that users set.
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

/// The keys that aren't instructions of a user: those that adieu sets, and [`AUDIT_IGNORE`].
const OTHERS: [&str; 6] = [INJECTED, PENDING, ACCEPTED, ROLLOUT, APPLIED_RECOMMENDATION, AUDIT_IGNORE];

const PREFIX: &str = "adieu.dev/";

/// The values of a set of annotations. A malformed value counts as absent, and is in [`ParsedAnnotations::invalid`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    /// [`GRACEFUL`].
    pub graceful: Option<bool>,
    /// [`POLICY`].
    pub policy: Option<String>,
    /// All others, as fields of a policy.
    pub settings: GracefulPolicySpec,
}

/// The result of parsing annotations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParsedAnnotations {
    /// The well-formed values.
    pub annotations: Annotations,
    /// The malformed values.
    pub invalid: Vec<Invalid>,
    /// Unknown keys under `adieu.dev/`, probably misspelled.
    pub unknown: Vec<String>,
}

/// A malformed annotation: its path and key, its value, and the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}[{key}]: Invalid value: {:?}: {rule}", truncate_chars(value, MAX_SHOWN))]
pub struct Invalid {
    /// The field path of the annotations.
    pub path: &'static str,
    /// The annotation's key.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// The rule for its values, with an example.
    pub rule: String,
}

/// The maximum number of characters of a value in a message: as many as a policy's name may have.
const MAX_SHOWN: usize = 253;

/// Parses the `adieu.dev/` annotations at the field path `path`, and skips all others.
#[must_use]
pub fn parse(annotations: &BTreeMap<String, String>, path: &'static str) -> ParsedAnnotations {
    let mut parsed = ParsedAnnotations::default();
    let ParsedAnnotations { annotations: valid, invalid, unknown } = &mut parsed;
    let settings = &mut valid.settings;
    for (key, value) in under_prefix(annotations) {
        let mut reject = |key, rule| invalid.push(Invalid { path, key, value: value.clone(), rule });
        match key.as_str() {
            GRACEFUL => valid.graceful = boolean(value).map_err(|rule| reject(GRACEFUL, rule)).ok(),
            POLICY => valid.policy = object_name(value).map_err(|rule| reject(POLICY, rule)).ok(),
            DRAIN_SECONDS => {
                let given = drain_seconds(value);
                settings.drain_seconds = given.map_err(|rule| reject(DRAIN_SECONDS, rule)).ok();
            }
            SHUTDOWN_TIMEOUT_SECONDS => {
                let given = seconds(value, limits::SHUTDOWN_TIMEOUT_SECONDS, 30);
                settings.shutdown_timeout_seconds =
                    given.map_err(|rule| reject(SHUTDOWN_TIMEOUT_SECONDS, rule)).ok();
            }
            MARGIN_SECONDS => {
                let given = seconds(value, limits::MARGIN_SECONDS, 5);
                settings.margin_seconds = given.map_err(|rule| reject(MARGIN_SECONDS, rule)).ok();
            }
            PRE_STOP_METHOD => {
                let given = pre_stop_method(value).map_err(|rule| reject(PRE_STOP_METHOD, rule));
                let method = given.ok();
                settings.pre_stop =
                    method.map(|method| PreStop { method: Some(method), ..PreStop::default() });
            }
            EXCLUDE_CONTAINERS => {
                let given = container_names(value).map_err(|rule| reject(EXCLUDE_CONTAINERS, rule));
                settings.excluded_containers = given.ok();
            }
            READINESS_PROBE => {
                let given = readiness_probe(value).map_err(|rule| reject(READINESS_PROBE, rule));
                settings.readiness_probe = given.ok();
            }
            other if OTHERS.contains(&other) => {}
            _ => unknown.push(key.clone()),
        }
    }
    parsed
}

/// The annotations that users set and that affect the injection.
pub fn instructions(
    annotations: &BTreeMap<String, String>,
) -> impl Iterator<Item = (&String, &String)> + use<'_> {
    under_prefix(annotations).filter(|(key, _)| !OTHERS.contains(&key.as_str()))
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

/// Decimal digits only: other input that `str::parse` accepts, such as a plus sign, is probably a mistake.
fn seconds(value: &str, max: i64, example: i64) -> Result<i64, String> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten().filter(|seconds| *seconds <= max).ok_or_else(|| {
        format!(
            "must be a whole number of seconds from 0 to {max}, without a unit, for example \"{example}\""
        )
    })
}

fn drain_seconds(value: &str) -> Result<DrainSeconds, String> {
    if value == "auto" || value == DrainSeconds::AUTO {
        return Ok(DrainSeconds::Auto);
    }
    let given = seconds(value, limits::DRAIN_SECONDS, 15);
    given.map(DrainSeconds::Seconds).map_err(|rule| format!("{rule}, or \"auto\""))
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
    let count = value.split(',').count();
    if count > limits::EXCLUDED_CONTAINERS {
        return Err(format!(
            "must have at most {} container names, not {}: to exclude most containers, set {DRAIN_SECONDS} to \"0\" \
             instead",
            limits::EXCLUDED_CONTAINERS,
            count
        ));
    }
    let names: Vec<_> = value.split(',').map(str::trim).collect();
    if names.iter().all(|name| name.len() <= limits::CONTAINER_NAME_LENGTH && is_dns_label(name)) {
        Ok(names.into_iter().map(str::to_owned).collect())
    } else {
        Err("must be container names separated by commas, for example \"log-shipper,istio-proxy\"".into())
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

/// A port by number, or by name (`IANA_SVC_NAME`: at most 15 characters, including a letter).
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

/// A DNS subdomain name (RFC 1123), which the name of a custom resource must be.
pub(super) fn is_object_name(value: &str) -> bool {
    value.len() <= limits::OBJECT_NAME_LENGTH && value.split('.').all(is_dns_label)
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
#[path = "annotations_tests.rs"]
mod tests;
