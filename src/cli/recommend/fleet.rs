//! The workloads of a cluster, with the evidence about each.

use std::{collections::HashMap, sync::Arc};

use adieu_recommend::Namespace;

use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    index::cached_workload::CachedWorkload,
    keys::WorkloadKey,
};

/// The workloads and policies of a cluster, or of a namespace.
#[derive(Debug)]
pub(super) struct Fleet {
    /// The namespaces with workloads, in the order of their names.
    pub(super) namespaces: Vec<Namespace>,
    /// The workloads that are not opted out.
    pub(super) workloads: HashMap<WorkloadKey, FleetWorkload>,
    /// The policies of these and other namespaces.
    pub(super) policies: Vec<Arc<GracefulPolicy>>,
    /// The cluster policies.
    pub(super) cluster_policies: Vec<Arc<ClusterGracefulPolicy>>,
}

/// A workload.
#[derive(Debug)]
pub(super) struct FleetWorkload {
    pub(super) cached: CachedWorkload,
    /// The times that it needs, and why; empty if its times are kept.
    pub(super) lines: Vec<String>,
    /// What policies can't do for it.
    pub(super) notes: Vec<String>,
}
