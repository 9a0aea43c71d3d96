//! Logs on standard error, as text or JSON.

use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use clap::ValueEnum;
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;

/// The maximum number of lines per [`PERIOD`] for events that any client of a port can cause.
const MAX_LINES_PER_PERIOD: usize = 20;
const PERIOD: Duration = Duration::from_secs(10);

/// Limits the rate of log lines. Metrics count all events.
#[derive(Debug, Default)]
pub struct LineLimit(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    logged: usize,
    dropped: usize,
}

impl LineLimit {
    /// Allows a line and returns how many were dropped before it; `None` if the limit is reached.
    pub fn allow(&self) -> Option<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if lines.since.is_none_or(|since| now.duration_since(since) >= PERIOD) {
            lines.since = Some(now);
            lines.logged = 0;
        }
        if lines.logged == MAX_LINES_PER_PERIOD {
            lines.dropped += 1;
            return None;
        }
        lines.logged += 1;
        Some(std::mem::take(&mut lines.dropped))
    }
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text, with colors on a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging with a filter such as `info` or `adieu=debug,warn`. A second call has no effect.
pub fn init(filter: &str, format: Format) {
    let stderr = std::io::stderr();
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(stderr.is_terminal() && !is_plain)
        // They would go to standard error as well: if that is closed, printing them panics.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // This fails only if there is a subscriber already.
    drop(match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_over_the_limit_are_dropped_and_counted() {
        let limit = LineLimit::default();
        assert!((0..MAX_LINES_PER_PERIOD).all(|_| limit.allow() == Some(0)));
        assert!((0..1000).all(|_| limit.allow().is_none()));
        tokio::time::sleep(PERIOD).await;
        assert_eq!((limit.allow(), limit.allow()), (Some(1000), Some(0)));
    }
}
