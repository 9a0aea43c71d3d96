//! `adieu status`: which workloads of a cluster are managed, by what, and whether they are injected.

mod cluster;
mod output;
mod report;
mod terminations;

use k8s_openapi::jiff::Timestamp;

use super::{
    block_on::block_on,
    connection::connect,
    manifests::warn,
    print,
    reference::{Reference, Workloads},
};

/// The text of `--help`.
pub(super) const HELP: &str = "\
Lists the workloads (Deployments, StatefulSets, DaemonSets) that adieu manages: by which annotation or policy, with which \
drain, shutdown timeout and grace period, and in which state. Nothing is changed, and adieu need not be installed.

States:

  Injected      the pod template has the injection
  DrainTooShort it has, but what leads requests to the pods needs a longer drain
  PodInjection  the pods are injected when they are created (injectionTarget: Pod)
  Queued        a policy is to change the template: once a rollout slot is free, or with its next change
  Failed        a policy's rollout to the workload failed
  Outdated      the injection does not match the annotations and policies
  NotInjected   opted in, and not injected
  Audit         the policy only audits
  Reverted      the policy reverts injections
  OptedOut      opted out by annotation
  NotManaged    nothing opts the workload in; only counted without --all
  Unknown       a policy that may apply cannot be read

The values are those of the pod template, or those that it gets once it is no longer Queued. If a state needs a reason, \
the last column has it; otherwise it has the first warning. -o json has all warnings.

LAST TERMINATION is the outcome of the last termination of one of its pods that adieu observed, and how long ago it ended:

  Completed      exited with 0
  DefaultAction  exited with 143, the default action of SIGTERM
  PreStopFailed  the preStop hook failed
  Crashed        exited with another code
  CutShort       ended before its grace period was over, for example because its node is gone
  Killed         killed at the end of its grace period
  -              no termination was observed

-o json has it with its time as lastTermination. The column is absent if the CRDs of adieu are not installed, or you may \
not list TerminationProfiles.

You need the right to list Deployments, StatefulSets and DaemonSets. Without the right to list policies, Services and \
Namespaces there are warnings, and a state may be Unknown. What leads requests to Services (Ingresses, Gateways, routes) \
is read as far as you may list it.

Examples:

  adieu status
  adieu status -A
  adieu status -n shop -l tier=front --all
  adieu status deployment/web -n shop -o json";

#[derive(Debug, clap::Args)]
#[command(mut_arg("workload", |arg| arg.conflicts_with_all(["all_namespaces", "selector"])))]
pub(super) struct Arguments {
    #[command(flatten)]
    workloads: Workloads<Vec<Reference>>,

    /// The namespace. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_namespaces")]
    namespace: Option<String>,

    /// The workloads of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// Only workloads with these labels, such as app=web,tier!=cache.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,

    /// Also lists workloads that are not managed.
    #[arg(long)]
    all: bool,

    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "table")]
    output: Format,
}

/// The format of the output.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// An object with `workloads` and `summary`.
    Json,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let report = block_on(async {
        let client = connect().await?;
        let namespace = arguments.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let selection = cluster::Selection {
            workloads: &arguments.workloads.0,
            namespace: (!arguments.all_namespaces).then_some(&namespace),
            labels: arguments.selector.as_deref(),
            includes_not_managed: arguments.all,
        };
        let (report, warnings) = cluster::read(&client, &selection).await?;
        for warning in warnings {
            warn(&warning);
        }
        Ok(report)
    })?;
    let text = match arguments.output {
        Format::Table => output::table(&report, Timestamp::now()),
        Format::Json => output::json(&report)?,
    };
    print::output(&text)
}
