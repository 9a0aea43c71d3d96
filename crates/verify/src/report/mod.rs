//! What was found, for people: as tables, and as a page with plots.

mod page;
mod plot;
mod table;

pub use page::page;
pub use plot::Error;
pub use table::table;

/// Milliseconds, as a latency is read.
fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1000.0)
}

/// Seconds from the start of a pod's termination, where they are known.
fn after(seconds: Option<f64>) -> String {
    seconds.map(|seconds| format!("{seconds:+.2} s")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
