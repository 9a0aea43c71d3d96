//! Reconciles workloads: those of each kind are followed by a watch and brought to their plan.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future::ready};
use kube::{
    ResourceExt as _,
    core::DynamicObject,
    runtime::{Controller, Predicate as _, WatchStreamExt as _, controller::Action, predicates},
};
use tokio_util::sync::CancellationToken;

use super::{Context, events, write};
use crate::{
    plan::{self, Kind, When, Workload},
    runtime::{
        metrics::{KindLabel, ReconcileLabels, ReconcileResult},
        workloads::{Events, resource},
    },
};

/// How long a workload waits before it asks again whether it is its turn.
const WAIT: Duration = Duration::from_secs(5);
/// How long after a conflict the next attempt is made.
const CONFLICT_WAIT: Duration = Duration::from_secs(1);
/// How long after any other failure the next attempt is made.
const FAILURE_WAIT: Duration = Duration::from_secs(30);

/// Reconciles the workloads of one kind until `shutdown`.
pub(super) async fn control(kind: Kind, events: Events, context: Arc<Context>, shutdown: CancellationToken) {
    let store = context.caches.workloads().of(kind).clone();
    // Status alone changes no plan; who waits for a rollout asks again by itself.
    let changes = events.predicate_filter(
        predicates::generation.combine(predicates::annotations),
        kube::runtime::PredicateConfig::default(),
    );
    Controller::for_stream_with(changes, store, resource(kind))
        .reconcile_all_on(context.caches.policy_changes())
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(
            move |object, context| reconcile(kind, object, context),
            move |_, error, context| retry(kind, error, &context),
            context,
        )
        .for_each(|_| ready(()))
        .await;
}

async fn reconcile(
    kind: Kind,
    object: Arc<DynamicObject>,
    context: Arc<Context>,
) -> Result<Action, write::Error> {
    let count = |result| {
        let labels = ReconcileLabels { kind: KindLabel(kind.as_str()), result };
        context.metrics.reconciles.get_or_create(&labels).inc();
    };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if object.metadata.managed_fields.as_ref().is_some_and(|ours| !ours.is_empty()) {
        write::give_up_leftovers(&context.client, kind, &object).await?;
    }
    let namespace = object.namespace().unwrap_or_default();
    let surroundings = context.caches.surroundings(&namespace);
    let workload = Workload::of(kind, &object);
    let convergence = plan::converge(&workload, &surroundings);
    context.told.tell(&context.recorder, kind, &object, &convergence).await;
    let Some(planned) = &convergence.template else {
        count(ReconcileResult::Unchanged);
        return Ok(Action::await_change());
    };

    let turn = match convergence.when {
        When::AtOnce => None,
        When::Observed => {
            events::would_inject(&context.recorder, kind, &object, planned, &convergence).await;
            count(ReconcileResult::Observed);
            return Ok(Action::await_change());
        }
        When::NextUpdate => {
            count(ReconcileResult::Waiting);
            return Ok(Action::await_change());
        }
        When::InTurn => {
            let policies = plan::concerning(&workload, &convergence.resolution);
            let limit = convergence.resolution.settings.rollout.value.max_concurrent.unwrap_or(1);
            let limit = usize::try_from(limit).unwrap_or(1);
            let turn = context.turns.ask(&context, kind, &object, &policies, limit).await;
            if turn.is_none() {
                count(ReconcileResult::Waiting);
                return Ok(Action::requeue(WAIT));
            }
            turn
        }
    };
    let written = write::template(&context.client, kind, &object, planned).await?;
    if let Some(turn) = turn {
        turn.take(kind, &written);
    }
    let left = plan::converge(&Workload::of(kind, &written), &surroundings);
    if left.template.is_some() {
        count(ReconcileResult::Undone);
        tracing::warn!(%kind, namespace, name = object.name_any(), "another webhook undid the write, trying again");
        return Ok(Action::requeue(FAILURE_WAIT));
    }
    events::injected(&context.recorder, kind, &object, planned, &convergence).await;
    tracing::info!(%kind, namespace, name = object.name_any(), when = ?convergence.when, "brought to its plan");
    count(ReconcileResult::Patched);
    Ok(Action::await_change())
}

fn retry(kind: Kind, error: &write::Error, context: &Context) -> Action {
    let labels = ReconcileLabels { kind: KindLabel(kind.as_str()), result: ReconcileResult::Failed };
    context.metrics.reconciles.get_or_create(&labels).inc();
    if error.is_conflict() {
        // Somebody else wrote: the watch brings what they wrote, and this is for the case that it did
        // already.
        return Action::requeue(CONFLICT_WAIT);
    }
    tracing::warn!(%kind, %error, "not brought to its plan, trying again");
    Action::requeue(FAILURE_WAIT)
}
