//! What a process in a cluster needs, one module per concern.

pub mod admin;
pub mod ca_bundle;
pub mod caches;
pub mod certificates;
pub mod client;
pub mod kept;
pub mod kubelets;
pub mod leader;
mod list_watch;
mod listen;
pub mod logs;
pub mod metrics;
pub mod ownership;
pub mod panics;
mod quota;
pub mod readiness;
pub mod renewal;
pub mod server;
pub mod serving;
pub mod shutdown;
mod slim;
mod split;
mod stream;
pub mod unusable;
pub mod workloads;

/// The field manager under which adieu writes.
pub const FIELD_MANAGER: &str = "adieu";
