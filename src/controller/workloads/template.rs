//! Writes the pod template of a workload, within the slots of the scheduler.

use kube::{ResourceExt as _, core::DynamicObject, runtime::controller::Action};
use serde_json::Value;

use crate::{
    controller::{backoff::BlockReason, context::ReconcileContext, scheduling::ReservationGuard, write},
    index::{rollout_mark, template_hash},
    keys::WorkloadKey as Key,
    plan::{self, Evaluation, Kind, NamespaceContext, PodTemplate, RolloutTiming, Workload},
    runtime::metrics::ReconcileResult,
    scheduler::SlotRequest,
};

/// Writes the desired template, if it may be written now.
pub(super) async fn apply_template(
    kind: Kind,
    object: &DynamicObject,
    context: &ReconcileContext,
    evaluation: &Evaluation,
    namespace_context: &NamespaceContext,
) -> Result<Action, write::Error> {
    let key = Key::of(kind, object);
    let Some(desired) = &evaluation.template else {
        context.unblock(&key);
        context.history.observe(&key, &object.data["spec"]["template"]);
        context.count(kind, ReconcileResult::Unchanged);
        return Ok(Action::await_change());
    };
    let slot = match permission(object, context, &key, evaluation, desired) {
        Ok(slot) => slot,
        Err(action) => return Ok(action),
    };
    let written = match write_template(kind, object, context, desired, slot).await? {
        Ok(written) => written,
        Err(action) => return Ok(action),
    };
    context.replica.while_leading(write::drop_managed_fields(&context.client, kind, &written)).await;
    let left = plan::evaluate(&Workload::of(kind, &written), namespace_context);
    if left.template.is_some() {
        let message = "another admission webhook or policy reverted the write";
        return Ok(context.block_and_retry(kind, object, BlockReason::InjectionReverted, message.into()));
    }
    context.unblock(&key);
    context.history.record(key, desired, &written.data["spec"]["template"]);
    context.events.injected(kind, object, desired, evaluation);
    let (namespace, name) = (object.namespace(), object.name_any());
    tracing::info!(%kind, namespace, name, timing = ?evaluation.timing, "wrote pod template");
    context.count(kind, ReconcileResult::Patched);
    Ok(Action::await_change())
}

/// The permission to write a template now, with the slot that a queued workload needs. Without it, when to reconcile again.
fn permission<'a>(
    object: &DynamicObject,
    context: &'a ReconcileContext,
    key: &Key,
    evaluation: &Evaluation,
    desired: &Value,
) -> Result<Option<ReservationGuard<'a>>, Action> {
    match evaluation.timing {
        RolloutTiming::Immediate | RolloutTiming::Queued => {}
        RolloutTiming::DryRun => {
            context.unblock(key);
            context.events.would_inject(key.kind, object, desired, evaluation);
            context.count(key.kind, ReconcileResult::Audit);
            return Err(Action::await_change());
        }
        RolloutTiming::NextUpdate => {
            context.unblock(key);
            context.count(key.kind, ReconcileResult::Waiting);
            return Err(Action::await_change());
        }
    }
    if context.history.is_reverted_repeatedly(key, desired) {
        let message = "injected fields are being reverted (by a GitOps tool?) and the webhook is not called: check that \
                      the API server can reach it, or opt the workload out in Git";
        let reason = BlockReason::InjectionReverted;
        return Err(context.block_and_retry(key.kind, object, reason, message.into()));
    }
    if evaluation.timing == RolloutTiming::Immediate {
        return Ok(None);
    }
    let request = SlotRequest {
        uid: object.metadata.uid.as_deref(),
        generation: object.metadata.generation.unwrap_or(0),
        desired_template: template_hash(desired),
    };
    if let Some(slot) = context.scheduling.reserve(key, request) {
        return Ok(Some(slot));
    }
    let is_outdated = context.index.get(key).is_some_and(|evaluated| {
        evaluated.rollout.generation.unwrap_or(0) == request.generation
            && evaluated.desired.desired_template != Some(request.desired_template)
    });
    if is_outdated {
        // Not every change is marked, such as that an object can be used again that may lead requests to its pods.
        context.caches.dirty().namespace(&key.namespace);
    }
    context.count(key.kind, ReconcileResult::Waiting);
    // The scheduler requeues it when it may roll out.
    Err(Action::await_change())
}

/// Writes the template, and commits or releases the slot by the outcome. The written object, or when to retry.
async fn write_template(
    kind: Kind,
    object: &DynamicObject,
    context: &ReconcileContext,
    desired: &Value,
    slot: Option<ReservationGuard<'_>>,
) -> Result<Result<DynamicObject, Action>, write::Error> {
    // The permission to write may be gone since the decision.
    let mark = slot.as_ref().and_then(|_| rollout_mark(&PodTemplate::new(desired)));
    let written = context.write(write::template(&context.client, kind, object, desired, mark)).await;
    match (&written, slot) {
        (Some(Ok(written)), Some(slot)) => slot.commit(written),
        // The slot is kept until the workload is observed.
        (Some(Err(error)), slot) if error.is_outcome_unknown() => drop(slot),
        (_, Some(slot)) => slot.release(),
        (_, None) => {}
    }
    let key = Key::of(kind, object);
    let conflicts_always = || context.backoff.is_blocked(&key) || context.backoff.conflicted(key.clone());
    match written {
        None => Ok(Err(Action::await_change())),
        Some(Err(error)) if !error.is_outcome_unknown() && error.is_rejection() => {
            Ok(Err(context.block_and_retry(kind, object, BlockReason::WriteRejected, error.to_string())))
        }
        Some(Err(error)) if error.is_conflict() && conflicts_always() => {
            let message = "writes conflict because another client keeps updating this object: find it with kubectl get -o yaml \
                 --show-managed-fields";
            Ok(Err(context.block_and_retry(kind, object, BlockReason::WriteConflict, message.into())))
        }
        Some(written) => written.map(Ok),
    }
}
