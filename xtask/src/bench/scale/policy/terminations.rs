//! Pods that end: one of each Deployment within a minute, first without the observer and then with it. The first arm
//! shows what the deletions alone cost; the second, whether the leader counts every termination, and what that costs in
//! writes, memory and latency of admission.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt as _};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval, sleep};

use super::admissions;
use super::fleet::{PolicyFleet, Size};
use super::leader::Leader;
use super::load::{Load, within};
use crate::bench::scale::idle::CpuTime;
use crate::bench::scale::operator::{Operator, Requests};
use crate::bench::statistics::Percentiles;
use crate::progress::{Step, print_line};
use crate::target::Target;
use crate::{install, interrupt};

/// The seconds in which they are deleted, and those before that in which admission is measured at rest.
const SPAN: u32 = 60;
/// The seconds between two readings of the replicas' memory, which can delay admissions. The kubelet measures no more
/// often.
const MEMORY_INTERVAL: u32 = 10;
/// The limits for counting them, and for their replacement.
const LIMIT: Duration = Duration::from_mins(3);
const REPLACEMENT_LIMIT: Duration = Duration::from_mins(10);
const POLL: Duration = Duration::from_millis(500);
/// The pods of a page.
const PAGE: u32 = 2000;

/// What was measured.
#[derive(Clone, Debug)]
pub struct Terminations {
    /// The pods that were deleted in each arm.
    pub deleted: u32,
    pub without_observer: Arm,
    pub with_observer: Arm,
}

/// The figures of an arm.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Admissions in the minute before.
    pub at_rest: Percentiles,
    /// Admissions while pods were deleted.
    pub beside_deletions: Percentiles,
    /// The share of CPU time in which the machine was idle meanwhile.
    pub idle: f64,
    /// The largest working set of a replica, in bytes.
    pub memory: f64,
    /// The terminations that the leader counted.
    pub counted: f64,
    /// From the first deletion until all were counted; without the observer, until all pods were deleted.
    pub took: Duration,
    /// The operator's requests meanwhile.
    pub requests: Requests,
}

impl Terminations {
    /// The p99 of admission with the observer, relative to the one without it.
    pub fn observer_ratio(&self) -> f64 {
        self.with_observer.beside_deletions.p99 / self.without_observer.beside_deletions.p99
    }
}

impl Arm {
    /// The p99 of admission, relative to the one at rest.
    pub fn ratio(&self) -> f64 {
        self.beside_deletions.p99 / self.at_rest.p99
    }
}

/// The value of the chart in which the arms differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Observer {
    Off,
    On,
}

impl Observer {
    fn value(self) -> &'static str {
        match self {
            Self::Off => "observer.scope=Off",
            Self::On => "observer.scope=All",
        }
    }
}

/// The namespace and name of a pod.
type PodKey = (String, String);

/// Both arms, at one size.
pub struct Arms<'a> {
    target: &'a Target,
    operator: &'a Operator,
    fleet: &'a PolicyFleet,
    size: Size,
}

/// A minute of load.
struct Minute {
    window: (Instant, Instant),
    /// The share of CPU time in which the machine was idle.
    idle: f64,
    /// The largest working set of a replica, in bytes.
    memory: f64,
}

impl<'a> Arms<'a> {
    pub fn new(target: &'a Target, operator: &'a Operator, fleet: &'a PolicyFleet, size: Size) -> Self {
        Self { target, operator, fleet, size }
    }

    /// Measures both arms. The last one leaves the chart's default.
    pub async fn measure(&self) -> Result<Terminations> {
        let [first, second] = two_of_each(running_pods(&self.fleet.client).await?, self.size)?;
        let without_observer = self.arm(Observer::Off, first).await?;
        let with_observer = self.arm(Observer::On, second).await?;
        Ok(Terminations { deleted: self.size.deployments, without_observer, with_observer })
    }

    /// Measures admission for a minute, and for another one in which these pods are deleted.
    async fn arm(&self, observer: Observer, pods: Vec<PodKey>) -> Result<Arm> {
        let (value, count) = (observer.value(), pods.len());
        let leader = self.restart(value).await?;
        self.until_replaced().await?;
        self.fleet.settle(self.operator, &leader).await?;
        let mut admissions = admissions::start(self.target).await?;
        let step = Step::start(format!("{value}: measuring admission while no pod ends"));
        let rest = minute(&leader, &step, &mut [&mut admissions]).await?;
        step.done();

        let step =
            Step::start(format!("{value}: deleting a pod of each of {count} Deployments within {SPAN} s"));
        let (mut log, before) = (self.operator.follow_requests()?, leader.terminations().await?);
        let mut deletions = self.delete(pods);
        let deleting = minute(&leader, &step, &mut [&mut admissions, &mut deletions]).await?;
        deletions.stop().await?;
        let sent = admissions.stop().await?;
        let (began, _) = deleting.window;
        let counted = self.count(observer, &leader, before, began).await?;
        let took = began.elapsed();
        step.done();
        log.read()?;

        let latency = |minute: &Minute| {
            Percentiles::of(&within(&sent, &[minute.window])).context("no request was sent")
        };
        let (at_rest, beside_deletions) = (latency(&rest)?, latency(&deleting)?);
        let [rest_p99, p99] = [at_rest, beside_deletions].map(|latency| latency.p99 * 1e3);
        print_line(&format!("  p99 of admission: {rest_p99:.1} ms at rest, {p99:.1} ms while pods end"));
        let memory = rest.memory.max(deleting.memory).max(leader.memory().await?);
        let (idle, requests) = (deleting.idle, log.requests());
        Ok(Arm { at_rest, beside_deletions, idle, memory, counted, took, requests })
    }

    /// Sets the chart's value, which replaces the replicas, and waits until one of the new ones leads.
    async fn restart(&self, value: &'static str) -> Result<Leader> {
        let target = self.target.clone();
        let upgraded = spawn_blocking(move || install::set_value(&target, value)).await;
        upgraded.context("the upgrade was cut short")??;
        Leader::elected(&self.fleet.client).await
    }

    /// Waits until the ReplicaSets have replaced the pods that the previous arm deleted.
    async fn until_replaced(&self) -> Result<()> {
        let step = Step::start("waiting until deleted pods are replaced");
        let (expected, started) = (self.size.pods() as usize, Instant::now());
        loop {
            step.waiting();
            let asked = Instant::now();
            let running = running_pods(&self.fleet.client).await?.len();
            if running >= expected {
                step.done();
                return Ok(());
            }
            ensure!(started.elapsed() < REPLACEMENT_LIMIT, "only {running} of {expected} pods run");
            // A list of all pods delays what it waits for.
            sleep(POLL.max(5 * asked.elapsed())).await;
        }
    }

    /// Deletes them within [`SPAN`], or as fast as the API server responds.
    fn delete(&self, pods: Vec<PodKey>) -> Load {
        let (rate, waiting, pods) = (self.size.deployments.div_ceil(SPAN), pods.len() + 1, Arc::new(pods));
        Load::start(self.target, rate, waiting, move |client| {
            move |number| delete(client.clone(), pods.clone(), number)
        })
    }

    /// How many terminations the leader has counted, once it has counted all or the limit is reached. Without the
    /// observer it must count none.
    async fn count(&self, observer: Observer, leader: &Leader, before: f64, began: Instant) -> Result<f64> {
        loop {
            interrupt::check()?;
            let counted = leader.terminations().await? - before;
            if observer == Observer::Off {
                ensure!(counted < 1.0, "with {} the leader counts terminations", observer.value());
                return Ok(counted);
            }
            if counted >= f64::from(self.size.deployments) || began.elapsed() >= LIMIT {
                return Ok(counted);
            }
            sleep(POLL).await;
        }
    }
}

/// Waits for a minute while the loads run.
async fn minute(leader: &Leader, step: &Step, loads: &mut [&mut Load]) -> Result<Minute> {
    let (began, cpu_time, mut memory) = (Instant::now(), CpuTime::now()?, 0.0_f64);
    let mut seconds = interval(Duration::from_secs(1));
    for second in 0..=SPAN {
        seconds.tick().await;
        step.waiting();
        for load in &mut *loads {
            load.check().await?;
        }
        if second % MEMORY_INTERVAL == 0 {
            memory = memory.max(leader.memory().await?);
        }
    }
    Ok(Minute { window: (began, Instant::now()), idle: cpu_time.idle_share()?, memory })
}

/// The pods of the Deployments that run and are not deleted, each with its label `app`.
async fn running_pods(client: &Client) -> Result<Vec<(String, PodKey)>> {
    let (api, mut found) = (Api::<Pod>::all(client.clone()), Vec::new());
    let mut parameters = ListParams::default().labels("app").fields("status.phase=Running").limit(PAGE);
    loop {
        interrupt::check()?;
        let page = api.list_metadata(&parameters).await.context("cannot list the pods")?;
        let after = page.metadata.continue_.clone().filter(|token| !token.is_empty());
        for pod in page.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            let app = pod.labels().get("app").cloned().unwrap_or_default();
            found.push((app, (pod.namespace().unwrap_or_default(), pod.name_any())));
        }
        match after {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// A pod of each Deployment for the first arm, and another one for the second.
fn two_of_each(pods: Vec<(String, PodKey)>, size: Size) -> Result<[Vec<PodKey>; 2]> {
    let mut by_app = BTreeMap::<String, Vec<PodKey>>::new();
    for (app, pod) in pods {
        by_app.entry(app).or_default().push(pod);
    }
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for mut pods in by_app.into_values() {
        first.extend(pods.pop());
        second.extend(pods.pop());
    }
    let (found, expected) = (second.len(), size.deployments);
    ensure!(found == expected as usize, "{found} of {expected} Deployments have two running pods");
    Ok([first, second])
}

async fn delete(client: Client, pods: Arc<Vec<PodKey>>, number: u32) -> Result<()> {
    let Some((namespace, name)) = pods.get(number as usize) else { return Ok(()) };
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let deleted = api.delete(name, &DeleteParams::default()).await;
    deleted.map(drop).with_context(|| format!("cannot delete the pod {namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arms_delete_different_pods_of_each_deployment() {
        let pod = |app: &str, name: &str| (app.to_owned(), ("team-0".to_owned(), name.to_owned()));
        let pods = vec![
            pod("web-1", "web-1-a"),
            pod("web-0", "web-0-a"),
            pod("web-1", "web-1-b"),
            pod("web-0", "web-0-b"),
            pod("web-0", "web-0-c"),
        ];
        let size = Size { deployments: 2 };
        let names = |arm: &[PodKey]| arm.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>();
        let [first, second] = two_of_each(pods.clone(), size).unwrap();
        assert_eq!(
            (names(&first), names(&second)),
            (
                vec!["web-0-c".to_owned(), "web-1-b".to_owned()],
                vec!["web-0-b".to_owned(), "web-1-a".to_owned()],
            )
        );
        let lacking = two_of_each(pods[1..].to_vec(), size).unwrap_err();
        assert_eq!(lacking.to_string(), "1 of 2 Deployments have two running pods");
    }
}
