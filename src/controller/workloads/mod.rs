//! Reconciles the workloads of each kind.

mod template;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, future::ready, stream};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time},
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Resource as _, ResourceExt as _,
    core::DynamicObject,
    runtime::{Config, Controller, controller::Action, reflector::ObjectRef},
};
use template::apply_template;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    context::ReconcileContext,
    pace::{WaitingItems, paced},
    pod_disruption_budgets, write,
};
use crate::{
    api::annotations::APPLIED_RECOMMENDATION,
    index::{
        cached_workload::CachedWorkload,
        workloads::{Events, reference},
    },
    keys::WorkloadKey as Key,
    plan::{self, Evaluation, Kind, NamespaceContext, OptIn, RecommendationChange, RolloutTiming, Workload},
    runtime::metrics::ReconcileResult,
    scheduler::progress::{RolloutState, rollout_state},
};

/// How many workloads of a kind are reconciled at a time: more make the API server no faster, and each takes
/// memory until it answers.
const CONCURRENCY: u16 = 16;
/// How many workloads of a kind are requeued together when writes become permitted, and the time in between: the queue of
/// kube-runtime keeps the memory of its largest size.
const REQUEUED_TOGETHER: usize = 64;
const REQUEUE_INTERVAL: Duration = Duration::from_millis(20);
/// How long after a rejected write of a PodDisruptionBudget or an annotation the next attempt is made.
const REJECTED_WAIT: Duration = Duration::from_mins(1);
/// How old an entry in managedFields is that an interrupted write left. The write itself removes a newer one, and
/// the watch is late.
const LEFTOVER_AGE: Duration = Duration::from_secs(3);

/// Reconciles the workloads of one kind until `shutdown`.
pub(super) async fn control(
    kind: Kind,
    events: Events,
    context: Arc<ReconcileContext>,
    shutdown: CancellationToken,
) {
    let store = context.caches.workloads().store(kind).clone();
    let others = context.index.other_changes(kind).stream(Duration::ZERO);
    let (workloads, index) = (context.caches.workloads().clone(), context.index.clone());
    let is_needed = move |key: &Key| {
        if !workloads.contains(key) {
            index.drop_waiting(key);
        }
        index.is_waiting(key)
    };
    let waiting = WaitingItems { namespace: |key: &Key| &key.namespace, is_needed: Box::new(is_needed) };
    // Those that are skipped are requeued when writes become permitted.
    let permitted = context.clone();
    let events = events.filter(move |event| ready(event.is_err() || permitted.may_write()));
    Controller::for_stream_with(events, store, kind)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(context.index.urgent_changes(kind).stream(Duration::ZERO).map(|key| reference(&key)))
        .reconcile_on(paced(others, waiting, context.pace.clone()).map(|key| reference(&key)))
        .reconcile_on(all_once_permitted(kind, context.clone()))
        .reconcile_on(context.scheduling.runnable(kind))
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(
            move |cached, context| reconcile_catching_panics(kind, cached, context),
            move |cached, error, context| error_policy(kind, &cached, error, &context),
            context,
        )
        .for_each(|_| ready(()))
        .await;
}

/// All workloads of a kind whenever writes become permitted.
fn all_once_permitted(
    kind: Kind,
    context: Arc<ReconcileContext>,
) -> impl Stream<Item = ObjectRef<CachedWorkload>> + Send + use<> {
    context.permissions().flat_map(move |()| {
        let store = context.caches.workloads().store(kind);
        let workloads = if context.may_write() { store.state() } else { vec![] };
        let references = workloads.into_iter().map(move |cached| ObjectRef::from_obj_with(&*cached, kind));
        let batches = stream::iter(references).chunks(REQUEUED_TOGETHER).then(|batch| async move {
            sleep(REQUEUE_INTERVAL).await;
            stream::iter(batch)
        });
        batches.flatten()
    })
}

/// Reconciles a workload. A panic is a failed attempt.
async fn reconcile_catching_panics(
    kind: Kind,
    cached: Arc<CachedWorkload>,
    context: Arc<ReconcileContext>,
) -> Result<Action, write::Error> {
    let reconciled = Box::pin(reconcile_cached(kind, cached.clone(), context.clone()));
    context
        .attempt(kind.as_str(), reconciled)
        .await
        .unwrap_or_else(|panic| Err(write::Error::new(kind, &cached.object(), panic)))
}

/// Reconciles a workload if it may be written, and resets its back-off.
async fn reconcile_cached(
    kind: Kind,
    cached: Arc<CachedWorkload>,
    context: Arc<ReconcileContext>,
) -> Result<Action, write::Error> {
    if !context.may_write() || cached.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let _memory = context.memory.reserve(&cached).await;
    let object = cached.object();
    let key = Key::of(kind, &object);
    // What follows takes every change until now into account.
    context.index.drop_waiting(&key);
    if cached.too_large().is_some() {
        // The cached object is a stub, and is never written.
        context.unblock(&key);
        return Ok(Action::await_change());
    }
    let action = reconcile(kind, &object, &context).await?;
    context.backoff.reset(&key);
    Ok(action)
}

async fn reconcile(
    kind: Kind,
    object: &DynamicObject,
    context: &ReconcileContext,
) -> Result<Action, write::Error> {
    let namespace = object.namespace().unwrap_or_default();
    if !context.caches.are_policies_known(&namespace) {
        // The index requeues it once it is evaluated.
        return Ok(Action::await_change());
    }
    let namespace_context = context.caches.namespace_context(&namespace);
    let workload = Workload::of(kind, object);
    let mut evaluation = plan::evaluate(&workload, &namespace_context);
    let is_mentioned = evaluation.resolution.opt_in != OptIn::Unspecified;
    if !is_mentioned && namespace_context.has_unusable_policy {
        // That policy may be the one that manages it: its injection stays. The index requeues it once the policy is used.
        return Ok(Action::await_change());
    }
    let missed = plan::missed_warnings(&workload, &evaluation, &namespace_context);
    evaluation.warnings.extend(missed);
    let short_drain = plan::short_drain(&workload, &evaluation.resolution)
        .map(|short| short.to_string())
        .filter(|short| evaluation.warnings.contains(short));
    let others = evaluation.warnings.iter().filter(|warning| Some(*warning) != short_drain.as_ref());
    context.events.warn_once(kind, object, "Degraded", others.cloned());
    context.events.warn_once(kind, object, "DrainTooShort", short_drain);
    let action = apply_template(kind, object, context, &evaluation, &namespace_context).await?;
    let budget =
        pod_disruption_budgets::reconcile(&context.client, &context.caches, kind, object, &evaluation);
    let Some(budget) = context.write(budget).await else { return Ok(Action::await_change()) };
    let budget = budget.map_err(|source| write::Error::new(kind, object, source));
    let rejected = budget.as_ref().err().filter(|error| error.is_rejection());
    context.events.warn_once(kind, object, "Blocked", rejected.map(ToString::to_string));
    if rejected.is_some() {
        return Ok(Action::requeue(REJECTED_WAIT));
    }
    budget?;
    // From here on the resourceVersion changes, which is the precondition of a write.
    let annotations = annotation_changes(kind, object, context, &evaluation, &namespace_context);
    if !annotations.changes.is_empty() {
        let rejected = write_annotations(kind, object, context, &annotations).await?;
        return Ok(rejected.unwrap_or(action));
    }
    let leftover = object.metadata.managed_fields.iter().flatten().next().map(age);
    if leftover.is_some_and(|age| age >= LEFTOVER_AGE) {
        let dropped = context.write(write::drop_leftover_fields(&context.client, kind, object)).await;
        dropped.unwrap_or(Ok(()))?;
    }
    if action != Action::await_change() {
        return Ok(action);
    }
    Ok(leftover.map_or(action, |_| Action::requeue(LEFTOVER_AGE)))
}

/// The changes of adieu's annotations on the workload itself.
#[derive(Default)]
struct AnnotationChanges {
    /// The values to write, and `None` for annotations to remove.
    changes: BTreeMap<&'static str, Option<String>>,
    /// The recommendation that they apply.
    applied: Option<RecommendationChange>,
}

fn annotation_changes(
    kind: Kind,
    object: &DynamicObject,
    context: &ReconcileContext,
    evaluation: &Evaluation,
    namespace_context: &NamespaceContext,
) -> AnnotationChanges {
    // The write of a template removes the annotation of a workload that waited for it.
    let is_written = evaluation.template.is_some()
        && matches!(evaluation.timing, RolloutTiming::Immediate | RolloutTiming::Queued);
    if is_written {
        return AnnotationChanges::default();
    }
    let (workload, resolution) = (Workload::of(kind, object), &evaluation.resolution);
    // Another change of the template would hide that a rollout failed. The index requeues the workload once it is complete.
    let may_apply = resolution.applies && rollout_state(kind, object) == RolloutState::Complete;
    let recommended = || context.recommendations.get(&Key::of(kind, object), object.metadata.uid.as_deref());
    let recommendation = if may_apply { recommended() } else { None };
    let applied = recommendation.and_then(|recommendation| {
        let native_sleep = namespace_context.native_sleep;
        plan::recommendation_change(&workload, resolution, &recommendation, native_sleep, Timestamp::now())
    });
    let mut changes = plan::annotation_changes(&workload, evaluation, namespace_context);
    changes.extend(applied.iter().map(|applied| (APPLIED_RECOMMENDATION, Some(applied.annotation.clone()))));
    AnnotationChanges { changes, applied }
}

/// Writes annotations. When to retry a write that was rejected.
async fn write_annotations(
    kind: Kind,
    object: &DynamicObject,
    context: &ReconcileContext,
    annotations: &AnnotationChanges,
) -> Result<Option<Action>, write::Error> {
    let changes = &annotations.changes;
    match context.write(write::set_annotations(&context.client, kind, object, changes)).await {
        Some(Err(error)) if error.is_rejection() => {
            tracing::warn!(%error, "cannot write adieu's annotations, retrying");
            return Ok(Some(Action::requeue(REJECTED_WAIT)));
        }
        Some(written) => written?,
        None => return Ok(None),
    }
    if let Some(applied) = &annotations.applied {
        context.events.recommendation_applied(kind, object, applied);
    }
    Ok(None)
}

/// The time between now and the write of an entry in managedFields. A wrong clock may have written it in the future.
fn age(entry: &ManagedFieldsEntry) -> Duration {
    let written = entry.time.as_ref().map(|Time(written)| Timestamp::now().duration_since(*written));
    written.map_or(Duration::MAX, SignedDuration::unsigned_abs)
}

fn error_policy(
    kind: Kind,
    cached: &CachedWorkload,
    error: &write::Error,
    context: &ReconcileContext,
) -> Action {
    // After a conflict the watch usually requeues the workload.
    let is_conflict = error.is_conflict();
    if !is_conflict {
        tracing::warn!(%kind, %error, "reconciliation failed, retrying");
    }
    context.count(kind, if is_conflict { ReconcileResult::Conflict } else { ReconcileResult::ApiError });
    Action::requeue(context.backoff.failed(Key::of(kind, &cached.metadata_only())))
}

#[cfg(test)]
mod control_tests;
#[cfg(test)]
mod missed_warnings_tests;
#[cfg(test)]
mod recommendation_tests;
#[cfg(test)]
mod tests;
