//! `adieu revert`: reverts the injection of manifests, or of workloads in the cluster.

mod arguments;
mod cluster;
mod injected_pods;
mod outcome;
mod pod_disruption_budgets;
mod resume;
mod rollouts;
mod select;
mod skip;
mod slim_workload;
mod target;

use std::process::ExitCode;

pub(super) use self::arguments::{Arguments, HELP};
use super::{
    exit::{COULD_NOT_RUN, FAILED, exit_code},
    manifests,
};
use crate::plan;

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    if !arguments.manifests.has_files() {
        let outcome = cluster::run(&arguments.cluster, arguments.manifests.is_json());
        return exit_code(outcome, COULD_NOT_RUN);
    }
    exit_code(revert_manifests(&arguments.manifests).map(|()| ExitCode::SUCCESS), FAILED)
}

fn revert_manifests(arguments: &manifests::Arguments) -> anyhow::Result<()> {
    let mut manifests = arguments.read()?;
    let counts = manifests.change(|workload, _| plan::revert(workload));
    let counts = manifests::report(&mut manifests, counts)?;
    let skipped = manifests.warn_of_unreverted();
    manifests::print_warnings(&mut manifests);
    arguments.write(&manifests)?;
    arguments.summarize(&format!(
        "{} reverted, {} unchanged, {skipped} skipped",
        counts.reverted, counts.unchanged
    ));
    Ok(())
}
