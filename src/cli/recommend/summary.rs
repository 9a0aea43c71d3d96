//! What the recommended policies change in total.

use adieu_recommend::Recommended;
use serde::Serialize;

use super::changes::{Change, ChangedWorkload, PodTimes};
use crate::text::counted;

/// Counts, and the times of one pod of each workload.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    workloads: usize,
    /// Opted in for the first time.
    protected: usize,
    longer: usize,
    shorter: usize,
    unchanged: usize,
    graceful_policies: usize,
    cluster_graceful_policies: usize,
    drain_seconds: BeforeAfter,
    grace_period_seconds: BeforeAfter,
}

/// The sum of a time over all workloads.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct BeforeAfter {
    before: i64,
    after: i64,
}

impl Summary {
    pub(super) fn of(changes: &[ChangedWorkload], recommended: &Recommended) -> Self {
        let count = |change: Change| changes.iter().filter(|of| of.change == change).count();
        let sum = |seconds: fn(&PodTimes) -> i64| BeforeAfter {
            before: changes.iter().map(|of| seconds(&of.before)).fold(0, i64::saturating_add),
            after: changes.iter().map(|of| seconds(&of.after)).fold(0, i64::saturating_add),
        };
        Self {
            workloads: changes.len(),
            protected: count(Change::Protected),
            longer: count(Change::Longer),
            shorter: count(Change::Shorter),
            unchanged: count(Change::Unchanged),
            graceful_policies: recommended.policies.len(),
            cluster_graceful_policies: usize::from(recommended.cluster_policy.is_some()),
            drain_seconds: sum(|times| times.drain_seconds),
            grace_period_seconds: sum(|times| times.grace_period_seconds),
        }
    }

    /// A line for people.
    pub(super) fn line(&self) -> String {
        let Self { protected, longer, shorter, unchanged, drain_seconds, grace_period_seconds, .. } = self;
        let policies = |count: usize, kind: &str| {
            if count == 1 { format!("1 {kind}Policy") } else { format!("{count} {kind}Policies") }
        };
        format!(
            "{}: {protected} protected for the first time, {longer} with longer times, {shorter} with shorter times, {unchanged} \
             unchanged; {} and {}; one pod of each drains for {} s instead of {} s in total, and has a grace period of {} s \
             instead of {} s",
            counted(self.workloads, "workload"),
            policies(self.graceful_policies, "Graceful"),
            policies(self.cluster_graceful_policies, "ClusterGraceful"),
            drain_seconds.after,
            drain_seconds.before,
            grace_period_seconds.after,
            grace_period_seconds.before,
        )
    }
}
