//! PodDisruptionBudgets.

use adieu_core::text::counted;

use crate::{Finding, Rule, Severity, subject::Subject};

/// A budget that allows no eviction blocks each drain of a node, and so its upgrade. No request is lost meanwhile.
pub(super) fn pdb_blocks_drain(subject: &Subject<'_>) -> Vec<Finding> {
    let Some(replicas) = subject.replicas().filter(|replicas| *replicas > 0) else { return vec![] };
    let budgets = subject.budgets();
    let blocking = budgets.iter().filter(|(_, count)| count.blocks(replicas));
    blocking
        .map(|(name, count)| {
            let found = subject.finding(Rule::PdbBlocksDrain, Severity::Warning, "spec.replicas");
            let minimum = if subject.autoscaler().is_some() { ", the autoscaler's minimum" } else { "" };
            found.says(
                format!(
                    "PodDisruptionBudget {name} allows no eviction ({} with {}{minimum}): a node with one of these pods \
                     cannot be drained",
                    count.field(),
                    counted(usize::try_from(replicas).unwrap_or_default(), "replica"),
                ),
                "set maxUnavailable: 1 in it, and run at least two replicas",
            )
        })
        .collect()
}

/// Without a budget, drains of several nodes may evict all replicas together.
pub(super) fn no_pdb(subject: &Subject<'_>) -> Option<Finding> {
    let replicas = subject.replicas().filter(|replicas| *replicas > 1)?;
    let received = subject.received.first()?;
    if subject.options.budgets_unknown || !subject.budgets().is_empty() {
        return None;
    }
    let found = subject.finding(Rule::NoPdb, Severity::Warning, "spec.replicas");
    Some(found.says(
        format!(
            "no PodDisruptionBudget selects these {replicas} replicas behind Service {}: node drains may evict all of \
             them together",
            received.service_name()
        ),
        "add a PodDisruptionBudget with maxUnavailable: 1, or set disruptionBudget in a GracefulPolicy",
    ))
}

/// The eviction API fails for a pod that two budgets select, so that the pod stays.
pub(super) fn two_pdbs(subject: &Subject<'_>) -> Option<Finding> {
    let budgets = subject.budgets();
    if budgets.len() < 2 {
        return None;
    }
    let mut names: Vec<_> = budgets.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let found = subject.finding(
        Rule::TwoPdbs,
        Severity::Warning,
        format!("{}.metadata.labels", subject.workload.template_path),
    );
    Some(found.says(
        format!(
            "the PodDisruptionBudgets {} select the same pods: every eviction fails",
            names.join(" and ")
        ),
        "remove all but one, or narrow their selectors",
    ))
}
