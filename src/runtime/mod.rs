//! The process: API client, leader election, certificates, servers, metrics, logs and shutdown; one module per concern.

pub mod admin;
pub mod api_errors;
mod api_requests;
pub mod ca_bundle;
pub mod certificates;
pub mod client;
pub mod connection;
mod connection_limits;
pub mod leader_election;
mod listen;
pub mod lock;
pub mod logs;
pub mod managed_fields;
pub mod metrics;
pub mod panics;
pub mod readiness;
pub mod server;
pub mod serving;
pub mod shutdown;
mod stream;
#[cfg(test)]
pub(crate) mod test_support;
