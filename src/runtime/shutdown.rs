//! The signals that end the process.

use tokio::signal::unix::{SignalKind, signal};

/// Returns when the process is asked to end, by SIGTERM (the kubelet) or SIGINT (a terminal).
///
/// # Errors
/// Where the handlers can't be installed.
pub async fn requested() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "shutting down"),
        _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "shutting down"),
    }
    Ok(())
}
