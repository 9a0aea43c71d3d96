//! The evaluations of the cluster's workloads, and the queues of those that changed.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use kube::api::ObjectMeta;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use super::{
    change_set::ChangeSet,
    dirty::Batch,
    evaluated_workload::{DesiredState, EvaluatedWorkload},
};
use crate::{
    api::{EffectiveValues, WorkloadKind as Kind},
    keys::{PolicyKey, PolicyKeys, WorkloadKey, policy_key},
    plan::Source,
};

/// The evaluations of the cluster's workloads. Empty on a replica that doesn't lead.
#[derive(Clone, Debug)]
pub struct Index(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    /// Workloads whose template is to be written immediately, by kind in the order of [`Kind::ALL`].
    urgent: [ChangeSet<WorkloadKey>; 3],
    /// Other workloads whose desired state changed.
    others: [ChangeSet<WorkloadKey>; 3],
    /// Those of `others` whose reconciliation has not begun since.
    waiting: Mutex<HashSet<WorkloadKey>>,
    /// Policies whose workloads changed: namespaced policies, and cluster policies.
    policies: [ChangeSet<PolicyKey>; 2],
    /// All changes of evaluations, including rollout progress, and of applied policies.
    changes: ChangeSet<IndexChange>,
    evaluations: Counter,
    version: watch::Sender<u64>,
    keys: PolicyKeys,
}

/// A change of the index. Policies sort before workloads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IndexChange {
    /// A policy was applied for the first time, changed, or was deleted.
    Policy(PolicyKey),
    /// The evaluation of a workload changed.
    Workload(WorkloadKey),
}

/// Why a workload was evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EvaluationCause {
    /// Only its own watch event, for which its controller reconciles it too.
    OwnEvent,
    /// Another change.
    Other,
}

#[derive(Debug, Default)]
struct State {
    evaluations: BTreeMap<WorkloadKey, Arc<EvaluatedWorkload>>,
    /// Workloads whose writers got something else to do with their own events, until they are evaluated for another cause.
    /// Such an evaluation may have read a policy that the reconciliation for the same event had not. The mark of that
    /// policy follows, and then the desired state is the same.
    changed_by_own_events: HashSet<WorkloadKey>,
    /// The policies with which all their workloads have been evaluated.
    applied: BTreeMap<PolicyKey, PolicyVersion>,
    /// Whether all workloads have been evaluated.
    is_complete: bool,
    /// How often this replica has stopped leading.
    term: u64,
}

/// A version of a policy: uid, generation, and its effective values including inherited ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PolicyVersion {
    uid: Option<String>,
    generation: Option<i64>,
    effective: EffectiveValues,
}

impl PolicyVersion {
    pub(super) fn of(policy: &ObjectMeta, effective: EffectiveValues) -> Self {
        Self { uid: policy.uid.clone(), generation: policy.generation, effective }
    }
}

impl State {
    /// The applied policies of a namespace.
    fn applied_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a PolicyKey> {
        // No key of the namespace sorts before this one.
        let first = policy_key(namespace, &Source::WorkloadAnnotation);
        self.applied.range(first..).map(|(key, _)| key).take_while(move |key| key.namespace() == namespace)
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new(Counter::default())
    }
}

impl Index {
    /// An empty index that counts evaluated workloads.
    #[must_use]
    pub fn new(evaluations: Counter) -> Self {
        Self(Arc::new(Shared {
            state: RwLock::default(),
            evaluations,
            urgent: Kind::ALL.map(|_| ChangeSet::default()),
            others: Kind::ALL.map(|_| ChangeSet::default()),
            waiting: Mutex::default(),
            policies: [ChangeSet::default(), ChangeSet::default()],
            changes: ChangeSet::default(),
            version: watch::Sender::new(0),
            keys: PolicyKeys::default(),
        }))
    }

    /// The evaluation of a workload. `None` if adieu doesn't manage it, or hasn't evaluated it yet.
    #[must_use]
    pub fn get(&self, key: &WorkloadKey) -> Option<Arc<EvaluatedWorkload>> {
        self.read().evaluations.get(key).cloned()
    }

    /// Every evaluation, by namespace.
    #[must_use]
    pub fn all(&self) -> Vec<(WorkloadKey, Arc<EvaluatedWorkload>)> {
        self.read().evaluations.iter().map(|(key, evaluation)| (key.clone(), evaluation.clone())).collect()
    }

    /// All evaluated workloads.
    pub(super) fn keys(&self) -> Vec<WorkloadKey> {
        self.read().evaluations.keys().cloned().collect()
    }

    /// The evaluated workloads of a namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<WorkloadKey> {
        let state = self.read();
        let keys = state.evaluations.range(first_of(namespace)..).map(|(key, _)| key);
        keys.take_while(|key| key.namespace == namespace).cloned().collect()
    }

    /// The evaluations that [concern](DesiredState::appears_in_status_of) a policy.
    #[must_use]
    pub fn of_policy(&self, policy: &PolicyKey) -> Vec<(WorkloadKey, Arc<EvaluatedWorkload>)> {
        let state = self.read();
        let first = (!policy.is_cluster_scoped()).then(|| first_of(policy.namespace()));
        let from = first.map_or(Bound::Unbounded, Bound::Included);
        let reach = state.evaluations.range((from, Bound::Unbounded));
        reach
            .take_while(|(key, _)| policy.is_cluster_scoped() || key.namespace == policy.namespace())
            .filter(|(_, evaluation)| evaluation.desired.appears_in_status_of(policy))
            .map(|(key, evaluation)| (key.clone(), evaluation.clone()))
            .collect()
    }

    /// Changes when this replica stops leading: earlier results are then invalid.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.read().term
    }

    /// Whether all workloads have been evaluated. Before that, rollouts in progress may be missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.read().is_complete
    }

    /// Whether all workloads of a policy have been evaluated with this version of it.
    #[must_use]
    pub fn has_applied(&self, key: &PolicyKey, policy: &ObjectMeta) -> bool {
        self.read()
            .applied
            .get(key)
            .is_some_and(|applied| applied.uid == policy.uid && applied.generation >= policy.generation)
    }

    /// A counter that every change increments, except rollout progress.
    #[must_use]
    pub fn version(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    /// The workloads of a kind whose desired state changed so that their template is to be written immediately. For one
    /// consumer.
    #[must_use]
    pub fn urgent_changes(&self, kind: Kind) -> ChangeSet<WorkloadKey> {
        self.0.urgent[kind as usize].clone()
    }

    /// The other workloads of a kind whose desired state changed: they need at most an annotation, an Event or a
    /// `PodDisruptionBudget`, or wait for the scheduler. For one consumer.
    #[must_use]
    pub fn other_changes(&self, kind: Kind) -> ChangeSet<WorkloadKey> {
        self.0.others[kind as usize].clone()
    }

    /// The policies whose workloads changed: cluster policies, or namespaced ones. For one consumer.
    #[must_use]
    pub fn changed_policies(&self, cluster_scoped: bool) -> ChangeSet<PolicyKey> {
        self.0.policies[usize::from(cluster_scoped)].clone()
    }

    /// Every change of an evaluation or of an applied policy. For one consumer.
    #[must_use]
    pub fn changes(&self) -> ChangeSet<IndexChange> {
        self.0.changes.clone()
    }

    /// Requeues the policies of a workload, and wakes readers, after a change that its evaluation doesn't have.
    pub fn requeue_policies_of(&self, key: &WorkloadKey) {
        if let Some(evaluation) = self.get(key) {
            self.requeue_policies(evaluation.desired.policies());
        }
        self.notify();
    }

    /// Wakes readers of the whole index after a change that no evaluation has.
    pub fn notify(&self) {
        self.0.version.send_modify(|version| *version += 1);
    }

    pub(super) fn count_evaluation(&self) {
        self.0.evaluations.inc();
    }

    pub(super) fn policy_keys(&self) -> &PolicyKeys {
        &self.0.keys
    }

    /// Requeues policies after a change that no evaluation has.
    pub fn requeue_policies(&self, policies: impl IntoIterator<Item = PolicyKey>) {
        for policy in policies {
            self.0.policies[usize::from(policy.is_cluster_scoped())].add(policy);
        }
    }

    /// Requeues a workload after a change that its evaluation doesn't have.
    pub fn requeue_workload(&self, key: &WorkloadKey) {
        self.waiting().insert(key.clone());
        self.0.others[key.kind as usize].add(key.clone());
    }

    /// A reconciliation of the workload begins, or it was deleted.
    pub fn drop_waiting(&self, key: &WorkloadKey) {
        self.waiting().remove(key);
    }

    /// Whether no reconciliation of the workload has begun since it was last one of the
    /// [other changes](Self::other_changes).
    #[must_use]
    pub fn is_waiting(&self, key: &WorkloadKey) -> bool {
        self.waiting().contains(key)
    }

    /// Requeues the workloads of one namespace, or all.
    pub fn requeue_workloads(&self, namespace: Option<&str>) {
        for key in namespace.map_or_else(|| self.keys(), |namespace| self.in_namespace(namespace)) {
            self.requeue_workload(&key);
        }
    }

    /// Stores an evaluation. If the desired state differs from the previous one, requeues the policies of the workload. If
    /// its writers may have something else to do, requeues the workload, unless its controller reconciles it for the same
    /// event. In that case the next evaluation for another cause requeues it. A workload for which a recommendation may
    /// wait is requeued once its rollout is complete.
    pub(super) fn set(&self, key: &WorkloadKey, now: Option<EvaluatedWorkload>, cause: EvaluationCause) {
        let now = now.map(Arc::new);
        let mut state = self.write();
        let before = match &now {
            Some(now) => state.evaluations.insert(key.clone(), now.clone()),
            None => state.evaluations.remove(key),
        };
        let [old, new] = [&before, &now].map(|of| of.as_ref().map(|of| &of.desired));
        let differs = before != now;
        let is_changed = differs && old != new;
        let writers_differ = match (old, new) {
            (Some(old), Some(new)) => is_changed && new.differs_for_writers(old),
            _ => is_changed,
        };
        let is_requeued = match cause {
            EvaluationCause::OwnEvent => {
                if writers_differ {
                    state.changed_by_own_events.insert(key.clone());
                }
                false
            }
            EvaluationCause::Other => state.changed_by_own_events.remove(key) || writers_differ,
        };
        drop(state);
        // Its controller gets no event for a change of the status alone.
        let may_apply = now.as_deref().is_some_and(EvaluatedWorkload::may_apply_recommendation);
        let is_requeued = is_requeued || differs && may_apply;
        if is_requeued && new.is_some_and(DesiredState::is_urgent) {
            self.0.urgent[key.kind as usize].add(key.clone());
        } else if is_requeued {
            self.requeue_workload(key);
        }
        if is_changed {
            let [old, new] = [old, new].map(|of| of.map(DesiredState::policies).unwrap_or_default());
            self.requeue_policies(old.into_iter().chain(new));
            self.notify();
        }
        if differs {
            self.0.changes.add(IndexChange::Workload(key.clone()));
        }
    }

    /// Drops what is kept of a deleted workload beside its evaluation.
    pub(super) fn forget(&self, key: &WorkloadKey) {
        self.write().changed_by_own_events.remove(key);
        self.drop_waiting(key);
    }

    /// Records the policies with which the workloads of `batch` have been evaluated.
    pub(super) fn apply(&self, policies: BTreeMap<PolicyKey, PolicyVersion>, batch: &Batch) {
        let mut state = self.write();
        state.is_complete |= batch.all;
        let is_new =
            |(key, version): &(&PolicyKey, &PolicyVersion)| state.applied.get(*key) != Some(*version);
        let changed: Vec<_> = policies.iter().filter(is_new).map(|(key, _)| key.clone()).collect();
        // Deleted policies are removed.
        let inside: Vec<&PolicyKey> = if batch.all {
            state.applied.keys().collect()
        } else {
            batch.namespaces.iter().flat_map(|namespace| state.applied_in(namespace)).collect()
        };
        let gone: Vec<PolicyKey> =
            inside.into_iter().filter(|key| !policies.contains_key(*key)).cloned().collect();
        for key in &gone {
            state.applied.remove(key);
        }
        state.applied.extend(policies);
        drop(state);
        for policy in changed.iter().chain(&gone) {
            self.0.changes.add(IndexChange::Policy(policy.clone()));
        }
        self.notify();
        self.requeue_policies(changed);
    }

    /// Clears the index: another replica leads.
    pub(crate) fn clear(&self) {
        let mut state = self.write();
        *state = State { term: state.term + 1, ..State::default() };
        drop(state);
        self.waiting().clear();
        self.notify();
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<WorkloadKey>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key that sorts before all workloads of a namespace.
fn first_of(namespace: &str) -> WorkloadKey {
    WorkloadKey { namespace: namespace.to_owned(), kind: Kind::ALL[0], name: String::new() }
}

#[cfg(test)]
#[path = "workload_index_tests/mod.rs"]
mod tests;
