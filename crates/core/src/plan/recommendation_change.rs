//! Decides when a recommendation is applied. A longer shutdown timeout is applied immediately, because pods are killed. A
//! shorter one only saves time, and its evidence may come from days with little load: it is applied in small steps, one a
//! day.
//!
//! A profile counts from 0 again when its pods get other times, so each step needs evidence of its own.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{
    applied_recommendation::{AppliedRecommendation, within_bounds},
    resolve::Resolution,
    source::Source,
    workload::Workload,
};
use crate::api::{Confidence, Mode, Recommendation};

/// The time after a change in which the value is not lowered.
const LOWERING_INTERVAL: SignedDuration = SignedDuration::from_hours(24);
/// A step lowers the value by at most one part of this many.
const LOWERING_PARTS: i64 = 4;

/// A change of the shutdown timeout because of a recommendation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecommendationChange {
    /// The shutdown timeout before, in seconds.
    pub before_seconds: i64,
    /// The shutdown timeout after, in seconds.
    pub after_seconds: i64,
    /// The policy that applies it.
    pub policy: Source,
    /// The line of the recommendation with its evidence.
    pub evidence: String,
    /// The value of the annotation [`APPLIED_RECOMMENDATION`](crate::api::annotations::APPLIED_RECOMMENDATION).
    pub annotation: String,
}

/// The change that a recommendation causes now; `None` if none does.
#[must_use]
pub fn recommendation_change(
    workload: &Workload<'_>,
    resolution: &Resolution,
    recommendation: &Recommendation,
    native_sleep: bool,
    now: Timestamp,
) -> Option<RecommendationChange> {
    let settings = &resolution.settings;
    let shutdown_timeout = &settings.shutdown_timeout_seconds;
    let is_possible = resolution.applies
        && settings.mode.value == Mode::Enforce
        && !shutdown_timeout.from.is_annotation()
        && recommendation.field == Recommendation::SHUTDOWN_TIMEOUT;
    if !is_possible {
        return None;
    }
    let before = shutdown_timeout.value;
    let applied = resolution.applied.as_ref();
    let Recommendation { current_seconds, recommended_seconds, confidence, .. } = *recommendation;
    let bounded = |seconds| within_bounds(seconds, workload, settings, native_sleep);
    let after = if recommended_seconds > current_seconds {
        Some(bounded(recommended_seconds)).filter(|after| *after > before)
    } else {
        // The pods may still have an earlier value.
        let is_due = current_seconds == before && confidence == Confidence::High && is_settled(applied, now);
        let lowered = recommended_seconds.max(before - before / LOWERING_PARTS);
        // A bound must not shorten it further than the evidence allows.
        is_due.then(|| bounded(lowered)).filter(|after| (lowered..before).contains(after))
    }?;
    let instead_of = match (&shutdown_timeout.from, applied) {
        (Source::Recommendation(_), Some(applied)) => applied.instead_of,
        _ => Some(before),
    };
    let annotation = AppliedRecommendation::text(after, now, instead_of)?;
    Some(RecommendationChange {
        before_seconds: before,
        after_seconds: after,
        policy: settings.recommendations.from.clone(),
        evidence: recommendation.summary.clone(),
        annotation,
    })
}

/// Whether the last change of the applied value was long ago. Users can write any time, and a clock may be wrong, so a time
/// far in the future counts as long ago.
fn is_settled(applied: Option<&AppliedRecommendation>, now: Timestamp) -> bool {
    applied.is_none_or(|applied| now.duration_since(applied.since.0).abs() >= LOWERING_INTERVAL)
}

#[cfg(test)]
#[path = "recommendation_change_tests.rs"]
mod tests;
