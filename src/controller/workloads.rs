//! Reconciles workloads: those of each kind are followed by a watch and brought to their plan.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future::ready, stream::BoxStream};
use kube::{
    Api, Client, ResourceExt as _,
    core::DynamicObject,
    runtime::{
        Controller, Predicate as _, WatchStreamExt as _,
        controller::Action,
        predicates,
        reflector::{Store, store::Writer},
        watcher,
    },
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Context, events, objects::resource, write};
use crate::{
    plan::{self, Kind, When, Workload},
    runtime::{
        FIELD_MANAGER,
        metrics::{KindLabel, ReconcileLabels, ReconcileResult},
    },
};

/// How long a workload waits before it asks again whether it is its turn.
const WAIT: Duration = Duration::from_secs(5);
/// How long after a conflict the next attempt is made.
const CONFLICT_WAIT: Duration = Duration::from_secs(1);
/// How long after any other failure the next attempt is made.
const FAILURE_WAIT: Duration = Duration::from_secs(30);

/// The workloads of every kind, as the watches last saw them.
#[derive(Clone)]
pub(super) struct Stores([Store<DynamicObject>; 3]);

impl Stores {
    /// The workloads of a namespace, with their kinds.
    pub(super) fn inside(&self, namespace: &str) -> Vec<(Kind, Arc<DynamicObject>)> {
        let inside = |object: &DynamicObject| object.metadata.namespace.as_deref() == Some(namespace);
        let of_kind = Kind::ALL.into_iter().zip(&self.0);
        of_kind
            .flat_map(|(kind, store)| store.state_filter(inside).into_iter().map(move |o| (kind, o)))
            .collect()
    }

    /// Every workload, with its kind.
    pub(super) fn all(&self) -> Vec<(Kind, Arc<DynamicObject>)> {
        let of_kind = Kind::ALL.into_iter().zip(&self.0);
        of_kind
            .flat_map(|(kind, store)| store.state().into_iter().map(move |object| (kind, object)))
            .collect()
    }

    pub(super) fn of(&self, kind: Kind) -> &Store<DynamicObject> {
        let [deployments, stateful_sets, daemon_sets] = &self.0;
        match kind {
            Kind::Deployment => deployments,
            Kind::StatefulSet => stateful_sets,
            Kind::DaemonSet => daemon_sets,
        }
    }
}

type Events = BoxStream<'static, Result<DynamicObject, watcher::Error>>;

/// The watches of every kind, in the order of [`Kind::ALL`]. `changed` is told of every change, once the
/// store has it.
pub(super) fn follow(
    client: &Client,
    changed: &watch::Sender<()>,
    config: &watcher::Config,
) -> (Stores, [Events; 3]) {
    let follow = |kind: Kind| {
        let resource = resource(kind);
        let writer = Writer::new(resource.clone());
        let store = writer.as_reader();
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        let changed = changed.clone();
        let stream = watcher(api, config.clone())
            .default_backoff()
            .modify(slim)
            .reflect(writer)
            .inspect(move |_| changed.send_replace(()))
            .applied_objects();
        (store, stream.boxed())
    };
    let [(deployments, first), (stateful_sets, second), (daemon_sets, third)] = Kind::ALL.map(follow);
    (Stores([deployments, stateful_sets, daemon_sets]), [first, second, third])
}

/// Keeps of `managedFields` only what is under our own name, which has to be given up.
fn slim(object: &mut DynamicObject) {
    if let Some(fields) = &mut object.metadata.managed_fields {
        fields.retain(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    }
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// Reconciles the workloads of one kind until `shutdown`.
pub(super) async fn control(kind: Kind, events: Events, context: Arc<Context>, shutdown: CancellationToken) {
    let store = context.workloads.of(kind).clone();
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
        let labels = ReconcileLabels { kind: KindLabel(kind), result };
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
    let convergence = plan::converge(&Workload::of(kind, &object), &surroundings);
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
            let policies = convergence.resolution.policies();
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
    events::injected(&context.recorder, kind, &object, planned, &convergence).await;
    tracing::info!(%kind, namespace, name = object.name_any(), when = ?convergence.when, "brought to its plan");
    count(ReconcileResult::Patched);
    Ok(Action::await_change())
}

fn retry(kind: Kind, error: &write::Error, context: &Context) -> Action {
    let labels = ReconcileLabels { kind: KindLabel(kind), result: ReconcileResult::Failed };
    context.metrics.reconciles.get_or_create(&labels).inc();
    if error.is_conflict() {
        // Somebody else wrote: the watch brings what they wrote, and this is for the case that it did
        // already.
        return Action::requeue(CONFLICT_WAIT);
    }
    tracing::warn!(%kind, %error, "not brought to its plan, trying again");
    Action::requeue(FAILURE_WAIT)
}
