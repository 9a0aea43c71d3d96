//! The right drain behind real data planes: what `adieu calibrate` finds, the shortest drain that `adieu verify --tune`
//! finds, and the one that adieu chooses before and after the calibration, with the requests that rollouts lose.

mod application;
mod bursts;
mod commands;
mod connections;
mod kubectl;
mod measure;
mod planes;
mod report;
mod report_file;
mod ways;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::cluster::{self, Cluster, Name, proxy_mode, require_running, set_proxy_mode};
use crate::interrupt::{self, Interrupted};
use crate::progress::print_line;
use crate::target::Target;
use crate::workspace::Workspace;
use crate::{image, install};
use commands::Adieu;
use measure::{Extent, measure};
use report::Report;
use ways::{SHORT, WAYS, Way};

/// Rollouts of each way after the calibration.
pub const ROLLOUTS: u32 = 10;
/// Terminations of canaries: the default of `adieu calibrate`.
pub const TERMINATIONS: u32 = 20;
/// Rollouts of each way before the calibration.
const BEFORE: u32 = 3;
/// What `cargo xtask test --long` measures on the cluster of the end-to-end tests.
const SHORT_EXTENT: Extent = Extent { before: 1, terminations: 5, tunes: false, after: 1 };

/// `cargo xtask bench drain`
#[derive(Args)]
pub struct Options {
    /// The cluster to use; it is started if it doesn't run
    #[arg(long, default_value = "bench", value_name = "NAME")]
    pub name: Name,

    /// Measure only this way; may be repeated
    #[arg(long = "way", value_name = "WAY", value_parser = ways::named)]
    pub ways: Vec<Way>,

    /// Rollouts of each way after its calibration
    #[arg(long, value_name = "N", default_value_t = ROLLOUTS, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rollouts: u32,

    /// Terminations of canaries for the calibration of each way
    #[arg(long, value_name = "N", default_value_t = TERMINATIONS, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub terminations: u32,

    /// Write the figures to a file, as JSON, whenever a way is measured
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Measures, and reports the figures. It is an error if adieu misses a limit.
pub fn run(options: &Options, docs: Option<&str>) -> Result<()> {
    interrupt::watch()?;
    prove_all(&Workspace::find()?, options, docs)
}

/// The same, as part of `cargo xtask test --long`.
pub fn prove_all(workspace: &Workspace, options: &Options, docs: Option<&str>) -> Result<()> {
    // It fails early if the file can't be written, and removes the figures of an earlier run.
    report_file::write(options.report.as_deref(), &Report::default())?;
    let cluster = Cluster::new(options.name.clone(), workspace.clone());
    let runs = require_running(&cluster).is_ok();
    if !runs {
        cluster::up(&cluster, None)?;
    }
    let outcome = on(&cluster, runs, options);
    let down = if runs { Ok(()) } else { cluster::down(&cluster) };
    let report = outcome?;
    report.figures().show(workspace, "drain", docs)?;
    down?;
    report.verdict()
}

/// Checks, as part of `cargo xtask test --long`, that a rollout loses no request before and after a short calibration, on a
/// cluster with adieu.
pub fn prove(target: &Target) -> Result<()> {
    let adieu = Adieu::new(target, image::adieu(target.workspace(), &[])?.program);
    let missed = measure(&adieu, &SHORT, SHORT_EXTENT)?.missed();
    if !missed.is_empty() {
        bail!("{}", missed.join("; "));
    }
    Ok(())
}

/// Measures the ways on a running cluster, which is left without adieu if it `stays`.
fn on(cluster: &Cluster, stays: bool, options: &Options) -> Result<Report> {
    let target = Target::ours(cluster.clone())?;
    let mode = proxy_mode(cluster)?;
    let outcome = install_and_measure(&target, options);
    let restored =
        if stays { set_proxy_mode(cluster, mode).and_then(|()| install::uninstall(&target)) } else { Ok(()) };
    let report = outcome?;
    restored.map(|()| report)
}

fn install_and_measure(target: &Target, options: &Options) -> Result<Report> {
    let build = image::adieu(target.workspace(), &[])?;
    install::install_build(target, &build, &install::Options::default())?;
    let adieu = Adieu::new(target, build.program);
    let Options { rollouts, terminations, .. } = *options;
    let extent = Extent { before: BEFORE, terminations, tunes: true, after: rollouts };
    let ways = if options.ways.is_empty() { &WAYS[..] } else { &options.ways };
    let mut report = Report::default();
    for way in ways {
        match measure(&adieu, way, extent) {
            Ok(found) => report.ways.push(found),
            Err(error) if error.chain().any(<dyn std::error::Error>::is::<Interrupted>) => return Err(error),
            Err(error) => {
                let failure = format!("{}: {error:#}", way.name);
                print_line(&failure);
                report.failures.push(failure);
            }
        }
        report_file::write(options.report.as_deref(), &report)?;
    }
    Ok(report)
}
