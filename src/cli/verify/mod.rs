//! `adieu verify`: disrupts a workload under load, and reports lost requests with their time and pod.

mod arguments;
mod connections;
mod count;
mod file;
mod load_balancers;
mod options;
mod progress;
mod runner;

use std::{
    io::{IsTerminal as _, Write as _, stdin, stdout},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

pub(super) use self::arguments::{Arguments, HELP};
use self::{arguments::Output, file::ReportFile, progress::PhaseIndicator, runner::Runner};
use crate::{
    cli::print,
    disruption::Disruption,
    load::Options,
    probe::Target,
    runtime::shutdown,
    verify::{ConnectionReport, VerificationReport},
};

/// The exit code that shells report after Ctrl-C.
const INTERRUPTED: u8 = 130;
const COULD_NOT_RUN: u8 = 2;

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match verify(arguments) {
        Ok(code) => code,
        Err(error) => {
            print::error(&error);
            ExitCode::from(if error.is::<runner::Interrupted>() { INTERRUPTED } else { COULD_NOT_RUN })
        }
    }
}

fn verify(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.disrupt != Disruption::None && !arguments.yes && !stdin().is_terminal() {
        bail!(
            "disrupting {:?} needs confirmation, and standard input is not a terminal: use --yes",
            arguments.workload.name
        );
    }
    let options = Options { probes: arguments.connections.probes(), ..arguments.load.options()? };
    // An invalid path is reported before the disruption.
    Target::new(&options)?;
    // Before the disruption.
    let file = arguments.report.as_deref().map(ReportFile::at).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let outcome = runtime.block_on(async {
        let interrupted = CancellationToken::new();
        let interrupt = interrupted.clone();
        tokio::spawn(async move {
            drop(shutdown::requested().await);
            interrupt.cancel();
        });
        let runner = Runner {
            arguments,
            options: &options,
            interrupted: &interrupted,
            progress: PhaseIndicator::new(),
        };
        Box::pin(runner.run()).await
    });
    // Don't wait for the thread that asks for confirmation.
    runtime.shutdown_background();
    let (report, recording) = outcome?;
    if let Some(file) = file {
        file.write(&crate::report::page(&report, &recording).context("cannot draw the report")?)?;
    }
    // The table contains it.
    if let (Output::Json, Some(why)) = (arguments.output, &report.incomplete) {
        print::to_stderr(format!("adieu: {}", print::escaped(why)));
    }
    let text = match arguments.output {
        Output::Table => crate::report::table(&report),
        Output::Json => serde_json::to_string_pretty(&report).context("cannot write JSON")? + "\n",
    };
    stdout().lock().write_all(text.as_bytes()).context("cannot write to standard output")?;
    Ok(exit_code(&report))
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
