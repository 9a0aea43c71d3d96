//! Evaluates what changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use kube::{Resource as _, ResourceExt as _};
use tokio::{sync::watch, task::yield_now};

use super::{
    EvaluatedWorkload, Index, PolicyKey, PolicyVersion, WorkloadKey, caches::Caches, changes::Batch,
    policy_key,
};
use crate::{
    api::GracefulPolicy,
    plan::{self, NamespaceContext, Source},
};

/// What surrounds the workloads of each namespace, as far as it is known.
type Contexts = HashMap<String, Option<NamespaceContext>>;

impl Index {
    /// Keeps the index, for as long as this replica leads; empties it when another does.
    pub async fn keep(&self, caches: &Caches, mut is_leader: watch::Receiver<bool>) {
        let dirty = caches.dirty();
        while is_leader.wait_for(|is_leader| *is_leader).await.is_ok() {
            dirty.all();
            let mut leading = is_leader.clone();
            tokio::select! {
                biased;
                _ = leading.wait_for(|is_leader| !is_leader) => {}
                () = async {
                    // What isn't listed would seem to be gone.
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

    /// Evaluates everything there is, at once.
    #[cfg(test)]
    pub(crate) fn refresh(&self, caches: &Caches) {
        if !caches.workloads().is_filled() {
            return;
        }
        let batch = Batch { all: true, ..Batch::default() };
        let mut contexts = Contexts::new();
        let applied = versions(caches, &batch, &mut contexts);
        for key in self.concerned(caches, &batch) {
            self.evaluate_one(caches, &key, &mut contexts);
        }
        self.apply(applied, &batch);
    }

    async fn evaluate(&self, caches: &Caches, batch: Batch) {
        let mut contexts = Contexts::new();
        let applied = versions(caches, &batch, &mut contexts);
        for key in self.concerned(caches, &batch) {
            self.evaluate_one(caches, &key, &mut contexts);
            // Thousands may come together, and others have their turn between them.
            yield_now().await;
        }
        if batch.all || !batch.namespaces.is_empty() {
            self.apply(applied, &batch);
        }
    }

    fn evaluate_one(&self, caches: &Caches, key: &WorkloadKey, contexts: &mut Contexts) {
        let around = context(caches, contexts, &key.namespace);
        let kept = caches.workloads().kept_of(key.kind, &key.namespace, &key.name);
        let evaluation = kept
            .zip(around)
            .and_then(|(kept, around)| EvaluatedWorkload::of(key.kind, &kept, around, self.policy_keys()));
        self.set(key, evaluation);
    }

    /// The workloads that a batch is about, also those that are gone.
    fn concerned(&self, caches: &Caches, batch: &Batch) -> BTreeSet<WorkloadKey> {
        let Batch { all, namespaces, workloads } = batch;
        let mut concerned = workloads.clone();
        if *all {
            let kept = caches.workloads().kept();
            concerned.extend(kept.map(|(kind, kept)| WorkloadKey::new(kind, kept.meta())));
            concerned.extend(self.read().evaluations.keys().cloned());
        }
        for namespace in namespaces {
            concerned.extend(caches.workloads().inside(namespace));
            concerned.extend(self.inside(namespace));
        }
        concerned
    }
}

/// What surrounds the workloads of a namespace; `None` where it isn't known which policies hold there.
fn context<'a>(caches: &Caches, contexts: &'a mut Contexts, namespace: &str) -> Option<&'a NamespaceContext> {
    let find = || caches.knows_policies_of(namespace).then(|| caches.namespace_context(namespace));
    contexts.entry(namespace.to_owned()).or_insert_with(find).as_ref()
}

/// The policies whose whole reach a batch is about: those of its namespaces; the cluster's only where it is about
/// everything.
fn versions(caches: &Caches, batch: &Batch, contexts: &mut Contexts) -> BTreeMap<PolicyKey, PolicyVersion> {
    let mut versions = BTreeMap::new();
    let unknown = NamespaceContext::default();
    let mut add = |policy: &Arc<GracefulPolicy>| {
        let namespace = policy.namespace().unwrap_or_default();
        let key = policy_key(&namespace, &Source::Policy(policy.name_any()));
        let around = context(caches, contexts, &namespace).unwrap_or(&unknown);
        versions.insert(key, PolicyVersion::of(policy.meta(), plan::effective(&policy.spec, around)));
    };
    if batch.all {
        caches.policies().state().iter().for_each(&mut add);
    } else {
        let policies = batch.namespaces.iter().flat_map(|namespace| caches.policies().inside(namespace));
        policies.for_each(|policy| add(&policy));
    }
    if batch.all {
        let everywhere = caches.surroundings_everywhere();
        for policy in caches.cluster_policies().state() {
            let key = policy_key("", &Source::ClusterPolicy(policy.name_any()));
            let effective = plan::effective(&policy.spec.policy, &everywhere);
            versions.insert(key, PolicyVersion::of(policy.meta(), effective));
        }
    }
    versions
}
