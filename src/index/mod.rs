//! The index of the cluster: an [`EvaluatedWorkload`] for each workload, updated by watch events.
//!
//! A watch event marks the affected workloads as [`Dirty`]. The leader evaluates them once, and requeues the workloads
//! and policies that changed. So the cost of an event depends on the size of its namespace only, and no reader evaluates
//! a workload again.

mod by_namespace;
pub mod cached_workload;
pub mod caches;
mod changed_workloads;
mod changes;
mod evaluation;
mod evaluations;
mod evaluator;
mod kubelets;
pub mod list;
mod list_watch;
mod managers;
pub mod memory_estimate;
mod object_quota;
mod relevance;
mod slim;
mod split;
pub mod terminating_pods;
pub mod unusable_objects;
pub mod workloads;

pub use changes::{Changes, Dirty};
pub use evaluation::{DesiredState, EvaluatedWorkload, rollout_mark, template_hash};
pub use evaluations::{Index, IndexChange};

#[cfg(test)]
mod rollout_tests;
