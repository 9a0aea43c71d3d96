//! The exposures of the cluster's pods: which objects lead requests to them, and the drain that they need.
//!
//! Traffic objects are watched in the kinds that the API server serves; a CRD that is added later is found by a watch of
//! CRDs. Of each object only its references to others are kept.

mod profiles;
mod served;
mod traffic_watches;
mod watched_traffic;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use adieu_exposures::{
    Drain, Exposure, Kind, Pods, Profiles, TrafficIndex, TrafficObject, drain_of, exposures_of,
};
use k8s_openapi::api::core::v1::Service;
use kube::Client;
pub use served::served;
use tokio::sync::watch;
use traffic_watches::TrafficWatches;

use super::{dirty::Dirty, object_quota::Quota, unusable_objects::UnusableObjects};
use crate::plan::{NamespaceContext, PodTemplate, Setting, Source, selects, string_map};

/// The objects that lead requests to Services.
#[derive(Clone, Debug)]
pub struct Exposures {
    index: Arc<RwLock<TrafficIndex>>,
    /// The number of kinds that are served, but not listed yet.
    unlisted: watch::Receiver<usize>,
}

impl Default for Exposures {
    /// No objects.
    fn default() -> Self {
        Self { index: Arc::default(), unlisted: watch::channel(0).1 }
    }
}

impl Exposures {
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
        Self { index: Arc::new(RwLock::new(index)), ..Self::default() }
    }

    /// Waits until every kind that is served has been listed, or may not be listed.
    pub(super) async fn listed(&self) {
        drop(self.unlisted.clone().wait_for(|unlisted| *unlisted == 0).await);
    }

    /// The exposures of the pods that these Services of their namespace may select.
    fn of(&self, pods: Pods<'_>, services: &[Arc<Service>]) -> Vec<Exposure> {
        let services = services.iter().map(Arc::as_ref);
        let selecting: Vec<&Service> = services.filter(|service| selects(service, pods.labels)).collect();
        let names = selecting.iter().filter_map(|service| service.metadata.name.as_deref());
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let objects = index.leading_to(pods.namespace, names);
        drop(index);
        exposures_of(pods, selecting, &objects)
    }
}

/// The exposures of the pods of a namespace.
#[derive(Clone, Debug, Default)]
pub struct NamespaceExposures {
    exposures: Exposures,
    namespace: String,
    services: Vec<Arc<Service>>,
    profiles: Profiles,
}

impl NamespaceExposures {
    /// The exposures of the pods of a namespace, in its context.
    #[must_use]
    pub fn new(exposures: &Exposures, namespace: &str, context: &NamespaceContext) -> Self {
        Self {
            exposures: exposures.clone(),
            namespace: namespace.to_owned(),
            services: context.services.clone(),
            profiles: profiles::of(&context.cluster_policies),
        }
    }

    /// The drain that pods with these labels need.
    #[must_use]
    pub fn drain(&self, labels: &BTreeMap<String, String>) -> Drain {
        let pods = Pods { namespace: &self.namespace, labels };
        drain_of(&self.exposures.of(pods, &self.services), &self.profiles)
    }

    /// Whether all kinds that are served have been listed. Otherwise pods may need a longer drain than is known.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self.exposures.unlisted.borrow() == 0
    }

    /// Why an injected drain is too short for the exposures of the pods; `None` if it isn't.
    #[must_use]
    pub fn shortfall(&self, injected: &InjectedDrain) -> Option<String> {
        let InjectedDrain { seconds: injected, from, labels } = injected;
        let Drain { seconds, because } = self.drain(labels);
        (*injected < seconds).then(|| {
            format!(
                "the injected drain of {injected} s ({from}) is too short, {seconds} s are needed: {because}; a longer one takes \
                 effect with the next change of the pod template"
            )
        })
    }
}

/// The drain that is injected into a pod template.
#[derive(Clone, Debug)]
pub struct InjectedDrain {
    seconds: i64,
    from: Source,
    /// The labels of the pods.
    labels: BTreeMap<String, String>,
}

impl InjectedDrain {
    /// The drain of a template; `None` without an injected preStop hook: how long hooks of the user take may be unknown.
    #[must_use]
    pub fn of(template: &PodTemplate<'_>) -> Option<Self> {
        let record = template.record()?;
        if record.containers.values().all(|container| container.pre_stop.is_none()) {
            return None;
        }
        let Setting { value, from } = &record.settings.drain_seconds;
        let labels = string_map(&template["metadata"]["labels"]);
        Some(Self { seconds: *value, from: from.clone(), labels })
    }
}

#[cfg(test)]
mod tests;
