//! `adieu verify`: a load on a workload while it goes through a disruption; what was lost, when and at which
//! pod.

mod course;
mod file;
mod options;
mod progress;

use std::{
    io::{IsTerminal as _, Write as _, stderr, stdin, stdout},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use self::file::ReportFile;
pub(super) use self::options::duration;
use super::reference::Reference;
use crate::{report, runtime::shutdown, trial::Disruption, verify::Findings};

/// What `--help` says.
pub(super) const HELP: &str = "\
Sends requests at a constant rate to a workload, disrupts it meanwhile, and reports which requests were lost, \
when and at which pod.

Load is open-loop: a request is sent when it is due, and its time counts from then, so a slow response doesn't \
delay the next request, and a stall counts against every request it delays. A request is lost if it gets no \
response, or one with a status of 500 or more. Every lost request is reported with the pods that were terminating \
at that moment; if responses name their pod (--pod-header), or requests go to a pod's address, the pod is known \
exactly.

The load starts some seconds before the disruption; a service that doesn't answer by then is not disrupted. \
Temporary changes (replicas, a cordoned node) are restored, also after Ctrl-C, after an error or when the terminal \
is closed.

With --in-cluster the load runs as a Job in the workload's namespace, so that ClusterIP Services can be \
reached; headers and data are readable in the Job while it runs. The Job is deleted at the end.

  adieu verify deploy/web -n shop --url https://shop.example.com/ --pod-header X-Pod
  adieu verify sts/db -n shop --url http://db.shop.svc:8080/ --in-cluster --disrupt evict
  adieu verify deploy/web -n shop --url http://10.0.0.7:30080/ --yes -o json --report report.html

The exit code is 0 if every request was answered, 1 if some were lost, 2 if the result is unknown, and \
130 after Ctrl-C or when the terminal is closed.";

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
const COULD_NOT_RUN: u8 = 2;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The workload, as kubectl takes it: deployment/NAME, statefulset/NAME, daemonset/NAME or shorter.
    #[arg(value_name = "KIND/NAME")]
    workload: Reference,

    /// Its namespace. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,

    #[command(flatten)]
    load: options::Arguments,

    /// The disruption: restart, scale-down[=N] (to N pods, or by one, and back), delete-pod,
    /// evict, drain-node (one of its nodes) or none.
    #[arg(long, value_name = "WHAT", default_value = "restart")]
    disrupt: Disruption,

    /// How long the load continues after the disruption, such as 10s or 2m.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = options::duration)]
    duration: Duration,

    /// How long the disruption may take.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = options::duration)]
    limit: Duration,

    /// Runs the load as a Job in the cluster.
    #[arg(long)]
    in_cluster: bool,

    /// adieu's image for that Job. Default: that of the installed operator.
    #[arg(long, value_name = "IMAGE", requires = "in_cluster")]
    image: Option<String>,

    /// The Secret in the workload's namespace for pulling that image.
    #[arg(long, value_name = "NAME", requires = "in_cluster")]
    image_pull_secret: Option<String>,

    /// Disrupts the workload without confirmation.
    #[arg(short, long)]
    yes: bool,

    /// The format on standard output.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,

    /// Writes a report with plots to a self-contained HTML file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Tables and sentences.
    Table,
    /// All findings, as JSON.
    Json,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match verify(arguments) {
        Ok(code) => code,
        Err(error) => {
            // The terminal may be gone.
            let _ = writeln!(stderr(), "adieu: {error:#}");
            ExitCode::from(if error.is::<course::Interrupted>() { INTERRUPTED } else { COULD_NOT_RUN })
        }
    }
}

fn verify(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.disrupt != Disruption::None && !arguments.yes && !stdin().is_terminal() {
        bail!("this disrupts {:?}, and nobody is there to ask: give --yes", arguments.workload.name);
    }
    let options = arguments.load.options()?;
    // Before anything is disturbed.
    let file = arguments.report.as_deref().map(ReportFile::at).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the asynchronous runtime")?;
    let outcome = runtime.block_on(async {
        let interrupted = CancellationToken::new();
        let asked = interrupted.clone();
        tokio::spawn(async move {
            drop(shutdown::requested().await);
            asked.cancel();
        });
        Box::pin(course::run(arguments, &options, &interrupted)).await
    });
    // A question that nobody answers is not waited for.
    runtime.shutdown_background();
    let (findings, recording) = outcome?;
    if let Some(file) = file {
        file.write(&report::page(&findings, &recording).context("drawing the report")?)?;
    }
    // The table has it.
    if let (Output::Json, Some(why)) = (arguments.output, &findings.incomplete) {
        let _ = writeln!(stderr(), "adieu: {why}");
    }
    let text = match arguments.output {
        Output::Table => report::table(&findings),
        Output::Json => serde_json::to_string_pretty(&findings).context("writing JSON")? + "\n",
    };
    stdout().lock().write_all(text.as_bytes()).context("writing to standard output")?;
    Ok(exit_code(&findings))
}

fn exit_code(findings: &Findings) -> ExitCode {
    if !findings.nothing_is_lost() {
        ExitCode::FAILURE
    } else if findings.incomplete.is_some() {
        ExitCode::from(COULD_NOT_RUN)
    } else {
        ExitCode::SUCCESS
    }
}

/// Asks on the terminal; an error where the answer is no.
pub(super) fn ask(intention: &str) -> anyhow::Result<()> {
    let mut terminal = stderr();
    write!(terminal, "This will {intention}.\nGo on? [y/N] ").and_then(|()| terminal.flush())?;
    let mut answer = String::new();
    stdin().read_line(&mut answer).context("reading the answer")?;
    if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        bail!("nothing was done");
    }
    Ok(())
}
