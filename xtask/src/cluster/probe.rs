//! Readiness probes.

use std::path::PathBuf;

/// A readiness probe.
pub enum Probe {
    /// It accepts connections on this Unix socket.
    Socket(PathBuf),
    /// It answers a GET with success.
    Url(String),
}
