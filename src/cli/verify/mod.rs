//! `adieu verify`: disrupts a workload under load, and reports lost requests with their time and pod.

mod arguments;
mod connections;
mod count;
mod file;
mod load_balancers;
mod options;
mod prepared_run;
mod progress;
mod runner;
mod tune;
mod tune_options;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde::Serialize;

use self::runner::Runner;
pub(super) use self::{
    arguments::{Arguments, HELP},
    file::ReportFile,
    progress::PhaseIndicator,
};
use crate::{
    cli::{confirm::check_terminal, exit::COULD_NOT_RUN, interruptible, print, run_options::Output},
    disruption::Disruption,
    load::Options,
    probe::Target,
    verify::{ConnectionReport, Recording, TuningReport, VerificationReport},
};

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.disrupt != Disruption::None && !arguments.run.yes {
        check_terminal(&format!("disrupting {:?}", arguments.workload.0.name))?;
    }
    let tuning = arguments.tune.limits();
    if tuning.is_some() && arguments.disrupt == Disruption::None {
        bail!("--tune needs terminations: use --disrupt restart, or another one");
    }
    let options = Options { probes: arguments.connections.probes(), ..arguments.load.options()? };
    // An invalid path is reported before the disruption.
    Target::new(&options)?;
    // Before the disruption.
    let file = arguments.run.report.as_deref().map(ReportFile::at).transpose()?;
    let finished = interruptible::block_on(async |interrupted| {
        let runner = Runner { arguments, options: &options, interrupted, progress: PhaseIndicator::new() };
        match tuning {
            Some(limits) => Box::pin(runner.tune(limits)).await.map(|report| Finished::Tuning(report.into())),
            None => Box::pin(runner.run()).await.map(|run| Finished::Run(run.into())),
        }
    })?;
    show(arguments.run.output, finished, file)
}

/// The result of a run, or of a search.
enum Finished {
    Run(Box<(VerificationReport, Recording)>),
    Tuning(Box<TuningReport>),
}

/// Prints the result, and writes the page.
fn show(output: Output, finished: Finished, file: Option<ReportFile<'_>>) -> anyhow::Result<ExitCode> {
    match finished {
        Finished::Tuning(report) => {
            print(output, &*report, report.incomplete.as_ref(), tuning_text)?;
            Ok(tuning_exit_code(&report))
        }
        Finished::Run(run) => {
            let (report, recording) = *run;
            if let Some(file) = file {
                file.write(&crate::report::page(&report, &recording).context("cannot draw the report")?)?;
            }
            let table = |report: &VerificationReport| Ok(crate::report::table(report));
            print(output, &report, report.incomplete.as_ref(), table)?;
            Ok(exit_code(&report))
        }
    }
}

/// Prints a report as JSON, or as `text`, which contains why it is incomplete.
fn print<T: Serialize>(
    output: Output,
    report: &T,
    incomplete: Option<&String>,
    text: impl FnOnce(&T) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    if let (Output::Json, Some(why)) = (output, incomplete) {
        print::to_stderr(format!("adieu: {}", print::escaped(why)));
    }
    let text = match output {
        Output::Table => text(report)?,
        Output::Json => print::json(report)?,
    };
    print::output(&text)
}

/// A search as text, with its policy as YAML.
fn tuning_text(report: &TuningReport) -> anyhow::Result<String> {
    let policy = report.policy.as_ref().map(serde_saphyr::to_string).transpose();
    let policy = policy.context("cannot write the policy")?;
    Ok(crate::report::tuning(report, policy.as_deref()))
}

fn tuning_exit_code(report: &TuningReport) -> ExitCode {
    match (report.shortest_seconds, report.is_confirmed) {
        (Some(_), true) if report.incomplete.is_none() => ExitCode::SUCCESS,
        (None, _) if report.incomplete.is_none() => ExitCode::FAILURE,
        _ => ExitCode::from(COULD_NOT_RUN),
    }
}

fn exit_code(report: &VerificationReport) -> ExitCode {
    let has_problems = report.connections.as_ref().is_some_and(ConnectionReport::has_problems);
    if !report.is_lossless() || has_problems {
        ExitCode::FAILURE
    } else if report.incomplete.is_some() {
        ExitCode::from(COULD_NOT_RUN)
    } else {
        ExitCode::SUCCESS
    }
}
