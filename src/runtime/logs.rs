//! Logs: lines for people or JSON for machines, on standard error.

use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use clap::ValueEnum;
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;

/// How many lines there are in so much time about what anybody can cause, who reaches a port.
const LINES: usize = 20;
const PERIOD: Duration = Duration::from_secs(10);

/// Bounds how many lines are logged. Metrics count the rest.
#[derive(Debug, Default)]
pub struct LineLimit(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    logged: usize,
    left_out: usize,
}

impl LineLimit {
    /// Whether another line is logged, and how many were left out before it.
    pub fn allow(&self) -> Option<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if lines.since.is_none_or(|since| now.duration_since(since) >= PERIOD) {
            lines.since = Some(now);
            lines.logged = 0;
        }
        if lines.logged == LINES {
            lines.left_out += 1;
            return None;
        }
        lines.logged += 1;
        Some(std::mem::take(&mut lines.left_out))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_beyond_the_limit_are_left_out_and_counted() {
        let limit = LineLimit::default();
        assert!((0..LINES).all(|_| limit.allow() == Some(0)));
        assert!((0..1000).all(|_| limit.allow().is_none()));
        tokio::time::sleep(PERIOD).await;
        assert_eq!((limit.allow(), limit.allow()), (Some(1000), Some(0)));
    }
}
