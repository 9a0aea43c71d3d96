//! `adieu crd`: prints the CustomResourceDefinitions, generated from the types in `api`.

use std::io::Write as _;

use anyhow::Context as _;

use crate::api::crds;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> anyhow::Result<()> {
    let crds = crds();
    let documents: Vec<_> = crds.iter().map(serde_saphyr::to_string).collect::<Result<_, _>>()?;
    let text = documents.join("---\n");
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}
