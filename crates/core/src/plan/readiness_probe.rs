//! Readiness probes. A wrong one is an outage: if the port is ambiguous, there is a warning and no probe.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};
use serde_json::{Value, json};

use super::{
    context::InjectionContext,
    hooks::sidecars,
    ports::{Container, PortProtocol, display, receivers, selects, sends_only_to_ready_pods, targets},
    settings::{ProbeChoice, Settings},
    warnings::Warnings,
    workload::{Kind, string_map},
};
use crate::api::{Probe, ProbeMode, annotations::READINESS_PROBE, limits};

/// The readiness probes to inject, by container name: the configured one, or a TCP probe on the port that the Services
/// of the pods send to.
pub(super) fn choose(
    template: &Value,
    settings: &Settings,
    injection: &InjectionContext<'_>,
    warnings: &mut Warnings,
) -> BTreeMap<String, Value> {
    let regular = template["spec"]["containers"].as_array().into_iter().flatten();
    let mut containers: Vec<Container<'_>> = regular.filter_map(Container::read).collect();
    for container in &mut containers {
        container.excluded_from_probes |=
            settings.exclude.value.iter().any(|excluded| container.name == excluded);
    }
    // A Service may send to a native sidecar, such as an authenticating proxy.
    let sidecars = template["spec"].as_object().into_iter().flat_map(sidecars).filter_map(Container::read);
    containers.extend(sidecars.map(Container::without_probe));
    let ProbeChoice { mode, probe } = &settings.readiness_probe.value;
    if settings.readiness_probe.from.is_annotation() {
        warnings.extend(probe.as_ref().and_then(|probe| no_effect(probe, &containers)));
    }
    match probe {
        _ if containers.iter().all(|container| container.excluded_from_probes) => BTreeMap::new(),
        Some(probe) => configured(probe, &containers, warnings),
        None if *mode == ProbeMode::Never => BTreeMap::new(),
        None => automatic(template, &containers, injection, warnings),
    }
}

/// The probe of an annotation or a policy, for the container that declares its port.
fn configured(
    probe: &Probe,
    containers: &[Container<'_>],
    warnings: &mut Warnings,
) -> BTreeMap<String, Value> {
    let Some(port) = port_of(probe) else { return BTreeMap::new() };
    match receivers(containers, &port).as_slice() {
        [(container, _)] if container.excluded_from_probes => BTreeMap::new(),
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

/// The warning for an annotation's probe without effect, because the container has its own, is excluded, or is a native
/// sidecar. A policy's probe is for many workloads, so there is none.
fn no_effect(probe: &Probe, containers: &[Container<'_>]) -> Option<String> {
    match receivers(containers, &port_of(probe)?).as_slice() {
        [(Container { name, has_probe: true, .. }, _)] => Some(format!(
            "container {name:?}: its own readinessProbe is kept, so {READINESS_PROBE} has no effect: remove one of the \
             two"
        )),
        [(Container { name, excluded_from_probes: true, .. }, _)] => Some(format!(
            "container {name:?}: {READINESS_PROBE} has no effect on excluded containers and native sidecars: write a \
             readinessProbe in the container"
        )),
        _ => None,
    }
}

/// The probe as the API server stores it, with defaults and without zero values, so that it compares equal later.
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

/// A TCP probe on the port that the Services send to. Only for Deployments: an `OrderedReady` StatefulSet can deadlock on
/// a probe. Not with hostNetwork, where another process may use the port, and not with the strategy `Recreate`, which
/// starts new pods only after the old ones have stopped, regardless of readiness.
fn automatic(
    template: &Value,
    containers: &[Container<'_>],
    injection: &InjectionContext<'_>,
    warnings: &mut Warnings,
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
        return if injection.creating || injection.opting_in {
            without_service(containers, injection.creating, warnings)
        } else {
            BTreeMap::new()
        };
    }
    let mut ports = served_ports(&services, containers, warnings);
    let mut probes = BTreeMap::new();
    for container in containers.iter().filter(|container| !container.excluded_from_probes) {
        let of_container = ports.remove(container.name).unwrap_or_default();
        match of_container.iter().collect::<Vec<_>>().as_slice() {
            [] => {}
            [(port, protocol)] => match container.reason_for_no_probe(**port, PortProtocol::all(protocol)) {
                None => drop(probes.insert(container.name.to_owned(), tcp(**port))),
                Some(why) => warnings.push(why),
            },
            several => {
                let ports: Vec<_> = several.iter().map(|(port, _)| port).collect();
                warnings.push(format!(
                    "container {:?}: no readiness probe, because Services send to several of its ports ({ports:?}): \
                     write a readinessProbe for one of them",
                    container.name
                ));
            }
        }
    }
    probes
}

/// The ports that Services send to, by container name, each with its protocols.
fn served_ports<'a>(
    services: &[&Service],
    containers: &[Container<'a>],
    warnings: &mut Warnings,
) -> BTreeMap<&'a str, BTreeMap<i64, Vec<PortProtocol>>> {
    let mut ports: BTreeMap<&str, BTreeMap<i64, Vec<PortProtocol>>> = BTreeMap::new();
    let targets =
        services.iter().filter(|s| sends_only_to_ready_pods(s)).flat_map(|service| targets(service));
    for (service, target) in targets.take(limits::SERVICE_PORTS) {
        let declared = match receivers(containers, &target.port).as_slice() {
            [(container, port)] if container.can_receive(*port) => {
                let protocol = target.protocol.or_else(|| container.protocol(*port)).or(target.named);
                let of_container = ports.entry(container.name).or_default();
                let protocol = protocol.unwrap_or_else(|| PortProtocol::by_number(*port));
                of_container.entry(*port).or_default().push(protocol);
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
    ports
}

/// A TCP probe for a Deployment that is created before its Service: on the only TCP port of the only container, if the
/// port's name is a served protocol. A worker often shares the template of a web application, and declares a port that it
/// doesn't listen on. A Deployment that exists without a Service may be such a worker, so there is only a warning.
fn without_service(
    containers: &[Container<'_>],
    creating: bool,
    warnings: &mut Warnings,
) -> BTreeMap<String, Value> {
    let open = containers.iter().filter(|container| !container.excluded_from_probes);
    let declared = open.flat_map(|container| container.ports.iter().map(move |(_, port)| (*port, container)));
    // Of several containers that declare a port, the one whose name sorts last: their order doesn't matter.
    let mut declared: Vec<_> = declared.collect();
    declared.sort_by_key(|(_, container)| container.name);
    let ports: BTreeMap<i64, &Container<'_>> = declared.into_iter().collect();
    let Some((&port, container)) = ports.first_key_value() else { return BTreeMap::new() };
    let protocol = container.protocol(port).unwrap_or_else(|| PortProtocol::by_number(port));
    let reason = if ports.len() > 1 {
        let several: Vec<_> = ports.keys().collect();
        Some(format!(
            "no readiness probe, because no Service selects the pods, which declare several ports ({several:?}): write a \
             readinessProbe"
        ))
    } else {
        let is_only = containers.len() == 1;
        container
            .reason_for_no_probe(port, protocol)
            .or_else(|| unconfirmed(container, port, protocol, is_only, creating))
    };
    if let Some(reason) = reason {
        warnings.push(reason);
        return BTreeMap::new();
    }
    BTreeMap::from([(container.name.to_owned(), tcp(port))])
}

/// The reason against a probe on the only port of the pods, if nothing shows that it receives traffic.
fn unconfirmed(
    container: &Container<'_>,
    port: i64,
    protocol: PortProtocol,
    is_only: bool,
    creating: bool,
) -> Option<String> {
    match protocol {
        _ if !is_only => Some(format!(
            "no readiness probe, because no Service selects the pods, which have several containers: set \
             {READINESS_PROBE} to tcp:{port} or never"
        )),
        _ if !creating => Some(format!(
            "container {:?}: no readiness probe, because no Service selects the pods and the workload exists already: \
             set {READINESS_PROBE} to tcp:{port} or never",
            container.name
        )),
        PortProtocol::Plain => None,
        _ => Some(format!(
            "container {:?}: no readiness probe, because no Service selects the pods and the name of port {port} is \
             not that of a served protocol: name it http or grpc, or set {READINESS_PROBE} to tcp:{port} or never",
            container.name
        )),
    }
}

/// All fields are set, so that the API server adds none and the probe compares equal later. The period is half of
/// Kubernetes' default, because a new pod isn't ready before its first success.
fn tcp(port: i64) -> Value {
    json!({
        "tcpSocket": {"port": port},
        "periodSeconds": 5,
        "timeoutSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": 3,
    })
}

#[cfg(test)]
#[path = "readiness_probe_tests.rs"]
mod tests;
