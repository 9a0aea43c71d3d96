//! Watched objects that can't be used, because they can't be decoded or are too large.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::ObjectReference;
use prometheus_client::metrics::{family::Family, gauge::Gauge};
use tokio::sync::watch;

use crate::runtime::metrics::{KindLabel, Metrics, ObjectLabels};

/// The maximum length of an explanation, in bytes.
const EXPLANATION_LIMIT: usize = 512;

/// Why an object can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    /// It can't be decoded.
    #[error("{0}")]
    Undecodable(String),
    /// It is too large.
    #[error("{0}")]
    TooLarge(String),
}

impl Reason {
    /// The reason of an Event.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => "Undecodable",
            Self::TooLarge(_) => "TooLarge",
        }
    }

    pub(super) fn undecodable(field: &str, error: &serde_json::Error) -> Self {
        let mut explanation = format!("{field}: {error}: correct it, or update the CRDs and adieu");
        explanation.truncate(explanation.floor_char_boundary(EXPLANATION_LIMIT));
        Self::Undecodable(explanation)
    }

    pub(super) fn too_large(field: &str, length: usize, limit: usize) -> Self {
        let kib = |bytes: usize| bytes.div_ceil(1024);
        Self::TooLarge(format!(
            "{field}: {} KiB of JSON exceed the limit of {} KiB: make it smaller",
            kib(length),
            kib(limit)
        ))
    }
}

/// An object that can't be used.
#[derive(Clone, Debug)]
pub struct Unusable {
    /// The object.
    pub reference: ObjectReference,
    /// Why it can't be used.
    pub reason: Reason,
    /// Whether the current list has it.
    listed: bool,
}

/// Kind, namespace and name.
type Key = (&'static str, String, String);

/// The unusable objects, and the metrics that count them.
#[derive(Clone, Debug)]
pub struct UnusableObjects {
    objects: Arc<Mutex<BTreeMap<Key, Unusable>>>,
    undecodable: Family<ObjectLabels, Gauge>,
    too_large: Family<ObjectLabels, Gauge>,
    changed: watch::Sender<()>,
}

impl UnusableObjects {
    /// No objects, counted by these metrics.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            objects: Arc::default(),
            undecodable: metrics.undecodable_objects.clone(),
            too_large: metrics.oversized_objects.clone(),
            changed: watch::Sender::new(()),
        }
    }

    /// A receiver of every change.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The unusable objects.
    #[must_use]
    pub fn all(&self) -> Vec<Unusable> {
        self.objects().values().cloned().collect()
    }

    /// Whether a policy that may apply to a namespace can't be used.
    #[must_use]
    pub fn has_policy_of(&self, namespace: &str) -> bool {
        let holds = |(kind, of, _): &Key| {
            *kind == "ClusterGracefulPolicy" || *kind == "GracefulPolicy" && of.as_str() == namespace
        };
        self.objects().keys().any(holds)
    }

    /// Whether an object can't be used.
    #[must_use]
    pub fn has(&self, kind: &'static str, namespace: &str, name: &str) -> bool {
        self.objects().contains_key(&(kind, namespace.to_owned(), name.to_owned()))
    }

    /// Whether one of the `PodDisruptionBudgets` of a namespace can't be used.
    #[must_use]
    pub fn has_budget_of(&self, namespace: &str) -> bool {
        // The namespace of an object that is too large to be read may be unknown.
        let is_of = |(kind, of, _): &Key| {
            *kind == "PodDisruptionBudget" && (of.as_str() == namespace || of.is_empty())
        };
        self.objects().keys().any(is_of)
    }

    /// Adds an object that can't be used.
    pub(crate) fn add(&self, kind: &'static str, reference: ObjectReference, reason: Reason) {
        let key = key(kind, &reference);
        let mut objects = self.objects();
        if objects.get(&key).is_none_or(|known| known.reason != reason) {
            let ObjectReference { namespace, name, .. } = &reference;
            match reason {
                Reason::Undecodable(_) => tracing::warn!(kind, namespace, name, %reason, "object ignored"),
                Reason::TooLarge(_) => tracing::info!(kind, namespace, name, %reason, "object too large"),
            }
        }
        let uid = reference.uid.clone();
        let before = objects.insert(key, Unusable { reference, reason: reason.clone(), listed: true });
        let is_new = before.is_none_or(|before| before.reason != reason || before.reference.uid != uid);
        self.count(kind, &objects);
        drop(objects);
        if is_new {
            self.changed.send_replace(());
        }
    }

    /// Removes an object that can be used, or is deleted.
    pub(super) fn remove(&self, kind: &'static str, namespace: Option<&str>, name: Option<&str>) {
        let owned = |part: Option<&str>| part.unwrap_or_default().to_owned();
        let mut objects = self.objects();
        if objects.remove(&(kind, owned(namespace), owned(name))).is_some() {
            self.count(kind, &objects);
        }
    }

    /// Starts a list of a kind.
    pub(super) fn list_begins(&self, kind: &'static str) {
        let mut objects = self.objects();
        for unusable in objects.iter_mut().filter(|((of, ..), _)| *of == kind).map(|(_, unusable)| unusable) {
            unusable.listed = false;
        }
        self.count(kind, &objects);
    }

    /// Completes a list of a kind: objects that it didn't have are removed.
    pub(super) fn list_ends(&self, kind: &'static str) {
        let mut objects = self.objects();
        objects.retain(|(of, ..), unusable| *of != kind || unusable.listed);
        self.count(kind, &objects);
    }

    fn count(&self, kind: &'static str, objects: &BTreeMap<Key, Unusable>) {
        let of_kind = || objects.iter().filter(|((of, ..), _)| *of == kind).map(|(_, unusable)| unusable);
        let [mut undecodable, mut too_large] = [0; 2];
        for unusable in of_kind() {
            match unusable.reason {
                Reason::Undecodable(_) => undecodable += 1,
                Reason::TooLarge(_) => too_large += 1,
            }
        }
        let labels = ObjectLabels { kind: KindLabel(kind) };
        self.undecodable.get_or_create(&labels).set(undecodable);
        self.too_large.get_or_create(&labels).set(too_large);
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, Unusable>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for UnusableObjects {
    /// No objects, counted by no exported metrics.
    fn default() -> Self {
        Self::new(&Metrics::default())
    }
}

fn key(kind: &'static str, reference: &ObjectReference) -> Key {
    let ObjectReference { namespace, name, .. } = reference;
    (kind, namespace.clone().unwrap_or_default(), name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str) -> ObjectReference {
        ObjectReference { name: Some(name.into()), ..ObjectReference::default() }
    }

    #[test]
    fn unusable_objects_are_counted_by_kind_until_they_are_usable_or_deleted() {
        let metrics = Metrics::default();
        let objects = UnusableObjects::new(&metrics);
        let counts = |kind: &'static str| {
            let labels = ObjectLabels { kind: KindLabel(kind) };
            let [undecodable, too_large] = [&metrics.undecodable_objects, &metrics.oversized_objects]
                .map(|family| family.get_or_create(&labels).get());
            (undecodable, too_large)
        };
        let too_large = || Reason::too_large("spec", 20 << 10, 10 << 10);
        objects.list_begins("Service");
        objects.add("Service", reference("a"), too_large());
        objects.add("Service", reference("b"), Reason::Undecodable("why".into()));
        objects.add("Namespace", reference("a"), too_large());
        objects.list_ends("Service");
        assert_eq!((counts("Service"), counts("Namespace")), ((1, 1), (0, 1)));
        objects.remove("Service", None, Some("b"));
        assert_eq!(counts("Service"), (0, 1));
        objects.list_begins("Service");
        objects.list_ends("Service");
        assert_eq!((counts("Service"), counts("Namespace")), ((0, 0), (0, 1)));
    }

    #[test]
    fn an_unusable_policy_affects_its_namespace_or_all() {
        let objects = UnusableObjects::default();
        let policy = ObjectReference { namespace: Some("shop".into()), ..reference("all") };
        let reason = || Reason::Undecodable("why".into());
        objects.add("Service", policy.clone(), reason());
        assert!(!objects.has_policy_of("shop"));
        objects.add("GracefulPolicy", policy, reason());
        assert!(objects.has_policy_of("shop") && !objects.has_policy_of("bank"));
        objects.add("ClusterGracefulPolicy", reference("all"), reason());
        assert!(objects.has_policy_of("bank"));
        let budget = ObjectReference { namespace: Some("shop".into()), ..reference("web") };
        objects.add("PodDisruptionBudget", budget, reason());
        assert!(objects.has_budget_of("shop") && !objects.has_budget_of("bank"));
        objects.add("PodDisruptionBudget", ObjectReference::default(), reason());
        assert!(objects.has_budget_of("bank"));
    }

    #[test]
    fn an_unchanged_unusable_object_is_not_reported_again() {
        let objects = UnusableObjects::default();
        let mut changed = objects.changed();
        for (reason, is_change) in [("a", true), ("a", false), ("b", true)] {
            objects.add("Service", reference("a"), Reason::Undecodable(reason.into()));
            assert_eq!(changed.has_changed().unwrap(), is_change);
            changed.mark_unchanged();
        }
    }
}
