//! The context of every reconciler.

use std::sync::Arc;

use futures::{Stream, stream};
use kube::{Client, ResourceExt as _, core::DynamicObject, runtime::controller::Action};
use tokio::time::Instant;

use super::{
    backoff::{Backoff, BlockReason},
    events::EventPublisher,
    pace::Pace,
    recommendations::Recommendations,
    reconcile_memory::ReconcileMemory,
    replica::Replica,
    scheduling::Scheduling,
    write_history::WriteHistory,
};
use crate::{
    index::{Index, caches::Caches},
    keys::WorkloadKey as Key,
    plan::Kind,
    runtime::{
        metrics::{Component, KindLabel, Metrics, ObjectLabels, ReconcileLabels, ReconcileResult},
        panics,
    },
};

/// What reconcilers read and write, and the state that they share.
pub(super) struct ReconcileContext {
    pub(super) client: Client,
    pub(super) caches: Caches,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: EventPublisher,
    pub(super) index: Index,
    pub(super) scheduling: Scheduling,
    pub(super) backoff: Arc<Backoff>,
    /// Of the status of policies, and of workloads whose template is not to be written immediately.
    pub(super) pace: Arc<Pace>,
    pub(super) history: WriteHistory,
    pub(super) recommendations: Recommendations,
    pub(super) memory: ReconcileMemory,
    pub(super) replica: Replica,
}

impl ReconcileContext {
    pub(super) fn new(
        client: Client,
        caches: Caches,
        metrics: Arc<Metrics>,
        replica: Replica,
        events: EventPublisher,
    ) -> Self {
        let (index, backoff) = (Index::new(metrics.evaluations.clone()), Arc::<Backoff>::default());
        let scheduling = Scheduling::new(caches.clone(), index.clone(), backoff.clone(), replica.clone());
        Self {
            client,
            caches,
            metrics,
            events,
            index,
            scheduling,
            backoff,
            pace: Arc::default(),
            history: WriteHistory::default(),
            recommendations: Recommendations::default(),
            memory: ReconcileMemory::default(),
            replica,
        }
    }

    /// Whether workloads may be written: not while writes are paused, nor without the CRDs.
    pub(super) fn may_write(&self) -> bool {
        self.replica.may_write(&self.caches)
    }

    /// Writes, if workloads may be written now. `None` if they may not, or if the write was dropped because this replica
    /// no longer leads.
    pub(super) async fn write<T>(&self, write: impl Future<Output = T>) -> Option<T> {
        if self.may_write() { self.replica.while_leading(write).await } else { None }
    }

    /// Completes an attempt to reconcile an object of this kind, and measures its duration while this replica leads: on
    /// another one it does nothing.
    ///
    /// # Errors
    /// If it panicked.
    pub(super) async fn attempt<T>(
        &self,
        kind: &'static str,
        attempt: impl Future<Output = T>,
    ) -> Result<T, kube::Error> {
        let started = self.replica.is_leader().then(Instant::now);
        let outcome = panics::catch(Component::Reconcile, &self.metrics, attempt).await;
        if let Some(started) = started {
            let durations = &self.metrics.reconcile_duration;
            let labels = ObjectLabels { kind: KindLabel(kind) };
            durations.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
        }
        outcome.map_err(|panic| kube::Error::Service(panic.into()))
    }

    /// Records why a workload can't be written, and retries later.
    pub(super) fn block_and_retry(
        &self,
        kind: Kind,
        object: &DynamicObject,
        reason: BlockReason,
        message: String,
    ) -> Action {
        let result = match reason {
            BlockReason::WriteRejected | BlockReason::WriteConflict => ReconcileResult::ApiError,
            BlockReason::InjectionReverted => ReconcileResult::Reverted,
        };
        self.count(kind, result);
        let (namespace, name) = (object.namespace(), object.name_any());
        tracing::warn!(%kind, namespace, name, reason = reason.as_str(), error = message, "write failed, retrying");
        let key = Key::of(kind, object);
        let (wait, is_new) = self.backoff.block(key.clone(), reason, message.clone());
        self.scheduling.set_blocked(&key, true);
        if is_new {
            self.index.requeue_policies_of(&key);
            self.events.warn(kind, object, "Blocked", message);
        }
        Action::requeue(wait)
    }

    /// The workload is up to date, or is not to be written for now.
    pub(super) fn unblock(&self, key: &Key) {
        if self.backoff.unblock(key) {
            self.scheduling.set_blocked(key, false);
            self.index.requeue_policies_of(key);
        }
    }

    /// Counts a reconciliation.
    pub(super) fn count(&self, kind: Kind, result: ReconcileResult) {
        let labels = ReconcileLabels { kind: KindLabel(kind.as_str()), result };
        self.metrics.reconciles.get_or_create(&labels).inc();
    }

    /// An item whenever the permission to write changes.
    pub(super) fn permissions(&self) -> impl Stream<Item = ()> + Send + use<> {
        stream::select(self.replica.changes(), self.caches.served_changes())
    }
}
