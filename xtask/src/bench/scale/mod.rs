//! Measures adieu with thousands of workloads: memory, requests, and the time to inject all of them after the
//! operator was scaled to zero, beside loops that send the same patches in the same run: as the operator, whose
//! writes the guard checks, and as an administrator. kwok simulates nodes and pods, so the API server has all objects
//! and nothing runs. With `--by policy` it measures the cost of policies at that size.

mod deployments;
mod fleet;
mod idle;
mod kwok;
mod operator;
mod policy;
mod report;
mod usage;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cluster::{self, Cluster, Name, require_running};
use crate::target::Target;
use crate::workspace::Workspace;
use crate::{install, interrupt};
use fleet::{Fleet, Identity, PatchLoop};
use kwok::Kwok;
use operator::Operator;
use report::{LoopResults, Report, Stage};

/// The number of Deployments at full size.
pub const DEPLOYMENTS: u32 = 5000;

/// The CPU request of a replica, which shares two cores with the API server, as the loops do. With the chart's own
/// request its share would be a fraction of theirs.
const CPU: &str = "resources.requests.cpu=500m";
/// How often the loops alternate: rates differ by up to a third between rounds.
pub const ROUNDS: u32 = 3;

/// `cargo xtask bench scale`
#[derive(Args)]
pub struct Options {
    /// The cluster to start; it is removed at the end
    #[arg(long, default_value = "bench", value_name = "NAME")]
    pub name: Name,

    /// Deployments at full size, of 10 pods each; half of them are measured first
    #[arg(long, default_value_t = DEPLOYMENTS, value_parser = clap::value_parser!(u32).range(100..=20_000))]
    pub deployments: u32,

    /// Measure only the full size
    #[arg(long)]
    pub full_size_only: bool,

    /// How the Deployments are opted in, which decides what is measured
    #[arg(long, value_enum, default_value_t = By::Annotation)]
    pub by: By,

    /// Write the figures to a file, as JSON; by policies, whenever a size is measured
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// The rounds of the loops
    #[arg(skip = ROUNDS)]
    pub rounds: u32,
}

impl Options {
    /// The numbers of Deployments to measure with, the full size last.
    fn sizes(&self) -> Vec<u32> {
        let half = (!self.full_size_only).then_some(self.deployments / 2);
        half.into_iter().chain([self.deployments]).collect()
    }
}

/// How Deployments are opted in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum By {
    /// By annotations: how fast all are injected, beside loops that send the same patches
    Annotation,
    /// By policies of 250 namespaces and 21 cluster policies: CPU, and admission during a policy change
    Policy,
}

/// Measures, and reports the figures. It is an error if adieu misses a limit.
pub fn run(options: &Options, docs: Option<&str>) -> Result<()> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    match options.by {
        By::Annotation => report(&workspace, options, docs)?.verdict(),
        By::Policy => policy_report(&workspace, options, docs)?.verdict(),
    }
}

/// Checks, as part of `cargo xtask test`, that all workloads are injected within the memory limit of a replica.
pub fn prove(workspace: &Workspace, options: &Options, docs: Option<&str>) -> Result<()> {
    report(workspace, options, docs)?.verdict_of_memory()
}

fn report(workspace: &Workspace, options: &Options, docs: Option<&str>) -> Result<Report> {
    let measure = |target: &Target| measure(target, &options.sizes(), options.rounds);
    let show = |report: &Report| {
        report.figures().show(workspace, "scale", docs)?;
        write(options, &report.json())
    };
    on_a_cluster(workspace, options, measure, show)
}

/// The figures by policies. They are shown and written whenever a size is measured, because each takes most of an hour.
fn policy_report(workspace: &Workspace, options: &Options, docs: Option<&str>) -> Result<policy::Report> {
    let sizes = options.sizes();
    let complete = |report: &policy::Report| {
        report.figures().print();
        write(options, &report.json())
    };
    let measure = |target: &Target| {
        // It fails early if the file can't be written, and removes the figures of an earlier run.
        write(options, &policy::Report::new(&sizes).json())?;
        policy::measure(target, &sizes, &complete)
    };
    let show = |report: &policy::Report| {
        docs.map_or(Ok(()), |docs| report.figures().write(workspace, "scale-policy", docs))
    };
    on_a_cluster(workspace, options, measure, show)
}

/// Writes the report, if a file was given.
fn write(options: &Options, report: &Value) -> Result<()> {
    let Some(file) = &options.report else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)?;
    fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

/// Measures on a cluster with adieu and kwok. The cluster is removed even after an error or Ctrl-C, and figures are
/// shown even if that fails.
fn on_a_cluster<T>(
    workspace: &Workspace,
    options: &Options,
    measure: impl FnOnce(&Target) -> Result<T>,
    show: impl FnOnce(&T) -> Result<()>,
) -> Result<T> {
    let cluster = Cluster::new(options.name.clone(), workspace.clone());
    // A running cluster must not be left with fifty thousand pods.
    ensure!(require_running(&cluster).is_err(), "the cluster {} runs: choose another --name", options.name);
    cluster::up(&cluster, None)?;
    let outcome = install_and(&cluster, measure);
    let down = cluster::down(&cluster);
    let measured = outcome?;
    show(&measured)?;
    down?;
    Ok(measured)
}

fn install_and<T>(cluster: &Cluster, measure: impl FnOnce(&Target) -> Result<T>) -> Result<T> {
    let target = Target::ours(cluster.clone())?;
    let options = install::Options { set: vec![CPU.to_owned()], ..install::Options::default() };
    install::install(&target, &options)?;
    let _kwok = Kwok::start(&target)?;
    measure(&target)
}

fn measure(target: &Target, sizes: &[u32], rounds: u32) -> Result<Report> {
    let cluster =
        target.cluster().context("kwok simulates only nodes of clusters that cargo xtask manages")?;
    target.with_client(async |client| {
        let operator = Operator::new(client.clone(), cluster.audit_log()).await?;
        let as_operator = target.client(Some(operator.username())).await?;
        let loops = [
            PatchLoop { identity: Identity::Administrator, client: client.clone() },
            PatchLoop { identity: Identity::Operator, client: as_operator },
        ];
        let fleet = Fleet::new(client, sizes.iter().copied().max().unwrap_or_default());
        fleet.add_nodes().await?;
        fleet.add_plain().await?;
        let mut stages = Vec::new();
        for (size, drain) in sizes.iter().copied().zip(["5", "7"]) {
            fleet.grow(size).await?;
            stages.push(stage(&operator, &fleet, &loops, (size, drain), rounds).await?);
        }
        Ok(Report { stages })
    })
}

/// Opts in all Deployments, or changes their drain, while adieu is scaled to zero; scales it up; then runs the loops.
async fn stage(
    operator: &Operator,
    fleet: &Fleet,
    [administrator, guarded]: &[PatchLoop; 2],
    (size, drain): (u32, &str),
    rounds: u32,
) -> Result<Stage> {
    operator.scale(0).await?;
    fleet.annotate(size, drain).await?;
    fleet.until_idle().await?;
    let injection = operator.inject_all(size).await?;
    operator.scale(0).await?;
    let (mut plain, mut operator_loops) = (LoopResults::default(), LoopResults::default());
    for _ in 0..rounds {
        plain.0.push(fleet.run_loop(administrator, drain).await?);
        operator_loops.0.push(fleet.run_loop(guarded, drain).await?);
    }
    Ok(Stage { deployments: size, injection, plain, guarded: operator_loops })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_size_is_measured_first_unless_only_the_full_size_is() {
        let sizes = |full_size_only: bool| {
            let name = "bench".parse::<Name>().unwrap();
            let options = Options {
                name,
                deployments: 501,
                full_size_only,
                by: By::Policy,
                report: None,
                rounds: ROUNDS,
            };
            options.sizes()
        };
        assert_eq!(sizes(false), [250, 501]);
        assert_eq!(sizes(true), [501]);
    }
}
