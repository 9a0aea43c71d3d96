//! `adieu revert`: takes back from manifests what adieu injected.

use super::manifests::{self, Manifests};
use crate::plan;

/// What `--help` says.
pub(super) const HELP: &str = "\
Reads manifests, takes back from their workloads what adieu injected, and writes all of them: the inverse \
of `adieu inject`.

The annotations by which a workload is opted in stay, and so does everything that was changed by hand \
since. What was not injected is written as it was read, byte for byte; in the rest only what changes is \
rewritten.

Warnings and a summary go to standard error.

  adieu revert -f rendered.yaml
  kubectl get deployments -o yaml | adieu revert -f -";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: manifests::Arguments,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut manifests = Manifests::read(&arguments.manifests)?;
    let counts = manifests.change(|workload, _| plan::revert(workload))?;
    let skipped = manifests.warn_of_unreverted();
    manifests.write(&arguments.manifests)?;
    arguments.manifests.summarize(&counts.of_revert(skipped));
    Ok(())
}
