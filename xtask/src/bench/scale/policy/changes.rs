//! Changes the policy for all workloads: how long until every workload is evaluated and every status is written, and
//! the latency of admission meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt as _, TryStream, TryStreamExt as _, stream};
use kube::ResourceExt as _;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::DynamicObject;
use tokio::time::{Instant, interval, sleep};

use super::admissions;
use super::fleet::{
    DEFAULTS, PolicyFleet, RolloutMode, Size, is_observed, is_reported, matched, observed_generation,
    policies,
};
use super::leader::Leader;
use super::load::{Load, within};
use super::replay::{ChangeLoad, PAUSE, POLL};
use super::report::{Admission, Delays};
use crate::bench::scale::idle::CpuTime;
use crate::bench::statistics::Percentiles;
use crate::interrupt;
use crate::progress::Step;
use crate::target::Target;

/// Changes of the policy, alternating between another drain and the one that the workloads have.
const CHANGES: u32 = 20;
/// How long admission is measured without a change.
const IDLE_TIME: Duration = Duration::from_mins(1);
/// The limit for the statuses after a change.
const LIMIT: Duration = Duration::from_mins(1);

/// Measures changes of the policy.
pub struct Changes<'a> {
    target: &'a Target,
    fleet: &'a PolicyFleet,
    leader: &'a Leader,
    size: Size,
}

/// One change.
struct Change {
    began: Instant,
    evaluated: Duration,
    reported: Duration,
    /// Seconds of CPU time of the leader until all were evaluated, without what it takes at rest.
    cpu: f64,
}

/// A time without a change.
struct Rest {
    window: (Instant, Instant),
    /// The share of CPU time in which the machine was idle.
    idle: f64,
    /// The leader's CPU time, as a share of one core. It answers admissions and reads of its metrics.
    cpu: f64,
}

/// The figures of all changes.
pub struct Measured {
    pub admission: Admission,
    /// The share of CPU time in which the machine was idle while admission was at rest.
    pub idle_at_rest: f64,
    pub delays: Delays,
    /// The load of the median change.
    pub load: ChangeLoad,
    /// The largest working set of a replica meanwhile, in bytes.
    pub memory: f64,
}

/// A policy, by its namespace and name.
type Key = (Option<String>, String);

impl<'a> Changes<'a> {
    pub fn new(target: &'a Target, fleet: &'a PolicyFleet, leader: &'a Leader, size: Size) -> Self {
        Self { target, fleet, leader, size }
    }

    /// Measures admission at rest, and during changes that take effect with the next update, so that no workload rolls
    /// out. The workloads have `drain`, and the policy is already in this mode.
    pub async fn measure(&self, drain: i64) -> Result<Measured> {
        let mut admissions = admissions::start(self.target).await?;
        let rest = self.rest(&mut admissions).await?;

        let step = Step::start(format!("changing a policy for all {CHANGES} times"));
        let (mut changes, mut memory) = (Vec::new(), 0.0_f64);
        for number in 0..CHANGES {
            admissions.check().await?;
            step.waiting();
            let waits = number % 2 == 0;
            changes.push(self.change(drain + i64::from(waits), waits, rest.cpu).await?);
            sleep(PAUSE).await;
            memory = memory.max(self.leader.memory().await?);
        }
        let beside: Vec<_> =
            changes.iter().map(|change| (change.began, change.began + change.reported)).collect();
        step.done();

        let sent = admissions.stop().await?;
        let latency = |windows: &[(Instant, Instant)]| {
            Percentiles::of(&within(&sent, windows)).context("no request was sent")
        };
        let admission = Admission { at_rest: latency(&[rest.window])?, beside_change: latency(&beside)? };
        let seconds = |of: fn(&Change) -> f64| changes.iter().map(of).collect::<Vec<_>>();
        let (reported, cpu) = (seconds(|c| c.reported.as_secs_f64()), seconds(|c| c.cpu));
        let load = ChangeLoad { cpu: median(&cpu)?, reporting: median(&reported)? };
        let delays = Delays::new(seconds(|c| c.evaluated.as_secs_f64()), reported);
        Ok(Measured { admission, idle_at_rest: rest.idle, delays, load, memory })
    }

    /// Waits for a minute in which no policy changes.
    async fn rest(&self, admissions: &mut Load) -> Result<Rest> {
        let step = Step::start("measuring admission while no policy changes");
        let (began, cpu_time, first) = (Instant::now(), CpuTime::now()?, self.leader.counters().await?);
        let (mut poll, mut last) = (interval(POLL), first);
        while began.elapsed() < IDLE_TIME {
            poll.tick().await;
            admissions.check().await?;
            step.waiting();
            last = self.leader.counters().await?;
        }
        step.done();
        let cpu = (last.cpu - first.cpu) / began.elapsed().as_secs_f64();
        Ok(Rest { window: (began, Instant::now()), idle: cpu_time.idle_share()?, cpu })
    }

    /// Changes the policy, and waits until every status counts all of its workloads as pending, or none. All are
    /// evaluated once the leader has evaluated as many workloads as there are, or once it reports the policy's
    /// generation, which it does after evaluating all by it, but delayed by debouncing. `cpu_at_rest` is the share of a
    /// core that the leader takes without a change.
    async fn change(&self, drain: i64, waits: bool, cpu_at_rest: f64) -> Result<Change> {
        let (mut outstanding, mut events) = self.watch(waits).await?;
        let before = self.leader.counters().await?;
        let (began, mut evaluated) = (Instant::now(), None);
        let generation = self.fleet.change_defaults(drain, RolloutMode::NextUpdate).await?;
        let mut poll = interval(POLL);
        while !outstanding.is_empty() {
            tokio::select! {
                event = events.try_next() => {
                    let policy = match event.context("a watch of policies failed")? {
                        Some(WatchEvent::Modified(policy)) => policy,
                        Some(WatchEvent::Error(status)) => bail!("a watch of policies failed: {status}"),
                        Some(_) => continue,
                        None => bail!("a watch of policies ended"),
                    };
                    let is_changed = policy.name_any() == DEFAULTS;
                    let observed = observed_generation(&policy);
                    if is_changed && observed >= Some(generation) && evaluated.is_none() {
                        evaluated = Some((began.elapsed(), self.leader.counters().await?));
                    }
                    let is_current = !is_changed || observed >= Some(generation);
                    if is_current && is_reported(&policy, waits) {
                        outstanding.remove(&key(&policy));
                    }
                }
                _ = poll.tick() => {
                    interrupt::check()?;
                    let first = outstanding.first();
                    ensure!(
                        began.elapsed() < LIMIT,
                        "{} s after a change {} statuses are outdated, such as that of {first:?}",
                        LIMIT.as_secs(),
                        outstanding.len()
                    );
                    let counters = self.leader.counters().await?;
                    if counters.evaluations - before.evaluations >= f64::from(self.size.deployments) {
                        evaluated.get_or_insert_with(|| (began.elapsed(), counters));
                    }
                }
            }
        }
        let reported = began.elapsed();
        let (evaluated, after) = evaluated.context("no status has the changed policy")?;
        let cpu = after.cpu - before.cpu - cpu_at_rest * evaluated.as_secs_f64();
        Ok(Change { began, evaluated, reported, cpu })
    }

    /// The policies whose status will change, and a watch of them.
    async fn watch(
        &self,
        waits: bool,
    ) -> Result<(BTreeSet<Key>, impl TryStream<Ok = WatchEvent<DynamicObject>, Error = kube::Error> + Unpin)>
    {
        let (mut outstanding, mut watches) = (BTreeSet::new(), Vec::new());
        for cluster_scoped in [true, false] {
            let api = policies(&self.fleet.client, cluster_scoped);
            let all = api.list(&ListParams::default()).await?;
            for policy in all.iter().filter(|policy| matched(policy) > 0) {
                ensure!(
                    is_observed(policy) && !is_reported(policy, waits),
                    "the status of {:?} is not settled: the measurement is invalid",
                    key(policy)
                );
                outstanding.insert(key(policy));
            }
            let version = all.metadata.resource_version.unwrap_or_default();
            watches.push(api.watch(&WatchParams::default(), &version).await?.boxed());
        }
        ensure!(outstanding.contains(&(None, DEFAULTS.to_owned())), "{DEFAULTS} applies to no workload");
        Ok((outstanding, stream::select_all(watches)))
    }
}

/// The median of several numbers of seconds. CPU time is measured in ticks, so it may be less than at rest.
fn median(seconds: &[f64]) -> Result<Duration> {
    let percentiles = Percentiles::of(seconds).context("no policy was changed")?;
    Ok(Duration::from_secs_f64(percentiles.p50.max(0.0)))
}

fn key(policy: &DynamicObject) -> Key {
    (policy.namespace(), policy.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_measured_cpu_times_is_not_negative() {
        assert_eq!(median(&[0.3, 0.1, 0.2]).unwrap(), Duration::from_millis(200));
        assert_eq!(median(&[-0.01, -0.02]).unwrap(), Duration::ZERO);
        assert!(median(&[]).is_err());
    }
}
