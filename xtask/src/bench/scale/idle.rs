//! Waits until the machine is idle.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use procfs::{CurrentSI, KernelStats};
use tokio::time::sleep;

use crate::interrupt;
use crate::progress::{Step, print_line};

/// The share of CPU time that counts as idle: node leases are renewed all the time.
const IDLE: f64 = 0.75;
/// How long it must be idle.
const SPAN: Duration = Duration::from_secs(3);
/// The limit, after which the measurement starts all the same.
const LIMIT: Duration = Duration::from_mins(5);

/// Waits until the machine has been idle for some seconds. Long after every pod is ready, kwok still processes their
/// watch events, and uses a quarter of two cores.
pub async fn wait_until_idle() -> Result<()> {
    let step = Step::start("waiting until the machine is idle");
    let started = Instant::now();
    loop {
        let before = CpuTime::now()?;
        sleep(SPAN).await;
        interrupt::check()?;
        step.waiting();
        let idle = before.idle_share()?;
        if idle >= IDLE {
            step.done();
            return Ok(());
        }
        if started.elapsed() >= LIMIT {
            print_line(&format!(
                "it is idle for only {:.0} % of the time: the rates will be lower",
                idle * 100.0
            ));
            return Ok(());
        }
    }
}

/// The machine's CPU time since boot, in ticks.
pub struct CpuTime {
    idle: u64,
    all: u64,
}

impl CpuTime {
    pub fn now() -> Result<Self> {
        let total = KernelStats::current().context("cannot read /proc/stat")?.total;
        let idle = total.idle + total.iowait.unwrap_or(0);
        let busy = [total.irq, total.softirq, total.steal].into_iter().flatten().sum::<u64>();
        Ok(Self { idle, all: idle + busy + total.user + total.nice + total.system })
    }

    /// The share of the time since then in which the machine was idle.
    pub fn idle_share(&self) -> Result<f64> {
        Ok(Self::now()?.idle_since(self))
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
    fn the_idle_share_is_of_the_ticks_in_between() {
        let (before, after) = (CpuTime { idle: 100, all: 1000 }, CpuTime { idle: 400, all: 1400 });
        assert!((after.idle_since(&before) - 0.75).abs() < 1e-9);
        assert!(before.idle_since(&before) < IDLE, "without ticks it is not idle");
    }
}
