//! What sends to the pods, and for how long.

use adieu_core::{api::limits::DRAIN_SECONDS, plan::is_headless};
use adieu_exposures::{CLUSTER_DNS_TTL, DEREGISTRATION_SECONDS, Delay, HEADLESS};
use k8s_openapi::api::core::v1::Service;

use crate::{
    Finding, Rule, Severity,
    load_balancer::longest_delay,
    subject::{Received, Subject},
};

/// A stabilization window below this many seconds reacts to a pause between two requests.
const SHORT_WINDOW: i64 = 60;

/// A load balancer finishes requests for its deregistration delay; a pod that ends before cuts those that still run.
pub(super) fn drain_shorter_than_lb(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (container, _) in subject.receivers() {
        let Some(hook) = container.pre_stop_seconds() else { continue };
        let received = subject.received.iter().filter(|received| received.port.container == container.name);
        let namespace = &subject.workload.namespace;
        let delays =
            received.filter_map(|received| longest_delay(namespace, received.service, subject.traffic));
        let longest = delays.max_by_key(|delay| delay.seconds);
        let Some(Delay { seconds, object, source }) = longest.filter(|delay| delay.seconds > hook) else {
            continue;
        };
        let found =
            subject.finding(Rule::DrainShorterThanLb, Severity::Warning, container.path("lifecycle.preStop"));
        findings.push(found.in_container(container).says(
            format!(
                "the load balancer of {} {} keeps connections to a deregistered pod for up to {seconds} s ({source}), and \
                 the pod drains for {hook} s",
                object.kind, object.name
            ),
            format!(
                "lower the delay of the load balancer, or set adieu.dev/drain-seconds: \"{}\"",
                seconds.saturating_add(DEREGISTRATION_SECONDS).min(DRAIN_SECONDS)
            ),
        ));
    }
    findings
}

/// Session affinity suggests that a pod keeps sessions, which its termination ends.
pub(super) fn session_affinity_pins(subject: &Subject<'_>) -> Vec<Finding> {
    // The sessions of a single pod end with it anyway.
    if !subject.is_replicated() {
        return vec![];
    }
    let mut services: Vec<&Service> = subject.received.iter().map(|received| received.service).collect();
    services.dedup_by_key(|service| service.metadata.name.as_ref());
    let pinning = services.into_iter().filter(|service| {
        service.spec.as_ref().is_some_and(|spec| spec.session_affinity.as_deref() == Some("ClientIP"))
    });
    pinning
        .map(|service| {
            let name = service.metadata.name.as_deref().unwrap_or_default();
            let path = format!("{}.metadata.labels", subject.workload.template_path);
            subject.finding(Rule::SessionAffinityPins, Severity::Warning, path).says(
                format!(
                    "Service {name} has sessionAffinity: ClientIP: clients stay with one pod, new pods get few of them, and a \
                     session in a pod's memory ends with it"
                ),
                "keep sessions outside of the pods, and remove sessionAffinity",
            )
        })
        .collect()
}

/// Clients of a headless Service resolve the addresses themselves, and keep them for as long as DNS allows.
pub(super) fn headless_dns_ttl(subject: &Subject<'_>) -> Vec<Finding> {
    // The pods of a StatefulSet are addressed by name, and so are Services that publish pods before they are ready.
    // With an ordinary Service too, clients probably use that one.
    let has_ordinary = subject.services().any(|service| !is_headless(service));
    if !subject.is("Deployment") || !subject.is_replicated() || subject.has_no_successor() || has_ordinary {
        return vec![];
    }
    let headless = subject.services().filter(|service| {
        let spec = service.spec.as_ref();
        is_headless(service) && spec.is_some_and(|spec| spec.publish_not_ready_addresses != Some(true))
    });
    let mut findings = Vec::new();
    for service in headless {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let receiving = subject.ports_of(service).into_iter().filter(|received| !received.is_monitoring());
        let containers = receiving.filter_map(|Received { port, .. }| subject.pod.container(port.container));
        let Some((container, hook)) = containers
            .filter(|container| !container.is_idle())
            .filter_map(|container| Some((container, container.pre_stop_seconds()?)))
            .find(|(_, hook)| *hook < CLUSTER_DNS_TTL)
        else {
            continue;
        };
        let found =
            subject.finding(Rule::HeadlessDnsTtl, Severity::Warning, container.path("lifecycle.preStop"));
        findings.push(found.in_container(container).says(
            format!(
                "clients of the headless Service {name} may use the address of a pod for {CLUSTER_DNS_TTL} s after it is \
                 withdrawn (the usual TTL of cluster DNS), and the pod drains for {hook} s"
            ),
            format!("set adieu.dev/drain-seconds: \"{}\", or let clients watch endpoints", HEADLESS.seconds),
        ));
    }
    findings
}

/// Each pod that an autoscaler removes is a termination; a short window removes and adds them all the time.
pub(super) fn hpa_scales_in_fast(subject: &Subject<'_>) -> Option<Finding> {
    let autoscaler = subject.autoscaler()?;
    let window = autoscaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"].as_i64()?;
    if window >= SHORT_WINDOW || autoscaler["spec"]["behavior"]["scaleDown"]["selectPolicy"] == "Disabled" {
        return None;
    }
    let name = autoscaler["metadata"]["name"].as_str().unwrap_or_default();
    let found = subject.finding(Rule::HpaScalesInFast, Severity::Warning, "spec.replicas");
    Some(found.says(
        format!(
            "HorizontalPodAutoscaler {name} removes pods after {window} s of less load, and adds them again with the next \
             requests: each removal is a termination"
        ),
        "set behavior.scaleDown.stabilizationWindowSeconds to 300, the default",
    ))
}
