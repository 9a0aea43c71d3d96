//! Evaluates workloads after changes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Service;
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
    plan::{self, NamespaceContext, Source, selects, string_map},
};

/// The contexts of namespaces; `None` if it isn't known which policies apply.
type Contexts = HashMap<String, Option<NamespaceContext>>;

/// Why a workload may have to be evaluated.
#[derive(Clone, Copy)]
enum Concern {
    Cause(EvaluationCause),
    /// The exposures of Services of its namespace changed, which may select its pods.
    Services,
}

/// Services whose exposures changed, by namespace.
type ChangedServices<'a> = BTreeMap<&'a str, Vec<Arc<Service>>>;

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
        for key in self.concerned(caches, &batch, &ChangedServices::new()).into_keys() {
            self.evaluate_one(caches, &key, EvaluationCause::Other, &mut contexts);
        }
        self.apply(applied, &batch);
    }

    pub(super) async fn evaluate(&self, caches: &Caches, batch: Batch) {
        let mut contexts = Contexts::new();
        let applied = versions(caches, &batch, &mut contexts);
        let services = changed_services(caches, &batch);
        for (key, concern) in self.concerned(caches, &batch, &services) {
            let cause = match concern {
                Concern::Cause(cause) => Some(cause),
                Concern::Services => is_selected(caches, &key, &services).then_some(EvaluationCause::Other),
            };
            if let Some(cause) = cause {
                self.evaluate_one(caches, &key, cause, &mut contexts);
            }
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
    fn concerned(
        &self,
        caches: &Caches,
        batch: &Batch,
        services: &ChangedServices<'_>,
    ) -> BTreeMap<WorkloadKey, Concern> {
        let Batch { all, namespaces, workloads, .. } = batch;
        let with = |concern| move |key: WorkloadKey| (key, concern);
        let [own_event, other] = [EvaluationCause::OwnEvent, EvaluationCause::Other].map(Concern::Cause);
        let mut concerned: BTreeMap<_, _> = workloads.iter().cloned().map(with(own_event)).collect();
        for namespace in services.keys() {
            for key in self.in_namespace(namespace) {
                // One that changed as well is evaluated for both.
                let concern = if workloads.contains(&key) { other } else { Concern::Services };
                concerned.insert(key, concern);
            }
        }
        if *all {
            let workloads = caches.workloads().all();
            let keys = workloads.map(|(kind, cached)| WorkloadKey::new(kind, cached.meta()));
            concerned.extend(keys.chain(self.keys()).map(with(other)));
        }
        for namespace in namespaces {
            let cached = caches.workloads().in_namespace(namespace);
            concerned.extend(cached.into_iter().chain(self.in_namespace(namespace)).map(with(other)));
        }
        concerned
    }
}

/// The Services of a batch that exist.
fn changed_services<'a>(caches: &Caches, batch: &'a Batch) -> ChangedServices<'a> {
    let mut changed = ChangedServices::new();
    for (namespace, name) in &batch.services {
        // A route may name any number that don't exist, in any namespace.
        if let Some(service) = caches.service(namespace, name) {
            changed.entry(namespace.as_str()).or_default().push(service);
        }
    }
    changed
}

/// Whether one of these Services selects the pods of a workload.
fn is_selected(caches: &Caches, key: &WorkloadKey, services: &ChangedServices<'_>) -> bool {
    let services = services.get(key.namespace.as_str());
    let cached = caches.workloads().cached(key.kind, &key.namespace, &key.name);
    services.zip(cached).is_some_and(|(services, cached)| {
        let labels = string_map(&cached.data()["spec"]["template"]["metadata"]["labels"]);
        services.iter().any(|service| selects(service, &labels))
    })
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
