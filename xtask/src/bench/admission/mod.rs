//! The latency that admission adds to a request, with several arms in one run: no admission, a do-nothing webhook,
//! one that only sends a patch, a MutatingAdmissionPolicy, and adieu. Also the latency that adieu adds to objects
//! that are not opted in.

mod alternatives;
mod arms;
mod calls;
mod installed;
mod measure;
mod report;
mod unmanaged;

use std::fs;
use std::path::PathBuf;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use clap::Args;

use crate::cluster::{self, Cluster, Name};
use crate::target::{External, Target};
use crate::workspace::Workspace;
use crate::{image, install, interrupt};
use alternatives::Alternatives;
use report::{Report, Setting};

/// `cargo xtask bench admission`
#[derive(Args)]
pub struct Options {
    /// The cluster to use; it is started if it doesn't run
    #[arg(long, default_value = "bench", value_name = "NAME")]
    name: Name,

    #[command(flatten)]
    external: External,

    /// Measured requests of each arm, after the warm-up
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1000..=100_000))]
    requests: u32,

    /// Write the figures to a file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Measures, and reports the figures. It is an error if adieu exceeds a limit.
pub fn run(options: &Options, docs: Option<&str>) -> Result<()> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    let (target, started) = Target::choose(&workspace, options.name.clone(), &options.external)?;
    let outcome = compare(&target, options.requests);
    let cleaned = clean_up(&target, started);
    let report = outcome?;
    report.figures().show(&workspace, "admission", docs)?;
    if let Some(file) = &options.report {
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    cleaned?;
    report.verdict()
}

fn compare(target: &Target, requests: u32) -> Result<Report> {
    install::install(target, &install::Options::default())?;
    let image = image::app(target.workspace(), "noop-webhook")?;
    target.load_image(&image.archive)?;
    let floor = Alternatives::new(target).set_up(&image)?;
    let version = target.with_client(|client| async move { Ok(client.apiserver_version().await?) });
    let setting = Setting {
        kubernetes: version.context("cannot ask for the API server's version")?.git_version,
        cores: available_parallelism().map_or(1, Into::into),
        requests,
    };
    let (samples, calls) =
        target.with_client(|client| measure::measure(client, target.workspace(), requests))?;
    // Four operations in each of four configurations.
    let unmanaged = unmanaged::measure(target, &floor, requests / 2)?;
    Report::new(setting, &samples, &calls, &unmanaged)
}

fn clean_up(target: &Target, started: Option<Cluster>) -> Result<()> {
    if let Some(cluster) = started {
        return cluster::down(&cluster);
    }
    Alternatives::new(target).remove()?;
    install::uninstall(target)
}
