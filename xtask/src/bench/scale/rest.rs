//! Whether the machine is at rest.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use procfs::{CurrentSI, KernelStats};
use tokio::time::sleep;

use crate::interrupt;
use crate::progress::{Step, say};

/// The share of the processors' time that is idle at rest: the nodes' leases are renewed all the time.
const IDLE: f64 = 0.75;
/// For how long.
const SPAN: Duration = Duration::from_secs(3);
/// When it is measured all the same.
const LIMIT: Duration = Duration::from_mins(5);

/// Returns once the machine has had little to do for some seconds. Long after every pod is ready, kwok goes through
/// the news of them, and takes a fourth of two cores while something else is timed.
pub async fn reached() -> Result<()> {
    let step = Step::start("waiting until the machine is at rest");
    let started = Instant::now();
    loop {
        let before = Spent::now()?;
        sleep(SPAN).await;
        interrupt::check()?;
        step.waiting();
        let idle = Spent::now()?.idle_since(&before);
        if idle >= IDLE {
            step.done();
            return Ok(());
        }
        if started.elapsed() >= LIMIT {
            say(&format!("it is idle for {:.0} % of the time only: the rates will be lower", idle * 100.0));
            return Ok(());
        }
    }
}

/// What the processors have done since the machine was started, in ticks.
struct Spent {
    idle: u64,
    all: u64,
}

impl Spent {
    fn now() -> Result<Self> {
        let total = KernelStats::current().context("cannot read /proc/stat")?.total;
        let idle = total.idle + total.iowait.unwrap_or(0);
        let busy = [total.irq, total.softirq, total.steal].into_iter().flatten().sum::<u64>();
        Ok(Self { idle, all: idle + busy + total.user + total.nice + total.system })
    }

    #[allow(clippy::cast_precision_loss, reason = "ticks of seconds")]
    fn idle_since(&self, before: &Self) -> f64 {
        let since = |now: u64, before: u64| now.saturating_sub(before) as f64;
        since(self.idle, before.idle) / since(self.all, before.all).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idle_share_is_of_what_was_spent_meanwhile() {
        let (before, after) = (Spent { idle: 100, all: 1000 }, Spent { idle: 400, all: 1400 });
        assert!((after.idle_since(&before) - 0.75).abs() < 1e-9);
        assert!(before.idle_since(&before) < IDLE, "nothing is known of no time");
    }
}
