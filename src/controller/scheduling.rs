//! Drives the scheduler with the evaluations of the index, and requeues the workloads that may roll out and the policies
//! whose rollouts failed.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt as _, core::DynamicObject, runtime::reflector::ObjectRef};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{
    ReconcileContext, failed_rollout_status,
    keys::{Key, PolicyKey, policy_key},
};
use crate::{
    index::{
        Changes, IndexChange, cached_workload::CachedWorkload, caches::Caches, template_hash,
        workloads::resource,
    },
    plan::{self, Kind, OptIn, Source, Workload},
    scheduler::{PolicyStatus, RolloutScheduler, SlotRequest, SlotReservation, WrittenRevision},
};

/// How long before its last renewal of the Lease a leader may have observed a failure that it didn't record: the status
/// of a policy is written some time after its workloads change, and the clocks of machines differ.
const STATUS_LAG: SignedDuration = SignedDuration::from_secs(10);

/// The scheduler, and the queues of its decisions. The lock is held for one event and its decisions.
pub(super) struct Scheduling {
    scheduler: Mutex<RolloutScheduler>,
    clock: Clock,
    /// Workloads that may roll out, by kind in the order of [`Kind::ALL`].
    runnable: [Changes<Key>; 3],
    /// Wakes the driver for a deadline that is earlier than the one it waits for.
    earlier_deadline: Notify,
}

/// A time of day that doesn't jump: the time when it was created, advanced by a monotonic clock.
struct Clock {
    made: Instant,
    at: Timestamp,
}

impl Clock {
    fn now(&self) -> Timestamp {
        self.at.saturating_add(self.made.elapsed()).unwrap_or(Timestamp::MAX)
    }
}

/// A reserved slot. If it is dropped without being committed or released, the outcome of the write is unknown.
pub(super) struct ReservationGuard<'a> {
    context: &'a ReconcileContext,
    reservation: SlotReservation,
    is_finished: bool,
}

impl Scheduling {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            scheduler: Mutex::new(RolloutScheduler::new(slots)),
            clock: Clock { made: Instant::now(), at: Timestamp::now() },
            runnable: Kind::ALL.map(|_| Changes::default()),
            earlier_deadline: Notify::new(),
        }
    }

    /// The workloads of a kind that may roll out. For one consumer.
    pub(super) fn runnable(
        &self,
        kind: Kind,
    ) -> impl Stream<Item = ObjectRef<CachedWorkload>> + Send + use<> {
        self.runnable[kind as usize].clone().stream(Duration::ZERO).map(|key| reference(&key))
    }

    /// Keeps the scheduler in step with the index, for as long as this replica leads.
    pub(super) async fn run(&self, context: &ReconcileContext) {
        let mut is_leader = context.replica.is_leader.clone();
        loop {
            self.lock().reset();
            if is_leader.wait_for(|is_leader| *is_leader).await.is_err() {
                return;
            }
            let mut leading = is_leader.clone();
            tokio::select! {
                biased;
                _ = leading.wait_for(|is_leader| !is_leader) => {}
                () = self.lead(context) => {}
            }
        }
    }

    /// Returns when the index is cleared.
    async fn lead(&self, context: &ReconcileContext) {
        let mut version = context.index.version();
        while !context.index.is_complete() {
            if version.changed().await.is_err() {
                return;
            }
        }
        let (term, changes) = (context.index.term(), context.index.changes());
        changes.clear();
        self.restore(context);
        while context.index.term() == term {
            let next = self.lock().next_deadline();
            let changed = tokio::select! {
                changed = changes.take() => changed,
                () = self.earlier_deadline.notified() => continue,
                () = self.wait_until(next) => BTreeSet::new(),
            };
            if context.index.term() == term {
                self.observe_changes(context, changed);
            }
        }
    }

    async fn wait_until(&self, time: Option<Timestamp>) {
        let Some(time) = time else { return std::future::pending().await };
        let left = time.duration_since(self.clock.now()).max(SignedDuration::ZERO);
        // The clock of timers has milliseconds.
        sleep(left.unsigned_abs() + Duration::from_millis(1)).await;
    }

    /// Starts with the recorded failures and the rollouts in progress.
    fn restore(&self, context: &ReconcileContext) {
        let policies = policies(&context.caches);
        let renewed = *context.replica.previous_renewal.borrow();
        self.update(context, |scheduler, now| {
            scheduler.set_failures_recorded_until(renewed.map(|renewed| renewed - STATUS_LAG));
            for policy in &policies {
                set_policy(scheduler, context, policy, now);
            }
            for (key, _) in context.index.all() {
                observe(scheduler, context, &key, now);
            }
            scheduler.activate();
        });
        // No status is written before the failures are restored.
        context.index.requeue_policies(policies);
    }

    fn observe_changes(&self, context: &ReconcileContext, changed: BTreeSet<IndexChange>) {
        self.update(context, |scheduler, now| {
            for change in &changed {
                match change {
                    IndexChange::Policy(policy) => set_policy(scheduler, context, policy, now),
                    IndexChange::Workload(key) => observe(scheduler, context, key, now),
                }
            }
            // A failure that is kept because a policy can't be decoded has no event of its own.
            if changed.iter().any(|change| matches!(change, IndexChange::Policy(_))) {
                observe_retained_failures(scheduler, context, now);
            }
            scheduler.expire(now);
        });
    }

    /// Observes everything, for tests.
    #[cfg(test)]
    pub(super) fn refresh(&self, context: &ReconcileContext) {
        if !context.index.is_complete() {
            return;
        }
        if self.is_active() {
            let all = context.index.all().into_iter().map(|(key, _)| IndexChange::Workload(key));
            let policies = policies(&context.caches).into_iter().map(IndexChange::Policy);
            self.observe_changes(context, policies.chain(all).collect());
        } else {
            self.restore(context);
        }
    }

    /// Whether the state of the previous leader is restored.
    #[cfg(test)]
    pub(super) fn is_active(&self) -> bool {
        self.lock().is_active()
    }

    /// Reserves a slot for writing a workload now.
    pub(super) fn reserve<'a>(
        &self,
        context: &'a ReconcileContext,
        key: &Key,
        request: SlotRequest<'_>,
    ) -> Option<ReservationGuard<'a>> {
        let reservation = self.update(context, |scheduler, now| scheduler.reserve(key, request, now))?;
        Some(ReservationGuard { context, reservation, is_finished: false })
    }

    /// Whether something rejects or reverts the writes of a workload.
    pub(super) fn set_blocked(&self, context: &ReconcileContext, key: &Key, is_blocked: bool) {
        self.update(context, |scheduler, now| scheduler.set_blocked(key, is_blocked, now));
    }

    /// The failed rollouts of a policy, which matches this many workloads. `None` before the state of the previous leader
    /// is restored.
    pub(super) fn status_of(
        &self,
        context: &ReconcileContext,
        policy: &PolicyKey,
        matched: usize,
    ) -> Option<PolicyStatus> {
        self.update(context, |scheduler, _| {
            scheduler.set_matched(policy, matched);
            scheduler.is_active().then(|| scheduler.status_of(policy))
        })
    }

    /// Whether failures stop a policy in a namespace.
    pub(super) fn is_stopped(&self, policy: &PolicyKey, namespace: &str) -> bool {
        self.lock().is_stopped(policy, namespace)
    }

    /// How many rollouts failed, over all policies.
    pub(super) fn failed_rollouts(&self) -> usize {
        self.lock().failed_rollouts()
    }

    /// Applies an event, and requeues workloads and policies by the decisions.
    fn update<T>(
        &self,
        context: &ReconcileContext,
        event: impl FnOnce(&mut RolloutScheduler, Timestamp) -> T,
    ) -> T {
        let now = self.clock.now();
        let (outcome, runnable, changed) = {
            let mut scheduler = self.lock();
            let before = scheduler.next_deadline();
            let outcome = event(&mut scheduler, now);
            // While writes are paused, offers would only expire.
            let runnable = if context.may_write() { scheduler.take_runnable(now) } else { BTreeSet::new() };
            let next = scheduler.next_deadline();
            if next.is_some_and(|next| before.is_none_or(|before| next < before)) {
                self.earlier_deadline.notify_one();
            }
            (outcome, runnable, scheduler.take_changed())
        };
        for key in runnable {
            self.runnable[key.kind as usize].add(key);
        }
        requeue_policies(context, &changed);
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, RolloutScheduler> {
        self.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReservationGuard<'_> {
    /// The workload was written.
    pub(super) fn commit(mut self, written: &DynamicObject) {
        let revision = WrittenRevision {
            generation: written.metadata.generation.unwrap_or(0),
            template: template_hash(&written.data["spec"]["template"]),
        };
        self.finish(|scheduler, reservation, now| scheduler.commit(reservation, revision, now));
    }

    /// The workload was not written.
    pub(super) fn release(mut self) {
        self.finish(RolloutScheduler::release);
    }

    fn finish(&mut self, outcome: impl FnOnce(&mut RolloutScheduler, &SlotReservation, Timestamp)) {
        self.is_finished = true;
        let Self { context, reservation, .. } = self;
        context.scheduling.update(context, |scheduler, now| outcome(scheduler, reservation, now));
    }
}

impl Drop for ReservationGuard<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.finish(RolloutScheduler::outcome_unknown);
        }
    }
}

/// The reference of a workload in its controller.
pub(super) fn reference(key: &Key) -> ObjectRef<CachedWorkload> {
    ObjectRef::new_with(&key.name, resource(key.kind)).within(&key.namespace)
}

fn policies(caches: &Caches) -> Vec<PolicyKey> {
    let of_namespaces = caches.policies().state().into_iter().map(|policy| {
        policy_key(&policy.namespace().unwrap_or_default(), &Source::Policy(policy.name_any()))
    });
    let cluster_policies = caches.cluster_policies().state().into_iter();
    let cluster_policies =
        cluster_policies.map(|policy| policy_key("", &Source::ClusterPolicy(policy.name_any())));
    of_namespaces.chain(cluster_policies).collect()
}

fn set_policy(
    scheduler: &mut RolloutScheduler,
    context: &ReconcileContext,
    policy: &PolicyKey,
    now: Timestamp,
) {
    match failed_rollout_status::settings_and_failures(&context.caches, policy) {
        Some((settings, status)) => {
            let is_new = !scheduler.has_policy(policy);
            scheduler.set_policy(policy, settings.generation, settings.failures, now);
            if is_new {
                scheduler.restore(policy, failed_rollout_status::restored(policy, &status), now);
            }
        }
        None if failed_rollout_status::is_unusable(&context.caches, policy) => {}
        None => scheduler.remove_policy(policy, now),
    }
}

fn observe(scheduler: &mut RolloutScheduler, context: &ReconcileContext, key: &Key, now: Timestamp) {
    let evaluation = context.index.get(key);
    match evaluation.and_then(|evaluation| evaluation.snapshot()) {
        Some(snapshot) => {
            scheduler.observe(key, snapshot, now);
            scheduler.set_blocked(key, context.backoff.is_blocked(key), now);
        }
        // The policy that manages it may be the one that can't be decoded.
        None if scheduler.has_failures(key) && is_unknown(context, key) => {}
        None => scheduler.remove(key),
    }
}

/// Drops the failures of policies that were deleted, and of workloads without an evaluation whose policy is known again.
fn observe_retained_failures(scheduler: &mut RolloutScheduler, context: &ReconcileContext, now: Timestamp) {
    let (policies, workloads) = scheduler.with_failures();
    for policy in policies {
        set_policy(scheduler, context, &policy, now);
    }
    for key in workloads.iter().filter(|key| context.index.get(key).is_none()) {
        observe(scheduler, context, key, now);
    }
}

/// Whether the policy of a workload is unknown: one of its namespace can't be used, and no annotation opts it in or out.
fn is_unknown(context: &ReconcileContext, Key { kind, namespace, name }: &Key) -> bool {
    let namespace_context = context.caches.namespace_context(namespace);
    if !namespace_context.has_unusable_policy {
        return false;
    }
    let object = context.caches.workloads().get(*kind, namespace, name);
    object.is_some_and(|object| {
        plan::resolve(&Workload::of(*kind, &object), &namespace_context).opt_in == OptIn::Unspecified
    })
}

/// Requeues policies whose failures changed, and those whose workloads wait for them.
fn requeue_policies(context: &ReconcileContext, policies: &BTreeSet<PolicyKey>) {
    if policies.is_empty() {
        return;
    }
    let waiting = policies.iter().flat_map(|policy| context.index.of_policy(policy));
    let waiting: BTreeSet<_> =
        waiting.flat_map(|(_, evaluation)| evaluation.desired.counted_by.clone()).collect();
    context.index.requeue_policies(policies.union(&waiting).cloned());
    // Metrics count failed rollouts.
    context.index.notify();
}

#[cfg(test)]
#[path = "scheduling_tests.rs"]
mod tests;
