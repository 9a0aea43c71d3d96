//! Replays the load of a policy change without adieu's evaluation: this program computes for as long as the leader did,
//! and writes the same statuses in the same time. The latency of admission meanwhile shows what this load costs on this
//! machine when another process causes it.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::api::ListParams;
use kube::core::DynamicObject;
use nix::time::ClockId;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval, sleep};

use super::admissions;
use super::fleet::{PolicyFleet, matched, policies};
use super::leader::Leader;
use super::load::within;
use crate::bench::statistics::Percentiles;
use crate::interrupt;
use crate::progress::Step;
use crate::target::Target;

/// How often the load is replayed. An even number: each time reverts the statuses of the time before.
const REPLAYS: u32 = 10;
/// Between two replays, as between two changes.
pub const PAUSE: Duration = Duration::from_secs(2);
/// How often the leader's metrics are read, in every measurement of admission around policy changes, so that it costs
/// all of them the same. It differs from the 50 ms between admissions: otherwise either every admission would coincide
/// with a read, or none.
pub const POLL: Duration = Duration::from_millis(47);
/// Between two statuses, at least.
const LEAST_PERIOD: Duration = Duration::from_millis(1);
/// Computations between two readings of the CPU time, some 10 µs.
const BATCH: u64 = 10_000;

/// The load of one policy change.
#[derive(Clone, Copy, Debug)]
pub struct ChangeLoad {
    /// The CPU time in which all workloads are evaluated.
    pub cpu: Duration,
    /// The time in which all statuses are written.
    pub reporting: Duration,
}

/// Replays the load of policy changes while adieu is at rest.
pub struct Replay<'a> {
    target: &'a Target,
    fleet: &'a PolicyFleet,
    leader: &'a Leader,
}

impl<'a> Replay<'a> {
    pub fn new(target: &'a Target, fleet: &'a PolicyFleet, leader: &'a Leader) -> Self {
        Self { target, fleet, leader }
    }

    /// Measures admission meanwhile.
    pub async fn measure(&self, load: ChangeLoad) -> Result<Percentiles> {
        let policies = self.policies_with_workloads().await?;
        let mut admissions = admissions::start(self.target).await?;
        let milliseconds = load.cpu.as_millis();
        let step = Step::start(format!(
            "replaying the load of a policy change {REPLAYS} times, with {milliseconds} ms of CPU time"
        ));
        let mut windows = Vec::new();
        for number in 0..REPLAYS {
            admissions.check().await?;
            step.waiting();
            windows.push(self.replay(number, &policies, load).await?);
            sleep(PAUSE).await;
        }
        step.done();
        let sent = admissions.stop().await?;
        Percentiles::of(&within(&sent, &windows)).context("no request was sent")
    }

    async fn policies_with_workloads(&self) -> Result<Vec<DynamicObject>> {
        let mut found = Vec::new();
        for cluster_scoped in [true, false] {
            let all = policies(&self.fleet.client, cluster_scoped).list(&ListParams::default()).await?;
            found.extend(all.items.into_iter().filter(|policy| matched(policy) > 0));
        }
        Ok(found)
    }

    /// Replays the load once. Returns its begin and its end.
    async fn replay(
        &self,
        number: u32,
        policies: &[DynamicObject],
        load: ChangeLoad,
    ) -> Result<(Instant, Instant)> {
        let began = Instant::now();
        self.fleet.annotate_defaults(number).await?;
        let computing = spawn_blocking(move || compute(load.cpu));
        let mut writes = Box::pin(self.write_statuses(policies, number.is_multiple_of(2), load.reporting));
        let mut poll = interval(POLL);
        loop {
            tokio::select! {
                written = &mut writes => {
                    written?;
                    break;
                }
                _ = poll.tick() => {
                    interrupt::check()?;
                    self.leader.counters().await?;
                }
            }
        }
        computing.await.context("the computation was cut short")??;
        Ok((began, Instant::now()))
    }

    /// Writes the status of each policy, one after the other, spread over this time.
    async fn write_statuses(
        &self,
        policies: &[DynamicObject],
        waits: bool,
        reporting: Duration,
    ) -> Result<()> {
        let count = u32::try_from(policies.len())?.max(1);
        let mut due = interval((reporting / count).max(LEAST_PERIOD));
        // The first tick is immediate; adieu writes no status immediately.
        due.tick().await;
        for policy in policies {
            due.tick().await;
            self.fleet.write_status(policy, waits).await?;
        }
        Ok(())
    }
}

/// Uses this much CPU time on the calling thread.
fn compute(time: Duration) -> Result<()> {
    let until = thread_cpu_time()? + time;
    while thread_cpu_time()? < until {
        black_box((0..black_box(BATCH)).fold(0, |sum: u64, next| sum.wrapping_mul(31).wrapping_add(next)));
    }
    Ok(())
}

/// The CPU time of the calling thread since it started.
fn thread_cpu_time() -> Result<Duration> {
    let time = ClockId::CLOCK_THREAD_CPUTIME_ID.now().context("cannot read the CPU time of a thread")?;
    Ok(time.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_computation_uses_as_much_cpu_time_as_it_should() {
        let (before, time) = (thread_cpu_time().unwrap(), Duration::from_millis(20));
        compute(time).unwrap();
        assert!(thread_cpu_time().unwrap() >= before + time);
    }
}
