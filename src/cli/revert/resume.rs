//! Resumes an interrupted run.
//!
//! A run stores no state of its own. Everything that the next one needs is in the cluster: a workload that an earlier run
//! has written is opted out by its annotation `adieu.dev/graceful: "false"`. It is skipped, unless its rollout is still in
//! progress, or the run ended before it removed its entry from `managedFields`, which it does last. Then the next run
//! deletes adieu's PodDisruptionBudget, removes the entry, and waits for that rollout, which counts against the limit. If
//! it fails, and no pod of the workload has the injection any more, it is not the run's rollout, and stops nothing. All other
//! workloads are handled as in a first run.

use kube::core::DynamicObject;

use super::target::{Action, Before};
use crate::{
    plan::{self, Kind, NamespaceContext, OptIn, Workload},
    runtime::managed_fields::release_ownership,
};

/// Whether the workload is opted out, by an earlier run or by its owner.
pub(super) fn is_opted_out(kind: Kind, object: &DynamicObject, context: &NamespaceContext) -> bool {
    plan::resolve(&Workload::of(kind, object), context).opt_in == OptIn::Out
}

/// The action for a workload that is opted out already; `None` if there is nothing left to do.
pub(super) fn action_if_opted_out(kind: Kind, object: &DynamicObject) -> Option<Action> {
    let is_rolling = Before::of(kind, object) == Before::Rolling;
    // Fields that a killed run still owns would conflict with other applies.
    let is_owned = release_ownership(&object.metadata).is_some();
    (is_rolling || is_owned).then_some(Action::Wait)
}
