//! The status of workloads.

use serde::Serialize;

use super::terminations::LastTermination;
use crate::plan::{Kind, WorkloadStatus};

/// A workload and its status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WorkloadRow {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) status: WorkloadStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_termination: Option<LastTermination>,
}

/// The workloads of a selection.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) rows: Vec<WorkloadRow>,
    /// The number of workloads that are not managed, whether they are listed or not.
    pub(super) not_managed: usize,
    /// Whether all workloads and policies were read.
    pub(super) is_complete: bool,
    /// Whether last terminations were read.
    pub(super) has_terminations: bool,
}
