//! Progress, always on standard error: a spinner on a terminal, plain lines elsewhere.

use std::cell::Cell;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The interval of lines about a long step, without a terminal.
const REMINDER: Duration = Duration::from_secs(30);

/// A step with its duration.
pub struct Step {
    what: String,
    started: Instant,
    bar: Option<ProgressBar>,
    told: Cell<Instant>,
}

impl Step {
    /// Reports that `what` begins.
    pub fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.set_message(what.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        if bar.is_none() {
            print_line(&format!("… {what}"));
        }
        let now = Instant::now();
        Self { what, started: now, bar, told: Cell::new(now) }
    }

    /// Call it repeatedly while waiting. Without a spinner it reports long steps.
    pub fn waiting(&self) {
        if self.bar.is_none() && self.told.get().elapsed() >= REMINDER {
            self.told.set(Instant::now());
            print_line(&format!("… {} ({} s so far)", self.what, self.started.elapsed().as_secs()));
        }
    }

    /// Reports that it is done.
    pub fn done(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        print_line(&format!("✓ {} ({:.1} s)", self.what, self.started.elapsed().as_secs_f64()));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Prints a line to standard error. Errors are ignored, as the reader may be gone.
pub fn print_line(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}
