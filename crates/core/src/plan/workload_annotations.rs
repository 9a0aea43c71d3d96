//! The annotations that adieu sets on workloads themselves, where they cause no rollout.

use std::collections::BTreeMap;

use super::{
    context::NamespaceContext,
    evaluate::{Evaluation, RolloutTiming},
    resolve::OptIn,
    source::Source,
    workload::Workload,
};
use crate::api::annotations::{ACCEPTED, APPLIED_RECOMMENDATION, PENDING, ROLLOUT};

/// The annotations of the workload that adieu has to change: their new values, and `None` for those to remove.
/// [`PENDING`] is removed once the workload waits for nothing any more: it is injected, opted out, or no policy selects
/// it. [`ROLLOUT`] is removed with the injection. [`APPLIED_RECOMMENDATION`] is removed once a policy doesn't apply it, or
/// the workload is opted out; while no policy manages the workload it stays, since the policy may only be replaced.
#[must_use]
pub fn annotation_changes(
    workload: &Workload<'_>,
    evaluation: &Evaluation,
    context: &NamespaceContext,
) -> BTreeMap<&'static str, Option<String>> {
    let mut changes = BTreeMap::new();
    let waits = evaluation.template.is_some() && evaluation.timing == RolloutTiming::NextUpdate;
    if waits && needs_pending(workload, context) {
        changes.insert(PENDING, Some("NextUpdate".to_owned()));
    } else if workload.annotations.contains_key(PENDING) && !waits {
        changes.insert(PENDING, None);
    }
    if workload.annotations.get(ACCEPTED) != evaluation.accepted.as_ref() {
        changes.insert(ACCEPTED, evaluation.accepted.clone());
    }
    let is_plain = workload.template.record_text().is_none() && evaluation.template.is_none();
    if workload.annotations.contains_key(ROLLOUT) && is_plain {
        changes.insert(ROLLOUT, None);
    }
    let resolution = &evaluation.resolution;
    let from = &resolution.settings.shutdown_timeout_seconds.from;
    let is_applied =
        resolution.applied.is_some() && (from.is_annotation() || matches!(from, Source::Recommendation(_)));
    let is_decided = resolution.opt_in != OptIn::Unspecified && !context.has_unusable_policy;
    if workload.annotations.contains_key(APPLIED_RECOMMENDATION) && is_decided && !is_applied {
        changes.insert(APPLIED_RECOMMENDATION, None);
    }
    changes
}

/// Whether updates of the workload reach the webhook only with [`PENDING`]: neither its namespace has the label, nor
/// the workload an annotation of adieu.
fn needs_pending(workload: &Workload<'_>, context: &NamespaceContext) -> bool {
    !context.injection_enabled && !workload.has_own_annotation()
}
