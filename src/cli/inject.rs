//! `adieu inject`: injects into the workloads of manifests.

use std::collections::BTreeSet;

use super::manifests;
use crate::{
    kube_version::KubeVersion,
    manifests::{Counts, PolicyUsage},
    plan,
};

/// The text of `--help`.
pub(super) const HELP: &str = "\
Reads manifests, injects into the opted-in workloads so that they terminate gracefully, and writes all \
manifests.

A workload (Deployment, StatefulSet, DaemonSet) is opted in by its annotation adieu.dev/graceful: \"true\", \
by naming a policy in adieu.dev/policy, or because a GracefulPolicy or ClusterGracefulPolicy in the input \
selects it. Policies, Services, objects such as Ingresses and routes, and Namespaces apply to the workloads of \
all files, in any order. Unless drainSeconds is a number, the drain is the longest that an exposure of the pods \
needs, as adieu explain shows, and as the drainProfiles of a ClusterGracefulPolicy override it. Documents \
that are not opted in are written byte for byte. In an injected workload only changed fields are rewritten, so \
comments stay; JSON stays JSON.

Warnings go to standard error, and so does a summary. Annotations have no effect on other kinds, such as a \
Rollout or a CronJob: they are written unchanged, with a warning. Malformed annotations and invalid policies \
are errors, with file, document and line; then nothing is written and the exit code is 1.

It needs no cluster, and the output works in clusters without adieu. An annotation of the pod template records \
the injection, so injecting again changes nothing, and `adieu revert` reverts it.

Examples:

  helm template shop ./chart | adieu inject -f - | kubectl apply -f -
  kustomize build overlays/prod | adieu inject -f - -f policies/ > rendered.yaml";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: manifests::Arguments,

    /// The Kubernetes version of the cluster's oldest kubelet. Before 1.30 the preStop hook runs the command `sleep`,
    /// from 1.30 on the native sleep action.
    #[arg(long, value_name = "VERSION", default_value = "1.36")]
    kube_version: KubeVersion,

    /// The namespace of objects without one.
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,

    /// Opts every workload in, except those with adieu.dev/graceful: "false".
    #[arg(long)]
    all: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let native_sleep = arguments.kube_version.has_native_sleep();
    let mut manifests = arguments.manifests.read()?;
    let set = manifests.set(&arguments.namespace);
    let set = manifests::report(&mut manifests, set)?;
    let mut usage = PolicyUsage::new(&set);
    let mut namespaces = BTreeSet::new();
    let counts = manifests.change(|workload, namespace| {
        let namespace = set.namespace(namespace);
        usage.record(workload, namespace);
        let context = set.namespace_context(namespace, native_sleep);
        let mut admission = plan::render(workload, &context, arguments.all);
        if namespaces.insert(namespace.to_owned()) {
            let warnings = set.undecided(namespace).into_iter().map(|name| undecided(&name, namespace));
            admission.warnings.extend(warnings);
        }
        admission
    });
    let counts = manifests::report(&mut manifests, counts)?;
    manifests.warn_of_misplaced();
    let skipped = manifests.warn_of_unsupported();
    manifests::print_warnings(&mut manifests);
    usage.warnings().iter().for_each(|warning| manifests::warn(warning));
    arguments.manifests.write(&manifests)?;
    arguments.manifests.summarize(&summary(counts, skipped));
    Ok(())
}

fn summary(counts: Counts, skipped: usize) -> String {
    let Counts { injected, reverted, unchanged } = counts;
    let reverted = if reverted == 0 { String::new() } else { format!("{reverted} reverted, ") };
    format!("{injected} injected, {reverted}{unchanged} unchanged, {skipped} skipped")
}

/// A warning about a cluster policy that may or may not apply to a namespace.
fn undecided(policy: &str, namespace: &str) -> String {
    format!(
        "ClusterGracefulPolicy {policy} selects namespaces by label and is not applied to {namespace}, whose labels \
         are not in the input: add the Namespace"
    )
}
