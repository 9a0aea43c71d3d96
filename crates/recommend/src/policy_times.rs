//! The times in policies, and those that follow from policies.

use std::{collections::BTreeMap, sync::Arc};

use adieu_core::{
    api::{
        ClusterGracefulPolicy, DrainSeconds, GracefulPolicy, GracefulPolicySpec, annotations::POLICY,
        defaults, limits,
    },
    plan::{NamespaceContext, Resolution, Workload, resolve},
};
use kube::core::ObjectMeta;
use serde_json::json;

use crate::{candidate::Candidate, times::Times};

/// The label of recommended policies that are not those of a user.
pub const RECOMMENDED: &str = "adieu.dev/recommended";
/// The value of [`RECOMMENDED`].
const TRUE: &str = "true";

/// Whether the policy with this metadata is from an earlier recommendation.
#[must_use]
pub fn is_recommended(metadata: &ObjectMeta) -> bool {
    let value = metadata.labels.as_ref().and_then(|labels| labels.get(RECOMMENDED));
    value.is_some_and(|value| value == TRUE)
}

/// Labels a policy as recommended.
pub(crate) fn label(metadata: &mut ObjectMeta) {
    metadata.labels.get_or_insert_default().insert(RECOMMENDED.to_owned(), TRUE.to_owned());
}

/// The context of a namespace with these policies only.
pub(crate) fn context_of(
    policies: Vec<Arc<GracefulPolicy>>,
    cluster_policies: &[Arc<ClusterGracefulPolicy>],
) -> NamespaceContext {
    NamespaceContext { policies, cluster_policies: cluster_policies.to_vec(), ..NamespaceContext::default() }
}

/// Resolves the settings of a workload, without its annotations except that with the name of a policy.
pub(crate) fn resolved(
    candidate: &Candidate,
    policy: Option<&str>,
    context: &NamespaceContext,
) -> Resolution {
    let annotations: BTreeMap<String, String> =
        policy.map(|name| (POLICY.to_owned(), name.to_owned())).into_iter().collect();
    let template = json!({"metadata": {"labels": candidate.labels}});
    resolve(&Workload::new(candidate.key.kind, &annotations, &template), context)
}

/// The times that apply to a workload, both of them.
pub(crate) fn times(resolution: &Resolution) -> Times {
    let settings = &resolution.settings;
    Times {
        drain_seconds: Some(settings.drain_seconds.value),
        shutdown_timeout_seconds: Some(settings.shutdown_timeout_seconds.value),
    }
}

/// A drain as the value of a policy's field.
fn drain(seconds: i64) -> DrainSeconds {
    seconds.into()
}

/// Sets the times of a policy.
pub(crate) fn set(spec: &mut GracefulPolicySpec, times: Times) {
    if let Some(seconds) = times.drain_seconds {
        spec.drain_seconds = Some(drain(seconds));
    }
    if let Some(seconds) = times.shutdown_timeout_seconds {
        spec.shutdown_timeout_seconds = Some(seconds);
    }
}

/// Raises the maximum of the grace period if the times of a policy exceed it: the API server would reject the policy, or
/// nothing would be injected.
pub(crate) fn raise_maximum(spec: &mut GracefulPolicySpec, resolution: &Resolution) {
    let settings = &resolution.settings;
    let required = settings
        .drain_seconds
        .value
        .saturating_add(settings.shutdown_timeout_seconds.value)
        .saturating_add(settings.margin_seconds.value)
        .min(limits::MAX_GRACE_PERIOD_SECONDS);
    let own = spec.max_grace_period_seconds;
    let sets_times = spec.drain_seconds.is_some() || spec.shutdown_timeout_seconds.is_some();
    let is_rejected = sets_times && required > own.unwrap_or(defaults::MAX_GRACE_PERIOD_SECONDS);
    let is_too_long = required > settings.max_grace_period_seconds.value;
    if (is_rejected || is_too_long) && own.is_none_or(|own| own < required) {
        spec.max_grace_period_seconds = Some(required);
    }
}
