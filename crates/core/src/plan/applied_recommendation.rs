//! A recommended shutdown timeout that adieu applies, because the policy of the workload has `recommendations: Apply`.
//!
//! The leader writes it as an annotation of the workload's metadata, where it causes no rollout by itself. So the webhook
//! of every replica and the command line read the same value. It is a level of the settings: any annotation of the user
//! wins over it, and it wins over the values of policies.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    grace_period::shortened_to_maximum,
    hooks::Hooks,
    inject::original,
    settings::{Setting, Settings},
    source::Source,
    workload::Workload,
};
use crate::api::{RecommendationBounds, annotations::APPLIED_RECOMMENDATION, defaults, limits};

/// The longest text of the annotation that is read, in bytes.
const TEXT_LIMIT: usize = 256;

/// The value of the annotation [`APPLIED_RECOMMENDATION`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AppliedRecommendation {
    /// The shutdown timeout, in seconds.
    shutdown_timeout_seconds: i64,
    /// When it was applied.
    pub(super) since: Time,
    /// The value of the policy, in seconds, that it replaces. Once the policy has another one, that applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instead_of: Option<i64>,
}

impl AppliedRecommendation {
    /// The one in the workload's annotation; `None` if it is absent or malformed. Users can write any text.
    pub(super) fn of(workload: &Workload<'_>) -> Option<Self> {
        let text = workload.annotations.get(APPLIED_RECOMMENDATION);
        let applied: Self = serde_json::from_str(text.filter(|text| text.len() <= TEXT_LIMIT)?).ok()?;
        (0..=limits::SHUTDOWN_TIMEOUT_SECONDS).contains(&applied.shutdown_timeout_seconds).then_some(applied)
    }

    /// The text of the annotation.
    pub(super) fn text(
        shutdown_timeout_seconds: i64,
        since: Timestamp,
        instead_of: Option<i64>,
    ) -> Option<String> {
        serde_json::to_string(&Self { shutdown_timeout_seconds, since: Time(since), instead_of }).ok()
    }

    /// The shutdown timeout that it applies, unless the policy has changed its own. `settings` has the policy with
    /// `recommendations: Apply`, and the values of annotations and policies.
    pub(super) fn setting(
        &self,
        workload: &Workload<'_>,
        settings: &Settings,
        native_sleep: bool,
    ) -> Option<Setting<i64>> {
        let Setting { value: own, from } = &settings.shutdown_timeout_seconds;
        if !from.is_annotation() && self.instead_of.is_some_and(|replaced| replaced != *own) {
            return None;
        }
        let value = within_bounds(self.shutdown_timeout_seconds, workload, settings, native_sleep);
        let policy = settings.recommendations.from.clone();
        Some(Setting { value, from: Source::Recommendation(Box::new(policy)) })
    }
}

/// The nearest shutdown timeout within the bounds of the policy and the maximum grace period, in seconds.
pub(super) fn within_bounds(
    seconds: i64,
    workload: &Workload<'_>,
    settings: &Settings,
    native_sleep: bool,
) -> i64 {
    let RecommendationBounds { min_seconds, max_seconds } = settings.recommendation_bounds.value;
    let seconds = seconds
        .max(min_seconds.unwrap_or(defaults::MIN_RECOMMENDATION_SECONDS))
        .min(max_seconds.unwrap_or(limits::SHUTDOWN_TIMEOUT_SECONDS));
    let mut settings = settings.clone();
    settings.shutdown_timeout_seconds.value = seconds;
    let own = original(&workload.template, None);
    let hooks = Hooks { settings: &settings, native_sleep };
    let shortened = own["spec"].as_object().and_then(|spec| shortened_to_maximum(hooks, spec));
    shortened.map_or(seconds, |shortened| shortened.shutdown_timeout_seconds.value)
}

#[cfg(test)]
#[path = "applied_recommendation_tests.rs"]
mod tests;
