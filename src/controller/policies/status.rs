//! The status of a policy.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{
    builder::StatusBuilder,
    conditions::{blocked, conflicted, ready, stalled},
    kind::Policy,
};
use crate::{
    api::{EffectiveValues, GracefulPolicyStatus, limits, merge_condition},
    controller::{failed_rollout_status, keys::policy_key},
    scheduler::PolicyStatus,
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
        ("Ready", ready::<P>(&builder, policy.spec(), effective.mode)),
        ("Conflicted", conflicted(&builder)),
        ("Stalled", stalled(&builder, P::OF_CLUSTER)),
        ("Blocked", blocked(&builder)),
    ] {
        let condition = Condition {
            type_: type_.into(),
            status: if update.is_true { "True" } else { "False" }.into(),
            reason: update.reason.into(),
            message: shortened(update.message),
            observed_generation: policy.meta().generation,
            last_transition_time: Time(now),
        };
        merge_condition(&mut conditions, condition);
    }
    // adieu's come last. If there are too many, those of other clients are dropped.
    let excess = conditions.len().saturating_sub(limits::CONDITIONS);
    conditions.drain(..excess);
    let key = policy_key(&policy.meta().namespace.clone().unwrap_or_default(), &policy.source());
    let PolicyStatus { failures, superseded, .. } = &builder.rollouts;
    GracefulPolicyStatus {
        observed_generation: policy.meta().generation,
        effective: Some(effective),
        workloads: Some(builder.counts),
        failed_rollouts: failed_rollout_status::recorded(&key, failures, superseded),
        conditions,
    }
}

/// A message within the limit of the status: the reason of a denial can have any length.
fn shortened(mut message: String) -> String {
    const CUT: char = '…';
    if let Some((end, _)) = message.char_indices().nth(limits::MESSAGE_LENGTH - 1)
        && message[end..].chars().nth(1).is_some()
    {
        message.truncate(end);
        message.push(CUT);
    }
    message
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
