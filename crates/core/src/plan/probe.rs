//! Which readiness probe a container gets. A wrong one is an outage: where in doubt, none and a warning.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Value, json};

use super::{
    InjectionContext, Kind, ProbeChoice, Settings,
    hooks::{is_tcp, sidecars},
    string_map,
};
use crate::api::{Probe, ProbeMode, annotations::READINESS_PROBE};

/// The readiness probes to inject, by container name: the one that was given, or a TCP probe on the port
/// that the Services in front of the pods send to.
pub(super) fn choose(
    template: &Value,
    settings: &Settings,
    injection: &InjectionContext<'_>,
    warnings: &mut Vec<String>,
) -> BTreeMap<String, Value> {
    let regular = template["spec"]["containers"].as_array().into_iter().flatten();
    let mut containers: Vec<Container<'_>> = regular.filter_map(Container::read).collect();
    for container in &mut containers {
        container.closed |= settings.exclude.value.iter().any(|excluded| container.name == excluded);
    }
    // A Service may well send to a native sidecar, such as a proxy that signs users in.
    let sidecars = template["spec"].as_object().into_iter().flat_map(sidecars).filter_map(Container::read);
    containers.extend(sidecars.map(|sidecar| Container { closed: true, ..sidecar }));
    let ProbeChoice { mode, probe } = &settings.readiness_probe.value;
    if settings.readiness_probe.from.is_annotation() {
        warnings.extend(probe.as_ref().and_then(|probe| own_stays(probe, &containers)));
    }
    match probe {
        _ if containers.iter().all(|container| container.closed) => BTreeMap::new(),
        Some(probe) => given(probe, &containers, warnings),
        None if *mode == ProbeMode::Never => BTreeMap::new(),
        None => automatic(template, &containers, injection, warnings),
    }
}

/// The probe that an annotation or a policy names, for the container that declares its port.
fn given(probe: &Probe, containers: &[Container<'_>], warnings: &mut Vec<String>) -> BTreeMap<String, Value> {
    let Some(port) = port_of(probe) else { return BTreeMap::new() };
    match receivers(containers, &port).as_slice() {
        [(container, _)] if container.closed => BTreeMap::new(),
        [(container, _)] => BTreeMap::from([(container.name.to_owned(), completed(probe))]),
        receivers => {
            let by = if receivers.is_empty() { "no container" } else { "several containers" };
            warnings.push(format!("no readiness probe: its port {} is declared by {by}", display(&port)));
            BTreeMap::new()
        }
    }
}

fn port_of(probe: &Probe) -> Option<IntOrString> {
    match (&probe.http_get, &probe.tcp_socket, &probe.grpc) {
        (Some(action), ..) => Some(action.port.clone().into()),
        (_, Some(action), _) => Some(action.port.clone().into()),
        (.., Some(action)) => Some(IntOrString::Int(action.port)),
        _ => None,
    }
}

/// A policy's probe is for many workloads, an annotation's for this one: it has no effect where the container has one.
fn own_stays(probe: &Probe, containers: &[Container<'_>]) -> Option<String> {
    let receivers = receivers(containers, &port_of(probe)?);
    let [(Container { name, probed: true, .. }, _)] = receivers.as_slice() else { return None };
    Some(format!(
        "container {name:?}: its own readinessProbe stays, so {READINESS_PROBE} has no effect: remove one of the two"
    ))
}

/// As the API server stores it: with what it fills in, without what it leaves out, so that the value stays
/// recognizable.
fn completed(probe: &Probe) -> Value {
    let mut probe = probe.clone();
    let fill = |field: &mut Option<i32>, default| {
        *field = field.filter(|value| *value != 0).or(Some(default));
    };
    fill(&mut probe.timeout_seconds, 1);
    fill(&mut probe.period_seconds, 10);
    fill(&mut probe.success_threshold, 1);
    fill(&mut probe.failure_threshold, 3);
    probe.initial_delay_seconds = probe.initial_delay_seconds.filter(|delay| *delay != 0);
    if let Some(action) = &mut probe.http_get {
        action.path = action.path.take().filter(|path| !path.is_empty()).or_else(|| Some("/".into()));
        action.scheme.get_or_insert_default();
        action.http_headers = action.http_headers.take().filter(|headers| !headers.is_empty());
    }
    if let Some(action) = &mut probe.grpc {
        action.service.get_or_insert_default();
    }
    json!(probe)
}

/// Only for Deployments: an `OrderedReady` StatefulSet can deadlock on a probe. Not with hostNetwork, where the port
/// may be another process's, and not under the strategy `Recreate`, which starts the new pods once the old ones are
/// gone: readiness keeps no old pod.
fn automatic(
    template: &Value,
    containers: &[Container<'_>],
    injection: &InjectionContext<'_>,
    warnings: &mut Vec<String>,
) -> BTreeMap<String, Value> {
    if injection.kind != Some(Kind::Deployment)
        || template["spec"]["hostNetwork"] == true
        || injection.recreates
    {
        return BTreeMap::new();
    }
    let labels = string_map(&template["metadata"]["labels"]);
    let services: Vec<&Service> =
        injection.services.iter().map(AsRef::as_ref).filter(|s| selects(s, &labels)).collect();
    if services.is_empty() {
        return if injection.creating { on_creation(containers, warnings) } else { BTreeMap::new() };
    }
    let mut ports: BTreeMap<&str, BTreeMap<i64, Vec<Speaks>>> = BTreeMap::new();
    for (service, target) in services.iter().filter(|s| routes(s)).flat_map(|service| targets(service)) {
        let declared = match receivers(containers, &target.port).as_slice() {
            [(container, port)] if container.takes(*port) => {
                let speaks = target.speaks.or_else(|| container.speaks(*port)).or(target.named);
                let of_container = ports.entry(container.name).or_default();
                of_container
                    .entry(*port)
                    .or_default()
                    .push(speaks.unwrap_or_else(|| Speaks::by_number(*port)));
                continue;
            }
            [] | [_] => "no container",
            [..] => "several containers",
        };
        warnings.push(format!(
            "no readiness probe: port {} of Service {service:?} is declared by {declared}: set its targetPort to a port \
             that one container declares, or set {READINESS_PROBE}",
            display(&target.port)
        ));
    }
    let mut probes = BTreeMap::new();
    for container in containers.iter().filter(|container| !container.closed) {
        let of_container = ports.remove(container.name).unwrap_or_default();
        match of_container.iter().collect::<Vec<_>>().as_slice() {
            [] => {}
            [(port, speaks)] => match container.objection(**port, Speaks::all(speaks)) {
                None => drop(probes.insert(container.name.to_owned(), tcp(**port))),
                Some(why) => warnings.push(why),
            },
            several => {
                let ports: Vec<_> = several.iter().map(|(port, _)| port).collect();
                warnings.push(format!(
                    "container {:?}: no readiness probe, because Services send to several of its ports ({ports:?}): \
                     write one for the port that tells",
                    container.name
                ));
            }
        }
    }
    probes
}

/// People often apply the Deployment first and its Service after: then it is the only TCP port of the only container,
/// where its name says that it is served. A worker often declares the port of the web application, whose template it
/// shares, and listens on nothing.
fn on_creation(containers: &[Container<'_>], warnings: &mut Vec<String>) -> BTreeMap<String, Value> {
    let open = containers.iter().filter(|container| !container.closed);
    let ports: BTreeSet<i64> = open.flat_map(|container| &container.ports).map(|(_, port)| *port).collect();
    let ports: Vec<_> = ports.into_iter().collect();
    match (ports.as_slice(), containers) {
        ([port], [only]) => {
            let objection = match only.speaks(*port) {
                Some(speaks) => only.objection(*port, speaks),
                None => Some(format!(
                    "container {:?}: no readiness probe, because no Service selects the pods and the name of port {port} \
                     doesn't say that it is served: name it http or grpc, or set {READINESS_PROBE} to tcp:{port} or never",
                    only.name
                )),
            };
            let probe = objection.is_none().then(|| (only.name.to_owned(), tcp(*port)));
            warnings.extend(objection);
            probe.into_iter().collect()
        }
        ([], _) => BTreeMap::new(),
        ([port], _) => {
            warnings.push(format!(
                "no readiness probe, because no Service selects the pods, which have several containers: set \
                 {READINESS_PROBE} to tcp:{port} or never"
            ));
            BTreeMap::new()
        }
        (several, _) => {
            warnings.push(format!(
                "no readiness probe, because no Service tells yet which of the ports {several:?} counts: write one for the port that tells"
            ));
            BTreeMap::new()
        }
    }
}

/// What is known of how a port takes a bare TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Speaks {
    /// Well: something is served there without TLS.
    Plain,
    /// Nothing is known.
    Unknown,
    /// With an error in its log for the handshake that doesn't come.
    Tls,
    /// As an attempt to connect that failed. It may block the host after some, and the kubelet with it.
    Counted(&'static str),
}

impl Speaks {
    /// What the name or the application protocol of a port says. Names are one word, or several with hyphens between,
    /// of which the first is the protocol (as in Istio's `http-web`).
    fn by_name(name: &str) -> Option<Self> {
        let name = name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let has = |words: &[&str]| name.split(['-', '_']).any(|word| words.contains(&word));
        let first =
            name.split(['-', '_']).next().unwrap_or_default().trim_end_matches(|c: char| c.is_ascii_digit());
        if has(&["https", "tls", "ssl", "wss", "grpcs"]) {
            return Some(Self::Tls);
        }
        if has(&["mysql", "mysqlx", "mariadb"]) {
            return Some(Self::Counted("MySQL"));
        }
        if has(&["ssh", "sftp"]) {
            return Some(Self::Counted("SSH"));
        }
        let plain = ["api", "graphql", "grpc", "h2c", "http", "rest", "web", "ws", "www"];
        plain.contains(&first).then_some(Self::Plain)
    }

    fn by_number(port: i64) -> Self {
        match port {
            // HTTPS, the API server's, webhooks', SMTP, LDAP, IMAP, POP3, AMQP and MQTT, each with TLS.
            443 | 8443 | 6443 | 9443 | 465 | 636 | 993 | 995 | 5671 | 8883 => Self::Tls,
            3306 | 33060 => Self::Counted("MySQL"),
            22 => Self::Counted("SSH"),
            _ => Self::Unknown,
        }
    }

    /// What several Service ports say of the same port: a load balancer may take TLS away for one of them.
    fn all(each: &[Self]) -> Self {
        let plain = each.contains(&Self::Plain).then_some(Self::Plain);
        plain.or_else(|| each.iter().max().copied()).unwrap_or(Self::Unknown)
    }
}

/// All fields are given, so that the API server adds none and the value stays recognizable. The period is
/// half of Kubernetes' default: a new pod waits for its first success before it counts.
fn tcp(port: i64) -> Value {
    json!({
        "tcpSocket": {"port": port},
        "periodSeconds": 5,
        "timeoutSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": 3,
    })
}

/// The beginning of what may be any text.
fn printable(argument: &str) -> String {
    argument.chars().filter(|c| !c.is_control()).take(64).collect()
}

struct Container<'a> {
    name: &'a str,
    /// Declared TCP ports, with their names.
    ports: Vec<(Option<&'a str>, i64)>,
    /// Whether it declares any port.
    declares: bool,
    /// The argument or variable that turns on leader election.
    election: Option<&'a str>,
    /// Has a probe of its own.
    probed: bool,
    /// Has one, or is to be left alone.
    closed: bool,
}

impl<'a> Container<'a> {
    fn read(container: &'a Value) -> Option<Self> {
        let declared = container["ports"].as_array().into_iter().flatten();
        let ports = declared
            .filter(|port| is_tcp(port))
            .filter_map(|port| Some((port["name"].as_str(), port["containerPort"].as_i64()?)))
            .collect();
        let probed = container.get("readinessProbe").is_some_and(|probe| !probe.is_null());
        let declares = container["ports"].as_array().is_some_and(|ports| !ports.is_empty());
        let name = container["name"].as_str()?;
        Some(Self { name, ports, declares, election: election(container), probed, closed: probed })
    }

    /// Whether a port that a Service sends to can be this container's: a number need not be declared, but it is none
    /// of its ports where it declares others.
    fn takes(&self, port: i64) -> bool {
        !self.declares || self.ports.iter().any(|(_, declared)| *declared == port)
    }

    /// What the names of a port say.
    fn speaks(&self, port: i64) -> Option<Speaks> {
        let mut names = self.ports.iter().filter(|(_, number)| *number == port).filter_map(|(name, _)| *name);
        names.find_map(Speaks::by_name)
    }

    /// Why the port gets no TCP probe by itself.
    fn objection(&self, port: i64, speaks: Speaks) -> Option<String> {
        let Self { name, election, .. } = self;
        match (speaks, election) {
            (Speaks::Tls, _) => Some(format!(
                "container {name:?}: no readiness probe, because port {port} uses TLS and its server logs an error for each \
                 bare TCP connection: set {READINESS_PROBE} to https:{port}/PATH, or to tcp:{port}"
            )),
            (Speaks::Counted(protocol), _) => Some(format!(
                "container {name:?}: no readiness probe, because port {port} uses {protocol}, whose server counts bare TCP \
                 connections as failed ones and may block the host: write a readinessProbe with a command of your own"
            )),
            (Speaks::Plain | Speaks::Unknown, Some(argument)) => Some(format!(
                "container {name:?}: no readiness probe, because with {} perhaps only the leader listens on port \
                 {port}, and the others would never be ready: if all of them do, set {READINESS_PROBE} to tcp:{port}",
                printable(argument)
            )),
            (Speaks::Plain | Speaks::Unknown, None) => None,
        }
    }
}

/// What turns on leader election: an argument, also in a shell's script, or a variable.
fn election(container: &Value) -> Option<&str> {
    let elects = |name: &str| {
        let name = name.to_ascii_lowercase().replace(['-', '_'], "");
        name.contains("leaderelect")
            && !["disable", "noleader", "skip"].iter().any(|off| name.starts_with(off))
    };
    let off = |value: &str| ["false", "0", ""].contains(&value.to_ascii_lowercase().as_str());
    let lists = ["command", "args"].into_iter().filter_map(|list| container[list].as_array()).flatten();
    let mut words = lists.filter_map(Value::as_str).flat_map(str::split_whitespace);
    let mut variables = container["env"].as_array().into_iter().flatten();
    let argument = words.find(|word| {
        let (name, value) = word.split_once('=').unwrap_or((word, "true"));
        word.starts_with('-') && elects(name) && !off(value)
    });
    argument.or_else(|| {
        variables.find_map(|variable| {
            let on = variable["value"].as_str().is_some_and(|value| value.eq_ignore_ascii_case("true"));
            variable["name"].as_str().filter(|name| on && elects(name))
        })
    })
}

/// The containers that take what is sent to `target`. A number need not be declared: then only a pod's
/// single container can be meant.
fn receivers<'a, 'c>(containers: &'c [Container<'a>], target: &IntOrString) -> Vec<(&'c Container<'a>, i64)> {
    let declaring = containers.iter().filter_map(|container| {
        let meant = container.ports.iter().find(|(name, number)| match target {
            IntOrString::Int(port) => *number == i64::from(*port),
            IntOrString::String(port) => *name == Some(port.as_str()),
        });
        meant.map(|(_, number)| (container, *number))
    });
    let declaring: Vec<_> = declaring.collect();
    match (declaring.as_slice(), containers, target) {
        ([], [only], IntOrString::Int(port)) => vec![(only, i64::from(*port))],
        _ => declaring,
    }
}

/// One of type `ExternalName` selects nothing, whatever its selector is.
fn selects(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName"));
    let selector = spec.and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|s| !s.is_empty() && s.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// Whether readiness decides what the Service sends. Peers behind a headless Service often find each
/// other before they are ready.
fn routes(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.cluster_ip.as_deref() != Some("None") && spec.publish_not_ready_addresses != Some(true)
    })
}

/// Where a Service port sends to.
struct Target {
    port: IntOrString,
    /// What its application protocol says, which is about the container's port.
    speaks: Option<Speaks>,
    /// What its name says, which may be about the port in front.
    named: Option<Speaks>,
}

fn targets(service: &Service) -> Vec<(&str, Target)> {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let target = |port: &ServicePort| Target {
        port: port.target_port.clone().unwrap_or(IntOrString::Int(port.port)),
        speaks: port.app_protocol.as_deref().and_then(Speaks::by_name),
        named: port.name.as_deref().and_then(Speaks::by_name),
    };
    let tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
    tcp.map(|port| (name, target(port))).collect()
}

fn display(target: &IntOrString) -> String {
    match target {
        IntOrString::Int(port) => port.to_string(),
        IntOrString::String(port) => format!("{port:?}"),
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
