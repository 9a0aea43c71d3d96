//! `adieu audit`: finds workloads whose terminations lose requests.

mod cluster;
mod junit;
mod output;
mod sarif;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use adieu_audit::{Finding, Inventory, Limit, Options, Report, Severity, audit};
use anyhow::Context as _;

use super::{block_on::block_on, manifests, print};
use crate::kube_version::{InvalidVersion, KubeVersion};

/// The text of `--help`.
pub(super) const HELP: &str = "\
Finds workloads that lose requests, or are killed, when their pods terminate, and reports why and what to do.

From manifests (-f): the Services, PodDisruptionBudgets, HorizontalPodAutoscalers, Ingresses, BackendConfigs, \
TargetGroupBindings and policies of all files apply to the workloads of all files. From the cluster (-n, -A): adieu need \
not be installed, and nothing is changed. \
Deployments, StatefulSets, DaemonSets, Jobs and CronJobs are audited. Opted-in workloads are audited as adieu injects \
them.

A finding is an error if requests are lost or containers are killed with near certainty in an ordinary rollout or node \
drain, otherwise a warning. --rules lists the rules. To accept a finding, annotate the workload with its rule and a reason; several are separated by \
semicolons or lines:

  adieu.dev/audit-ignore: \"no-pdb: one replica at a time is enough\"

Examples:

  adieu audit -f manifests/ --fail-on error
  helm template shop ./chart | adieu audit -f - -o sarif > adieu.sarif
  adieu audit -A
  adieu audit -n shop -l tier=front -o json

The exit code is 0, 1 if --fail-on finds something, and 2 if the audit could not run.";

const COULD_NOT_RUN: u8 = 2;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("source").args(["filename", "all_namespaces", "rules"])))]
pub(super) struct Arguments {
    /// A file with manifests, a directory of .yaml, .yml and .json files, or - for standard input. May be given several
    /// times. Default: the cluster.
    #[arg(short, long, value_name = "FILE|DIR|-")]
    filename: Vec<PathBuf>,

    /// Processes the directories in a directory given with -f recursively.
    #[arg(short = 'R', long, requires = "filename")]
    recursive: bool,

    /// The namespace of objects without one, or to audit in the cluster. Default: default, or that of the kubeconfig's
    /// context.
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_namespaces")]
    namespace: Option<String>,

    /// The workloads of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// Only workloads with these labels, such as app=web,tier!=cache.
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "filename")]
    selector: Option<String>,

    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "table")]
    output: Format,

    /// Exits with 1 if there is a finding of this severity, or a worse one.
    #[arg(long, value_name = "SEVERITY", value_enum)]
    fail_on: Option<FailOn>,

    /// Limits on the grace period outside of the pod, such as spot=120: node-shutdown, cluster-autoscaler, karpenter or spot,
    /// each with its seconds. May be given several times, or separated by commas. In a cluster that kubeadm configures,
    /// node-shutdown is read from the ConfigMap kubelet-config.
    #[arg(long, value_name = "NAME=SECONDS", value_delimiter = ',')]
    limits: Vec<Limit>,

    /// The Kubernetes version of the kubelets. In the cluster it is read from the nodes.
    #[arg(long, value_name = "VERSION", value_parser = version, requires = "filename")]
    kube_version: Option<String>,

    /// Only lists the rules.
    #[arg(long)]
    rules: bool,
}

/// The format of the output.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For people, by workload.
    Table,
    /// An object with `findings` and `summary`.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit XML, for CI: a test for each workload.
    Junit,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FailOn {
    Error,
    Warning,
}

/// A version with its patch, on which the behaviour of a kubelet may depend.
fn version(text: &str) -> Result<String, InvalidVersion> {
    text.parse::<KubeVersion>().map(|_| text.to_owned())
}

/// The findings, each with its file and line if it is of a manifest.
struct Audited {
    report: Report,
    locations: Vec<Option<(String, usize)>>,
}

impl Audited {
    fn findings(&self) -> impl Iterator<Item = (&Finding, Option<&(String, usize)>)> {
        self.report.findings.iter().zip(self.locations.iter().map(Option::as_ref))
    }
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match audit_and_print(arguments) {
        Ok(code) => code,
        Err(error) => {
            print::to_stderr(format!("adieu: {error:#}"));
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

fn audit_and_print(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.rules {
        return write(&output::rules()).map(|()| ExitCode::SUCCESS);
    }
    let audited = if arguments.filename.is_empty() {
        let report = block_on(cluster::audit(arguments))?;
        Audited { locations: vec![None; report.findings.len()], report }
    } else {
        audit_manifests(arguments)?
    };
    audited.report.warnings.iter().for_each(|warning| manifests::warn(warning));
    let text = match arguments.output {
        Format::Table => output::table(&audited.report),
        Format::Json => output::json(&audited.report)?,
        Format::Sarif => sarif::text(&audited)?,
        Format::Junit => junit::text(&audited)?,
    };
    write(&text)?;
    let fails = match (arguments.fail_on, audited.report.worst()) {
        (None, _) | (_, None) => false,
        (Some(FailOn::Warning), Some(_)) => true,
        (Some(FailOn::Error), Some(worst)) => worst == Severity::Error,
    };
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn audit_manifests(arguments: &Arguments) -> anyhow::Result<Audited> {
    let namespace = arguments.namespace.as_deref().unwrap_or("default");
    let mut manifests = manifests::read(&arguments.filename, arguments.recursive)?;
    let set = manifests.set(namespace);
    let set = manifests::report(&mut manifests, set)?;
    let mut inventory = Inventory::new(namespace);
    let found: Vec<_> = manifests.found_objects().collect();
    for (origin, object) in found.iter().enumerate() {
        let added = inventory.add(origin, object.api_version(), object.kind(), object.value());
        // Manifests::set has warned of it.
        drop(added);
    }
    let version = arguments.kube_version.as_deref().map(str::parse::<KubeVersion>).transpose()?;
    let native_sleep = version.is_none_or(KubeVersion::has_native_sleep);
    inventory.inject(|namespace| set.namespace_context(namespace, native_sleep));
    let kubelets = arguments.kube_version.iter().cloned().collect();
    let report =
        audit(&inventory, &Options { limits: arguments.limits.clone(), kubelets, ..Options::default() });
    let location = |finding: &Finding| {
        let (file, line) = found.get(finding.origin)?.location(&finding.path);
        Some((file.to_owned(), line))
    };
    Ok(Audited { locations: report.findings.iter().map(location).collect(), report })
}

fn write(text: &str) -> anyhow::Result<()> {
    // Without colours if it isn't a terminal.
    anstream::stdout().lock().write_all(text.as_bytes()).context("cannot write to standard output")
}
