//! Readiness: which pods get requests, before and during termination.

use crate::{
    Finding, Rule, Severity,
    container::{Container, words},
    subject::Subject,
};

const PROBE: &str = "readinessProbe";

/// Without a readiness probe, a pod gets requests as soon as its container runs.
pub(super) fn no_readiness_behind_service(subject: &Subject<'_>) -> Vec<Finding> {
    // A pod is ready only when all of its containers are, and a container not before its startup probe succeeds.
    let has_probe = |container: &Container<'_>| {
        [PROBE, "startupProbe"].iter().any(|probe| container.probe(probe).is_some())
    };
    if subject.has_no_successor() || subject.pod.containers.iter().any(has_probe) {
        return vec![];
    }
    let unready = subject
        .receivers()
        .into_iter()
        .filter(|(container, received)| !container.is_collector() && !subject.is_single_database(received));
    unready
        .map(|(container, received)| {
            let found = subject.finding(Rule::NoReadinessBehindService, Severity::Warning, container.path(PROBE));
            found.in_container(container).says(
                format!(
                    "Service {} routes traffic to this container as soon as it runs: in each rollout it loses the requests \
                     until it can serve",
                    received.service_name()
                ),
                "add a readinessProbe, or set adieu.dev/readiness-probe, for example to http:8080/ready",
            )
        })
        .collect()
}

/// kube-proxy sends to terminating pods that still serve if no ready one is left (KEP-1669). A hook that makes the only
/// pod unready first loses these requests.
pub(super) fn readiness_fails_first_single_replica(subject: &Subject<'_>) -> Vec<Finding> {
    if subject.replicas() != Some(1) || !subject.is("Deployment") {
        return vec![];
    }
    let receivers = subject.receivers();
    let failing = receivers.iter().filter_map(|(container, _)| Some((container, makes_unready(container)?)));
    failing
        .map(|(container, how)| {
            let path = container.path("lifecycle.preStop");
            let found = subject.finding(Rule::ReadinessFailsFirstSingleReplica, Severity::Warning, path);
            found.in_container(container).says(
                format!("{how}: when the only replica is deleted or evicted, no pod serves until another one is ready"),
                "let the hook only wait (lifecycle.preStop.sleep), or run two replicas with a PodDisruptionBudget",
            )
        })
        .collect()
}

/// How the preStop hook makes the readiness probe fail: by a file that the probe tests.
fn makes_unready(container: &Container<'_>) -> Option<String> {
    let probe = words(&container.probe(PROBE)?["exec"]["command"]).join(" ");
    let hook = container.pre_stop_command().join(" ");
    let changes = ["rm ", "touch ", "> "].iter().any(|change| hook.contains(change));
    let is_file = |word: &&str| {
        word.len() > 2 && word.starts_with('/') && !word.contains("/bin/") && !word.starts_with("/dev/")
    };
    let file = probe.split([' ', ';', '&', '|']).filter(is_file).find(|file| hook.contains(*file))?;
    changes.then(|| format!("the preStop hook changes {file}, which the readiness probe tests"))
}

/// Kubelets 1.35, and 1.36 from 1.36.3 on, stop exec readiness probes when a pod is deleted, and its readiness stays as
/// it was (kubernetes/kubernetes#140881).
pub(super) fn exec_readiness_frozen(subject: &Subject<'_>) -> Vec<Finding> {
    let Some(kubelet) = subject.options.kubelets.iter().find(|version| freezes(version)) else {
        return vec![];
    };
    let receivers = subject.receivers();
    let by_exec = receivers.iter().filter(|(container, _)| {
        container.probe(PROBE).is_some_and(|probe| probe["exec"].is_object())
            // Only a hook that takes time makes the probe matter.
            && container.pre_stop_seconds() != Some(0)
            && makes_unready(container).is_some()
    });
    by_exec
        .map(|(container, _)| {
            let found = subject.finding(Rule::ExecReadinessFrozen, Severity::Warning, container.path("readinessProbe.exec"));
            found.in_container(container).says(
                format!(
                    "kubelet {kubelet} does not run this probe once the pod is deleted, so the preStop hook cannot make \
                     the pod unready"
                ),
                "use httpGet, tcpSocket or grpc, or a preStop hook that only waits",
            )
        })
        .collect()
}

fn freezes(version: &str) -> bool {
    let version = version.strip_prefix('v').unwrap_or(version);
    let end = version.find(['-', '+']).unwrap_or(version.len());
    let numbers: Vec<u32> = version[..end].split('.').filter_map(|number| number.parse().ok()).collect();
    match numbers.as_slice() {
        [1, 35, ..] => true,
        [1, 36, patch] => *patch >= 3,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affected_kubelets_are_known() {
        for (version, expected) in [
            ("v1.34.4", false),
            ("v1.35.0", true),
            ("1.35", true),
            ("v1.36.2", false),
            ("v1.36.3", true),
            ("v1.36.5-gke.100", true),
            ("v1.37.2", false),
            ("", false),
        ] {
            assert_eq!(freezes(version), expected, "{version}");
        }
    }
}
