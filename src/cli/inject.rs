//! `adieu inject`: manifests in, manifests with what adieu injects out.

use std::{collections::BTreeSet, str::FromStr};

use super::manifests::{self, Manifests, Usage};
use crate::plan;

/// What `--help` says.
pub(super) const HELP: &str = "\
Reads manifests, injects into the opted-in workloads so that they terminate gracefully, and writes all \
manifests.

A workload (Deployment, StatefulSet, DaemonSet) is opted in by its annotation adieu.dev/graceful: \"true\", \
by naming a policy in adieu.dev/policy, or because a GracefulPolicy or ClusterGracefulPolicy in the input \
selects it. Policies, Services and Namespaces apply to the workloads of all files, in any order. Documents \
that are not opted in are written byte for byte. In an injected workload only changed fields are rewritten, so \
comments stay; JSON stays JSON.

Warnings go to standard error, and so does a summary. Annotations have no effect on other kinds, such as a \
Rollout or a CronJob: they are written unchanged, with a warning. Malformed annotations and invalid policies \
are errors, with file, document and line; then nothing is written and the exit code is 1.

It needs no cluster, and the output works in clusters without adieu. An annotation of the pod template records \
the injection, so injecting again changes nothing, and `adieu revert` reverts it.

  helm template shop ./chart | adieu inject -f - | kubectl apply -f -
  kustomize build overlays/prod | adieu inject -f - -f policies/ > rendered.yaml";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: manifests::Arguments,

    /// The Kubernetes version of the cluster's oldest kubelet. Before 1.30 the drain is an exec of `sleep`, from
    /// 1.30 on the native sleep action.
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
    let mut manifests = Manifests::read(&arguments.manifests)?;
    let world = manifests.world(&arguments.namespace)?;
    let mut usage = Usage::new(&world);
    let mut seen = BTreeSet::new();
    let counts = manifests.change(|workload, namespace| {
        let namespace = world.namespace(namespace);
        usage.note(workload, namespace);
        let mut admission = plan::render(workload, &world.around(namespace, native_sleep), arguments.all);
        if seen.insert(namespace.to_owned()) {
            admission
                .warnings
                .extend(world.undecided(namespace).iter().map(|name| undecided(name, namespace)));
        }
        admission
    })?;
    manifests.warn_of_misplaced();
    let skipped = manifests.warn_of_unsupported();
    usage.warnings().iter().for_each(|warning| manifests.warn(warning));
    manifests.write(&arguments.manifests)?;
    arguments.manifests.summarize(&counts.of_inject(skipped));
    Ok(())
}

/// That a cluster policy may or may not be meant for a namespace.
fn undecided(policy: &str, namespace: &str) -> String {
    format!(
        "ClusterGracefulPolicy {policy} is for namespaces with certain labels, and counts as not for {namespace}, whose labels are not in the input: add the Namespace"
    )
}

/// A version of Kubernetes: major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct KubeVersion(u32, u32);

impl KubeVersion {
    /// KEP-3960: on by default from 1.30.
    fn has_native_sleep(self) -> bool {
        self >= Self(1, 30)
    }
}

/// A text that is no version of Kubernetes.
#[derive(Debug, thiserror::Error)]
#[error("must be a version of Kubernetes, for example 1.30, v1.30.2 or v1.30.2-gke.1")]
struct NoVersion;

impl FromStr for KubeVersion {
    type Err = NoVersion;

    /// `1.30`, `1.30.2`, with a `v` before it and what a distribution adds behind it.
    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let numbers: Option<Vec<u32>> = text[..end]
            .split('.')
            .map(|number| number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse().ok()).flatten())
            .collect();
        match numbers.as_deref() {
            Some([major, minor] | [major, minor, _]) if *major > 0 => Ok(Self(*major, *minor)),
            _ => Err(NoVersion),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_people_and_distributions_write_them() {
        for (text, version) in [
            ("1.30", (1, 30)),
            ("v1.30", (1, 30)),
            ("1.30.2", (1, 30)),
            ("v1.30.2-gke.1", (1, 30)),
            ("v1.29.15+k3s1", (1, 29)),
            ("1.33+", (1, 33)),
        ] {
            assert_eq!(text.parse::<KubeVersion>().unwrap(), KubeVersion(version.0, version.1), "{text}");
        }
        for text in ["", "1", "v1", "1.x", "1.+3", "latest", "0.30", "1.30.2.1", "1.30 ", "vv1.30", "1..2"] {
            assert!(text.parse::<KubeVersion>().is_err(), "{text}");
        }
        assert!(KubeVersion(1, 30).has_native_sleep() && !KubeVersion(1, 29).has_native_sleep());
    }
}
