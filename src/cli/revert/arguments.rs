//! The arguments of `adieu revert`.

use std::{num::NonZeroUsize, time::Duration};

use crate::cli::{
    duration::duration,
    manifests,
    reference::{Reference, Workloads},
};

/// The text of `--help`.
pub(in crate::cli) const HELP: &str = "\
Reverts adieu's injection.

From manifests (-f): reads them, restores their workloads, and writes all of them: the inverse of `adieu \
inject`. The annotations that opt a workload in stay, and so do manual changes made since. Documents that were not \
injected are written byte for byte; in the others only changed fields are rewritten. Warnings and a summary go to \
standard error.

From the cluster (KIND/NAME, -n, -l or -A): opts workloads out. Each workload that is injected, or that an \
annotation or a policy opts in, gets the annotation adieu.dev/graceful: \"false\", and its previous pod template is \
restored, in one write. This works whether adieu runs, is paused, or is uninstalled. Your own annotations stay. \
PodDisruptionBudgets that adieu created for these workloads are deleted.

Restoring a pod template is a rollout. At most --max-concurrent roll out at a time, the oldest workload first. If \
a rollout fails or makes no progress for --timeout (of a StatefulSet or DaemonSet: and the grace period of a pod), no \
further one starts in its namespace, unless the workload was not available before either, or was opted out before and \
none of its pods has the injection; other namespaces continue. If the API server does not answer, and on Ctrl-C, no \
further one starts at all. The summary names what failed. Run the same command again to resume: it skips workloads that are opted \
out, and waits for rollouts in progress.

-A skips kube-system, as adieu does. If the annotation that opts a workload in is kept in Git, remove \
it there first: the next sync would opt the workload in again.

You need the rights to get, list and patch Deployments, StatefulSets and DaemonSets, in the whole cluster for -A. \
With the right to list GracefulPolicies, ClusterGracefulPolicies and Namespaces, it also opts out workloads that a \
policy has not injected yet; with the right to list and delete PodDisruptionBudgets, it deletes those that adieu \
created; with the right to list Pods, it finds out whether pods have the injection.

Examples:

  adieu revert -f rendered.yaml
  kubectl get deployments -o yaml | adieu revert -f -
  adieu revert deploy/web -n shop
  adieu revert -n shop -l tier=front --dry-run
  adieu revert -A --max-concurrent 5

In the cluster, the exit code is 0 if every selected workload is opted out and the rollout that reverts its injection \
is complete, 1 if not (also if a workload keeps its injection, because its record cannot be read or another object \
controls it), 2 if it could not start, for example because the namespace does not exist, and 130 after Ctrl-C.";

/// The arguments that select workloads in the cluster.
const CLUSTER_ARGUMENTS: [&str; 4] = ["workload", "namespace", "all_namespaces", "selector"];

#[derive(Debug, clap::Args)]
#[command(
    group(
        clap::ArgGroup::new("what").required(true).multiple(true)
            .args(CLUSTER_ARGUMENTS).arg("filename")
    ),
    mut_arg("filename", |arg| arg.required(false).conflicts_with_all(CLUSTER_ARGUMENTS)),
    mut_arg("recursive", |arg| arg.conflicts_with_all(CLUSTER_ARGUMENTS)),
    mut_arg("output_file", |arg| arg.conflicts_with_all(CLUSTER_ARGUMENTS)),
    mut_arg("output", |arg| arg.help(
        "The output format. For manifests: as YAML, a document that is not changed keeps its text; as JSON, several \
         documents become one List. For the cluster: json writes a report, and progress goes to standard error only"
    )),
)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    pub(super) manifests: manifests::Arguments,

    #[command(flatten)]
    pub(super) cluster: ClusterArguments,
}

/// The workloads to revert in the cluster, and limits.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(mut_arg("workload", |arg| arg.conflicts_with_all(["all_namespaces", "selector"])))]
pub(super) struct ClusterArguments {
    #[command(flatten)]
    pub(super) workload: Workloads<Option<Reference>>,

    /// All workloads of this namespace, or the namespace of KIND/NAME. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_namespaces")]
    pub(super) namespace: Option<String>,

    /// The workloads of all namespaces except kube-system.
    #[arg(short = 'A', long)]
    pub(super) all_namespaces: bool,

    /// Only workloads with these labels, such as app=web,tier!=cache.
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(super) selector: Option<String>,

    /// The maximum number of workloads that may roll out at a time.
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "filename")]
    pub(super) max_concurrent: NonZeroUsize,

    /// The time without progress after which a rollout fails, such as 90s or 10m. For a `StatefulSet` or
    /// `DaemonSet` the grace period of a pod is added.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration, conflicts_with = "filename")]
    pub(super) timeout: Duration,

    /// Only lists what would be opted out, and changes nothing.
    #[arg(long, conflicts_with = "filename")]
    pub(super) dry_run: bool,

    /// Opts out all workloads of a selection without confirmation.
    #[arg(short, long, conflicts_with = "filename")]
    pub(super) yes: bool,
}
