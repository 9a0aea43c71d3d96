//! Workloads whose template a canary tool may roll out in other pods: Argo Rollouts in those of a Rollout (`workloadRef`),
//! Flagger in those of `NAME-primary`. Such a workload is scaled to zero and has a Service; neither tool leaves a mark on
//! it.

use std::time::Duration;

use super::{progress::Suspended, snapshot::Snapshot};

/// How long it keeps its slot: its own rollout is complete immediately.
pub(super) const CANARY_SLOT_TTL: Duration = Duration::from_mins(1);

impl Snapshot {
    /// Whether a canary tool may roll out its template in other pods.
    pub(super) fn may_be_canary_source(&self) -> bool {
        self.suspended == Some(Suspended::ScaledToZeroWithService)
    }
}
