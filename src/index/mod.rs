//! The index of the cluster: an [`EvaluatedWorkload`] for each workload, updated by watch events.
//!
//! A watch event marks the affected workloads as [`Dirty`]. The leader evaluates them once, and requeues the workloads
//! and policies that changed. So the cost of an event depends on the size of its namespace only, and no reader evaluates
//! a workload again.

mod by_namespace;
pub mod cached_workload;
pub mod caches;
mod change_set;
mod changed_workloads;
mod compression;
mod dirty;
pub(crate) mod dynamic_resource;
mod evaluated_workload;
mod evaluator;
pub mod exposures;
mod kubelets;
pub mod list;
mod list_watch;
mod managers;
pub mod memory_estimate;
mod object_quota;
mod relevance;
pub mod replicas;
mod slim;
mod split;
pub mod terminating_pods;
pub mod termination_profiles;
pub mod unusable_objects;
mod watched;
mod workload_index;
pub mod workloads;

pub use change_set::ChangeSet;
pub use dirty::Dirty;
pub use evaluated_workload::{DesiredState, EvaluatedWorkload, rollout_mark, template_hash};
pub use workload_index::{Index, IndexChange};

#[cfg(test)]
mod rollout_tests;
