//! Formats of figures.

/// A latency in milliseconds.
pub(super) fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1000.0)
}

/// Seconds from the start of a pod's termination, if known.
pub(super) fn after(seconds: Option<f64>) -> String {
    seconds.map(|seconds| format!("{seconds:+.2} s")).unwrap_or_default()
}
