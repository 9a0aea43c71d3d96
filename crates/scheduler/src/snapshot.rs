//! A workload, as far as scheduling is concerned.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use adieu_core::keys::PolicyKey;
use k8s_openapi::jiff::Timestamp;

use super::progress::{ReplicaCounts, RolloutState, Suspended};

/// A workload as it was last evaluated.
// The flags are independent.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its uid.
    pub uid: Option<String>,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Its pod template, as a hash.
    pub current_template: u64,
    /// The desired template, as a hash. `None` if it is the current one.
    pub desired_template: Option<u64>,
    /// Whether it waits for a slot to be written.
    pub is_queued: bool,
    /// The policies that request a rollout, and how many rollouts each has at a time.
    pub requested_by: Arc<BTreeMap<PolicyKey, usize>>,
    /// How many workloads of its namespace may roll out at a time. `None`: no limit.
    pub namespace_limit: Option<usize>,
    /// The policies that a rollout of it may be for.
    pub rolled_out_by: Vec<PolicyKey>,
    /// Whether adieu started its last rollout, and not a user.
    pub is_started_by_adieu: bool,
    /// The state of its rollout.
    pub rollout_state: RolloutState,
    /// Since when its controller reports that the rollout failed, if it does.
    pub failed_since: Option<Timestamp>,
    /// Its replicas, once its controller has observed the generation.
    pub counts: Option<ReplicaCounts>,
    /// The time without progress after which its rollout fails.
    pub progress_deadline: Duration,
    /// Its condition `Progressing`, as a hash.
    pub condition: Option<u64>,
    /// Whether the rollout was complete once, and every pod is still of that template.
    pub was_complete: bool,
    /// Whether every pod of a DaemonSet is of the current template.
    pub is_updated: bool,
    /// If it rolls out no pods, the reason. It counts as complete then.
    pub suspended: Option<Suspended>,
    /// Whether its controller reports that pods can't be created.
    pub replica_failure: bool,
}

impl Snapshot {
    /// Whether it is complete, and waits for no slot.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_queued && self.rollout_state == RolloutState::Complete
    }

    /// Whether its pods show that its template works.
    pub(super) fn has_working_pods(&self) -> bool {
        self.rollout_state == RolloutState::Complete && self.suspended.is_none()
    }
}
