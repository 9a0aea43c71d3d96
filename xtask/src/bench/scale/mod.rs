//! How adieu takes thousands of workloads: memory, requests, and how fast all are as they should be once its
//! webhook was away, beside a bare loop that sends the same patches in the same run. The nodes and the pods are
//! kwok's: the API server has all of their objects, and nothing runs in them.

mod field;
mod kwok;
mod operator;
mod report;

use anyhow::{Result, ensure};
use clap::Args;

use crate::cluster::{self, Cluster, Name, require_running};
use crate::target::Target;
use crate::workspace::Workspace;
use crate::{install, interrupt};
use field::Field;
use kwok::Kwok;
use operator::Operator;
use report::{Report, Stage};

/// `cargo xtask bench scale`
#[derive(Args)]
pub struct Options {
    /// The cluster to start; it is taken down at the end
    #[arg(long, default_value = "bench", value_name = "NAME")]
    name: Name,

    /// Deployments at full size, of 10 pods each; half of them come first
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(100..=20_000))]
    deployments: u32,
}

/// Measures. An error where adieu misses a bar; the figures are shown and written all the same.
pub fn run(options: &Options, docs: Option<&str>) -> Result<()> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    let cluster = Cluster::new(options.name.clone(), workspace.clone());
    // Fifty thousand pods are nothing to leave behind.
    ensure!(require_running(&cluster).is_err(), "the cluster {} runs: choose another --name", options.name);
    cluster::up(&cluster, None)?;
    let outcome = measure(&cluster, options.deployments);
    let down = cluster::down(&cluster);
    let report = outcome?;
    report.figures().show(&workspace, "scale", docs)?;
    down?;
    report.verdict()
}

fn measure(cluster: &Cluster, deployments: u32) -> Result<Report> {
    let target = Target::ours(cluster.clone())?;
    install::install(&target, &install::Options::default())?;
    let _kwok = Kwok::start(&target)?;
    target.with_client(async |client| {
        let operator = Operator::new(client.clone(), cluster.audit_log()).await?;
        let field = Field::new(client);
        field.add_nodes().await?;
        field.add_bare().await?;
        let mut stages = Vec::new();
        for (size, drain) in [(deployments / 2, "5"), (deployments, "7")] {
            field.grow(size).await?;
            stages.push(stage(&operator, &field, size, drain).await?);
        }
        Ok(Report { stages })
    })
}

/// Has people opt all in, or set another drain, while adieu is away; lets it come back, and then the bare loop.
async fn stage(operator: &Operator, field: &Field, size: u32, drain: &str) -> Result<Stage> {
    operator.scale(0).await?;
    field.ask(size, drain).await?;
    let course = operator.come_back(size).await?;
    operator.scale(0).await?;
    let patch = field.patch_of_adieu(drain).await?;
    let bare = field.bare(&patch).await?;
    Ok(Stage { deployments: size, course, bare })
}
