//! The arguments of `adieu diff`.

use std::path::PathBuf;

/// The text of `--help`.
pub(in crate::cli) const HELP: &str = "\
Shows what applying manifests would change in what adieu injects: drain, preStop hooks, readiness probes, grace period and \
topology spread of each Deployment, StatefulSet and DaemonSet in the input, and whether its pods are replaced. Nothing \
is changed, and adieu need not be installed.

Each workload is compared with the one in the cluster, with the cluster's policies, Services, namespace labels, and objects \
such as Ingresses that lead to these Services. Those in the input win, as they do once they are applied. Workloads that are not in the input are not compared, although a policy \
in the input may apply to them.

A value that you remove from a manifest counts as removed if kubectl apply recorded it (client-side apply). With \
server-side apply, only the removal of adieu.dev/graceful is noticed.

You need the right to get the workloads. Without the right to list policies and Services, and to get Namespaces, there \
are warnings. Kinds such as HTTPRoute that you may not list are skipped, and a warning names them.

Examples:

  adieu diff -f manifests/
  adieu diff -f policies/checkout.yaml -f manifests/ -n shop
  helm template shop ./chart | adieu diff -f - -o json

The exit code is 0 if nothing changes in what is injected, 1 if something does, and 2 if the comparison failed.";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// A file with manifests, a directory of .yaml, .yml and .json files, or - for standard input. May be given several
    /// times.
    #[arg(short, long, value_name = "FILE|DIR|-", required = true)]
    pub(super) filename: Vec<PathBuf>,

    /// Processes the directories in a directory given with -f recursively.
    #[arg(short = 'R', long)]
    pub(super) recursive: bool,

    /// The namespace of objects without one. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME")]
    pub(super) namespace: Option<String>,

    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "text")]
    pub(super) output: Format,
}

/// The format of the output.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Format {
    /// For people: a line for each workload.
    Text,
    /// An object with `workloads` and `summary`.
    Json,
}
