//! Progress, always on standard error: a spinner on a terminal, plain lines elsewhere.

use std::cell::Cell;
use std::io::{IsTerminal, Write, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The interval of lines about a long step, without a terminal.
const REMINDER: Duration = Duration::from_secs(30);

/// Whether a spinner is shown. Steps beside it are reported in lines.
static SPINS: AtomicBool = AtomicBool::new(false);

/// A step with its duration.
pub struct Step {
    what: String,
    started: Instant,
    bar: Option<ProgressBar>,
    /// When it was reported last. `None` if it needs no reminders.
    told: Option<Cell<Instant>>,
    /// How long it took, once it has ended.
    took: Option<Duration>,
}

impl Step {
    /// Reports that `what` begins.
    pub fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        let spins = stderr().is_terminal() && !SPINS.swap(true, Ordering::Relaxed);
        let bar = spins.then(|| {
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
        let started = Instant::now();
        let told = bar.is_none().then(|| Cell::new(started));
        Self { what, started, bar, told, took: None }
    }

    /// Reports that `what` begins beside the following steps. Until it is done, only those report their progress.
    pub fn start_beside(what: impl Into<String>) -> Self {
        let what = what.into();
        print_line(&format!("… {what}, beside the following steps"));
        Self { what, started: Instant::now(), bar: None, told: None, took: None }
    }

    /// Call it repeatedly while waiting. Without a spinner it reports long steps.
    pub fn waiting(&self) {
        let Some(told) = self.told.as_ref().filter(|told| told.get().elapsed() >= REMINDER) else { return };
        told.set(Instant::now());
        print_line(&format!("… {} ({} s so far)", self.what, self.started.elapsed().as_secs()));
    }

    /// Records the end, which [`Step::done`] reports later.
    pub fn end(&mut self) {
        self.took = Some(self.started.elapsed());
    }

    /// Reports that it is done.
    pub fn done(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let took = self.took.unwrap_or_else(|| self.started.elapsed());
        print_line(&format!("✓ {} ({:.1} s)", self.what, took.as_secs_f64()));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            SPINS.store(false, Ordering::Relaxed);
        }
    }
}

/// Prints a line to standard error. Errors are ignored, as the reader may be gone.
pub fn print_line(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}
