//! The exposures of the cluster's pods: which objects lead requests to them, and the drain that they need.
//!
//! Traffic objects are watched in the kinds that the API server serves; a CRD that is added later is found by a watch of
//! CRDs. Of each object only its references to others are kept.

mod served;
mod traffic_watches;
mod watched_traffic;

use std::{
    collections::{BTreeMap, HashMap},
    iter::{empty, once},
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

use adieu_exposures::{
    Exposure, KINDS, Kind, MAX_SERVICES, ObjectName, Pods, Profiles, ServiceExposures, TrafficIndex,
    TrafficObject, exposures_of, exposures_of_each, longest_of, required_drain,
};
use k8s_openapi::api::core::v1::Service;
use kube::Client;
pub use served::served;
use tokio::sync::{Semaphore, watch};
use traffic_watches::{CONCURRENT_PAGES, TrafficWatches, UnknownKinds};

use super::{dirty::Dirty, object_quota::Quota, unusable_objects::UnusableObjects};
use crate::{
    api::ClusterGracefulPolicy,
    plan::{Completeness, Exposures, NamespaceContext, RequiredDrain, selects},
};

/// The kind and namespace of objects that can't be used.
type UnusableGroup = (&'static Kind, String);

/// The objects that lead requests to Services.
#[derive(Clone, Debug)]
pub struct TrafficCache {
    index: Arc<RwLock<TrafficIndex>>,
    unknown: watch::Receiver<UnknownKinds>,
    unusable: UnusableObjects,
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
        let (sender, unknown) = watch::channel(UnknownKinds { unlisted: kinds.len(), denied: 0 });
        let index = Arc::<RwLock<TrafficIndex>>::default();
        let watches = TrafficWatches {
            client: client.clone(),
            unusable: unusable.clone(),
            quota: quota.clone(),
            dirty: dirty.clone(),
            index: index.clone(),
            unknown: sender,
            pages: Arc::new(Semaphore::new(CONCURRENT_PAGES)),
        };
        (Self { index, unknown, unusable: unusable.clone() }, watches.follow(kinds))
    }

    /// Fixed content.
    #[must_use]
    pub fn fixed(objects: impl IntoIterator<Item = TrafficObject>) -> Self {
        let mut index = TrafficIndex::default();
        for object in objects {
            drop(index.insert(object));
        }
        let index = Arc::new(RwLock::new(index));
        Self {
            index,
            unknown: watch::channel(UnknownKinds::default()).1,
            unusable: UnusableObjects::default(),
        }
    }

    /// The same without some kinds, which can't be read.
    #[must_use]
    pub fn without_some_kinds(self) -> Self {
        Self { unknown: watch::channel(UnknownKinds { unlisted: 0, denied: 1 }).1, ..self }
    }

    /// Waits until every kind that is served has been listed, or may not be listed.
    pub(super) async fn listed(&self) {
        drop(self.unknown.clone().wait_for(|unknown| unknown.unlisted == 0).await);
    }

    /// Whether the objects of all kinds are known.
    fn is_complete(&self) -> bool {
        *self.unknown.borrow() == UnknownKinds::default()
    }

    /// The context of a namespace with the exposures of its pods.
    #[must_use]
    pub fn added_to(&self, context: NamespaceContext, namespace: &str) -> NamespaceContext {
        let exposures = CachedExposures {
            // First: while a kind is being listed, what is looked up may be incomplete.
            was_complete: self.is_complete(),
            traffic: self.clone(),
            namespace: namespace.to_owned(),
            services: context.services.clone(),
            cluster_policies: context.cluster_policies.clone(),
            profiles: OnceLock::new(),
            known: Mutex::default(),
        };
        NamespaceContext { exposures: Some(Arc::new(exposures)), ..context }
    }

    /// What is known of each of these Services of a namespace.
    fn known(&self, namespace: &str, services: &[&Service], profiles: &Profiles) -> Vec<KnownService> {
        let names = services.iter().filter_map(|service| service.metadata.name.as_deref());
        // Before and after the index is read: an object that becomes usable is added to the index before it is removed from
        // these, and one that becomes unusable is added to these before it is removed from the index.
        let mut unusable = self.unusable_groups();
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let objects = index.leading_to(namespace, names);
        drop(index);
        unusable.extend(self.unusable_groups());
        exposures_of_each(namespace, services, &objects, |found| KnownService {
            longest: longest_of(&found.exposures, profiles),
            completeness: self.completeness(namespace, &found, &unusable),
        })
    }

    /// The kinds and namespaces of objects that can't be used.
    fn unusable_groups(&self) -> Vec<UnusableGroup> {
        let of_kind = |kind: &'static Kind| {
            let namespaces = self.unusable.namespaces_of(kind.resource);
            namespaces.into_iter().map(move |namespace| (kind, namespace))
        };
        KINDS.iter().flat_map(of_kind).collect()
    }

    /// Whether one of the objects that can't be used may lead to a Service. One of its namespace, or of a namespace that this
    /// one allows to lead to the Service, is named to its users. Objects of a mesh in other namespaces aren't, because any
    /// tenant may have some.
    fn completeness(
        &self,
        namespace: &str,
        service: &ServiceExposures<'_>,
        unusable: &[UnusableGroup],
    ) -> Completeness {
        // Usually there are none; to look at what decides takes longer.
        if unusable.is_empty() {
            return Completeness::Complete;
        }
        let allowed = service.deciding_namespaces();
        let is_allowed = |name: &str| name.is_empty() || name == namespace || allowed.contains(name);
        let may_lead =
            |(kind, name): &UnusableGroup| is_allowed(name) || service.is_exported && kind.leads_anywhere();
        if !unusable.iter().any(may_lead) {
            return Completeness::Complete;
        }
        let mut named = unusable.iter().filter(|(_, name)| is_allowed(name));
        Completeness::Incomplete { object: named.find_map(|(kind, name)| self.unusable_in(kind, name)) }
    }

    /// An object of a kind and namespace that can't be used.
    fn unusable_in(&self, kind: &Kind, namespace: &str) -> Option<String> {
        let name = self.unusable.first(kind.resource, namespace)?;
        // Only the first ones are known by name.
        Some(if name.is_empty() {
            format!("an object of the kind {}", kind.kind)
        } else {
            ObjectName::new(kind.kind, namespace, &name).to_string()
        })
    }
}

/// What is known of a Service.
#[derive(Clone, Debug)]
struct KnownService {
    /// Its exposure that needs the longest drain.
    longest: Option<Exposure>,
    /// Whether all its exposures are known.
    completeness: Completeness,
}

/// The exposures of the pods of a namespace. What leads to a Service is looked up when it is needed, and once: many workloads
/// of the namespace may be evaluated one after another.
#[derive(Debug)]
struct CachedExposures {
    traffic: TrafficCache,
    namespace: String,
    services: Vec<Arc<Service>>,
    cluster_policies: Vec<Arc<ClusterGracefulPolicy>>,
    profiles: OnceLock<Profiles>,
    /// Whether the objects of all kinds were known before.
    was_complete: bool,
    /// By the name of a Service.
    known: Mutex<HashMap<String, KnownService>>,
}

impl CachedExposures {
    fn profiles(&self) -> &Profiles {
        self.profiles.get_or_init(|| Profiles::of(&self.cluster_policies))
    }

    /// What is known of the Services that select pods with these labels.
    fn selecting(&self, labels: &BTreeMap<String, String>) -> Vec<KnownService> {
        let services = self.services.iter().map(Arc::as_ref);
        let selecting = services.filter(|service| selects(service, labels)).take(MAX_SERVICES);
        let selecting: Vec<&Service> = selecting.collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unknown = |service: &&Service| !known.contains_key(name(service));
        let unknown: Vec<_> = selecting.iter().copied().filter(is_unknown).collect();
        if !unknown.is_empty() {
            let found = self.traffic.known(&self.namespace, &unknown, self.profiles());
            known.extend(unknown.iter().map(|service| name(service).to_owned()).zip(found));
        }
        selecting.iter().filter_map(|service| known.get(name(service)).cloned()).collect()
    }
}

impl Exposures for CachedExposures {
    fn required_drain(&self, labels: &BTreeMap<String, String>) -> Option<RequiredDrain> {
        // Those that the pods have without a Service.
        let mut exposures =
            exposures_of(Pods { namespace: &self.namespace, labels }, empty::<&Service>(), &[]);
        exposures.extend(self.selecting(labels).into_iter().filter_map(|service| service.longest));
        required_drain(&exposures, self.profiles())
    }

    fn completeness(&self, labels: &BTreeMap<String, String>) -> Completeness {
        let services = self.selecting(labels).into_iter().map(|service| service.completeness);
        // Also afterwards: the objects of a kind that may no longer be read are dropped.
        let of_kinds = if self.was_complete && self.traffic.is_complete() {
            Completeness::Complete
        } else {
            Completeness::Incomplete { object: None }
        };
        let all = once(of_kinds).chain(services);
        let incomplete = all.filter(|completeness| *completeness != Completeness::Complete);
        incomplete.reduce(with_object).unwrap_or(Completeness::Complete)
    }
}

/// The first of two that names an object, or else the second.
fn with_object(first: Completeness, second: Completeness) -> Completeness {
    if matches!(first, Completeness::Incomplete { object: Some(_) }) { first } else { second }
}

fn name(service: &Service) -> &str {
    service.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
