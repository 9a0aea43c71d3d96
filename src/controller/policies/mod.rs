//! Writes the status of policies: how many workloads each applies to, and the state of their rollouts.

mod builder;
mod conditions;
mod status;

use std::{sync::Arc, time::Duration};

use builder::{Blockers, StatusBuilder};
use futures::{StreamExt as _, future::ready, stream};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams, Request},
    runtime::{Config, Controller, controller::Action, watcher},
};
use serde_json::json;
use status::status;

use super::{
    context::ReconcileContext,
    pace::{WaitingItems, paced},
    policy::Policy,
};
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy, GracefulPolicyStatus},
    keys::PolicyKey,
    plan,
    runtime::client,
};

/// How long changes of a policy's workloads are collected before its status is written: a rollout has a dozen.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// How many policies of a kind are reconciled at a time: each write and its response take memory.
const CONCURRENCY: u16 = 8;
/// How long after a failure the next attempt is made, and after a conflict: by then the cache has the present version.
const RETRY_WAIT: Duration = Duration::from_secs(10);
const CONFLICT_WAIT: Duration = Duration::from_secs(1);

/// Writes the status of every policy of both kinds.
pub(super) async fn control(context: Arc<ReconcileContext>) {
    tokio::join!(
        control_kind::<GracefulPolicy>(context.clone()),
        control_kind::<ClusterGracefulPolicy>(context),
    );
}

async fn control_kind<P: Policy>(context: Arc<ReconcileContext>) {
    let changed = context.index.changed_policies(P::CLUSTER_SCOPED).stream(DEBOUNCE);
    let store = P::store(&context.caches).clone();
    let is_needed = move |policy: &PolicyKey| store.get(&P::reference(policy)).is_some();
    let waiting = WaitingItems { namespace: PolicyKey::namespace, is_needed: Box::new(is_needed) };
    let changed = paced(changed, waiting, context.pace.clone());
    // The next leader must find them, so they don't wait for others.
    let failures = context.scheduling.changed_failures(P::CLUSTER_SCOPED).stream(DEBOUNCE);
    // The caches watch the policies already.
    Controller::for_stream(stream::pending::<Result<P, watcher::Error>>(), P::store(&context.caches).clone())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(changed.map(|policy| P::reference(&policy)))
        .reconcile_on(failures.map(|policy| P::reference(&policy)))
        .reconcile_all_on(context.permissions())
        .run(reconcile_catching_panics::<P>, error_policy, context)
        .for_each(|_| ready(()))
        .await;
}

/// Reconciles a policy. A panic is a failed attempt.
async fn reconcile_catching_panics<P: Policy>(
    policy: Arc<P>,
    context: Arc<ReconcileContext>,
) -> Result<Action, kube::Error> {
    context.attempt(policy.key().kind(), reconcile(policy, context.clone())).await.unwrap_or_else(Err)
}

async fn reconcile<P: Policy>(policy: Arc<P>, context: Arc<ReconcileContext>) -> Result<Action, kube::Error> {
    if !context.replica.is_leader() {
        return Ok(Action::await_change());
    }
    let key = policy.key();
    // Before its workloads are evaluated a policy matches none, and would be ready. The index requeues it then.
    if !context.index.has_applied(&key, policy.meta()) {
        return Ok(Action::await_change());
    }
    let is_stopped = |policy: &PolicyKey, namespace: &str| context.scheduling.is_stopped(policy, namespace);
    let blockers = Blockers { is_stopped: &is_stopped, backoff: &context.backoff };
    let mut builder = StatusBuilder::of(&key, &context.index.of_policy(&key), &blockers);
    let matched = usize::try_from(builder.counts.matched).unwrap_or_default();
    // The failures that the previous leader recorded are restored before they are overwritten.
    let Some(failures) = context.scheduling.failures_of(&key, matched) else {
        return Ok(Action::await_change());
    };
    builder.set_failures(failures);
    let namespace_context = if P::CLUSTER_SCOPED {
        context.caches.cluster_wide_context()
    } else {
        context.caches.namespace_context(key.namespace())
    };
    let effective = plan::effective(policy.spec(), &namespace_context);
    let status = status(&*policy, builder, effective, Timestamp::now());
    if policy.status() == Some(&status) {
        return Ok(Action::await_change());
    }
    // The previous leader may have written after the version in the cache.
    let metadata = json!({"resourceVersion": policy.resource_version()});
    let patch = Patch::Merge(json!({"metadata": metadata, "status": status}));
    let request = Request::new(P::url_path(&(), policy.namespace().as_deref()));
    let request = request.patch_subresource("status", &policy.name_any(), &PatchParams::default(), &patch);
    let Some(written) = context.replica.while_leading(client::send(&context.client, request)).await else {
        return Ok(Action::await_change());
    };
    written?;
    if let Some(stalled) = newly_true(policy.status(), &status, "Stalled") {
        context.events.stalled(&policy.object_ref(&()), stalled.message.clone());
    }
    Ok(Action::await_change())
}

/// The condition of a type, if it has become true.
fn newly_true<'a>(
    before: Option<&GracefulPolicyStatus>,
    now: &'a GracefulPolicyStatus,
    type_: &str,
) -> Option<&'a Condition> {
    let is_true = |condition: &&Condition| condition.type_ == type_ && condition.status == "True";
    let was_true = before.is_some_and(|before| before.conditions.iter().any(|condition| is_true(&condition)));
    now.conditions.iter().find(is_true).filter(|_| !was_true)
}

fn error_policy<P>(_: Arc<P>, error: &kube::Error, _: Arc<ReconcileContext>) -> Action {
    match error {
        // A policy that was deleted meanwhile has no status.
        kube::Error::Api(status) if status.code == 404 => return Action::await_change(),
        kube::Error::Api(status) if status.code == 409 => return Action::requeue(CONFLICT_WAIT),
        _ => {}
    }
    tracing::warn!(%error, "cannot write the status of a policy, retrying");
    Action::requeue(RETRY_WAIT)
}

#[cfg(test)]
mod tests;
