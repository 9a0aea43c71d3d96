//! Evaluates how a disruption affected requests. Pure: no I/O, no clock.
//!
//! A [`Recording`] has a load's [`Sample`]s and the [`PodTimeline`]s of the workload's pods, in times from one origin.
//! The [`VerificationReport`] has the lost requests, with their [`attributions`] to pods, and the [`Estimate`] of the
//! required drain. A [`ConnectionReport`] has how connections end that stay open, from [`Observation`]s.

mod attribution;
mod connections;
mod drain;
mod findings;
mod latency;
mod recording;
mod remote;
mod sample;
mod schedule;
mod timelines;
mod tuning;
mod verification_report;

pub use attribution::{Attribution, attributions};
pub use connections::{
    Behavior, ConnectionFinding, ConnectionInput, ConnectionKind, ConnectionReport, ConnectionsOfKind,
    Ending, HeldConnection, IdleEnd, IdleOutcome, IdleProbe, KeepAlive, LoadBalancer, Observation, Remedy,
    Rule, TimeBase, idle_times,
};
pub use drain::{Basis, Estimate};
pub use findings::{Loss, PodFinding, Requests, RunDescription, Worst};
pub use latency::Latency;
pub use recording::{Measurements, Recording};
pub use remote::{Alignment, Line};
pub use sample::{Cause, Outcome, Sample};
pub use schedule::Schedule;
pub use timelines::{PodTimeline, PodTimelines, is_ready};
pub use tuning::{Trial, Tuning, TuningLimits, TuningReport};
pub use verification_report::VerificationReport;
