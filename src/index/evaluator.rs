//! Evaluates workloads after changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use kube::{Resource as _, ResourceExt as _};
use tokio::{sync::watch, task::yield_now};

use super::{
    caches::Caches,
    dirty::Batch,
    evaluated_workload::EvaluatedWorkload,
    slim::reference,
    workload_index::{EvaluationCause, Index, PolicyVersion},
};
use crate::{
    api::GracefulPolicy,
    keys::{PolicyKey, WorkloadKey, policy_key},
    plan::{self, NamespaceContext, Source},
};

/// The contexts of namespaces; `None` if it isn't known which policies apply.
type Contexts = HashMap<String, Option<NamespaceContext>>;

impl Index {
    /// Updates the index while this replica leads, and clears it when it stops leading.
    pub async fn run(&self, caches: &Caches, mut is_leader: watch::Receiver<bool>) {
        let dirty = caches.dirty();
        while is_leader.wait_for(|is_leader| *is_leader).await.is_ok() {
            dirty.all();
            let mut leading = is_leader.clone();
            tokio::select! {
                biased;
                _ = leading.wait_for(|is_leader| !is_leader) => {}
                () = async {
                    // Workloads that aren't listed yet would seem to be deleted.
                    if caches.workloads().filled().await.is_ok() {
                        loop {
                            self.evaluate(caches, dirty.take().await).await;
                        }
                    }
                } => return,
            }
            self.clear();
        }
    }

    /// Evaluates all workloads.
    #[cfg(test)]
    pub(crate) fn refresh(&self, caches: &Caches) {
        if !caches.workloads().is_filled() {
            return;
        }
        let batch = Batch { all: true, ..Batch::default() };
        let mut contexts = Contexts::new();
        let applied = versions(caches, &batch, &mut contexts);
        for key in self.concerned(caches, &batch) {
            self.evaluate_one(caches, &key, EvaluationCause::Other, &mut contexts);
        }
        self.apply(applied, &batch);
    }

    pub(super) async fn evaluate(&self, caches: &Caches, batch: Batch) {
        let mut contexts = Contexts::new();
        let applied = versions(caches, &batch, &mut contexts);
        for key in self.concerned(caches, &batch) {
            let is_own_event = !batch.all && !batch.namespaces.contains(&key.namespace);
            let cause = if is_own_event { EvaluationCause::OwnEvent } else { EvaluationCause::Other };
            self.evaluate_one(caches, &key, cause, &mut contexts);
            // A batch can have thousands of workloads; other tasks run in between.
            yield_now().await;
        }
        if batch.all || !batch.namespaces.is_empty() {
            self.apply(applied, &batch);
        }
    }

    /// Evaluates a workload. After its own event its evaluation is reused if only its status changed.
    fn evaluate_one(
        &self,
        caches: &Caches,
        key: &WorkloadKey,
        cause: EvaluationCause,
        contexts: &mut Contexts,
    ) {
        let context = context(caches, contexts, &key.namespace);
        let before = self.get(key).filter(|_| cause == EvaluationCause::OwnEvent);
        let cached = caches.workloads().cached(key.kind, &key.namespace, &key.name);
        let is_deleted = cached.is_none();
        let evaluation = cached.zip(context).and_then(|(cached, context)| {
            let evaluate = || {
                before
                    .as_deref()
                    .and_then(|before| before.with_status(key.kind, &cached, context))
                    .or_else(|| EvaluatedWorkload::of(key.kind, &cached, context, self.policy_keys()))
            };
            let evaluated = caches.unusable().attempt(evaluate);
            evaluated.unwrap_or_else(|reason| {
                let kind = key.kind.as_str();
                caches.unusable().add(kind, reference("apps/v1", kind, cached.meta()), reason);
                None
            })
        });
        self.count_evaluation();
        self.set(key, evaluation, cause);
        if is_deleted {
            self.forget(key);
        }
    }

    /// The workloads of a batch, including deleted ones.
    fn concerned(&self, caches: &Caches, batch: &Batch) -> BTreeSet<WorkloadKey> {
        let Batch { all, namespaces, workloads } = batch;
        let mut concerned = workloads.clone();
        if *all {
            let workloads = caches.workloads().all();
            concerned.extend(workloads.map(|(kind, cached)| WorkloadKey::new(kind, cached.meta())));
            concerned.extend(self.keys());
        }
        for namespace in namespaces {
            concerned.extend(caches.workloads().in_namespace(namespace));
            concerned.extend(self.in_namespace(namespace));
        }
        concerned
    }
}

/// The context of a namespace; `None` if it isn't known which policies apply.
fn context<'a>(caches: &Caches, contexts: &'a mut Contexts, namespace: &str) -> Option<&'a NamespaceContext> {
    let find = || caches.are_policies_known(namespace).then(|| caches.namespace_context(namespace));
    contexts.entry(namespace.to_owned()).or_insert_with(find).as_ref()
}

/// The policies all of whose workloads are in the batch: those of its namespaces, and cluster policies only if the batch
/// has all workloads.
fn versions(caches: &Caches, batch: &Batch, contexts: &mut Contexts) -> BTreeMap<PolicyKey, PolicyVersion> {
    let mut versions = BTreeMap::new();
    let unknown = NamespaceContext::default();
    let mut add = |policy: &Arc<GracefulPolicy>| {
        let namespace = policy.namespace().unwrap_or_default();
        let key = policy_key(&namespace, &Source::Policy(policy.name_any()));
        let context = context(caches, contexts, &namespace).unwrap_or(&unknown);
        versions.insert(key, PolicyVersion::of(policy.meta(), plan::effective(&policy.spec, context)));
    };
    if batch.all {
        caches.policies().state().iter().for_each(&mut add);
    } else {
        let policies =
            batch.namespaces.iter().flat_map(|namespace| caches.policies().in_namespace(namespace));
        policies.for_each(|policy| add(&policy));
    }
    if batch.all {
        let cluster_wide = caches.cluster_wide_context();
        for policy in caches.cluster_policies().state() {
            let key = policy_key("", &Source::ClusterPolicy(policy.name_any()));
            let effective = plan::effective(&policy.spec.policy, &cluster_wide);
            versions.insert(key, PolicyVersion::of(policy.meta(), effective));
        }
    }
    versions
}
