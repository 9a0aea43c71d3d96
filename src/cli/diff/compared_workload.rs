//! The comparison of one workload.

use serde::Serialize;

use crate::plan::{InjectionDiff, Kind};

/// A workload of the manifests, compared with the one in the cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ComparedWorkload {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Whether the cluster has it.
    pub(super) exists: bool,
    /// Whether its pods are replaced only once they are deleted.
    #[serde(skip)]
    pub(super) is_on_delete: bool,
    #[serde(flatten)]
    pub(super) diff: InjectionDiff,
}
