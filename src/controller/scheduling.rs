//! Drives the scheduler: tells it what the index evaluated, and requeues the workloads that may roll out and the
//! policies whose rollouts failed.

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
    Context, failures,
    keys::{Key, PolicyKey, policy_key},
};
use crate::{
    index::{
        Change, Changes,
        cached::CachedWorkload,
        caches::{Caches, hash_of},
        workloads::resource,
    },
    plan::{Kind, Source},
    scheduler::{PolicyStatus, Request, RolloutMark, RolloutScheduler, Slot, Snapshot},
};

/// The scheduler, and the queues that its decisions go to. The lock is held for no longer than a decision takes.
pub(super) struct Scheduling {
    scheduler: Mutex<RolloutScheduler>,
    clock: Clock,
    /// Workloads that may roll out, by kind in the order of [`Kind::ALL`].
    runnable: [Changes<Key>; 3],
    /// Wakes the driver for a deadline that is earlier than the one it waits for.
    earlier: Notify,
}

/// The time of day that doesn't jump: the one when it was made, and what a monotonic clock says since.
struct Clock {
    made: Instant,
    at: Timestamp,
}

impl Clock {
    fn now(&self) -> Timestamp {
        self.at.saturating_add(self.made.elapsed()).unwrap_or(Timestamp::MAX)
    }
}

/// The right to write one workload. Unless it is committed or released, the outcome of the write is unknown.
pub(super) struct Reservation<'a> {
    context: &'a Context,
    slot: Slot,
    is_settled: bool,
}

impl Scheduling {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            scheduler: Mutex::new(RolloutScheduler::new(slots)),
            clock: Clock { made: Instant::now(), at: Timestamp::now() },
            runnable: Kind::ALL.map(|_| Changes::default()),
            earlier: Notify::new(),
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
    pub(super) async fn drive(&self, context: &Context) {
        let mut is_leader = context.replica.is_leader.clone();
        loop {
            // What there was is no longer so once this replica leads again.
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

    /// Returns when the index starts anew.
    async fn lead(&self, context: &Context) {
        let mut version = context.index.version();
        while !context.index.is_complete() {
            if version.changed().await.is_err() {
                return;
            }
        }
        let (term, changes) = (context.index.term(), context.index.changes());
        changes.clear();
        self.take_over(context);
        while context.index.term() == term {
            let next = self.lock().next_deadline();
            let changed = tokio::select! {
                changed = changes.take() => changed,
                () = self.earlier.notified() => continue,
                () = self.wait_until(next) => BTreeSet::new(),
            };
            if context.index.term() == term {
                self.follow(context, changed);
            }
        }
    }

    async fn wait_until(&self, time: Option<Timestamp>) {
        let Some(time) = time else { return std::future::pending().await };
        let left = time.duration_since(self.clock.now()).max(SignedDuration::ZERO);
        // The clock of timers has milliseconds.
        sleep(left.unsigned_abs() + Duration::from_millis(1)).await;
    }

    /// Starts with what the status of policies records and what is rolling out.
    fn take_over(&self, context: &Context) {
        let policies = policies(&context.caches);
        self.with(context, |scheduler, now| {
            for policy in &policies {
                set_policy(scheduler, context, policy, now);
                let (_, status) = failures::of_policy(&context.caches, policy).unwrap_or_default();
                scheduler.restore(policy, failures::restored(policy, &status));
            }
            for (key, _) in context.index.all() {
                observe(scheduler, context, &key, now);
            }
            scheduler.activate();
        });
        // Their status wasn't written before it was read.
        context.index.touch_policies(policies);
    }

    fn follow(&self, context: &Context, changed: BTreeSet<Change>) {
        self.with(context, |scheduler, now| {
            for change in &changed {
                match change {
                    Change::Policy(policy) => set_policy(scheduler, context, policy, now),
                    Change::Workload(key) => observe(scheduler, context, key, now),
                }
            }
            scheduler.expire(now);
        });
    }

    /// Observes everything there is, for tests.
    #[cfg(test)]
    pub(super) fn refresh(&self, context: &Context) {
        if !context.index.is_complete() {
            return;
        }
        if self.is_active() {
            let all = context.index.all().into_iter().map(|(key, _)| Change::Workload(key));
            let policies = policies(&context.caches).into_iter().map(Change::Policy);
            self.follow(context, policies.chain(all).collect());
        } else {
            self.take_over(context);
        }
    }

    /// Whether everything that the previous leader left is known.
    #[cfg(test)]
    pub(super) fn is_active(&self) -> bool {
        self.lock().is_active()
    }

    /// The right to write a workload now, if it has one.
    pub(super) fn reserve<'a>(
        &self,
        context: &'a Context,
        key: &Key,
        request: Request<'_>,
    ) -> Option<Reservation<'a>> {
        let slot = self.with(context, |scheduler, now| scheduler.reserve(key, request, now))?;
        Some(Reservation { context, slot, is_settled: false })
    }

    /// Something refuses or undoes the writes of a workload, or does so no more.
    pub(super) fn set_blocked(&self, context: &Context, key: &Key, is_blocked: bool) {
        self.with(context, |scheduler, now| scheduler.set_blocked(key, is_blocked, now));
    }

    /// What failed of a policy, which matches so many workloads. `None` before everything that the previous leader left
    /// is known.
    pub(super) fn status_of(
        &self,
        context: &Context,
        policy: &PolicyKey,
        matched: usize,
    ) -> Option<PolicyStatus> {
        self.with(context, |scheduler, _| {
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

    /// Lets something happen, and tells of what follows.
    fn with<T>(&self, context: &Context, event: impl FnOnce(&mut RolloutScheduler, Timestamp) -> T) -> T {
        let now = self.clock.now();
        let (outcome, runnable, changed) = {
            let mut scheduler = self.lock();
            let before = scheduler.next_deadline();
            let outcome = event(&mut scheduler, now);
            // While writes are paused, offers would only expire.
            let runnable = if context.writes() { scheduler.take_runnable(now) } else { BTreeSet::new() };
            let next = scheduler.next_deadline();
            if next.is_some_and(|next| before.is_none_or(|before| next < before)) {
                self.earlier.notify_one();
            }
            (outcome, runnable, scheduler.take_changed())
        };
        for key in runnable {
            self.runnable[key.kind as usize].add(key);
        }
        tell(context, &changed);
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, RolloutScheduler> {
        self.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation<'_> {
    /// The workload was written.
    pub(super) fn commit(mut self, written: &DynamicObject) {
        let mark = RolloutMark {
            generation: written.metadata.generation.unwrap_or(0),
            template: hash_of(&written.data["spec"]["template"]),
        };
        self.settle(|scheduler, slot, now| scheduler.commit(slot, mark, now));
    }

    /// The workload was not written.
    pub(super) fn release(mut self) {
        self.settle(RolloutScheduler::release);
    }

    fn settle(&mut self, outcome: impl FnOnce(&mut RolloutScheduler, &Slot, Timestamp)) {
        self.is_settled = true;
        let Self { context, slot, .. } = self;
        context.scheduling.with(context, |scheduler, now| outcome(scheduler, slot, now));
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.settle(RolloutScheduler::outcome_unknown);
        }
    }
}

/// How a controller finds a workload.
pub(super) fn reference(key: &Key) -> ObjectRef<CachedWorkload> {
    ObjectRef::new_with(&key.name, resource(key.kind)).within(&key.namespace)
}

fn policies(caches: &Caches) -> Vec<PolicyKey> {
    let of_namespaces = caches.policies().state().into_iter().map(|policy| {
        policy_key(&policy.namespace().unwrap_or_default(), &Source::Policy(policy.name_any()))
    });
    let of_cluster = caches.cluster_policies().state().into_iter();
    let of_cluster = of_cluster.map(|policy| policy_key("", &Source::ClusterPolicy(policy.name_any())));
    of_namespaces.chain(of_cluster).collect()
}

fn set_policy(scheduler: &mut RolloutScheduler, context: &Context, policy: &PolicyKey, now: Timestamp) {
    match failures::of_policy(&context.caches, policy) {
        Some((said, _)) => scheduler.set_policy(policy, said.generation, said.failures, now),
        None => scheduler.remove_policy(policy, now),
    }
}

fn observe(scheduler: &mut RolloutScheduler, context: &Context, key: &Key, now: Timestamp) {
    let evaluation = context.index.get(key);
    match evaluation.and_then(|evaluation| Snapshot::of(&evaluation)) {
        Some(snapshot) => {
            scheduler.observe(key, snapshot, now);
            scheduler.set_blocked(key, context.blocked.is_blocked(key), now);
        }
        None => scheduler.remove(key),
    }
}

/// Requeues policies whose failures changed, and those whose workloads wait for them.
fn tell(context: &Context, policies: &BTreeSet<PolicyKey>) {
    if policies.is_empty() {
        return;
    }
    let waiting = policies.iter().flat_map(|policy| context.index.of_policy(policy));
    let waiting: BTreeSet<_> =
        waiting.flat_map(|(_, evaluation)| evaluation.decision.counted_by.clone()).collect();
    context.index.touch_policies(policies.union(&waiting).cloned());
    // Metrics count what failed.
    context.index.bump();
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::{task::yield_now, time::timeout};

    use super::*;
    use crate::{controller::test_support::commanded, disruption::test_support::client};

    /// Two Deployments whose rollouts are complete, and a policy that changes one at a time.
    fn caches() -> Caches {
        let workload = |name: &str| {
            let object: Value = json!({
                "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1},
                "spec": {"replicas": 1, "template": {
                    "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app"}]},
                }},
                "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
            });
            (Kind::Deployment, serde_json::from_value(object).unwrap())
        };
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
            "metadata": {"name": "all", "namespace": "shop", "generation": 1}, "spec": {"selector": {}},
        });
        let policies = vec![serde_json::from_value(policy).unwrap()];
        Caches::fixed(policies, vec![], ["a", "b"].map(workload).into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_requeues_runnable_workloads_and_starts_anew_when_it_leads_again() {
        let (context, [is_leader, _paused]) = commanded(client(|_, _| None), caches(), 10);
        let mut runnable = Box::pin(context.scheduling.runnable(Kind::Deployment));
        let mut next = async || {
            let next = timeout(Duration::from_mins(5), runnable.next());
            next.await.expect("a runnable workload").unwrap().name
        };
        let check = async {
            assert_eq!(next().await, "a");
            // It reserves no slot, and nothing but the clock tells.
            assert_eq!(next().await, "b");
            is_leader.send_replace(false);
            while context.scheduling.is_active() {
                yield_now().await;
            }
            is_leader.send_replace(true);
            assert_eq!(next().await, "a");
        };
        tokio::select! {
            // What the context offered when it was made is offered anew before it is taken.
            biased;
            () = context.scheduling.drive(&context) => unreachable!(),
            () = check => {}
        }
    }
}
