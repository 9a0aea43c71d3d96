//! Strategies of rollouts.

use serde_json::Value;

use crate::{Finding, Rule, Severity, subject::Subject};

/// `Recreate` stops all pods before it starts new ones. With data that only one pod can use there is no other way, and two
/// databases behind one Service would have different data.
pub(super) fn single_replica_recreate(subject: &Subject<'_>) -> Option<Finding> {
    let recreates = subject.workload.object["spec"]["strategy"]["type"] == "Recreate";
    if !subject.is("Deployment") || !recreates || subject.pod.has_data() {
        return None;
    }
    let received = subject.received.iter().find(|received| !subject.is_single_database(received))?;
    let found = subject.finding(Rule::SingleReplicaRecreate, Severity::Warning, "spec.strategy.type");
    Some(found.says(
        format!(
            "each rollout stops all pods before new ones start: Service {} has none meanwhile",
            received.service_name()
        ),
        "use RollingUpdate, unless two versions must never run at the same time",
    ))
}

/// With the default of one replica, a rollout starts the new pod before it stops the old one.
pub(super) fn host_network_port_conflict(subject: &Subject<'_>) -> Option<Finding> {
    if !subject.is("Deployment") {
        return None;
    }
    let strategy = &subject.workload.object["spec"]["strategy"];
    if strategy["type"] == "Recreate" || !stops_none_first(&strategy["rollingUpdate"], subject.replicas()?) {
        return None;
    }
    let containers = &subject.pod.containers;
    let (container, port) = containers.iter().find_map(|container| {
        Some((container, *container.host_ports(subject.pod.uses_host_network()).first()?))
    })?;
    let path = container.path("ports");
    let found =
        subject.finding(Rule::HostNetworkPortConflict, Severity::Warning, path).in_container(container);
    Some(found.says(
        format!(
            "the new pod needs port {port} of a node, which the old pod has until it is stopped, and the rollout stops it \
             only then: without another node that is free, the rollout never completes"
        ),
        "set spec.strategy.rollingUpdate to maxSurge: 0, maxUnavailable: 1",
    ))
}

/// Whether a rollout stops an old pod only when a new one is ready: maxUnavailable is 0, by itself or rounded down
/// (25 % by default).
fn stops_none_first(rolling_update: &Value, replicas: i64) -> bool {
    let unavailable = match &rolling_update["maxUnavailable"] {
        Value::Null => Some(replicas * 25 / 100),
        Value::String(text) => text
            .strip_suffix('%')
            .and_then(|share| share.parse::<i64>().ok())
            .map(|share| replicas * share / 100),
        number => number.as_i64(),
    };
    // Both may not be 0, and then one pod is stopped.
    let surges = !matches!(&rolling_update["maxSurge"], Value::Number(number) if number.as_i64() == Some(0))
        && rolling_update["maxSurge"] != "0%";
    unavailable == Some(0) && surges
}
