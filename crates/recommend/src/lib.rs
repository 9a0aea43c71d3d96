//! The fewest policies that give every workload the times that it needs.
//!
//! Workloads go in as [`Candidate`]s, each with the [`Times`] that it needs, and with the policies that exist in their
//! namespace. [`recommend`] groups them by these times. One `ClusterGracefulPolicy` has the times that most of them need,
//! and a `GracefulPolicy` of its namespace selects each group that needs others, or is not opted in yet. A policy of a user
//! keeps its selector and its other fields.
//!
//! It has no client and no clock, and the same input in any order has the same result.

#![deny(clippy::disallowed_methods)]

mod candidate;
mod cluster_policy;
mod group;
mod member;
mod name;
mod note;
mod policies;
mod policy_times;
mod recommend;
mod selector;
mod times;

pub use candidate::{AnnotatedOptIn, Candidate, Namespace, Options};
pub use note::Note;
pub use policies::RecommendedPolicy;
pub use policy_times::{RECOMMENDED, is_recommended};
pub use recommend::{Recommended, recommend};
pub use times::Times;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
