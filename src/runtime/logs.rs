//! Logs: lines for people or JSON for machines, on standard error.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people, with colours on a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging at what `filter` says, such as `info` or `adieu=debug,warn`. A second call changes
/// nothing.
pub fn init(filter: &str, format: Format) {
    let stderr = std::io::stderr();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(stderr.is_terminal())
        .with_writer(std::io::stderr);
    // Only a subscriber that is there already makes this fail.
    drop(match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    });
}
