//! The objects that decisions depend on, from watches, without unused fields: policies, Services, Namespaces,
//! `PodDisruptionBudgets`, and the objects that lead requests to Services.

#[cfg(any(test, feature = "test-support"))]
mod fixed;
mod watches;

use std::{future::pending, sync::Arc, time::Duration};

use adieu_exposures::Kind;
use futures::{Stream, stream};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Service},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Client, ResourceExt as _,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::{sync::watch, time::timeout};
use watches::{MissingKinds, Watches};

use super::{
    by_namespace::{Namespaced, namespaced},
    change_set::ChangeSet,
    dirty::Dirty,
    exposures::TrafficCache,
    kubelets,
    relevance::{Relevance, generation, labels, relevant_budgets, service_fields},
    unusable_objects::UnusableObjects,
    workloads::{Workloads, wait_until},
};
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy, labels::is_enabled},
    plan::{self, NamespaceContext},
};

/// How long after all else the first lists of the objects that lead requests to Services may take: a kind that can't be
/// listed doesn't keep a replica from its work. Until it is, no automatic drain is shortened.
const EXPOSURES_LIMIT: Duration = Duration::from_secs(10);

/// The caches that decisions read.
#[derive(Clone, Debug)]
pub struct Caches {
    policies: Namespaced<GracefulPolicy>,
    cluster_policies: Namespaced<ClusterGracefulPolicy>,
    services: Namespaced<Service>,
    namespaces: Namespaced<Namespace>,
    budgets: Namespaced<PodDisruptionBudget>,
    traffic: TrafficCache,
    workloads: Workloads,
    native_sleep: watch::Receiver<Option<bool>>,
    policies_changed: watch::Receiver<()>,
    budgets_changed: ChangeSet<Option<String>>,
    synced: watch::Receiver<bool>,
    missing: MissingKinds,
    unusable: UnusableObjects,
}

impl Caches {
    /// The caches, and the task that fills them, which never returns. The caller polls the watches of `workloads`.
    /// Objects that can't be used go to `unusable`. Objects of `kinds` lead requests to Services.
    pub fn follow(
        client: &Client,
        workloads: Workloads,
        unusable: &UnusableObjects,
        kinds: Vec<&'static Kind>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (policies, policy_writer) = namespaced();
        let (cluster_policies, cluster_policy_writer) = namespaced();
        let (services, service_writer) = namespaced();
        let (namespaces, namespace_writer) = namespaced();
        let (budgets, budget_writer) = namespaced();
        let (native_sleep_sender, native_sleep) = watch::channel(None);
        let (policies_sender, policies_changed) = watch::channel(());
        let (synced_sender, synced) = watch::channel(false);
        let (traffic, traffic_watches) =
            TrafficCache::follow(client, kinds, workloads.quota(), workloads.dirty(), unusable);
        let caches = Self {
            policies,
            cluster_policies,
            services,
            namespaces,
            budgets,
            traffic,
            workloads,
            native_sleep,
            policies_changed,
            budgets_changed: ChangeSet::default(),
            synced,
            missing: MissingKinds::default(),
            unusable: unusable.clone(),
        };
        let dirty = caches.dirty();
        let mark_namespace = {
            let dirty = dirty.clone();
            move |namespace: Option<&str>| namespace.map_or_else(|| dirty.all(), |name| dirty.namespace(name))
        };
        let settings_changed = {
            let mark_namespace = mark_namespace.clone();
            move |namespace: Option<&str>| {
                policies_sender.send_replace(());
                mark_namespace(namespace);
            }
        };
        let budget_changed = {
            let changed = caches.budgets_changed.clone();
            move |namespace: Option<&str>| changed.add(namespace.map(Into::into))
        };
        let watches = Watches { client, unusable, quota: caches.workloads.quota(), missing: &caches.missing };
        let policies = watches.watch(policy_writer, Relevance::of(generation), settings_changed.clone());
        let cluster_policies =
            watches.watch(cluster_policy_writer, Relevance::of(generation), settings_changed.clone());
        let services = watches.watch(service_writer, Relevance::of(service_fields), mark_namespace);
        // A namespace's new label can change which policies apply.
        let namespaces = watches.watch(namespace_writer, Relevance::of(labels), settings_changed);
        let budgets = watches.watch(budget_writer, relevant_budgets(caches.budgets.clone()), budget_changed);
        let kubelets = kubelets::follow(client.clone(), native_sleep_sender);
        let native_sleep = mark_all(caches.native_sleep.clone(), dirty);
        let synced = caches.clone().publish_synced(synced_sender);
        let task = async {
            let stores = async { tokio::join!(policies, cluster_policies, services, namespaces, budgets) };
            tokio::join!(stores, traffic_watches, kubelets, native_sleep, synced);
        };
        (caches, task)
    }

    /// The workloads that have to be evaluated again.
    #[must_use]
    pub fn dirty(&self) -> Dirty {
        self.workloads.dirty().clone()
    }

    /// The workloads of the cluster.
    #[must_use]
    pub fn workloads(&self) -> &Workloads {
        &self.workloads
    }

    /// Waits until all caches but the workloads are filled.
    ///
    /// # Errors
    /// If the task that fills the caches has ended.
    pub async fn synced(&self) -> Result<(), watch::error::RecvError> {
        self.synced.clone().wait_for(|synced| *synced).await.map(drop)
    }

    /// Whether all caches but the workloads are filled, now or within `limit`.
    pub async fn synced_within(&self, limit: Duration) -> bool {
        *self.synced.borrow() || timeout(limit, self.synced()).await.is_ok_and(|synced| synced.is_ok())
    }

    /// Whether the API server serves all watched kinds. If a CRD is deleted, its policies are deleted too, which must
    /// not revert every workload.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.missing.is_empty()
    }

    /// An item whenever a kind is no longer served, or is served again.
    pub fn served_changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        changes(self.missing.subscribe())
    }

    /// Caches that are never filled.
    #[cfg(test)]
    pub(crate) fn unfilled(self) -> Self {
        Self { synced: watch::channel(false).1, workloads: self.workloads.unfilled(), ..self }
    }

    /// Caches of an API server that doesn't serve a kind of policy.
    #[cfg(test)]
    pub(crate) fn unserved(self) -> Self {
        Self { missing: MissingKinds::one(), ..self }
    }

    /// Caches that may still change, as long as the senders exist.
    #[cfg(test)]
    pub(crate) fn with_watches(self) -> (Self, [watch::Sender<()>; 2]) {
        let (of_policies, policies_changed) = watch::channel(());
        let (of_workloads, changed) = watch::channel(());
        let workloads = self.workloads.with_changes(changed);
        (Self { workloads, policies_changed, ..self }, [of_policies, of_workloads])
    }

    /// Sends `true` once the stores are filled. A store wakes only its last waiter, so there is one of this.
    async fn publish_synced(mut self, synced: watch::Sender<bool>) {
        let filled = self.policies.wait_until_ready().await.is_ok()
            && self.cluster_policies.wait_until_ready().await.is_ok()
            && self.services.wait_until_ready().await.is_ok()
            && self.namespaces.wait_until_ready().await.is_ok()
            && self.budgets.wait_until_ready().await.is_ok()
            && self.native_sleep.wait_for(Option::is_some).await.is_ok();
        if filled {
            drop(timeout(EXPOSURES_LIMIT, self.traffic.listed()).await);
            synced.send_replace(true);
        }
        // Without a sender, receivers would fail.
        pending::<()>().await;
    }

    /// Whether it is known which cluster policies apply to a namespace: those that select by labels may apply or not
    /// until the namespace is cached.
    #[must_use]
    pub fn are_policies_known(&self, namespace: &str) -> bool {
        self.namespaces.get(&ObjectRef::new(namespace)).is_some()
            || self.cluster_policies.find(selects_by_labels).is_none()
    }

    /// Like [`Self::are_policies_known`], but waits up to `limit`: the first workloads of a new namespace can arrive
    /// before its watch event.
    pub async fn wait_for_policies(&self, namespace: &str, limit: Duration) -> bool {
        let changed = self.policies_changed.clone();
        wait_until(changed, limit, || self.are_policies_known(namespace).then_some(())).await.is_some()
    }

    /// The policies, Services, exposures and other facts that apply to the workloads of a namespace.
    #[must_use]
    pub fn namespace_context(&self, namespace: &str) -> NamespaceContext {
        let labels = self.namespaces.get(&ObjectRef::new(namespace)).map(|found| found.labels().clone());
        // A namespace that isn't cached yet is assumed to be labelled.
        let injection_enabled = labels.as_ref().is_none_or(is_enabled);
        let labels = labels.unwrap_or_default();
        let context = NamespaceContext {
            policies: self.policies.in_namespace(namespace),
            cluster_policies: self.cluster_policies.state_filter(|policy| {
                let selector = policy.spec.namespace_selector.as_ref();
                selector.is_none_or(|selector| plan::matches(selector, &labels))
            }),
            services: self.services.in_namespace(namespace),
            exposures: None,
            native_sleep: self.native_sleep.borrow().unwrap_or(true),
            injection_enabled,
            has_unusable_policy: self.unusable.has_policy_for(namespace),
        };
        self.traffic.added_to(context, namespace)
    }

    /// The facts that apply in all namespaces: the cluster policies without a selector by labels.
    #[must_use]
    pub fn cluster_wide_context(&self) -> NamespaceContext {
        let cluster_policies = self.cluster_policies.state_filter(|policy| !selects_by_labels(policy));
        NamespaceContext { cluster_policies, ..NamespaceContext::default() }
    }

    /// The Service of that name.
    #[must_use]
    pub fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.get(&ObjectRef::new(name).within(namespace))
    }

    /// The `PodDisruptionBudgets` of a namespace.
    #[must_use]
    pub fn budgets(&self, namespace: &str) -> Vec<Arc<PodDisruptionBudget>> {
        self.budgets.in_namespace(namespace)
    }

    /// The namespaces in which a `PodDisruptionBudget` changed that can affect a decision; `None` stands for all. For
    /// one consumer.
    #[must_use]
    pub fn changed_budgets(&self) -> ChangeSet<Option<String>> {
        self.budgets_changed.clone()
    }

    /// The objects that can't be used.
    #[must_use]
    pub fn unusable(&self) -> &UnusableObjects {
        &self.unusable
    }

    /// The policies of all namespaces.
    #[must_use]
    pub fn policies(&self) -> &Namespaced<GracefulPolicy> {
        &self.policies
    }

    /// The cluster policies.
    #[must_use]
    pub fn cluster_policies(&self) -> &Store<ClusterGracefulPolicy> {
        &self.cluster_policies
    }
}

/// An empty selector selects every namespace.
fn selects_by_labels(policy: &ClusterGracefulPolicy) -> bool {
    policy.spec.namespace_selector.as_ref().is_some_and(|selector| *selector != LabelSelector::default())
}

/// An item for every value that is received; values in quick succession count once.
pub fn changes<T: Send + Sync + 'static>(receiver: watch::Receiver<T>) -> impl Stream<Item = ()> + Send {
    stream::unfold(receiver, |mut receiver| async {
        receiver.changed().await.ok()?;
        Some(((), receiver))
    })
}

/// Marks everything when the value changes.
async fn mark_all(mut receiver: watch::Receiver<Option<bool>>, dirty: Dirty) {
    while receiver.changed().await.is_ok() {
        dirty.all();
    }
}

#[cfg(test)]
mod tests;
