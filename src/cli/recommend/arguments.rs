//! The arguments of `adieu recommend`.

use crate::{cli::reference::Reference, plan::Kind};

/// The text of `--help`.
pub(in crate::cli) const HELP: &str = "\
Recommends policies for Git: the fewest GracefulPolicies, and with -A one ClusterGracefulPolicy, that give each workload the \
drain and the shutdown timeout that its evidence shows. Nothing is changed, and adieu need not be installed.

The evidence is in comments of the YAML:

  drain             the exposures of the pods: the Services, Ingresses, routes and load balancers through which requests reach \
them (adieu explain shows all of them)
  shutdown timeout  how the pods terminated, as the TerminationProfile of the workload reports it; it is rounded up to 5, 10, \
15, 20, 30, 45, 60, 90, 120, 180, 240 or 300 s and then to whole multiples of 300 s, so that fewer policies are needed

The drain is Auto by default and so follows from the exposures: a policy sets it only in place of a shorter number that \
a policy of yours has. A time without evidence stays what it is, and so does a longer drain that a policy of yours sets. Workloads that are opted in \
already are part of it. Others are opted in if they have an exposure or a recommended timeout, and are of --kinds. \
Opted-out workloads and those in kube-system are not part of it.

A policy with the label adieu.dev/recommended selects exactly its workloads. A policy of yours keeps its selector and all \
other fields; if some of its workloads need other times, these get a policy with a higher priority. The \
ClusterGracefulPolicy has the times that most workloads need as defaults. Because defaults apply everywhere, it is \
recommended only with -A and without -l. If there is no selector for a workload, a warning has the annotations to set.

Standard error has a summary: which workloads are protected for the first time or get longer or shorter times, and \
the drain and grace period of one pod of each. With the same cluster the result is the same. --diff compares it with the \
policies in the cluster instead of printing it.

Examples:

  adieu recommend -A > policies.yaml
  adieu recommend -n shop -l tier=front
  adieu recommend -A --diff
  adieu recommend -A -o json

  # GracefulPolicy shop/recommended-shutdown-15
  # Deployment web
  #   drain 30 s: Ingress shop/web (Ingress or Gateway of NGINX): it may take 15 to 30 s to notice that a pod terminates
  #   shutdown timeout 15 s: p99 of 214 terminations is 9 s, 0 killed
  apiVersion: adieu.dev/v1alpha1
  kind: GracefulPolicy
  metadata:
    name: recommended-shutdown-15
    namespace: shop
    labels:
      adieu.dev/recommended: \"true\"
  spec:
    selector:
      matchLabels:
        app: web
    shutdownTimeoutSeconds: 15

The exit code is 0, 1 if --diff finds a difference, and 2 if there is no result.";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// The namespace. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_namespaces")]
    pub(super) namespace: Option<String>,

    /// The workloads of all namespaces, and the defaults of the cluster.
    #[arg(short = 'A', long)]
    pub(super) all_namespaces: bool,

    /// Only workloads with these labels, such as app=web,tier!=cache. The others keep their times.
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(super) selector: Option<String>,

    /// The kinds of workload that are opted in for the first time: deployment, statefulset or daemonset, separated by commas.
    #[arg(
        long,
        value_name = "KIND",
        value_parser = kind,
        value_delimiter = ',',
        default_value = "deployment"
    )]
    pub(super) kinds: Vec<Kind>,

    /// Shows how the policies in the cluster differ.
    #[arg(long)]
    pub(super) diff: bool,

    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "yaml")]
    pub(super) output: Format,
}

/// The format of the output.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Format {
    /// Policies with comments, or with --diff their fields.
    Yaml,
    /// An object with `policies`, `workloads`, `differences` and `summary`.
    Json,
}

/// A kind of workload, as in KIND/NAME.
fn kind(text: &str) -> Result<Kind, String> {
    format!("{text}/x").parse().map(|Reference { kind, .. }| kind)
}
