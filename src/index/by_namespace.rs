//! Stores with an index by namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::take,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{
    Resource,
    runtime::{
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher::Event,
    },
};

/// Objects of one kind, which the [`NamespacedWriter`] updates.
#[derive(Clone, Debug)]
pub struct Namespaced<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<K>,
    names: Names,
}

/// Applies watch events to a [`Namespaced`] store.
pub struct NamespacedWriter<K: Resource<DynamicType = ()> + Clone + 'static> {
    writer: Writer<K>,
    store: Store<K>,
    names: Names,
    /// Whether a list is complete.
    is_listed: bool,
}

/// The names of the objects of each namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Arc<Mutex<State>>);

type ByNamespace = BTreeMap<String, BTreeSet<String>>;

#[derive(Debug, Default)]
struct State {
    names: ByNamespace,
    /// The names of an incomplete list.
    listed: ByNamespace,
}

/// An empty store and its writer.
pub(super) fn namespaced<K: Resource<DynamicType = ()> + Clone + 'static>()
-> (Namespaced<K>, NamespacedWriter<K>) {
    let (store, writer) = reflector::store();
    let names = Names::default();
    let writer = NamespacedWriter { writer, store: store.clone(), names: names.clone(), is_listed: false };
    (Namespaced { store, names }, writer)
}

/// A store with these objects.
#[cfg(any(test, feature = "test-support"))]
pub(super) fn fixed<K: Resource<DynamicType = ()> + Clone + 'static>(objects: Vec<K>) -> Namespaced<K> {
    let (store, mut writer) = namespaced();
    writer.apply(&Event::Init);
    for object in objects {
        writer.apply(&Event::InitApply(object));
    }
    writer.apply(&Event::InitDone);
    store
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Namespaced<K> {
    /// The objects of a namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let names = self.names.of(namespace);
        names.iter().filter_map(|name| self.store.get(&ObjectRef::new(name).within(namespace))).collect()
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Deref for Namespaced<K> {
    type Target = Store<K>;

    fn deref(&self) -> &Store<K> {
        &self.store
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> NamespacedWriter<K> {
    /// Applies an event. The objects of a repeated list replace those in the store one by one: buffered until the list
    /// is complete, they would take as much memory again.
    pub fn apply(&mut self, event: &Event<K>) {
        match event {
            Event::InitApply(object) if self.is_listed => {
                self.writer.apply_watcher_event(&Event::Apply(object.clone()));
            }
            Event::InitDone if self.is_listed => {
                for object in self.unlisted() {
                    self.writer.apply_watcher_event(&Event::Delete(K::clone(&object)));
                }
            }
            Event::Init if self.is_listed => {}
            event => self.writer.apply_watcher_event(event),
        }
        self.is_listed |= matches!(event, Event::InitDone);
        self.names.apply(event);
    }

    /// The objects that the current list doesn't have.
    fn unlisted(&self) -> Vec<Arc<K>> {
        let state = self.names.state();
        let is_listed = |object: &Arc<K>| {
            let (namespace, name) = namespace_and_name(&**object);
            state.listed.get(&namespace).is_some_and(|names| names.contains(&name))
        };
        self.store.state().into_iter().filter(|object| !is_listed(object)).collect()
    }
}

impl Names {
    /// The names in a namespace.
    pub(super) fn of(&self, namespace: &str) -> BTreeSet<String> {
        self.state().names.get(namespace).cloned().unwrap_or_default()
    }

    /// Applies an event, once the store has it.
    pub(super) fn apply<K: Resource>(&self, event: &Event<K>) {
        let mut state = self.state();
        match event {
            Event::Apply(object) => insert(&mut state.names, object),
            Event::Delete(object) => {
                let (namespace, name) = namespace_and_name(object);
                if let Some(names) = state.names.get_mut(&namespace) {
                    names.remove(&name);
                    if names.is_empty() {
                        state.names.remove(&namespace);
                    }
                }
            }
            Event::Init => state.listed.clear(),
            Event::InitApply(object) => insert(&mut state.listed, object),
            Event::InitDone => state.names = take(&mut state.listed),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert<K: Resource>(names: &mut ByNamespace, object: &K) {
    let (namespace, name) = namespace_and_name(object);
    names.entry(namespace).or_default().insert(name);
}

fn namespace_and_name<K: Resource>(object: &K) -> (String, String) {
    let metadata = object.meta();
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use kube::{ResourceExt as _, api::ObjectMeta};

    use super::*;

    fn service(namespace: &str, name: &str) -> Service {
        let (namespace, name) = (Some(namespace.into()), Some(name.into()));
        Service { metadata: ObjectMeta { namespace, name, ..ObjectMeta::default() }, ..Service::default() }
    }

    #[test]
    fn finds_objects_by_namespace_through_lists_and_changes() {
        let (services, mut writer) = namespaced();
        let in_namespace = |namespace: &str| -> Vec<String> {
            services.in_namespace(namespace).iter().map(|service: &Arc<Service>| service.name_any()).collect()
        };
        writer.apply(&Event::Init);
        for (namespace, name) in [("shop", "b"), ("shop", "a"), ("bank", "c")] {
            writer.apply(&Event::InitApply(service(namespace, name)));
        }
        assert!(in_namespace("shop").is_empty(), "a list counts once it is complete");
        writer.apply(&Event::InitDone);
        assert_eq!(
            (in_namespace("shop"), in_namespace("bank")),
            (vec!["a".into(), "b".into()], vec!["c".into()])
        );
        writer.apply(&Event::Apply(service("shop", "d")));
        writer.apply(&Event::Delete(service("shop", "a")));
        assert_eq!(in_namespace("shop"), ["b", "d"]);
        // A later list replaces objects one by one, and removes objects that are gone.
        writer.apply(&Event::Init);
        let before = Arc::downgrade(&services.in_namespace("shop")[1]);
        writer.apply(&Event::InitApply(service("shop", "d")));
        assert!(before.upgrade().is_none());
        assert_eq!(in_namespace("shop"), ["b", "d"]);
        writer.apply(&Event::InitDone);
        assert_eq!((in_namespace("shop"), in_namespace("bank")), (vec!["d".into()], vec![]));
    }
}
