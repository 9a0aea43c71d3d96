//! How adieu takes thousands of workloads: memory, requests, and how fast all are as they should be once its
//! webhook was away, beside bare loops that send the same patches in the same run: as the operator, whose writes
//! the guard looks at, and as anybody. The nodes and the pods are kwok's: the API server has all of their
//! objects, and nothing runs in them.

mod field;
mod kwok;
mod operator;
mod place;
mod report;
mod rest;

use anyhow::{Result, ensure};
use clap::Args;

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
}

/// Measures. An error where adieu misses a bar; the figures are shown and written all the same.
pub fn run(options: &Options, docs: Option<&str>) -> Result<()> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    report(&workspace, options, docs)?.verdict()
}

/// As a test, where interrupts are watched already: all workloads are brought in, within the memory that a
/// replica may have.
pub fn prove(workspace: &Workspace, options: &Options, docs: Option<&str>) -> Result<()> {
    report(workspace, options, docs)?.verdict_of_memory()
}

fn report(workspace: &Workspace, options: &Options, docs: Option<&str>) -> Result<Report> {
    let cluster = Cluster::new(options.name.clone(), workspace.clone());
    // Fifty thousand pods are nothing to leave behind.
    ensure!(require_running(&cluster).is_err(), "the cluster {} runs: choose another --name", options.name);
    cluster::up(&cluster, None)?;
    let outcome = measure(&cluster, options.deployments);
    let down = cluster::down(&cluster);
    let report = outcome?;
    report.figures().show(workspace, "scale", docs)?;
    down?;
    Ok(report)
}

fn measure(cluster: &Cluster, deployments: u32) -> Result<Report> {
    let target = Target::ours(cluster.clone())?;
    let options = install::Options { set: vec![CPU.to_owned()], ..install::Options::default() };
    install::install(&target, &options)?;
    let _kwok = Kwok::start(&target)?;
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
