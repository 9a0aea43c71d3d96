//! Thousands of workloads that policies opt in: what the leader costs at rest and under events, and how fast a policy
//! change is evaluated, reported and rolled out.

mod changes;
mod fleet;
mod leader;
mod load;
mod report;

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Duration, Instant, sleep};

use super::operator::Operator;
use crate::interrupt;
use crate::progress::Step;
use crate::target::Target;
use changes::{Changes, Measured};
use fleet::{Fleet, Reaches, Size};
use leader::{Leader, Usage};
use load::Load;
pub use report::Report;
use report::Stage;

/// Status events a second: patches of the status of one Deployment after the other.
const EVENTS: u32 = 50;
/// What workloads are opted in with at half and at full size: every workload is rolled out at either.
const DRAINS: [i64; 2] = [5, 7];
/// The leader reads what it wrote once more for a while.
const SETTLE: Duration = Duration::from_secs(20);

/// Measures at half the size and at full size.
pub fn measure(target: &Target, deployments: u32) -> Result<Report> {
    let cluster = target.cluster().context("kwok plays nodes of our clusters only")?;
    target.with_client(async |client| {
        let operator = Operator::new(client.clone(), cluster.audit_log()).await?;
        let fleet = Fleet::new(client);
        fleet.set_up().await?;
        let (mut stages, mut before) = (Vec::new(), Size { deployments: 0 });
        for (deployments, drain) in [deployments / 2, deployments].into_iter().zip(DRAINS) {
            let size = Size { deployments };
            operator.scale(0).await?;
            fleet.grow(before, size).await?;
            stages.push(stage(target, &operator, &fleet, size, drain).await?);
            before = size;
        }
        Ok(Report { stages })
    })
}

/// Lets adieu roll out all of them, and measures it after that: at rest, under events, and beside changes.
async fn stage(target: &Target, operator: &Operator, fleet: &Fleet, size: Size, drain: i64) -> Result<Stage> {
    fleet.change_defaults(drain, Reaches::Running).await?;
    fleet.field.until_at_rest().await?;
    let course = operator.come_back(size.deployments).await?;
    fleet.until_settled().await?;
    let leader = Leader::find(&fleet.client).await?;
    settle(fleet).await?;
    let at_rest = leader.usage("at rest", None).await?;
    let (under_events, events) = under_events(target, &leader, size).await?;
    settle(fleet).await?;
    let Measured { admission, moments, memory } =
        Changes::new(target, fleet, &leader, size).measure(drain).await?;
    let memory = [course.memory, at_rest.memory, under_events.memory].into_iter().fold(memory, f64::max);
    Ok(Stage {
        size,
        cpu_at_rest: at_rest.cpu,
        cpu_under_events: under_events.cpu,
        events_per_second: events,
        admission,
        moments,
        memory,
        rollouts_per_second: f64::from(size.deployments) / course.patching.as_secs_f64(),
    })
}

/// Returns once neither the machine nor adieu has anything to do.
async fn settle(fleet: &Fleet) -> Result<()> {
    fleet.field.until_at_rest().await?;
    let (step, started) = (Step::start("letting adieu settle"), Instant::now());
    while started.elapsed() < SETTLE {
        interrupt::check()?;
        sleep(Duration::from_millis(500)).await;
    }
    step.done();
    Ok(())
}

/// What the leader uses while statuses change, and how many events a second there were.
async fn under_events(target: &Target, leader: &Leader, size: Size) -> Result<(Usage, f64)> {
    let mut load =
        Load::start(target, EVENTS, move |client| move |number| change_status(client.clone(), number, size));
    let usage = leader.usage(&format!("under {EVENTS} status events/s"), Some(&mut load)).await?;
    let sent = load.stop().await?;
    let (first, last) = (sent.iter().map(|s| s.due).min(), sent.iter().map(|s| s.due).max());
    let (first, last) = first.zip(last).context("no status was patched")?;
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let rate = (sent.len() - 1) as f64 / (last - first).as_secs_f64();
    Step::start(format!("{rate:.1} status events/s were sent")).done();
    Ok((usage, rate))
}

/// One status event: what a Deployment says of its rollout changes, which its controller leaves as it is.
async fn change_status(client: Client, number: u32, size: Size) -> Result<()> {
    let (namespace, name) = Fleet::deployment(number, size);
    let condition = json!({"type": "Progressing", "message": format!("status event {number}")});
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    let api: Api<Deployment> = Api::namespaced(client, &namespace);
    let patched = api.patch_status(&name, &PatchParams::default(), &patch).await;
    patched.map(drop).with_context(|| format!("cannot patch the status of {namespace}/{name}"))
}
