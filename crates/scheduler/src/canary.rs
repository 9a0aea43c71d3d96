//! Workloads whose template a canary tool may roll out: Argo Rollouts in the pods of a Rollout that refers to it
//! (`workloadRef`), Flagger in its own pods while they are analyzed, and then in those of `NAME-primary`. Between releases
//! Flagger scales it to zero, and so does the user of Argo Rollouts, or Argo Rollouts itself (`scaleDown`). A Service
//! selects its pods, or those of the Rollout. Neither tool leaves a mark on it, so any workload that is scaled to zero
//! behind a Service may be one.

use std::time::Duration;

use super::{progress::Suspended, snapshot::Snapshot};

/// How long it keeps its slot: its own rollout is complete immediately. The canary isn't observed and may take hours, so
/// this limits how often canaries start, and not how many are in progress.
pub(super) const CANARY_SLOT_TTL: Duration = Duration::from_mins(1);

impl Snapshot {
    /// Whether a canary tool may roll out its template in other pods.
    pub(super) fn may_be_canary_source(&self) -> bool {
        self.suspended == Some(Suspended::ScaledToZeroWithService)
    }
}
