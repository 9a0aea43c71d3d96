//! Thousands of workloads that policies opt in: the cost of the leader at rest and under events, and how fast a policy
//! change is evaluated, reported and rolled out.

mod admissions;
mod changes;
mod criterion;
mod fleet;
mod leader;
mod load;
mod replay;
mod report;
mod terminations;

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use super::operator::Operator;
use crate::bench::scale::report::MIB;
use crate::progress::{Step, print_line};
use crate::target::Target;
use changes::{Changes, Measured};
use fleet::{PolicyFleet, RolloutMode, Size};
use leader::{Leader, Usage};
use load::{Load, MAX_WAITING};
use replay::{ChangeLoad, Replay};
pub use report::Report;
use report::{Stage, evaluation_limit};
use terminations::Arms;

/// Status events per second: patches of the status of one Deployment after another.
const EVENTS: u32 = 50;
/// The drains at each size: every workload rolls out at either.
const DRAINS: [i64; 2] = [5, 7];

/// Measures at these sizes, the full one last. `complete` gets the report whenever a size is measured.
pub fn measure(
    target: &Target,
    sizes: &[u32],
    complete: &(dyn Fn(&Report) -> Result<()> + Sync),
) -> Result<Report> {
    let cluster =
        target.cluster().context("kwok simulates only nodes of clusters that cargo xtask manages")?;
    target.with_client(async |client| {
        let operator = Operator::new(client.clone(), cluster.audit_log()).await?;
        let fleet = PolicyFleet::new(client);
        fleet.set_up().await?;
        let (mut report, mut before) = (Report::new(sizes), Size { deployments: 0 });
        for (deployments, drain) in sizes.iter().copied().zip(DRAINS) {
            let (size, started) = (Size { deployments }, Instant::now());
            operator.scale(0).await?;
            fleet.grow(before, size).await?;
            report.stages.push(stage(target, &operator, &fleet, size, drain).await?);
            before = size;
            let minutes = started.elapsed().as_secs_f64() / 60.0;
            print_line(&format!("✓ measured with {deployments} Deployments ({minutes:.0} min)"));
            complete(&report)?;
        }
        Ok(report)
    })
}

/// Waits until adieu has rolled out all Deployments, then measures it at rest, under events, and during changes.
async fn stage(
    target: &Target,
    operator: &Operator,
    fleet: &PolicyFleet,
    size: Size,
    drain: i64,
) -> Result<Stage> {
    fleet.change_defaults(drain, RolloutMode::Running).await?;
    fleet.fleet.until_idle().await?;
    let injection = operator.inject_all(size.deployments).await?;
    fleet.until_status_current().await?;
    let leader = Leader::find(&fleet.client).await?;
    fleet.settle(operator, &leader).await?;
    let rollouts_per_second = f64::from(size.deployments) / injection.patching.as_secs_f64();
    print_line(&format!("  {rollouts_per_second:.1} rollouts/s"));
    let at_rest = leader.usage("at rest", None).await?;
    let (under_events, events) = under_events(target, &leader, size).await?;
    for (usage, when) in [(at_rest, "at rest"), (under_events, "under status events")] {
        print_line(&format!("  {:.2} % of a core {when}, {:.1} MiB", usage.cpu * 100.0, usage.memory / MIB));
    }
    fleet.change_defaults(drain, RolloutMode::NextUpdate).await?;
    fleet.until_status_current().await?;
    fleet.settle(operator, &leader).await?;
    let Measured { admission, idle_at_rest, delays, load, memory } =
        Changes::new(target, fleet, &leader, size).measure(drain).await?;
    print_line(&format!(
        "  p99 of admission: {:.1} ms at rest, {:.1} ms during a policy change; all are evaluated {delays}",
        admission.at_rest.p99 * 1e3,
        admission.beside_change.p99 * 1e3
    ));
    fleet.until_status_current().await?;
    fleet.settle(operator, &leader).await?;
    let allowed = Duration::from_secs_f64(evaluation_limit(size));
    let replayed = ChangeLoad { cpu: load.cpu.min(allowed), ..load };
    let replay = Replay::new(target, fleet, &leader).measure(replayed).await?;
    print_line(&format!("  p99 of admission during a replay: {:.1} ms", replay.p99 * 1e3));
    let terminations = Arms::new(target, operator, fleet, size).measure().await?;
    let all = [injection.memory, at_rest.memory, under_events.memory, terminations.with_observer.memory];
    let memory = all.into_iter().fold(memory, f64::max);
    Ok(Stage {
        size,
        cpu_at_rest: at_rest.cpu,
        cpu_under_events: under_events.cpu,
        events_per_second: events,
        admission,
        idle_at_rest,
        replay,
        replayed_cpu: replayed.cpu,
        evaluation_cpu: load.cpu,
        delays,
        terminations,
        memory,
        rollouts_per_second,
    })
}

/// The leader's usage under status events, and the rate of events.
async fn under_events(target: &Target, leader: &Leader, size: Size) -> Result<(Usage, f64)> {
    let mut load = Load::start(target, EVENTS, MAX_WAITING, move |client| {
        move |number| change_status(client.clone(), number, size)
    });
    let usage = leader.usage(&format!("under {EVENTS} status events/s"), Some(&mut load)).await?;
    let sent = load.stop().await?;
    let (first, last) = (sent.iter().map(|s| s.due).min(), sent.iter().map(|s| s.due).max());
    let (first, last) = first.zip(last).context("no status was patched")?;
    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    let rate = (sent.len() - 1) as f64 / (last - first).as_secs_f64();
    Step::start(format!("{rate:.1} status events/s were sent")).done();
    Ok((usage, rate))
}

/// One status event: a change of the condition `Progressing`, which the Deployment controller keeps.
async fn change_status(client: Client, number: u32, size: Size) -> Result<()> {
    let (namespace, name) = PolicyFleet::deployment(number, size);
    let condition = json!({"type": "Progressing", "message": format!("status event {number}")});
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    let api: Api<Deployment> = Api::namespaced(client, &namespace);
    let patched = api.patch_status(&name, &PatchParams::default(), &patch).await;
    patched.map(drop).with_context(|| format!("cannot patch the status of {namespace}/{name}"))
}
