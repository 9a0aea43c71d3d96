//! Watched objects that can't be used, because they can't be decoded or are too large. `list_watch.rs` decodes each object
//! alone, so that one of these doesn't hide the others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::ObjectReference;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use tokio::sync::watch;

use super::change_set::ChangeSet;
use crate::{
    runtime::{
        logs::LineLimit,
        metrics::{KindLabel, Metrics, ObjectLabels, PanicLabels},
        panics,
    },
    text::truncate_bytes,
};

/// The maximum length of an explanation, in bytes.
const EXPLANATION_LIMIT: usize = 512;
/// The maximum number of unusable objects that are known by name, of each kind in each namespace.
const MAX_NAMED: usize = 100;

/// Why an object can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UnusableReason {
    /// It can't be decoded.
    #[error("{0}")]
    Undecodable(String),
    /// It is too large.
    #[error("{0}")]
    TooLarge(String),
}

impl UnusableReason {
    /// The reason of an Event.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => "Undecodable",
            Self::TooLarge(_) => "TooLarge",
        }
    }

    /// The index of the count of objects with this reason.
    fn index(&self) -> usize {
        match self {
            Self::Undecodable(_) => 0,
            Self::TooLarge(_) => 1,
        }
    }

    pub(super) fn undecodable(field: &str, error: &serde_json::Error) -> Self {
        let mut explanation = format!("{field}: {error}: correct it, or update the CRDs and adieu");
        truncate_bytes(&mut explanation, EXPLANATION_LIMIT);
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
pub struct UnusableObject {
    /// The object.
    pub reference: ObjectReference,
    /// Why it can't be used.
    pub reason: UnusableReason,
    /// Whether the current list has it.
    listed: bool,
}

/// The unusable objects, and the metrics that count them. In each namespace only the first [`MAX_NAMED`] of a kind are
/// known by name, and the others are counted.
#[derive(Clone, Debug)]
pub struct UnusableObjects {
    kinds: Arc<Mutex<Kinds>>,
    undecodable: Family<ObjectLabels, Gauge>,
    too_large: Family<ObjectLabels, Gauge>,
    denied: Family<ObjectLabels, Gauge>,
    panics: Family<PanicLabels, Counter>,
    changed: watch::Sender<()>,
    changed_groups: ChangeSet<(&'static str, String)>,
    lines: Arc<LineLimit>,
}

/// By kind and namespace.
type Kinds = BTreeMap<&'static str, BTreeMap<String, Group>>;

/// The unusable objects of one kind in one namespace.
#[derive(Debug, Default)]
struct Group {
    named: BTreeMap<String, UnusableObject>,
    /// How many others were added, by [reason](UnusableReason::index). Only a list reduces it.
    others: [i64; 2],
    /// Those of the current list.
    listed: [i64; 2],
}

impl Group {
    fn has_others(&self) -> bool {
        self.others != [0; 2]
    }

    fn is_empty(&self) -> bool {
        self.named.is_empty() && !self.has_others()
    }

    /// The number of objects with the reason of that index.
    fn count(&self, index: usize) -> i64 {
        self.others[index]
            + self.named.values().map(|one| i64::from(one.reason.index() == index)).sum::<i64>()
    }
}

impl UnusableObjects {
    /// No objects, counted by these metrics.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            kinds: Arc::default(),
            undecodable: metrics.undecodable_objects.clone(),
            too_large: metrics.oversized_objects.clone(),
            denied: metrics.denied_kinds.clone(),
            panics: metrics.panics.clone(),
            changed: watch::Sender::new(()),
            changed_groups: ChangeSet::default(),
            lines: Arc::default(),
        }
    }

    /// Sets whether the permission to read a kind is missing.
    pub(super) fn set_denied(&self, kind: &'static str, is_denied: bool) {
        let labels = ObjectLabels { kind: KindLabel(kind) };
        self.denied.get_or_create_owned(&labels).set(is_denied.into());
    }

    /// A receiver of every change.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The kinds, and the namespaces, of objects that became unusable, or no longer are. For one consumer.
    pub(super) fn changed_groups(&self) -> &ChangeSet<(&'static str, String)> {
        &self.changed_groups
    }

    /// The unusable objects that are known by name.
    #[must_use]
    pub fn all(&self) -> Vec<UnusableObject> {
        let kinds = self.kinds();
        let groups = kinds.values().flat_map(BTreeMap::values);
        groups.flat_map(|group| group.named.values().cloned()).collect()
    }

    /// Whether a policy that may apply to a namespace can't be used.
    #[must_use]
    pub fn has_policy_for(&self, namespace: &str) -> bool {
        self.has_any("ClusterGracefulPolicy", "") || self.has_any("GracefulPolicy", namespace)
    }

    /// Whether an object can't be used, or may be one of those that aren't known by name.
    #[must_use]
    pub fn has(&self, kind: &'static str, namespace: &str, name: &str) -> bool {
        let kinds = self.kinds();
        let group = kinds.get(kind).and_then(|namespaces| namespaces.get(namespace));
        group.is_some_and(|group| group.named.contains_key(name) || group.has_others())
    }

    /// The name of the first object of a kind in a namespace that can't be used; empty if it isn't known by name.
    pub(super) fn first(&self, kind: &'static str, namespace: &str) -> Option<String> {
        let kinds = self.kinds();
        let group = kinds.get(kind)?.get(namespace)?;
        Some(group.named.keys().next().cloned().unwrap_or_default())
    }

    /// The namespaces in which an object of a kind can't be used.
    pub(super) fn namespaces_of(&self, kind: &'static str) -> Vec<String> {
        let kinds = self.kinds();
        kinds.get(kind).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// Whether one of the `PodDisruptionBudgets` of a namespace can't be used.
    #[must_use]
    pub fn has_budget_in(&self, namespace: &str) -> bool {
        // The namespace of an object that is too large to be read may be unknown.
        ["", namespace].iter().any(|namespace| self.has_any("PodDisruptionBudget", namespace))
    }

    /// Whether a new list would tell the names of other objects.
    pub(super) fn should_relist(&self, kind: &'static str) -> bool {
        let kinds = self.kinds();
        let mut groups = kinds.get(kind).into_iter().flat_map(BTreeMap::values);
        groups.any(|group| group.has_others() && group.named.len() < MAX_NAMED)
    }

    /// Decodes or evaluates an object. If that panics, the object can't be used.
    pub(super) fn attempt<T>(&self, attempt: impl FnOnce() -> T) -> Result<T, UnusableReason> {
        panics::catch_on_object(&self.panics, attempt).map_err(|_| {
            UnusableReason::Undecodable(
                "this is a bug of adieu: please report the line of its log that has \"panicked\"".to_owned(),
            )
        })
    }

    /// Adds an object that can't be used.
    pub(crate) fn add(&self, kind: &'static str, reference: ObjectReference, reason: UnusableReason) {
        let [namespace, name] =
            [&reference.namespace, &reference.name].map(|part| part.clone().unwrap_or_default());
        let mut kinds = self.kinds();
        let group = kinds.entry(kind).or_default().entry(namespace.clone()).or_default();
        let before = group.named.get(&name);
        let same_reason = before.is_some_and(|before| before.reason == reason);
        let is_new = !same_reason || before.is_some_and(|before| before.reference.uid != reference.uid);
        if !same_reason {
            self.log(kind, &reference, &reason);
        }
        self.change_count(kind, &reason, 1);
        if before.is_none() && group.named.len() >= MAX_NAMED {
            group.others[reason.index()] += 1;
            group.listed[reason.index()] += 1;
            return;
        }
        if let Some(before) = group.named.insert(name, UnusableObject { reference, reason, listed: true }) {
            self.change_count(kind, &before.reason, -1);
        }
        drop(kinds);
        if is_new {
            self.changed_groups.add((kind, namespace));
            self.changed.send_replace(());
        }
    }

    /// Removes an object that can be used, or is deleted.
    pub(super) fn remove(&self, kind: &'static str, namespace: Option<&str>, name: Option<&str>) {
        let [namespace, name] = [namespace, name].map(Option::unwrap_or_default);
        let mut kinds = self.kinds();
        let Some(namespaces) = kinds.get_mut(kind) else { return };
        let Some(group) = namespaces.get_mut(namespace) else { return };
        if let Some(before) = group.named.remove(name) {
            self.change_count(kind, &before.reason, -1);
            self.changed_groups.add((kind, namespace.to_owned()));
        }
        if group.is_empty() {
            namespaces.remove(namespace);
        }
    }

    /// Starts a list of a kind.
    pub(super) fn list_begins(&self, kind: &'static str) {
        for group in self.kinds().entry(kind).or_default().values_mut() {
            group.named.values_mut().for_each(|unusable| unusable.listed = false);
            group.listed = [0; 2];
        }
    }

    /// Completes a list of a kind: objects that it didn't have are removed.
    pub(super) fn list_ends(&self, kind: &'static str) {
        let mut kinds = self.kinds();
        let namespaces = kinds.entry(kind).or_default();
        namespaces.retain(|namespace, group| {
            let before = (group.named.len(), group.has_others());
            group.named.retain(|_, unusable| unusable.listed);
            group.others = group.listed;
            if (group.named.len(), group.has_others()) != before {
                self.changed_groups.add((kind, namespace.clone()));
            }
            !group.is_empty()
        });
        for (index, gauge) in self.gauges(kind).iter().enumerate() {
            gauge.set(namespaces.values().map(|group| group.count(index)).sum());
        }
    }

    fn has_any(&self, kind: &'static str, namespace: &str) -> bool {
        self.kinds().get(kind).is_some_and(|namespaces| namespaces.contains_key(namespace))
    }

    fn change_count(&self, kind: &'static str, reason: &UnusableReason, by: i64) {
        self.gauges(kind)[reason.index()].inc_by(by);
    }

    /// The gauges of a kind, by [reason](UnusableReason::index).
    fn gauges(&self, kind: &'static str) -> [Gauge; 2] {
        let labels = ObjectLabels { kind: KindLabel(kind) };
        [&self.undecodable, &self.too_large].map(|family| family.get_or_create_owned(&labels))
    }

    fn log(&self, kind: &'static str, reference: &ObjectReference, reason: &UnusableReason) {
        let Some(dropped) = self.lines.allow() else { return };
        let ObjectReference { namespace, name, .. } = reference;
        match reason {
            UnusableReason::Undecodable(_) => {
                tracing::warn!(kind, namespace, name, %reason, dropped, "object ignored");
            }
            UnusableReason::TooLarge(_) => {
                tracing::info!(kind, namespace, name, %reason, dropped, "object too large");
            }
        }
    }

    fn kinds(&self) -> MutexGuard<'_, Kinds> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for UnusableObjects {
    /// No objects, counted by no exported metrics.
    fn default() -> Self {
        Self::new(&Metrics::default())
    }
}

#[cfg(test)]
#[path = "unusable_objects_tests.rs"]
mod tests;
