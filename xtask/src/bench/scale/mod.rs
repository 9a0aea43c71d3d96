//! How adieu takes thousands of workloads: memory, requests, and how fast all are as they should be once its
//! webhook was away, beside bare loops that send the same patches in the same run: as the operator, whose writes
//! the guard looks at, and as anybody. The nodes and the pods are kwok's: the API server has all of their
//! objects, and nothing runs in them. With `--by policy` it measures what policies cost at that size instead.

mod field;
mod kwok;
mod operator;
mod place;
mod policy;
mod report;
mod rest;
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
use field::{Bare, Field, Sender};
use kwok::Kwok;
use operator::Operator;
use report::{Loops, Report, Stage};

/// At full size.
pub const DEPLOYMENTS: u32 = 5000;

/// What a replica is sure to get here, where it shares two cores with the API server, as the bare loops do: by
/// the chart's own request it would have a fraction of their share.
const CPU: &str = "resources.requests.cpu=500m";
/// How often each loop runs, by turns: one run's rate differs from the next one's by up to a third.
const ROUNDS: u32 = 3;

/// `cargo xtask bench scale`
#[derive(Args)]
pub struct Options {
    /// The cluster to start; it is taken down at the end
    #[arg(long, default_value = "bench", value_name = "NAME")]
    pub name: Name,

    /// Deployments at full size, of 10 pods each; half of them come first
    #[arg(long, default_value_t = DEPLOYMENTS, value_parser = clap::value_parser!(u32).range(100..=20_000))]
    pub deployments: u32,

    /// How the Deployments are opted in, which decides what is measured
    #[arg(long, value_enum, default_value_t = By::Annotation)]
    pub by: By,

    /// Write the figures to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// How Deployments are opted in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum By {
    /// Each by its own annotation: how fast all are injected after the webhook was away, beside bare loops
    Annotation,
    /// By policies of 250 namespaces and 21 of the cluster: CPU, and admission beside a policy change
    Policy,
}

/// Measures. An error where adieu misses a bar; the figures are shown and written all the same.
pub fn run(options: &Options, docs: Option<&str>) -> Result<()> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    match options.by {
        By::Annotation => report(&workspace, options, docs)?.verdict(),
        By::Policy => {
            let measure = |target: &Target| policy::measure(target, options.deployments);
            let show = |report: &policy::Report| {
                report.figures().show(&workspace, "scale-policy", docs)?;
                write(options, &report.json())
            };
            on_a_cluster(&workspace, options, measure, show)?.verdict()
        }
    }
}

/// As a test, where interrupts are watched already: all workloads are brought in, within the memory that a
/// replica may have.
pub fn prove(workspace: &Workspace, options: &Options, docs: Option<&str>) -> Result<()> {
    report(workspace, options, docs)?.verdict_of_memory()
}

fn report(workspace: &Workspace, options: &Options, docs: Option<&str>) -> Result<Report> {
    let measure = |target: &Target| measure(target, options.deployments);
    let show = |report: &Report| {
        report.figures().show(workspace, "scale", docs)?;
        write(options, &report.json())
    };
    on_a_cluster(workspace, options, measure, show)
}

/// Writes the report, if a file was given.
fn write(options: &Options, report: &Value) -> Result<()> {
    let Some(file) = &options.report else { return Ok(()) };
    let text = serde_json::to_string_pretty(report)?;
    fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

/// Measures on a cluster with adieu and kwok, which is taken down also after an error or Ctrl-C, and shows what was
/// measured even if that fails.
fn on_a_cluster<T>(
    workspace: &Workspace,
    options: &Options,
    measure: impl FnOnce(&Target) -> Result<T>,
    show: impl FnOnce(&T) -> Result<()>,
) -> Result<T> {
    let cluster = Cluster::new(options.name.clone(), workspace.clone());
    // Fifty thousand pods are nothing to leave behind.
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

fn measure(target: &Target, deployments: u32) -> Result<Report> {
    let cluster = target.cluster().context("kwok plays nodes of our clusters only")?;
    target.with_client(async |client| {
        let operator = Operator::new(client.clone(), cluster.audit_log()).await?;
        let as_the_operator = target.client(Some(operator.username())).await?;
        let bare = [
            Bare { sender: Sender::Anybody, client: client.clone() },
            Bare { sender: Sender::Operator, client: as_the_operator },
        ];
        let field = Field::new(client, deployments);
        field.add_nodes().await?;
        field.add_bare().await?;
        let mut stages = Vec::new();
        for (size, drain) in [(deployments / 2, "5"), (deployments, "7")] {
            field.grow(size).await?;
            stages.push(stage(&operator, &field, &bare, size, drain).await?);
        }
        Ok(Report { stages })
    })
}

/// Has people opt all in, or set another drain, while adieu is away; lets it come back, and then the bare loops.
async fn stage(
    operator: &Operator,
    field: &Field,
    [anybody, guarded]: &[Bare; 2],
    size: u32,
    drain: &str,
) -> Result<Stage> {
    operator.scale(0).await?;
    field.ask(size, drain).await?;
    field.until_at_rest().await?;
    let course = operator.come_back(size).await?;
    operator.scale(0).await?;
    let (mut bare, mut as_the_operator) = (Loops::default(), Loops::default());
    for _ in 0..ROUNDS {
        bare.0.push(field.bare(anybody, drain).await?);
        as_the_operator.0.push(field.bare(guarded, drain).await?);
    }
    Ok(Stage { deployments: size, course, bare, guarded: as_the_operator })
}
