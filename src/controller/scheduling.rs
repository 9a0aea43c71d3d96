//! Drives the scheduler with the evaluations of the index, and requeues the workloads that may roll out and the
//! policies whose rollouts failed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{core::DynamicObject, runtime::reflector::ObjectRef};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{
    backoff::Backoff,
    failed_rollout_status::restored,
    policy::{Policy, policies},
    replica::Replica,
};
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    index::{
        ChangeSet, Index, IndexChange, cached_workload::CachedWorkload, caches::Caches, template_hash,
        workloads::reference,
    },
    keys::{PolicyKey, WorkloadKey as Key},
    plan::{self, Kind, NamespaceContext, OptIn, Workload},
    runtime::lock::lock,
    scheduler::{
        FailureLimit, PolicyFailures, RolloutCounts, RolloutScheduler, SlotRequest, SlotReservation,
        WrittenRevision,
    },
};

/// How long before its last renewal of the Lease a leader may have observed a failure that it didn't record: a failure
/// is collected with others for a second, an attempt to write it may fail and is repeated after ten, and the clocks of
/// machines differ.
const STATUS_LAG: SignedDuration = SignedDuration::from_secs(20);

/// The scheduler, and the queues of its decisions. The lock is held for one event and its decisions.
pub(super) struct Scheduling {
    caches: Caches,
    index: Index,
    backoff: Arc<Backoff>,
    replica: Replica,
    scheduler: Mutex<RolloutScheduler>,
    clock: Clock,
    /// Workloads that may roll out, by kind in the order of [`Kind::ALL`].
    runnable: [ChangeSet<Key>; 3],
    /// Policies whose failed rollouts changed: namespaced policies, and cluster policies.
    failures: [ChangeSet<PolicyKey>; 2],
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
    scheduling: &'a Scheduling,
    reservation: SlotReservation,
    is_finished: bool,
}

impl Scheduling {
    pub(super) fn new(caches: Caches, index: Index, backoff: Arc<Backoff>, replica: Replica) -> Self {
        Self {
            scheduler: Mutex::new(RolloutScheduler::new(replica.max_concurrent_rollouts)),
            caches,
            index,
            backoff,
            replica,
            clock: Clock { made: Instant::now(), at: Timestamp::now() },
            runnable: Kind::ALL.map(|_| ChangeSet::default()),
            failures: [ChangeSet::default(), ChangeSet::default()],
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

    /// The policies whose failed rollouts changed: cluster policies, or namespaced ones. For one consumer.
    pub(super) fn changed_failures(&self, cluster_scoped: bool) -> ChangeSet<PolicyKey> {
        self.failures[usize::from(cluster_scoped)].clone()
    }

    /// Keeps the scheduler in step with the index, for as long as this replica leads.
    pub(super) async fn run(&self) {
        let mut is_leader = self.replica.is_leader.clone();
        loop {
            lock(&self.scheduler).reset();
            if is_leader.wait_for(|is_leader| *is_leader).await.is_err() {
                return;
            }
            let mut leading = is_leader.clone();
            tokio::select! {
                biased;
                _ = leading.wait_for(|is_leader| !is_leader) => {}
                () = self.lead() => {}
            }
        }
    }

    /// Returns when the index is cleared.
    async fn lead(&self) {
        let mut version = self.index.version();
        while !self.index.is_complete() {
            if version.changed().await.is_err() {
                return;
            }
        }
        let (term, changes) = (self.index.term(), self.index.changes());
        changes.clear();
        self.restore();
        while self.index.term() == term {
            let next = lock(&self.scheduler).next_deadline();
            let changed = tokio::select! {
                changed = changes.take() => changed,
                () = self.earlier_deadline.notified() => continue,
                () = self.wait_until(next) => BTreeSet::new(),
            };
            if self.index.term() == term {
                self.observe_changes(changed);
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
    fn restore(&self) {
        let policies = policies(&self.caches);
        let renewed = *self.replica.previous_renewal.borrow();
        self.update(|scheduler, now| {
            scheduler.set_failures_recorded_until(renewed.map(|renewed| renewed - STATUS_LAG));
            for policy in &policies {
                self.set_policy(scheduler, policy, now);
            }
            let mut contexts = Contexts::new();
            for (key, _) in self.index.all() {
                self.observe(scheduler, &mut contexts, &key, now);
            }
            scheduler.activate();
        });
        // No status is written before the failures are restored.
        self.index.requeue_policies(policies);
    }

    fn observe_changes(&self, changed: BTreeSet<IndexChange>) {
        self.update(|scheduler, now| {
            let mut contexts = Contexts::new();
            for change in &changed {
                match change {
                    IndexChange::Policy(policy) => self.set_policy(scheduler, policy, now),
                    IndexChange::Workload(key) => self.observe(scheduler, &mut contexts, key, now),
                }
            }
            // A failure that is kept because a policy can't be decoded has no event of its own.
            if changed.iter().any(|change| matches!(change, IndexChange::Policy(_))) {
                self.observe_retained_failures(scheduler, &mut contexts, now);
            }
            scheduler.expire(now);
        });
    }

    /// Observes everything, for tests.
    #[cfg(test)]
    pub(super) fn refresh(&self) {
        if !self.index.is_complete() {
            return;
        }
        if self.is_active() {
            let all = self.index.all().into_iter().map(|(key, _)| IndexChange::Workload(key));
            let policies = policies(&self.caches).into_iter().map(IndexChange::Policy);
            self.observe_changes(policies.chain(all).collect());
        } else {
            self.restore();
        }
    }

    /// Whether the state of the previous leader is restored.
    #[cfg(test)]
    pub(super) fn is_active(&self) -> bool {
        lock(&self.scheduler).is_active()
    }

    /// Reserves a slot for writing a workload now.
    pub(super) fn reserve<'a>(&'a self, key: &Key, request: SlotRequest<'_>) -> Option<ReservationGuard<'a>> {
        let reservation = self.update(|scheduler, now| scheduler.reserve(key, request, now))?;
        Some(ReservationGuard { scheduling: self, reservation, is_finished: false })
    }

    /// Whether something rejects or reverts the writes of a workload.
    pub(super) fn set_blocked(&self, key: &Key, is_blocked: bool) {
        self.update(|scheduler, now| scheduler.set_blocked(key, is_blocked, now));
    }

    /// The failed rollouts of a policy, which matches this many workloads. `None` before the state of the previous
    /// leader is restored.
    pub(super) fn failures_of(&self, policy: &PolicyKey, matched: usize) -> Option<PolicyFailures> {
        self.update(|scheduler, _| {
            scheduler.set_matched(policy, matched);
            scheduler.is_active().then(|| scheduler.failures_of(policy))
        })
    }

    /// Whether failures stop a policy in a namespace.
    pub(super) fn is_stopped(&self, policy: &PolicyKey, namespace: &str) -> bool {
        lock(&self.scheduler).is_stopped(policy, namespace)
    }

    /// How many rollouts are in progress, wait, and failed.
    pub(super) fn counts(&self) -> RolloutCounts {
        lock(&self.scheduler).counts()
    }

    /// Applies an event, and requeues workloads and policies by the decisions.
    fn update<T>(&self, event: impl FnOnce(&mut RolloutScheduler, Timestamp) -> T) -> T {
        let now = self.clock.now();
        let (outcome, runnable, changed, is_recounted) = {
            let mut scheduler = lock(&self.scheduler);
            let (before, counts) = (scheduler.next_deadline(), scheduler.counts());
            let outcome = event(&mut scheduler, now);
            // While writes are paused, offers would only expire.
            let runnable = if self.replica.may_write(&self.caches) {
                scheduler.take_runnable(now)
            } else {
                BTreeSet::new()
            };
            let next = scheduler.next_deadline();
            if next.is_some_and(|next| before.is_none_or(|before| next < before)) {
                self.earlier_deadline.notify_one();
            }
            (outcome, runnable, scheduler.take_changed(), scheduler.counts() != counts)
        };
        for key in runnable {
            self.runnable[key.kind as usize].add(key);
        }
        self.requeue_policies(changed);
        if is_recounted {
            // Metrics have the counts.
            self.index.notify();
        }
        outcome
    }

    /// Requeues policies whose failed rollouts changed, and those whose workloads wait for them.
    fn requeue_policies(&self, changed: BTreeSet<PolicyKey>) {
        let index = &self.index;
        let waiting = changed.iter().flat_map(|policy| index.of_policy(policy));
        index.requeue_policies(waiting.flat_map(|(_, evaluation)| evaluation.desired.counted_by.clone()));
        for policy in changed {
            self.failures[usize::from(policy.is_cluster_scoped())].add(policy);
        }
    }

    fn set_policy(&self, scheduler: &mut RolloutScheduler, key: &PolicyKey, now: Timestamp) {
        if key.is_cluster_scoped() {
            self.set_policy_of::<ClusterGracefulPolicy>(scheduler, key, now);
        } else {
            self.set_policy_of::<GracefulPolicy>(scheduler, key, now);
        }
    }

    fn set_policy_of<P: Policy>(&self, scheduler: &mut RolloutScheduler, key: &PolicyKey, now: Timestamp) {
        let Some(policy) = P::store(&self.caches).get(&P::reference(key)) else {
            // The name of an object that is too large to be read may be unknown.
            let unusable = self.caches.unusable();
            if !["", key.name()].iter().any(|name| unusable.has(key.kind(), key.namespace(), name)) {
                scheduler.remove_policy(key, now);
            }
            return;
        };
        let is_new = !scheduler.has_policy(key);
        scheduler.set_policy(key, policy.meta().generation, FailureLimit::of(policy.spec()), now);
        if is_new && let Some(status) = policy.status() {
            scheduler.restore(key, restored(key, &status.failed_rollouts), now);
        }
    }

    fn observe(&self, scheduler: &mut RolloutScheduler, contexts: &mut Contexts, key: &Key, now: Timestamp) {
        let evaluation = self.index.get(key);
        match evaluation.and_then(|evaluation| evaluation.snapshot()) {
            Some(snapshot) => {
                scheduler.observe(key, snapshot, now);
                scheduler.set_blocked(key, self.backoff.is_blocked(key), now);
            }
            // The policy that manages it may be the one that can't be decoded.
            None if scheduler.has_failures(key) && self.is_unknown(contexts, key) => {}
            None => scheduler.remove(key),
        }
    }

    /// Drops the failures of policies that were deleted, and of workloads without an evaluation whose policy is known
    /// again.
    fn observe_retained_failures(
        &self,
        scheduler: &mut RolloutScheduler,
        contexts: &mut Contexts,
        now: Timestamp,
    ) {
        let (policies, workloads) = scheduler.with_failures();
        for policy in policies {
            self.set_policy(scheduler, &policy, now);
        }
        for key in workloads.iter().filter(|key| self.index.get(key).is_none()) {
            self.observe(scheduler, contexts, key, now);
        }
    }

    /// Whether the policy of a workload is unknown: one of its namespace can't be used, and no annotation opts it in or
    /// out.
    fn is_unknown(&self, contexts: &mut Contexts, Key { kind, namespace, name }: &Key) -> bool {
        let namespace_context = contexts
            .entry(namespace.clone())
            .or_insert_with_key(|namespace| self.caches.namespace_context(namespace));
        if !namespace_context.has_unusable_policy {
            return false;
        }
        let object = self.caches.workloads().get(*kind, namespace, name);
        object.is_some_and(|object| {
            plan::resolve(&Workload::of(*kind, &object), namespace_context).opt_in == OptIn::Unspecified
        })
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
        let Self { scheduling, reservation, .. } = self;
        scheduling.update(|scheduler, now| outcome(scheduler, reservation, now));
    }
}

impl Drop for ReservationGuard<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.finish(RolloutScheduler::outcome_unknown);
        }
    }
}

/// The contexts of namespaces, each made once: it has the namespace's Services.
type Contexts = HashMap<String, NamespaceContext>;

#[cfg(test)]
#[path = "scheduling_tests.rs"]
mod tests;
