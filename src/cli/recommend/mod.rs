//! `adieu recommend`: the fewest policies that give every workload the times that its evidence shows.

mod arguments;
mod changes;
mod cluster;
mod difference;
mod drain;
mod evidence;
mod fleet;
mod json;
mod manifest;
mod profiles;
mod shutdown;
mod summary;
mod wanted;

use std::{io::Write as _, process::ExitCode};

use adieu_recommend::{Options, recommend};
use anyhow::Context as _;

pub(super) use self::arguments::{Arguments, HELP};
use self::{arguments::Format, changes::ChangedWorkload, cluster::Selection, fleet::Fleet, summary::Summary};
use super::{block_on::block_on, manifests::warn, print};
use crate::runtime::client::client;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let fleet = read(arguments)?;
    let is_selection = arguments.selector.is_some();
    let options =
        Options { replaces_earlier: !is_selection, sets_defaults: arguments.all_namespaces && !is_selection };
    let recommended = recommend(&fleet.namespaces, options);
    let changes = changes::changes(&fleet, &recommended);
    let differences = difference::differences(&recommended, &fleet);
    let summary = Summary::of(&changes, &recommended);
    let text = match arguments.output {
        Format::Json => json::json(&recommended, &changes, &differences, &summary)?,
        Format::Yaml if arguments.diff => difference::text(&differences),
        Format::Yaml => manifest::yaml(&recommended, &changes)?,
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    print_notes(&changes);
    print::to_stderr(format!("adieu: {}", summary.line()));
    let differs = arguments.diff && !differences.is_empty();
    Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(arguments: &Arguments) -> anyhow::Result<Fleet> {
    block_on(async {
        let client = client().await.context("cannot connect to the cluster of the kubeconfig")?;
        let namespace = arguments.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let selection = Selection {
            namespace: (!arguments.all_namespaces).then_some(namespace.as_str()),
            labels: arguments.selector.as_deref(),
            kinds: &arguments.kinds,
        };
        cluster::read(&client, selection).await
    })
}

fn print_notes(changes: &[ChangedWorkload]) {
    for ChangedWorkload { kind, namespace, name, notes, .. } in changes {
        for note in notes {
            warn(&format!("{kind} {namespace}/{name}: {note}"));
        }
    }
}
