//! `adieu diff`: what applying manifests would change in what is injected.

mod cluster;
mod text;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use serde::Serialize;

use super::{block_on::block_on, manifests::warn, print};
use crate::{
    plan::{InjectionDiff, Kind},
    runtime::client::client,
};

/// The text of `--help`.
pub(super) const HELP: &str = "\
Shows what applying manifests would change in what adieu injects: drain, preStop hooks, readiness probes, grace period and \
topology spread of each Deployment, StatefulSet and DaemonSet in the input, and whether its pods are replaced. Nothing \
is changed, and adieu need not be installed.

Each workload is compared with the one in the cluster, with the cluster's policies, Services and namespace labels. Those in \
the input win, as they do once they are applied. Workloads that are not in the input are not compared, although a policy \
in the input may apply to them.

A value that you remove from a manifest counts as removed if kubectl apply recorded it (client-side apply). With \
server-side apply, only the removal of adieu.dev/graceful is noticed.

You need the right to get the workloads. Without the right to list policies and Services, and to get Namespaces, there \
are warnings.

Examples:

  adieu diff -f manifests/
  adieu diff -f policies/checkout.yaml -f manifests/ -n shop
  helm template shop ./chart | adieu diff -f - -o json

The exit code is 0 if nothing changes in what is injected, 1 if something does, and 2 if the comparison failed.";

const FAILED: u8 = 2;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A file with manifests, a directory of .yaml, .yml and .json files, or - for standard input. May be given several
    /// times.
    #[arg(short, long, value_name = "FILE|DIR|-", required = true)]
    filename: Vec<PathBuf>,

    /// Processes the directories in a directory given with -f recursively.
    #[arg(short = 'R', long)]
    recursive: bool,

    /// The namespace of objects without one. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,

    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "text")]
    output: Format,
}

/// The format of the output.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For people: a line for each workload.
    Text,
    /// An object with `workloads` and `summary`.
    Json,
}

/// A workload of the manifests, compared with the one in the cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ComparedWorkload {
    kind: Kind,
    namespace: String,
    name: String,
    /// Whether the cluster has it.
    exists: bool,
    /// Whether its pods are replaced only once they are deleted.
    #[serde(skip)]
    is_on_delete: bool,
    #[serde(flatten)]
    diff: InjectionDiff,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match compare_and_print(arguments) {
        Ok(code) => code,
        Err(error) => {
            print::to_stderr(format!("adieu: {error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

fn compare_and_print(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let compared = block_on(async {
        let client = client().await.context("cannot connect to the cluster of the kubeconfig")?;
        cluster::compare(&client, arguments).await
    })?;
    let text = match arguments.output {
        Format::Text => {
            if compared.is_empty() {
                print::to_stderr("adieu: no Deployment, StatefulSet or DaemonSet is in the input");
            }
            compared.iter().flat_map(text::warnings).for_each(|warning| warn(&warning));
            compared.iter().map(text::line).collect()
        }
        Format::Json => json(&compared)?,
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    let changes = compared.iter().any(|workload| workload.diff.is_change());
    Ok(if changes { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[derive(Serialize)]
struct Json<'a> {
    workloads: &'a [ComparedWorkload],
    summary: Summary,
}

#[derive(Serialize)]
struct Summary {
    changed: usize,
    unchanged: usize,
}

fn json(compared: &[ComparedWorkload]) -> anyhow::Result<String> {
    let changed = compared.iter().filter(|workload| workload.diff.is_change()).count();
    let summary = Summary { changed, unchanged: compared.len() - changed };
    let json = Json { workloads: compared, summary };
    serde_json::to_string_pretty(&json).context("cannot write JSON").map(|text| text + "\n")
}
