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
use super::load::within;
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
/// Between the statuses of one change and the next change.
const PAUSE: Duration = Duration::from_secs(2);
/// The limit for the statuses after a change.
const LIMIT: Duration = Duration::from_mins(1);
/// How often the leader's metrics are read, also while nothing changes, so that both cost the same. It differs from
/// the 50 ms between admissions: otherwise either every admission would coincide with a read, or none.
const POLL: Duration = Duration::from_millis(47);

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
}

/// The figures of all changes.
pub struct Measured {
    pub admission: Admission,
    /// The share of CPU time in which the machine was idle while admission was at rest.
    pub idle_at_rest: f64,
    pub delays: Delays,
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
        let mut load = admissions::start(self.target).await?;

        let step = Step::start("measuring admission while no policy changes");
        let (rest, cpu_time) = (Instant::now(), CpuTime::now()?);
        let mut poll = interval(POLL);
        while rest.elapsed() < IDLE_TIME {
            poll.tick().await;
            load.check().await?;
            step.waiting();
            self.leader.evaluations().await?;
        }
        let (rest, idle_at_rest) = ([(rest, Instant::now())], cpu_time.idle_share()?);
        step.done();

        let step = Step::start(format!("changing a policy for all {CHANGES} times"));
        let (mut changes, mut memory) = (Vec::new(), 0.0_f64);
        for number in 0..CHANGES {
            load.check().await?;
            step.waiting();
            let waits = number % 2 == 0;
            changes.push(self.change(drain + i64::from(waits), waits).await?);
            sleep(PAUSE).await;
            memory = memory.max(self.leader.memory().await?);
        }
        let beside: Vec<_> =
            changes.iter().map(|change| (change.began, change.began + change.reported)).collect();
        step.done();

        let sent = load.stop().await?;
        let latency = |windows: &[(Instant, Instant)]| {
            Percentiles::of(&within(&sent, windows)).context("no request was sent")
        };
        let admission = Admission { at_rest: latency(&rest)?, beside_change: latency(&beside)? };
        let seconds = |of: fn(&Change) -> Duration| changes.iter().map(|c| of(c).as_secs_f64()).collect();
        let delays = Delays::new(seconds(|c| c.evaluated), seconds(|c| c.reported));
        Ok(Measured { admission, idle_at_rest, delays, memory })
    }

    /// Changes the policy, and waits until every status counts all of its workloads as pending, or none. All are
    /// evaluated once the leader has evaluated as many workloads as there are, or once it reports the policy's
    /// generation, which it does after evaluating all by it, but delayed by debouncing.
    async fn change(&self, drain: i64, waits: bool) -> Result<Change> {
        let (mut outstanding, mut events) = self.watch(waits).await?;
        let before = self.leader.evaluations().await?;
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
                    if is_changed && observed >= Some(generation) {
                        evaluated.get_or_insert_with(|| began.elapsed());
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
                    let evaluations = self.leader.evaluations().await? - before;
                    if evaluations >= f64::from(self.size.deployments) {
                        evaluated.get_or_insert_with(|| began.elapsed());
                    }
                }
            }
        }
        let reported = began.elapsed();
        Ok(Change { began, evaluated: evaluated.unwrap_or(reported), reported })
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

fn key(policy: &DynamicObject) -> Key {
    (policy.namespace(), policy.name_any())
}
