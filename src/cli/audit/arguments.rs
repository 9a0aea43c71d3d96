//! The arguments of `adieu audit`.

use std::path::PathBuf;

use adieu_audit::Limit;

use crate::kube_version::{InvalidVersion, KubeVersion};

/// The text of `--help`.
pub(in crate::cli) const HELP: &str = "\
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

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("source").args(["filename", "all_namespaces", "rules"])))]
pub(in crate::cli) struct Arguments {
    /// A file with manifests, a directory of .yaml, .yml and .json files, or - for standard input. May be given several
    /// times. Default: the cluster.
    #[arg(short, long, value_name = "FILE|DIR|-")]
    pub(super) filename: Vec<PathBuf>,

    /// Processes the directories in a directory given with -f recursively.
    #[arg(short = 'R', long, requires = "filename")]
    pub(super) recursive: bool,

    /// The namespace of objects without one, or to audit in the cluster. Default: default, or that of the kubeconfig's
    /// context.
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_namespaces")]
    pub(super) namespace: Option<String>,

    /// The workloads of all namespaces.
    #[arg(short = 'A', long)]
    pub(super) all_namespaces: bool,

    /// Only workloads with these labels, such as app=web,tier!=cache.
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "filename")]
    pub(super) selector: Option<String>,

    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "table")]
    pub(super) output: Format,

    /// Exits with 1 if there is a finding of this severity, or a worse one.
    #[arg(long, value_name = "SEVERITY", value_enum)]
    pub(super) fail_on: Option<FailOn>,

    /// Limits on the grace period outside of the pod, such as spot=120: node-shutdown, cluster-autoscaler, karpenter or spot,
    /// each with its seconds. May be given several times, or separated by commas. In a cluster that kubeadm configures,
    /// node-shutdown is read from the ConfigMap kubelet-config.
    #[arg(long, value_name = "NAME=SECONDS", value_delimiter = ',')]
    pub(super) limits: Vec<Limit>,

    /// The Kubernetes version of the kubelets. In the cluster it is read from the nodes.
    #[arg(long, value_name = "VERSION", value_parser = version, requires = "filename")]
    pub(super) kube_version: Option<String>,

    /// Only lists the rules.
    #[arg(long)]
    pub(super) rules: bool,
}

/// The format of the output.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Format {
    /// For people, by workload.
    Table,
    /// An object with `findings` and `summary`.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit XML, for CI: a failed test for each finding.
    Junit,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum FailOn {
    Error,
    Warning,
}

/// A version with its patch, on which the behaviour of a kubelet may depend.
fn version(text: &str) -> Result<String, InvalidVersion> {
    text.parse::<KubeVersion>().map(|_| text.to_owned())
}
