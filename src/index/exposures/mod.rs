//! The exposures of the cluster's pods: which objects lead requests to them, and the drain that they need.
//!
//! Traffic objects are watched in the kinds that the API server serves; a CRD that is added later is found by a watch of
//! CRDs. Of each object only its references to others are kept.

mod served;
mod traffic_watches;
mod watched_traffic;

use std::{
    collections::{BTreeMap, HashMap},
    iter::empty,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use adieu_exposures::{
    Exposure, Kind, MAX_SERVICES, Pods, Profiles, TrafficIndex, TrafficObject, exposures_of,
    exposures_of_each, longest_of, required_drain,
};
use k8s_openapi::api::core::v1::Service;
use kube::Client;
pub use served::served;
use tokio::sync::{Semaphore, watch};
use traffic_watches::{CONCURRENT_PAGES, TrafficWatches};

use super::{dirty::Dirty, object_quota::Quota, unusable_objects::UnusableObjects};
use crate::{
    api::ClusterGracefulPolicy,
    plan::{Exposures, NamespaceContext, RequiredDrain, selects},
};

/// The objects that lead requests to Services.
#[derive(Clone, Debug)]
pub struct TrafficCache {
    index: Arc<RwLock<TrafficIndex>>,
    /// The number of kinds that are served, but not listed yet.
    unlisted: watch::Receiver<usize>,
}

impl Default for TrafficCache {
    /// No objects.
    fn default() -> Self {
        Self::fixed([])
    }
}

impl TrafficCache {
    /// The objects of these kinds, and the task that watches them, which never returns.
    pub(super) fn follow(
        client: &Client,
        kinds: Vec<&'static Kind>,
        quota: &Quota,
        dirty: &Dirty,
        unusable: &UnusableObjects,
    ) -> (Self, impl Future<Output = ()> + Send + 'static + use<>) {
        let (sender, unlisted) = watch::channel(kinds.len());
        let index = Arc::<RwLock<TrafficIndex>>::default();
        let watches = TrafficWatches {
            client: client.clone(),
            unusable: unusable.clone(),
            quota: quota.clone(),
            dirty: dirty.clone(),
            index: index.clone(),
            unlisted: sender,
            pages: Arc::new(Semaphore::new(CONCURRENT_PAGES)),
        };
        (Self { index, unlisted }, watches.follow(kinds))
    }

    /// Fixed content.
    #[must_use]
    pub fn fixed(objects: impl IntoIterator<Item = TrafficObject>) -> Self {
        let mut index = TrafficIndex::default();
        for object in objects {
            drop(index.insert(object));
        }
        Self { index: Arc::new(RwLock::new(index)), unlisted: watch::channel(0).1 }
    }

    /// Waits until every kind that is served has been listed, or may not be listed.
    pub(super) async fn listed(&self) {
        drop(self.unlisted.clone().wait_for(|unlisted| *unlisted == 0).await);
    }

    /// The context of a namespace with the exposures of its pods.
    #[must_use]
    pub fn added_to(&self, context: NamespaceContext, namespace: &str) -> NamespaceContext {
        let exposures = CachedExposures {
            traffic: self.clone(),
            namespace: namespace.to_owned(),
            services: context.services.clone(),
            cluster_policies: context.cluster_policies.clone(),
            longest: Mutex::default(),
        };
        NamespaceContext { exposures: Some(Arc::new(exposures)), ..context }
    }

    /// The exposure of each of these Services of a namespace that needs the longest drain.
    fn longest(&self, namespace: &str, services: &[&Service], profiles: &Profiles) -> Vec<Option<Exposure>> {
        let names = services.iter().filter_map(|service| service.metadata.name.as_deref());
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let objects = index.leading_to(namespace, names);
        drop(index);
        exposures_of_each(namespace, services, &objects, |exposures| longest_of(&exposures, profiles))
    }
}

/// The exposures of the pods of a namespace. What leads to a Service is looked up when it is needed, and once: many workloads
/// of the namespace may be evaluated one after another.
#[derive(Debug)]
struct CachedExposures {
    traffic: TrafficCache,
    namespace: String,
    services: Vec<Arc<Service>>,
    cluster_policies: Vec<Arc<ClusterGracefulPolicy>>,
    /// By the name of a Service, its exposure that needs the longest drain.
    longest: Mutex<HashMap<String, Option<Exposure>>>,
}

impl Exposures for CachedExposures {
    fn required_drain(&self, labels: &BTreeMap<String, String>) -> Option<RequiredDrain> {
        let profiles = Profiles::of(&self.cluster_policies);
        let services = self.services.iter().map(Arc::as_ref);
        let selecting = services.filter(|service| selects(service, labels)).take(MAX_SERVICES);
        let selecting: Vec<&Service> = selecting.collect();
        let mut longest = self.longest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unknown = |service: &&Service| !longest.contains_key(name(service));
        let unknown: Vec<_> = selecting.iter().copied().filter(is_unknown).collect();
        if !unknown.is_empty() {
            let found = self.traffic.longest(&self.namespace, &unknown, &profiles);
            longest.extend(unknown.iter().map(|service| name(service).to_owned()).zip(found));
        }
        // Those that the pods have without a Service.
        let mut exposures =
            exposures_of(Pods { namespace: &self.namespace, labels }, empty::<&Service>(), &[]);
        exposures
            .extend(selecting.iter().filter_map(|service| longest.get(name(service)).cloned().flatten()));
        drop(longest);
        required_drain(&exposures, &profiles)
    }

    fn is_complete(&self) -> bool {
        *self.traffic.unlisted.borrow() == 0
    }
}

fn name(service: &Service) -> &str {
    service.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
