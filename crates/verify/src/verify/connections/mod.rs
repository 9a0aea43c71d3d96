//! Evaluates observations on connections that stay open: how long the server keeps idle ones, and how connections end
//! when their pod terminates.

mod connection_report;
mod findings;
mod keep_alive;
mod observation;
mod remedies;
mod termination;

pub use connection_report::{ConnectionInput, ConnectionReport};
pub use findings::{ConnectionFinding, LoadBalancer, Rule};
pub use keep_alive::{IdleEnd, KeepAlive, idle_times};
pub use observation::{ConnectionKind, Ending, HeldConnection, IdleOutcome, IdleProbe, Observation};
pub use remedies::Remedy;
pub use termination::{Behavior, ConnectionsOfKind, TimeBase};
