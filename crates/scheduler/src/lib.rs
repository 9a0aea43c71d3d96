//! Which workload may roll out now. Pure: events and the time in, decisions out; no client, no clock, no async.
//!
//! A policy change affects many workloads, and each of them is a rollout. [`RolloutScheduler`] keeps them within the
//! slots of the cluster, the limit of the namespace and the limits of their policies:
//!
//! - A rollout holds a slot from its offer until it completes or fails, in the cluster and for each policy that
//!   requests it. Rollouts that other clients start hold none; adieu writes such a workload once they are complete.
//! - A free slot goes to the namespace that holds the fewest, then to the policies that hold the fewest, then to the
//!   namespace that was offered none for longest, then to the oldest workload. About a quarter of the slots is for
//!   namespaces and policies that hold none.
//! - A workload that is scaled to zero behind a Service comes last, and keeps its slot for a minute: a canary tool may
//!   roll out its template elsewhere.
//! - Progress is a new maximum of updated or available replicas, or a new minimum of old ones. A rollout that makes
//!   none for its deadline fails, also if its replicas come and go, and so does one that takes too long in all.
//! - As many failed rollouts as its [`FailureLimit`] stop a policy. A cluster policy stops in the namespace of each
//!   failure, and everywhere after failures in as many namespaces. A rollout stays failed until the workload completes
//!   with pods, is deleted or gets another template (a restart does not change it), or until another one that the policy
//!   requests is written.
//!
//! The writer [reserves](RolloutScheduler::reserve) a slot before it writes, and
//! [commits](RolloutScheduler::commit) or [releases](RolloutScheduler::release) it afterwards. A new leader
//! [restores](RolloutScheduler::restore) what failed from the status of the policies, treats a rollout that failed
//! [since the previous leader ended](RolloutScheduler::set_failures_recorded_until) as one that was in progress,
//! [observes](RolloutScheduler::observe) every workload, and [activates](RolloutScheduler::activate) the scheduler.

#![deny(clippy::disallowed_methods)]

mod canary;
mod failure;
pub mod progress;
mod reservation;
mod rollout;
mod rollout_scheduler;
mod scheduled_workload;
mod slot_request;
mod slots;
mod snapshot;
mod time;

pub use failure::{FailedRollout, FailureLimit, PolicyFailures};
pub use rollout::WrittenRevision;
pub use rollout_scheduler::RolloutScheduler;
pub use slot_request::{SlotRequest, SlotReservation};
pub use slots::RolloutCounts;
pub use snapshot::Snapshot;

#[cfg(test)]
mod tests;
