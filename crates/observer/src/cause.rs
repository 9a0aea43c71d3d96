//! Why a pod terminated.

use adieu_core::api::TerminationCause as Cause;

use crate::pod::{BY_KUBELET, TerminatingPod};

/// The evidence of a cause: what is known about a pod's workload and node when its termination starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CauseEvidence {
    /// Whether the workload exists and isn't being deleted.
    pub workload_exists: bool,
    /// Whether the pod has the current revision of its workload; `None` if that is unknown.
    pub is_current_revision: Option<bool>,
    /// Whether the workload was just scaled down, by at least as many pods as terminated since.
    pub scaled_down: bool,
    /// Whether the node is cordoned.
    pub node_is_cordoned: bool,
}

/// The cause: the condition `DisruptionTarget` first (Kubernetes documents its reasons with pod disruption conditions).
pub(crate) fn cause(pod: &TerminatingPod, evidence: CauseEvidence) -> Cause {
    match pod.disruption.as_deref() {
        Some("PreemptionByScheduler") => Cause::Preemption,
        Some("DeletionByTaintManager") => Cause::Taint,
        Some("EvictionByEvictionAPI") if evidence.node_is_cordoned => Cause::NodeDrain,
        Some("EvictionByEvictionAPI") => Cause::Eviction,
        Some(BY_KUBELET) if pod.status_reason.as_deref() == Some("Evicted") => Cause::Eviction,
        Some(BY_KUBELET | "DeletionByPodGC") => Cause::NodeShutdown,
        _ if !evidence.workload_exists => Cause::Deletion,
        _ if evidence.is_current_revision == Some(false) => Cause::Rollout,
        _ if evidence.scaled_down => Cause::ScaleDown,
        _ => Cause::Deletion,
    }
}
