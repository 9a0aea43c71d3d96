//! The status of a policy.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{
    builder::StatusBuilder,
    conditions::{blocked, conflicted, drain_too_short, ready, stalled},
};
use crate::{
    api::{EffectiveValues, GracefulPolicyStatus, limits, merge_condition},
    controller::{failed_rollout_status, policy::Policy},
    scheduler::PolicyFailures,
    text::truncate_chars,
};

/// The status of the policy. Equal to the current one if nothing changed.
pub(super) fn status<P: Policy>(
    policy: &P,
    builder: StatusBuilder,
    effective: EffectiveValues,
    now: Timestamp,
) -> GracefulPolicyStatus {
    let mut conditions = policy.status().cloned().unwrap_or_default().conditions;
    for (type_, update) in [
        ("Ready", ready(&builder, policy.spec(), effective.mode)),
        ("Conflicted", conflicted(&builder)),
        ("Stalled", stalled(&builder)),
        ("Blocked", blocked(&builder)),
        ("DrainTooShort", drain_too_short(&builder)),
    ] {
        let condition = Condition {
            type_: type_.into(),
            status: if update.is_true { "True" } else { "False" }.into(),
            reason: update.reason.into(),
            // The reason of a denial can have any length.
            message: truncate_chars(&update.message, limits::MESSAGE_LENGTH).into_owned(),
            observed_generation: policy.meta().generation,
            last_transition_time: Time(now),
        };
        merge_condition(&mut conditions, condition);
    }
    // adieu's come last. If there are too many, those of other clients are dropped.
    let excess = conditions.len().saturating_sub(limits::CONDITIONS);
    conditions.drain(..excess);
    let PolicyFailures { current, superseded, .. } = &builder.failures;
    GracefulPolicyStatus {
        observed_generation: policy.meta().generation,
        effective: Some(effective),
        workloads: Some(builder.counts),
        failed_rollouts: failed_rollout_status::recorded(&policy.key(), current, superseded),
        conditions,
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
