//! Ports: which ones containers declare, which ones Services send to, and how they take a bare TCP connection.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::Value;

use super::{context::NamespaceContext, hooks::is_tcp, workload::Workload};
use crate::api::{annotations::READINESS_PROBE, limits};

/// How the server of a port handles a bare TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PortProtocol {
    /// Without an error: it serves a protocol without TLS.
    Plain,
    /// Unknown.
    Unknown,
    /// It logs an error for the missing handshake.
    Tls,
    /// It counts a failed connection, and after some of them may block the host, and so the kubelet.
    CountsBareConnections(&'static str),
}

/// Names of protocols over TLS; `websecure` is Traefik's.
const TLS_NAMES: [&str; 14] = [
    "amqps",
    "ftps",
    "grpcs",
    "https",
    "imaps",
    "ldaps",
    "mqtts",
    "pop3s",
    "rediss",
    "smtps",
    "ssl",
    "tls",
    "websecure",
    "wss",
];

impl PortProtocol {
    /// The protocol by the name or the application protocol of a port. The first of several words is the protocol (as in
    /// Istio's `http-web`), and a number may follow (`https2`).
    pub(super) fn by_name(name: &str) -> Option<Self> {
        let name = name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let words: Vec<_> =
            name.split(['-', '_']).map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit())).collect();
        let has = |protocols: &[&str]| words.iter().any(|word| protocols.contains(word));
        if has(&TLS_NAMES) {
            return Some(Self::Tls);
        }
        if has(&["mysql", "mysqlx", "mariadb"]) {
            return Some(Self::CountsBareConnections("MySQL"));
        }
        if has(&["ssh", "sftp"]) {
            return Some(Self::CountsBareConnections("SSH"));
        }
        let plain = ["api", "graphql", "grpc", "h2c", "http", "rest", "web", "ws", "www"];
        plain.contains(words.first()?).then_some(Self::Plain)
    }

    pub(super) fn by_number(port: i64) -> Self {
        match port {
            // HTTPS, the API server's, webhooks', SMTP, LDAP, IMAP, POP3, AMQP and MQTT, each with TLS.
            443 | 8443 | 6443 | 9443 | 465 | 636 | 993 | 995 | 5671 | 8883 => Self::Tls,
            3306 | 33060 => Self::CountsBareConnections("MySQL"),
            22 => Self::CountsBareConnections("SSH"),
            _ => Self::Unknown,
        }
    }

    /// The protocol by several Service ports with the same target: a load balancer may terminate TLS for one of them.
    pub(super) fn all(each: &[Self]) -> Self {
        let plain = each.contains(&Self::Plain).then_some(Self::Plain);
        plain.or_else(|| each.iter().max().copied()).unwrap_or(Self::Unknown)
    }
}

/// The printable beginning of any text.
pub(super) fn printable(argument: &str) -> String {
    argument.chars().filter(|c| !c.is_control()).take(64).collect()
}

pub(super) struct Container<'a> {
    pub(super) name: &'a str,
    /// Declared TCP ports, with their names.
    pub(super) ports: Vec<(Option<&'a str>, i64)>,
    /// Whether it declares any port.
    declares_ports: bool,
    /// The argument or variable that enables leader election.
    leader_election_flag: Option<&'a str>,
    /// Whether it has a readiness probe.
    pub(super) has_probe: bool,
    /// Whether it gets no probe: it has one, or is excluded.
    pub(super) excluded_from_probes: bool,
}

impl<'a> Container<'a> {
    pub(super) fn read(container: &'a Value) -> Option<Self> {
        let declared = container["ports"].as_array().into_iter().flatten();
        let ports = declared
            .filter(|port| is_tcp(port))
            .filter_map(|port| {
                let name = port["name"].as_str().filter(|name| name.len() <= limits::PORT_NAME_LENGTH);
                Some((name, port["containerPort"].as_i64()?))
            })
            .collect();
        let has_probe = container.get("readinessProbe").is_some_and(|probe| !probe.is_null());
        let declares_ports = container["ports"].as_array().is_some_and(|ports| !ports.is_empty());
        let name = container["name"].as_str().filter(|name| name.len() <= limits::CONTAINER_NAME_LENGTH)?;
        Some(Self {
            name,
            ports,
            declares_ports,
            leader_election_flag: leader_election_flag(container),
            has_probe,
            excluded_from_probes: has_probe,
        })
    }

    /// The container, excluded from readiness probes.
    pub(super) fn without_probe(self) -> Self {
        Self { excluded_from_probes: true, ..self }
    }

    /// Whether the container can receive traffic on `port`: it declares the port, or no port at all.
    pub(super) fn can_receive(&self, port: i64) -> bool {
        !self.declares_ports || self.ports.iter().any(|(_, declared)| *declared == port)
    }

    /// The protocol by the names of a port.
    pub(super) fn protocol(&self, port: i64) -> Option<PortProtocol> {
        let mut names = self.ports.iter().filter(|(_, number)| *number == port).filter_map(|(name, _)| *name);
        names.find_map(PortProtocol::by_name)
    }

    /// The reason against an automatic TCP probe.
    pub(super) fn reason_for_no_probe(&self, port: i64, protocol: PortProtocol) -> Option<String> {
        let Self { name, leader_election_flag, .. } = self;
        match (protocol, leader_election_flag) {
            (PortProtocol::Tls, _) => Some(format!(
                "container {name:?}: no readiness probe, because port {port} uses TLS and its server logs an error for each \
                 bare TCP connection: set {READINESS_PROBE} to https:{port}/PATH, or to tcp:{port}"
            )),
            (PortProtocol::CountsBareConnections(protocol), _) => Some(format!(
                "container {name:?}: no readiness probe, because port {port} uses {protocol}, whose server counts bare TCP \
                 connections as failed ones and may block the host: write a readinessProbe with a command of your own"
            )),
            (PortProtocol::Plain | PortProtocol::Unknown, Some(argument)) => Some(format!(
                "container {name:?}: no readiness probe, because with {} perhaps only the leader listens on port \
                 {port}, and the others would never be ready: if all of them do, set {READINESS_PROBE} to tcp:{port}",
                printable(argument)
            )),
            (PortProtocol::Plain | PortProtocol::Unknown, None) => None,
        }
    }
}

/// The argument, also in a shell script, or the environment variable that enables leader election.
fn leader_election_flag(container: &Value) -> Option<&str> {
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

/// The containers that receive the traffic to `target`, with the port. An undeclared number belongs to a pod's only
/// container.
pub(super) fn receivers<'a, 'c>(
    containers: &'c [Container<'a>],
    target: &IntOrString,
) -> Vec<(&'c Container<'a>, i64)> {
    let declaring = containers.iter().filter_map(|container| {
        let port = container.ports.iter().find(|(name, number)| match target {
            IntOrString::Int(port) => *number == i64::from(*port),
            IntOrString::String(port) => *name == Some(port.as_str()),
        });
        port.map(|(_, number)| (container, *number))
    });
    let declaring: Vec<_> = declaring.collect();
    match (declaring.as_slice(), containers, target) {
        ([], [only], IntOrString::Int(port)) => vec![(only, i64::from(*port))],
        _ => declaring,
    }
}

/// Whether a Service selects pods with these labels. One of type `ExternalName` selects none, even with a selector.
#[must_use]
pub fn selects(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName"));
    let selector = spec.and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|s| !s.is_empty() && s.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// Whether clients resolve the addresses of the pods behind a Service themselves, instead of one of the Service.
#[must_use]
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

/// A container's port that receives the TCP traffic of a Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivingPort<'a> {
    /// The name of the container.
    pub container: &'a str,
    /// The number of its port.
    pub port: i64,
    /// The names of the Service's port and of the container's.
    pub names: Vec<&'a str>,
}

/// The ports of a template's containers to which a Service sends that selects its pods, without ambiguous ones: those that
/// several containers declare, or that the only container does not declare beside others.
#[must_use]
pub fn receiving_ports<'a>(template: &'a Value, service: &'a Service) -> Vec<ReceivingPort<'a>> {
    let containers = template["spec"]["containers"].as_array().into_iter().flatten();
    let containers: Vec<_> = containers.filter_map(Container::read).collect();
    let mut receiving = Vec::new();
    for service_port in tcp_ports(service) {
        let target = target_port(service_port);
        if let [(container, port)] = receivers(&containers, &target).as_slice()
            && container.can_receive(*port)
        {
            let own = container.ports.iter().find(|(_, number)| number == port).and_then(|(name, _)| *name);
            let names = service_port.name.as_deref().into_iter().chain(own).collect();
            receiving.push(ReceivingPort { container: container.name, port: *port, names });
        }
    }
    receiving
}

/// The label that Argo Rollouts adds to the selectors of a Rollout's Services.
const ROLLOUTS_POD_TEMPLATE_HASH: &str = "rollouts-pod-template-hash";

/// Whether a Service selects the pods of the workload, or those of a Rollout with the same labels.
#[must_use]
pub fn has_service(workload: &Workload<'_>, context: &NamespaceContext) -> bool {
    if context.services.is_empty() {
        return false;
    }
    let labels = workload.template_labels();
    context.services.iter().filter_map(|service| service.spec.as_ref()?.selector.as_ref()).any(|selector| {
        let mut selector = selector.iter().filter(|(key, _)| *key != ROLLOUTS_POD_TEMPLATE_HASH).peekable();
        selector.peek().is_some() && selector.all(|(key, value)| labels.get(key) == Some(value))
    })
}

/// Whether the Service sends only to ready pods. Peers behind a headless Service often connect to each other before they
/// are ready.
pub(super) fn sends_only_to_ready_pods(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .is_some_and(|spec| !is_headless(service) && spec.publish_not_ready_addresses != Some(true))
}

/// The target of a Service port.
pub(super) struct ServiceTarget {
    pub(super) port: IntOrString,
    /// The protocol by its `appProtocol`, which describes the container's port.
    pub(super) protocol: Option<PortProtocol>,
    /// The protocol by its name, which may describe the Service port only.
    pub(super) named: Option<PortProtocol>,
}

pub(super) fn targets(service: &Service) -> Vec<(&str, ServiceTarget)> {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let target = |port: &ServicePort| ServiceTarget {
        port: target_port(port),
        protocol: port.app_protocol.as_deref().and_then(PortProtocol::by_name),
        named: port.name.as_deref().and_then(PortProtocol::by_name),
    };
    tcp_ports(service).map(|port| (name, target(port))).collect()
}

/// The TCP ports of a Service. The API server replaces an empty protocol by its default.
fn tcp_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.filter(|port| port.protocol.as_deref().is_none_or(|protocol| matches!(protocol, "" | "TCP")))
}

/// The target of a Service port; the API server replaces an empty one by the port.
fn target_port(port: &ServicePort) -> IntOrString {
    let is_empty = |target: &IntOrString| match target {
        IntOrString::Int(number) => *number == 0,
        IntOrString::String(name) => name.is_empty(),
    };
    let target = port.target_port.clone().filter(|target| !is_empty(target));
    target.unwrap_or(IntOrString::Int(port.port))
}

pub(super) fn display(target: &IntOrString) -> String {
    match target {
        IntOrString::Int(port) => port.to_string(),
        IntOrString::String(port) => format!("{port:?}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_sends_to_the_container_that_declares_its_target() {
        let container = |name: &str, ports: Value| json!({"name": name, "ports": ports});
        let web = container("web", json!([{"containerPort": 8080, "name": "http"}]));
        let proxy = container("proxy", json!([{"containerPort": 15021}]));
        let bare = json!({"name": "bare"});
        for (containers, port, expected) in [
            (
                json!([web, proxy]),
                json!({"port": 80, "targetPort": "http", "name": "web"}),
                Some(("web", 8080, vec!["web", "http"])),
            ),
            (json!([web, proxy]), json!({"port": 15021}), Some(("proxy", 15021, vec![]))),
            (json!([web, proxy]), json!({"port": 80, "targetPort": 9999}), None),
            (json!([web, proxy]), json!({"port": 80, "targetPort": "other"}), None),
            (json!([web]), json!({"port": 80, "targetPort": 8080, "protocol": "UDP"}), None),
            (json!([bare]), json!({"port": 80, "targetPort": 8080}), Some(("bare", 8080, vec![]))),
            (json!([web]), json!({"port": 80}), None),
            (json!([web, web]), json!({"port": 8080}), None),
        ] {
            let template = json!({"spec": {"containers": containers}});
            let service: Service = serde_json::from_value(json!({"spec": {"ports": [port]}})).unwrap();
            let found = receiving_ports(&template, &service);
            let found = found.first().map(|found| (found.container, found.port, found.names.clone()));
            assert_eq!(found, expected, "{port}");
        }
    }
}
