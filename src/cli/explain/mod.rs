//! `adieu explain`: where the settings of a workload come from, and how its pods terminate.

mod cluster;
mod explained;
mod exposures;
mod svg;
mod text;
mod timeline;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use kube::{ResourceExt as _, core::DynamicObject};

use self::explained::Explained;
use super::{
    block_on::block_on,
    manifests, print,
    reference::{Reference, Workloads},
};
use crate::kube_version::KubeVersion;

/// The text of `--help`.
pub(super) const HELP: &str = "\
Explains a workload: each setting with the annotation, policy or default that it comes from and what lost against it, how \
the termination of its pods proceeds, how its last terminations went, and what adieu is still to change.

Each value that adieu is to change is shown as adieu diff shows it, before and after, with the settings that cause the \
change: those that differ from the present injection, or all that the value is made of. A workload that is up to date \
has no change. With -o json they are in pending.changes.

The termination has two timelines, network and pod. The network has the exposures: the ways in which requests reach the pods. \
Each needs a drain, which is shown with its reason and source. If the pods drain for less, a warning names the annotation or \
policy field to set.

From the cluster (KIND/NAME): nothing is changed, and adieu need not be installed, but without it no terminations are \
observed. Kinds such as HTTPRoute that you may not list are skipped, and a warning names them. From \
manifests (-f): the policies, Services, Ingresses, routes and other objects of all files apply, and without KIND/NAME \
every workload is explained.

Examples:

  adieu explain deployment/web -n shop
  adieu explain deployment/web -n shop -o svg > web.svg
  adieu explain -f manifests/ deployment/web
  helm template shop ./chart | adieu explain -f - -o json";

#[derive(Debug, clap::Args)]
#[command(mut_arg("workload", |arg| arg.required_unless_present("filename")))]
pub(super) struct Arguments {
    #[command(flatten)]
    workload: Workloads<Option<Reference>>,

    /// A file with manifests, a directory of .yaml, .yml and .json files, or - for standard input. May be given several
    /// times. Default: the cluster.
    #[arg(short, long, value_name = "FILE|DIR|-")]
    filename: Vec<PathBuf>,

    /// Processes the directories in a directory given with -f recursively.
    #[arg(short = 'R', long, requires = "filename")]
    recursive: bool,

    /// The namespace of the workload, and of manifests without one. Default: that of the kubeconfig's context, or default.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,

    /// The output format.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value = "text")]
    output: Format,

    /// The Kubernetes version of the kubelets. In the cluster it is that of the API server.
    #[arg(long, value_name = "VERSION", requires = "filename", default_value = "1.36")]
    kube_version: KubeVersion,
}

/// The format of the output.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// A list of workloads.
    Json,
    /// A picture of the timelines of one workload.
    Svg,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let explained = match &arguments.workload.0 {
        Some(workload) if arguments.filename.is_empty() => {
            vec![block_on(cluster::explain(workload, arguments.namespace.as_deref()))?]
        }
        workload => explain_manifests(arguments, workload.as_ref())?,
    };
    let text = match arguments.output {
        Format::Text => explained.iter().map(text::explained).collect::<Vec<_>>().join("\n"),
        Format::Json => print::json(&explained)?,
        Format::Svg => match explained.as_slice() {
            [explained] => svg::picture(explained),
            others => bail!("a picture shows one workload, not {}: give KIND/NAME", others.len()),
        },
    };
    print::coloured_output(&text)
}

/// Explains the given workload of manifests, or all.
fn explain_manifests(arguments: &Arguments, workload: Option<&Reference>) -> anyhow::Result<Vec<Explained>> {
    let namespace = arguments.namespace.as_deref().unwrap_or("default");
    let mut manifests = manifests::read(&arguments.filename, arguments.recursive)?;
    let set = manifests.set(namespace);
    let set = manifests::report(&mut manifests, set)?;
    let native_sleep = arguments.kube_version.has_native_sleep();
    let traffic_objects = set.traffic_objects();
    let mut explained = Vec::new();
    for found in manifests.found_objects() {
        let Some(kind) = found.workload_kind() else { continue };
        let object: DynamicObject = serde_json::from_value(found.value().clone())
            .with_context(|| format!("{}: not a {}", found.location("").0, found.kind()))?;
        let is_given = |given: &Reference| given.kind == kind && given.name == object.name_any();
        if workload.is_none_or(is_given) {
            let own = object.namespace();
            let namespace = set.namespace(own.as_deref());
            let context = set.namespace_context(namespace, native_sleep);
            explained.push(Explained::of(kind, namespace, &object, &context, &traffic_objects));
        }
    }
    match workload {
        Some(Reference { kind, name }) if explained.is_empty() => {
            bail!("{kind} {name:?} is not in the input")
        }
        None if explained.is_empty() => {
            print::to_stderr("adieu: no Deployment, StatefulSet or DaemonSet is in the input".to_owned());
        }
        _ => {}
    }
    Ok(explained)
}
