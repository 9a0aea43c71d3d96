//! The processes of pods, if the tests run on the cluster's node.

use std::fs;

use k8s_openapi::api::core::v1::Pod;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The processes of a pod's first container; empty if it has ended, or runs on another machine.
pub fn processes(pod: &Pod) -> Vec<Pid> {
    let statuses =
        pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let id = statuses.first().and_then(|status| status.container_id.as_deref()).unwrap_or_default();
    let Some((_, id)) = id.split_once("://").filter(|(_, id)| !id.is_empty()) else { return Vec::new() };
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        fs::read_to_string(entry.path().join("cgroup")).ok()?.contains(id).then_some(Pid::from_raw(pid))
    });
    processes.collect()
}

/// Sends a signal to every process of a pod's first container; false if it has none.
pub fn signal(pod: &Pod, signal: Signal) -> bool {
    processes(pod).into_iter().filter(|process| kill(*process, signal).is_ok()).count() > 0
}
