//! A workload, with the objects that affect its terminations.

use std::{collections::BTreeMap, sync::Arc};

use adieu_core::plan::{ReceivingPort, is_headless, receiving_ports, selects, string_map};
use adieu_exposures::TrafficObject;
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

use crate::{
    Finding, Inventory, Options, Rule, Severity,
    budget::{self, Count},
    container::{Container, ISTIO_PROXY},
    inventory::{AuditedWorkload, NamespaceObjects},
    pod::Pod,
    shell::stays_process_1,
};

/// The ports of databases and queues.
const DATABASE_PORTS: [i64; 14] =
    [1433, 2049, 2181, 2379, 3306, 4222, 5432, 5672, 6379, 9042, 9092, 11211, 27017, 61616];
/// The ports of the OpenTelemetry protocol, whose clients send again what was lost.
const TELEMETRY_PORTS: [i64; 2] = [4317, 4318];

/// Parts of the names and images of containers whose requests no user waits for: exporters of metrics, servers that answer
/// 404 if an Ingress has no rule for a request, and load generators.
const WITHOUT_USERS: [&str; 4] = ["exporter", "default-http-backend", "defaultbackend", "loadgen"];

/// The input of every rule.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) workload: &'a AuditedWorkload,
    pub(crate) options: &'a Options,
    pub(crate) pod: Pod<'a>,
    pub(crate) objects: Option<&'a NamespaceObjects>,
    /// The objects that lead requests to Services, of all namespaces.
    pub(crate) traffic: &'a [Arc<TrafficObject>],
    labels: BTreeMap<String, String>,
    /// The ports of its containers that Services send to, except headless ones; none of a Job.
    pub(crate) received: Vec<Received<'a>>,
}

/// Traffic of a Service to a container.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    pub(crate) service: &'a Service,
    pub(crate) port: ReceivingPort<'a>,
}

impl Received<'_> {
    pub(crate) fn service_name(&self) -> &str {
        self.service.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether its clients keep connections, and reconnect or send again: those of databases and queues, of telemetry, and
    /// the proxies of an xDS server.
    pub(crate) fn keeps_connections(&self) -> bool {
        let is_xds = |name: &&str| name.split(['-', '_']).any(|word| word == "xds");
        let is_known = |ports: &[i64]| ports.contains(&self.port.port);
        is_known(&DATABASE_PORTS) || is_known(&TELEMETRY_PORTS) || self.port.names.iter().any(is_xds)
    }

    /// Whether only monitoring sends to the port, by its name or that of the Service, which may end with `-metrics-service`.
    /// To lose its requests harms no user.
    pub(crate) fn is_monitoring(&self) -> bool {
        const WORDS: [&str; 16] = [
            "exporter",
            "management",
            "profiling",
            "admin",
            "debug",
            "health",
            "healthz",
            "metrics",
            "monitoring",
            "pprof",
            "probe",
            "probes",
            "prom",
            "prometheus",
            "qos",
            "telemetry",
        ];
        let is_known = |name: &str| name.split(['-', '_']).any(|word| WORDS.contains(&word));
        let service = self.service_name().trim_end_matches("-service").trim_end_matches("-svc");
        let is_for_metrics = service == "metrics" || service.ends_with("-metrics");
        is_for_metrics || self.port.names.iter().any(|name| is_known(&name.to_ascii_lowercase()))
    }
}

impl<'a> Subject<'a> {
    pub(crate) fn new(inventory: &'a Inventory, workload: &'a AuditedWorkload, options: &'a Options) -> Self {
        let pod = Pod::new(&workload.template, workload.template_path);
        let labels = string_map(&workload.template["metadata"]["labels"]);
        let objects = inventory.namespace(&workload.namespace);
        let traffic = &inventory.traffic;
        let mut subject = Self { workload, options, pod, objects, traffic, labels, received: vec![] };
        // The pods of Jobs end by themselves, and no rollout replaces them.
        if subject.is("Job") || subject.is("CronJob") {
            return subject;
        }
        let regular = subject.services().filter(|service| !is_headless(service));
        let received = regular.flat_map(|service| subject.ports_of(service));
        let received = received.filter(|received| !received.is_monitoring());
        subject.received = received.filter(|received| serves_users(&subject.pod, received)).collect();
        subject
    }

    /// The ports of its containers that a Service sends to.
    pub(crate) fn ports_of(&self, service: &'a Service) -> Vec<Received<'a>> {
        let ports = receiving_ports(&self.workload.template, service).into_iter();
        ports.map(move |port| Received { service, port }).collect()
    }

    /// The Services that select its pods.
    pub(crate) fn services(&self) -> impl Iterator<Item = &'a Service> {
        let services = self.objects.iter().flat_map(|objects| objects.services.values()).map(Arc::as_ref);
        services.filter(|service| selects(service, &self.labels))
    }

    /// The containers that Services send to, each with the first of these Services. Without placeholders, of which nothing
    /// is known.
    pub(crate) fn receivers(&self) -> Vec<(&Container<'a>, &Received<'a>)> {
        let mut receivers: Vec<(&Container<'a>, &Received<'a>)> = Vec::new();
        for received in &self.received {
            let known = receivers.iter().any(|(container, _)| container.name == received.port.container);
            let container = self.pod.container(received.port.container);
            if let Some(container) = container.filter(|container| !known && !container.is_placeholder()) {
                receivers.push((container, received));
            }
        }
        receivers
    }

    /// The severity if this container stops while requests still arrive. It is an error if the workload serves without a
    /// gap otherwise. Pods of a DaemonSet or StatefulSet are often addressed one by one, by clients that retry.
    pub(crate) fn severity_of_stopping_early(&self, container: &Container<'_>) -> Severity {
        let loses_requests = |received: &Received<'_>| {
            !received.keeps_connections()
                && !container.is_collector()
                && !self.is_resolved_by_clients(received)
        };
        let serves_requests = self
            .receivers()
            .iter()
            .any(|(receiver, received)| receiver.name == container.name && loses_requests(received));
        let has_no_gap = self.is("Deployment") && self.is_replicated() && !self.has_no_successor();
        let serves_on = container.name == ISTIO_PROXY
            || container.may_serve_after_sigterm()
            || self.has_process_1() && container.may_ignore_sigterm();
        if serves_requests && has_no_gap && !serves_on { Severity::Error } else { Severity::Warning }
    }

    /// Whether a container is known to accept no connections as soon as it is stopped. A signal without a handler ends a
    /// process that isn't process 1.
    pub(crate) fn closes_when_stopped(&self, container: &Container<'_>) -> bool {
        container.closes_when_stopped() || !self.has_process_1() && container.may_ignore_sigterm()
    }

    /// Whether a container serves until it is killed, because its process 1 is a shell that doesn't forward SIGTERM.
    pub(crate) fn serves_until_killed(&self, container: &Container<'_>) -> bool {
        self.has_process_1() && stays_process_1(&container.command(), container.image())
    }

    /// Whether each container has a process 1 of its own.
    fn has_process_1(&self) -> bool {
        !["hostPID", "shareProcessNamespace"].iter().any(|field| self.pod.spec[*field] == true)
    }

    /// Whether a headless Service has the same port, so that clients rather resolve the pods themselves, and balance and
    /// retry.
    fn is_resolved_by_clients(&self, received: &Received<'_>) -> bool {
        let headless = self.services().filter(|service| is_headless(service));
        let mut ports = headless.flat_map(|service| self.ports_of(service)).map(|other| other.port);
        ports.any(|port| (port.container, port.port) == (received.port.container, received.port.port))
    }

    pub(crate) fn is(&self, kind: &str) -> bool {
        self.workload.kind == kind
    }

    /// Whether its pods stop before others start: one by one in a rollout, and with a single replica without another one.
    pub(crate) fn has_no_successor(&self) -> bool {
        let strategy = &self.workload.object["spec"]["strategy"];
        let surge = &strategy["rollingUpdate"]["maxSurge"];
        let has_no_surge = (*surge == 0 || *surge == "0%") && !self.is_replicated();
        self.is("Deployment") && (strategy["type"] == "Recreate" || has_no_surge)
            || self.is("StatefulSet") && self.replicas() == Some(1)
    }

    /// Whether it has several replicas, or an autoscaler that adds some.
    pub(crate) fn is_replicated(&self) -> bool {
        self.replicas().is_some_and(|replicas| replicas > 1) || self.autoscaler().is_some()
    }

    /// Whether the port is that of a single database or queue, whose clients lose their connections whenever it stops.
    pub(crate) fn is_single_database(&self, received: &Received<'_>) -> bool {
        !self.is_replicated() && DATABASE_PORTS.contains(&received.port.port)
    }

    /// Whether it is scaled to zero, so that none of its pods terminates.
    pub(crate) fn is_scaled_to_zero(&self) -> bool {
        self.workload.object["spec"]["replicas"] == 0 && self.autoscaler().is_none()
    }

    /// The number of replicas that it has at least, `None` if it has no such number.
    pub(crate) fn replicas(&self) -> Option<i64> {
        if !self.is("Deployment") && !self.is("StatefulSet") {
            return None;
        }
        let minimum = |autoscaler: &Value| autoscaler["spec"]["minReplicas"].as_i64().unwrap_or(1);
        match &self.workload.object["spec"]["replicas"] {
            _ if self.autoscaler().is_some() => self.autoscaler().map(minimum),
            Value::Null => Some(1),
            replicas => replicas.as_i64(),
        }
    }

    /// The `HorizontalPodAutoscaler` that scales it.
    pub(crate) fn autoscaler(&self) -> Option<&'a Value> {
        let AuditedWorkload { kind, name, .. } = self.workload;
        self.objects?.autoscalers.values().find(|autoscaler| {
            let target = &autoscaler["spec"]["scaleTargetRef"];
            target["kind"] == **kind && target["name"] == **name
        })
    }

    /// The names of the `PodDisruptionBudgets` that select its pods, with what they allow.
    pub(crate) fn budgets(&self) -> Vec<(&'a str, Count)> {
        let budgets = self.objects.iter().flat_map(|objects| objects.budgets.values());
        let selecting = budgets.filter(|budget| budget::selects(budget, &self.labels));
        selecting
            .map(|budget| (budget["metadata"]["name"].as_str().unwrap_or_default(), Count::of(budget)))
            .collect()
    }

    /// A finding about the field at this path.
    pub(crate) fn finding(&self, rule: Rule, severity: Severity, path: impl Into<String>) -> Found<'a> {
        Found { workload: self.workload, rule, severity, path: path.into(), container: None }
    }
}

/// Whether the container serves requests that users wait for, by its image, its name and its command.
fn serves_users(pod: &Pod<'_>, received: &Received<'_>) -> bool {
    pod.container(received.port.container).is_none_or(|container| {
        let is_named = |part: &&str| container.name.contains(part) || container.image().contains(part);
        container.name != "kube-rbac-proxy" && !WITHOUT_USERS.iter().any(is_named) && !container.is_idle()
    })
}

/// A finding that still needs its texts.
pub(crate) struct Found<'a> {
    workload: &'a AuditedWorkload,
    rule: Rule,
    severity: Severity,
    path: String,
    container: Option<String>,
}

impl Found<'_> {
    pub(crate) fn in_container(self, container: &Container<'_>) -> Self {
        Self { container: Some(container.name.into()), ..self }
    }

    pub(crate) fn says(self, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        let Self { workload, rule, severity, path, container } = self;
        let AuditedWorkload { kind, namespace, name, .. } = workload;
        Finding {
            rule,
            severity,
            kind: kind.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
            container,
            path,
            message: message.into(),
            remedy: remedy.into(),
            origin: workload.origin,
        }
    }
}
