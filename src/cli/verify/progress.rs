//! The progress of a run, on standard error if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use super::count::Count;
use crate::verify::Requests;

const TICK: Duration = Duration::from_millis(100);

/// A line with the current phase, cleared at the end.
#[derive(Debug)]
pub(in crate::cli) struct PhaseIndicator(ProgressBar);

impl PhaseIndicator {
    pub(in crate::cli) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {prefix} {elapsed:.dim}  {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Shows a phase.
    pub(in crate::cli) fn phase(&self, phase: impl Into<String>) {
        self.0.enable_steady_tick(TICK);
        self.0.set_prefix(phase.into());
    }

    /// Shows the request counts, while it is polled.
    pub(super) async fn count(&self, mut count: watch::Receiver<Count>) {
        while count.changed().await.is_ok() {
            let Requests { sent, lost, not_sent, .. } = count.borrow_and_update().requests;
            let not_sent = if not_sent > 0 { format!(", {not_sent} not sent") } else { String::new() };
            self.0.set_message(format!("{sent} requests, {lost} lost{not_sent}"));
            tokio::time::sleep(TICK).await;
        }
    }

    /// Clears the line, for a question.
    pub(in crate::cli) fn pause(&self) {
        self.0.disable_steady_tick();
        self.0.finish_and_clear();
        self.0.reset();
    }
}

impl Drop for PhaseIndicator {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
