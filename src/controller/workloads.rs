//! Reconciles workloads: those of each kind are followed by a watch and brought to their plan.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future::ready};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time},
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Resource as _, ResourceExt as _,
    core::DynamicObject,
    runtime::{Config, Controller, Predicate as _, WatchStreamExt as _, controller::Action, predicates},
};
use tokio_util::sync::CancellationToken;

use super::{Context, budgets, turns, write};
use crate::{
    plan::{self, Convergence, Kind, Surroundings, When, Workload},
    runtime::{
        kept::Kept,
        metrics::{KindLabel, ReconcileLabels, ReconcileResult},
        workloads::{Events, resource},
    },
};

/// How many workloads of a kind are reconciled at a time: more make the API server no faster, and each takes
/// memory until it answers.
const AT_A_TIME: u16 = 16;
/// How long a workload waits before it asks again whether it is its turn.
const WAIT: Duration = Duration::from_secs(5);
/// How long after a conflict the next attempt is made.
const CONFLICT_WAIT: Duration = Duration::from_secs(1);
/// How long after the API server couldn't be reached the next attempt is made.
const FAILURE_WAIT: Duration = Duration::from_secs(10);

/// How long after a PodDisruptionBudget was refused the next attempt is made.
const REFUSED_WAIT: Duration = Duration::from_mins(1);

/// After how long an entry in managedFields is a leftover of an interrupted write: as a rule the same write
/// has given it up, and the watch has yet to say so.
const LEFT_WAIT: Duration = Duration::from_secs(3);

/// Reconciles the workloads of one kind until `shutdown`.
pub(super) async fn control(kind: Kind, events: Events, context: Arc<Context>, shutdown: CancellationToken) {
    let store = context.caches.workloads().of(kind).clone();
    // Status alone changes no plan; who waits for a rollout asks again by itself.
    let changes = events.predicate_filter(
        predicates::generation.combine(predicates::annotations),
        kube::runtime::PredicateConfig::default(),
    );
    Controller::for_stream_with(changes, store, resource(kind))
        .with_config(Config::default().concurrency(AT_A_TIME))
        .reconcile_all_on(context.caches.policy_changes())
        .reconcile_all_on(context.permissions())
        .reconcile_all_on(context.caches.budget_changes())
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(
            move |object, context| reconcile(kind, object, context),
            move |_, error, context| retry(kind, error, &context),
            context,
        )
        .for_each(|_| ready(()))
        .await;
}

async fn reconcile(kind: Kind, kept: Arc<Kept>, context: Arc<Context>) -> Result<Action, write::Error> {
    if !context.writes() || kept.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let object = kept.object();
    let left = object.metadata.managed_fields.iter().flatten().next().map(age);
    if left.is_some_and(|age| age >= LEFT_WAIT) {
        write::give_up_leftovers(&context.client, kind, &object).await?;
    }
    let surroundings = context.caches.surroundings(&object.namespace().unwrap_or_default());
    let convergence = plan::converge(&Workload::of(kind, &object), &surroundings);
    context.outbox.degraded(kind, &object, &convergence);
    let action = bring_to_plan(kind, &object, &context, &convergence, &surroundings).await?;
    let kept = budgets::keep(&context.client, &context.caches, kind, &object, &convergence).await;
    let kept = kept.map_err(|source| write::Error::new(kind, &object, source));
    let refused = kept.as_ref().is_err_and(write::Error::is_refusal);
    context.outbox.budget_refused(kind, &object, kept.as_ref().err().filter(|_| refused));
    let looks_again = action != Action::await_change();
    if refused {
        return Ok(if looks_again { action } else { Action::requeue(REFUSED_WAIT) });
    }
    kept?;
    Ok(if left.is_some() && !looks_again { Action::requeue(LEFT_WAIT) } else { action })
}

/// How long ago an entry of managedFields was written, or will be by a clock that goes wrong.
fn age(entry: &ManagedFieldsEntry) -> Duration {
    let written = entry.time.as_ref().map(|Time(written)| Timestamp::now().duration_since(*written));
    written.map_or(Duration::MAX, SignedDuration::unsigned_abs)
}

/// Writes the template, when it is time.
async fn bring_to_plan(
    kind: Kind,
    object: &DynamicObject,
    context: &Context,
    convergence: &Convergence,
    surroundings: &Surroundings,
) -> Result<Action, write::Error> {
    let count = |result| {
        let labels = ReconcileLabels { kind: KindLabel(kind.as_str()), result };
        context.metrics.reconciles.get_or_create(&labels).inc();
    };
    let (key, namespace) = (turns::key(kind, object), object.namespace());
    let Some(planned) = &convergence.template else {
        context.blocked.clear(&key);
        context.blocked.settled(&key, &object.data["spec"]["template"]);
        count(ReconcileResult::Unchanged);
        return Ok(Action::await_change());
    };

    let turn = match convergence.when {
        When::AtOnce => None,
        When::Observed => {
            context.outbox.would_inject(kind, object, planned, convergence);
            count(ReconcileResult::Observed);
            return Ok(Action::await_change());
        }
        When::NextUpdate => {
            count(ReconcileResult::Waiting);
            return Ok(Action::await_change());
        }
        When::InTurn => {
            let turn = context.turns.ask(context, kind, object, convergence).await;
            if turn.is_none() {
                count(ReconcileResult::Waiting);
                return Ok(Action::requeue(WAIT));
            }
            turn
        }
    };
    let blocked = |reason: String, result| {
        count(result);
        tracing::warn!(%kind, namespace, name = object.name_any(), reason, "not brought to its plan, trying again");
        context.blocked.note(key.clone(), reason)
    };
    if context.blocked.keeps_coming_back(&key, planned) {
        let reason = "what was injected keeps being changed back, and the webhook isn't asked: \
                      see that the API server reaches it, or opt the workload out where it is kept";
        let (wait, news) = blocked(reason.into(), ReconcileResult::Undone);
        if news {
            context.outbox.blocked(kind, object, reason.into());
        }
        return Ok(Action::requeue(wait));
    }
    let written = match write::template(&context.client, kind, object, planned).await {
        Err(error) if error.is_refusal() => {
            let (wait, news) = blocked(error.to_string(), ReconcileResult::Failed);
            if news {
                context.outbox.blocked(kind, object, error.to_string());
            }
            return Ok(Action::requeue(wait));
        }
        written => written?,
    };
    if let Some(turn) = turn {
        turn.take(kind, &written);
    }
    let left = plan::converge(&Workload::of(kind, &written), surroundings);
    if left.template.is_some() {
        let reason = "another admission webhook or policy undid the write";
        let (wait, news) = blocked(reason.into(), ReconcileResult::Undone);
        if news {
            context.outbox.blocked(kind, object, reason.into());
        }
        return Ok(Action::requeue(wait));
    }
    context.blocked.clear(&key);
    context.blocked.wrote(key, planned, &written.data["spec"]["template"]);
    context.outbox.injected(kind, object, planned, convergence);
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
