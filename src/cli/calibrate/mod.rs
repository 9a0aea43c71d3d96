//! `adieu calibrate`: measures the drain that pods need behind each way into the cluster, with canaries.

mod arguments;
mod loads;
mod runner;
mod ways;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use serde::Serialize;

pub(super) use self::arguments::{Arguments, HELP};
use self::runner::Runner;
use super::{
    confirm::check_terminal,
    interruptible, print,
    run_options::Output,
    verify::{PhaseIndicator, ReportFile},
};
use crate::{
    api::{DrainProfile, limits},
    calibration::{CalibrationReport, profiles},
};

/// The shortest time without a request: a request on a kept connection may be on its way for as long.
const MIN_QUIET: Duration = loads::TIMEOUT;
/// The longest time for all terminations.
const MAX_LIMIT: Duration = Duration::from_hours(24);
/// The most requests per second through each way and on each kind of connections.
const MAX_RATE: u32 = 1000;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let ways = arguments.ways.ways()?;
    check_bounds(arguments)?;
    if !arguments.run.yes {
        check_terminal("calibrating")?;
    }
    // Before anything is created.
    let file = arguments.run.report.as_deref().map(ReportFile::at).transpose()?;
    let report = interruptible::block_on(async |interrupted| {
        let runner = Runner { arguments, ways, interrupted, progress: PhaseIndicator::new() };
        Box::pin(runner.run()).await
    })?;
    if let Some(file) = file {
        file.write(&crate::report::calibration_page(&report).context("cannot draw the report")?)?;
    }
    let text = match arguments.run.output {
        Output::Table => crate::report::calibration_table(&report),
        Output::Json => print::json(&Json { report: &report, drain_profiles: profiles(&report) })?,
    };
    print::output(&text)?;
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check_bounds(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { quiet, window, limit, rate, .. } = *arguments;
    if quiet < MIN_QUIET {
        bail!("--quiet must be at least {} s: a request may take as long", MIN_QUIET.as_secs());
    }
    if window / 2 < quiet {
        bail!("--window must be at least twice as long as --quiet, to observe the end of the requests");
    }
    let max = u64::try_from(limits::DRAIN_SECONDS).unwrap_or_default();
    if window.as_secs() > max {
        bail!("--window must be at most {max} s, the longest drain");
    }
    if limit > MAX_LIMIT {
        bail!("--limit must be at most {} h", MAX_LIMIT.as_secs() / 3600);
    }
    if rate.get() > MAX_RATE {
        bail!("--rate must be at most {MAX_RATE}: the drain doesn't depend on it");
    }
    Ok(())
}

/// The report, and the profiles that `--apply` writes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    #[serde(flatten)]
    report: &'a CalibrationReport,
    drain_profiles: Vec<DrainProfile>,
}
