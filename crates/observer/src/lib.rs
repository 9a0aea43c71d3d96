//! What the terminations of pods did. Terminating pods go in, a [`Termination`] for each comes out, and the [`Profile`] of
//! a workload sums them up.
//!
//! It has no client and no clock: times are those that the API server and the kubelets wrote, in whole seconds.

#![deny(clippy::disallowed_methods)]

mod cause;
mod distribution;
mod endpoints;
mod observer;
mod outcome;
mod pod;
mod profile;
mod recommendation;
mod replicas;
mod termination;

pub use cause::CauseEvidence;
pub use endpoints::TerminatingEndpoints;
pub use observer::Observer;
pub use pod::{ContainerState, PodOwner, TerminatingPod};
pub use profile::{Profile, profile_name};
pub use replicas::{ReplicaHistory, Scale};
pub use termination::Termination;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod withdrawal_tests;
