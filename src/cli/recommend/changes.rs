//! What the recommended policies change for each workload.

use adieu_recommend::Recommended;
use serde::Serialize;

use super::fleet::{Fleet, FleetWorkload};
use crate::{
    keys::WorkloadKey,
    plan::{Explanation, Kind, NamespaceContext, Workload, explain},
};

/// A workload with the times of its pods.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChangedWorkload {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) change: Change,
    pub(super) before: PodTimes,
    pub(super) after: PodTimes,
    /// The times that it needs, and why.
    pub(super) evidence: Vec<String>,
    /// What policies can't do for it.
    pub(super) notes: Vec<String>,
}

/// What changes for a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Change {
    /// It is opted in for the first time.
    Protected,
    /// It gets a longer drain or grace period.
    Longer,
    /// It gets shorter times.
    Shorter,
    /// Its times stay.
    Unchanged,
}

/// The times of a pod in seconds.
#[allow(clippy::struct_field_names, reason = "the unit is part of a field's name in the output")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodTimes {
    pub(super) drain_seconds: i64,
    /// `None` if nothing is injected: it is unknown.
    pub(super) shutdown_timeout_seconds: Option<i64>,
    pub(super) grace_period_seconds: i64,
}

impl PodTimes {
    fn of(explanation: &Explanation) -> Self {
        let termination = &explanation.termination;
        Self {
            // A hook that never ends is killed.
            drain_seconds: termination.drain_seconds().min(termination.grace_period_seconds),
            shutdown_timeout_seconds: termination.shutdown_timeout_seconds,
            grace_period_seconds: termination.grace_period_seconds,
        }
    }
}

/// The workloads that policies are recommended for, in the order of their keys.
pub(super) fn changes(fleet: &Fleet, recommended: &Recommended) -> Vec<ChangedWorkload> {
    let mut changes = Vec::new();
    for namespace in &fleet.namespaces {
        let contexts = [&namespace.context, &recommended.context(&namespace.name, &namespace.context)];
        let candidates = namespace.candidates.iter().filter(|candidate| candidate.wanted.is_some());
        let mut keys: Vec<_> = candidates.map(|candidate| &candidate.key).collect();
        keys.sort_unstable();
        for key in keys {
            let workload = fleet.workloads.get(key).filter(|workload| workload.cached.too_large().is_none());
            if let Some(workload) = workload {
                changes.push(changed(key, workload, contexts, recommended));
            }
        }
    }
    changes
}

/// A workload in its context before and after the policies are applied.
fn changed(
    key: &WorkloadKey,
    workload: &FleetWorkload,
    contexts: [&NamespaceContext; 2],
    recommended: &Recommended,
) -> ChangedWorkload {
    let object = workload.cached.object();
    let [before, after] = contexts.map(|context| explain(&Workload::of(key.kind, &object), context));
    let of_policies = recommended.notes.iter().filter(|note| note.workload == *key);
    let of_policies = of_policies.map(|note| note.message.clone());
    let warnings = after.warnings.iter().filter(|warning| !before.warnings.contains(warning)).cloned();
    let notes = workload.notes.iter().cloned().chain(of_policies).chain(warnings).collect();
    let times = [PodTimes::of(&before), PodTimes::of(&after)];
    let is_first = after.opted_in.value && !before.opted_in.value;
    ChangedWorkload {
        kind: key.kind,
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        change: if is_first { Change::Protected } else { change(times) },
        before: times[0],
        after: times[1],
        evidence: workload.lines.clone(),
        notes,
    }
}

fn change([before, after]: [PodTimes; 2]) -> Change {
    if before == after {
        Change::Unchanged
    } else if after.drain_seconds > before.drain_seconds
        || after.grace_period_seconds > before.grace_period_seconds
        || after.shutdown_timeout_seconds > before.shutdown_timeout_seconds
    {
        Change::Longer
    } else {
        Change::Shorter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_time_counts_more_than_a_shorter_one() {
        let times = |drain_seconds, shutdown, grace_period_seconds| PodTimes {
            drain_seconds,
            shutdown_timeout_seconds: Some(shutdown),
            grace_period_seconds,
        };
        for (after, expected) in [
            (times(10, 30, 45), Change::Unchanged),
            (times(30, 15, 50), Change::Longer),
            (times(10, 60, 75), Change::Longer),
            (times(10, 15, 45), Change::Shorter),
            (times(5, 30, 40), Change::Shorter),
        ] {
            assert_eq!(change([times(10, 30, 45), after]), expected, "{after:?}");
        }
    }
}
