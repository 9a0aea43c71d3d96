//! `adieu crd`: prints the CustomResourceDefinitions, generated from the types in `api`.

use super::print;
use crate::api::crds;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> anyhow::Result<()> {
    let crds = crds();
    let documents: Vec<_> = crds.iter().map(serde_saphyr::to_string).collect::<Result<_, _>>()?;
    print::output(&documents.join("---\n"))
}
