//! The cached workloads of every kind, from watches. They are untyped, so fields that this version doesn't know are kept.

use std::{mem::replace, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Client, Resource as _,
    core::DynamicObject,
    runtime::{
        WatchStreamExt as _,
        reflector::{ObjectRef, Store, store::Writer},
        watcher,
    },
};
use tokio::{sync::watch, time::timeout};

pub use super::cached_workload::resource;
use super::{
    by_namespace::Names,
    cached_workload::CachedWorkload,
    changed_workloads::{Specifications, stored},
    dirty::Dirty,
    list_watch::{ListWatch, list_watch},
    object_quota::Quota,
    replicas::Replicas,
    unusable_objects::UnusableObjects,
    watched::Watched as _,
};
use crate::{keys::WorkloadKey, plan::Kind};

/// How long an admission waits until an object that was just created is cached: a pod's workload, or a namespace.
pub const CACHE_LAG: Duration = Duration::from_secs(1);

/// The workloads of every kind, as of the last watch events.
#[derive(Clone, Debug)]
pub struct Workloads {
    /// In the order of [`Kind::ALL`].
    stores: [Store<CachedWorkload>; 3],
    names: [Names; 3],
    replicas: [Replicas; 3],
    /// The number of kinds that have been listed.
    listed: watch::Receiver<usize>,
    changed: watch::Receiver<()>,
    dirty: Dirty,
    quota: Quota,
}

/// The workloads of watch events whose generation, annotations or controller changed, once the store has them. Changes of
/// the status are left out.
pub type Events = BoxStream<'static, Result<CachedWorkload, watcher::Error>>;

impl Workloads {
    /// The workloads, and the watches of every kind in the order of [`Kind::ALL`], which the caller has to poll.
    /// `fields` is a field selector.
    #[must_use]
    pub fn follow(client: &Client, fields: Option<&str>, unusable: &UnusableObjects) -> (Self, [Events; 3]) {
        let quota = Quota::default();
        let (changed_sender, changed) = watch::channel(());
        let (listed_sender, listed) = watch::channel(0);
        let dirty = Dirty::default();
        let names = Kind::ALL.map(|_| Names::default());
        let replicas = <[Replicas; 3]>::default();
        let follow = |kind: Kind| {
            let writer = Writer::new(kind);
            let store = writer.as_reader();
            let reuse = {
                let store = store.clone();
                move |object| unchanged(object, &store, kind)
            };
            let source = ListWatch {
                client: client.clone(),
                path: CachedWorkload::url_path(&kind, None),
                api_version: CachedWorkload::api_version(&kind).into_owned(),
                kind: kind.as_str(),
                fields: fields.map(Into::into),
                unusable: unusable.clone(),
                quota: Arc::new(quota.for_kind(CachedWorkload::FLOOR)),
                reuse: Arc::new(reuse),
                pages: None,
            };
            let mut recorder = Recorder {
                kind,
                names: names[kind as usize].clone(),
                replicas: replicas[kind as usize].clone(),
                store: store.clone(),
                dirty: dirty.clone(),
                is_listed: false,
                listed: listed_sender.clone(),
                changed: changed_sender.clone(),
            };
            let (listed, mut known) = (store.clone(), Specifications::default());
            let stream = list_watch(source)
                .default_backoff()
                .reflect(writer)
                .inspect(move |event| recorder.record(event))
                .flat_map(move |event| stored(event, &listed, &mut known));
            (store, stream.boxed())
        };
        let [(deployments, first), (stateful_sets, second), (daemon_sets, third)] = Kind::ALL.map(follow);
        let stores = [deployments, stateful_sets, daemon_sets];
        (Self { stores, names, replicas, listed, changed, dirty, quota }, [first, second, third])
    }

    /// Whether every kind has been listed.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        *self.listed.borrow() == self.stores.len()
    }

    /// Workloads that are never filled.
    #[cfg(test)]
    pub(super) fn unfilled(self) -> Self {
        Self { listed: watch::channel(0).1, ..self }
    }

    /// Workloads that may still change.
    #[cfg(test)]
    pub(super) fn with_changes(self, changed: watch::Receiver<()>) -> Self {
        Self { changed, ..self }
    }

    /// Fixed content.
    #[cfg(any(test, feature = "test-support"))]
    #[must_use]
    pub fn fixed(workloads: Vec<(Kind, DynamicObject)>) -> Self {
        let store = |kind: Kind| {
            let mut writer = Writer::new(kind);
            writer.apply_watcher_event(&watcher::Event::Init);
            for (_, object) in workloads.iter().filter(|(of, _)| *of == kind) {
                writer.apply_watcher_event(&watcher::Event::InitApply(object.clone().into()));
            }
            writer.apply_watcher_event(&watcher::Event::InitDone);
            writer.as_reader()
        };
        let (listed, changed) = (watch::channel(3).1, watch::channel(()).1);
        let stores = Kind::ALL.map(store);
        let names = Kind::ALL.map(|kind| {
            let names = Names::default();
            for cached in stores[kind as usize].state() {
                names.apply(&watcher::Event::Apply(CachedWorkload::clone(&cached)));
            }
            names
        });
        Self {
            stores,
            names,
            replicas: <[Replicas; 3]>::default(),
            listed,
            changed,
            dirty: Dirty::default(),
            quota: Quota::default(),
        }
    }

    /// A receiver of every change, once the store has it.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.clone()
    }

    /// Waits until every kind has been listed. A store itself wakes only its last waiter, which is its controller.
    ///
    /// # Errors
    /// If the watches have ended.
    pub async fn filled(&self) -> Result<(), watch::error::RecvError> {
        self.listed.clone().wait_for(|listed| *listed == self.stores.len()).await.map(drop)
    }

    /// Whether there is a workload of that name, now or within `limit`: pods of a new workload can arrive before its
    /// watch event.
    pub async fn wait_until_cached(&self, kind: Kind, namespace: &str, name: &str, limit: Duration) -> bool {
        let find = || self.cached(kind, namespace, name).map(drop);
        wait_until(self.changed.clone(), limit, find).await.is_some()
    }

    /// The workloads that have to be evaluated again.
    #[must_use]
    pub fn dirty(&self) -> &Dirty {
        &self.dirty
    }

    /// The replicas of the workloads of a kind, but not of DaemonSets.
    #[must_use]
    pub fn replicas(&self, kind: Kind) -> &Replicas {
        &self.replicas[kind as usize]
    }

    /// The memory quota, which other kinds share.
    pub(super) fn quota(&self) -> &Quota {
        &self.quota
    }

    /// The cached workload of that name.
    #[must_use]
    pub fn cached(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<CachedWorkload>> {
        self.store(kind).get(&ObjectRef::new_with(name, kind).within(namespace))
    }

    /// The workload of that name, with the fields that are cached.
    #[must_use]
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<DynamicObject> {
        self.cached(kind, namespace, name).map(|cached| cached.object())
    }

    /// Whether there is a workload with this key.
    #[must_use]
    pub fn contains(&self, key: &WorkloadKey) -> bool {
        self.cached(key.kind, &key.namespace, &key.name).is_some()
    }

    /// The workloads of a namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<WorkloadKey> {
        let key = |kind, name| WorkloadKey { namespace: namespace.to_owned(), kind, name };
        let of = |kind| self.names[kind as usize].of(namespace).into_iter().map(move |name| key(kind, name));
        Kind::ALL.into_iter().flat_map(of).collect()
    }

    /// Every workload, with its kind.
    pub fn all(&self) -> impl Iterator<Item = (Kind, Arc<CachedWorkload>)> {
        self.kinds().flat_map(|(kind, store)| store.state().into_iter().map(move |cached| (kind, cached)))
    }

    /// The workloads of a kind.
    #[must_use]
    pub fn store(&self, kind: Kind) -> &Store<CachedWorkload> {
        let [deployments, stateful_sets, daemon_sets] = &self.stores;
        match kind {
            Kind::Deployment => deployments,
            Kind::StatefulSet => stateful_sets,
            Kind::DaemonSet => daemon_sets,
        }
    }

    fn kinds(&self) -> impl Iterator<Item = (Kind, &Store<CachedWorkload>)> {
        Kind::ALL.into_iter().zip(&self.stores)
    }
}

/// The result of `find`, now or after a change within `limit`.
pub(super) async fn wait_until<T>(
    mut changed: watch::Receiver<()>,
    limit: Duration,
    find: impl Fn() -> Option<T>,
) -> Option<T> {
    let found = async {
        loop {
            if let Some(found) = find() {
                return Some(found);
            }
            changed.changed().await.ok()?;
        }
    };
    timeout(limit, found).await.ok().flatten()
}

/// The cached object if it is the same, or a stub for the same reason: a repeated list takes no additional memory.
fn unchanged(cached: CachedWorkload, store: &Store<CachedWorkload>, kind: Kind) -> CachedWorkload {
    let before = store.get(&ObjectRef::from_obj_with(&cached, kind));
    let is_same = |stored: &CachedWorkload| {
        let [before, now] = [stored.meta(), cached.meta()];
        stored.too_large() == cached.too_large()
            && now.resource_version.is_some()
            && before.resource_version == now.resource_version
            && before.uid == now.uid
    };
    before.filter(|before| is_same(before)).map_or(cached, |before| CachedWorkload::clone(&before))
}

/// Records events outside of the store.
struct Recorder {
    kind: Kind,
    names: Names,
    replicas: Replicas,
    store: Store<CachedWorkload>,
    dirty: Dirty,
    is_listed: bool,
    listed: watch::Sender<usize>,
    changed: watch::Sender<()>,
}

impl Recorder {
    /// Called once the store has the event.
    fn record(&mut self, event: &watcher::Result<watcher::Event<CachedWorkload>>) {
        if let Ok(event) = event {
            self.names.apply(event);
        }
        match event {
            Ok(watcher::Event::Apply(workload)) => {
                self.dirty.workload(WorkloadKey::new(self.kind, workload.meta()));
                self.record_replicas(workload);
                let key = |workload: Arc<CachedWorkload>| WorkloadKey::new(self.kind, workload.meta());
                self.replicas.prune(|| self.store.state().into_iter().map(key));
            }
            Ok(watcher::Event::Delete(workload)) => {
                self.dirty.workload(WorkloadKey::new(self.kind, workload.meta()));
            }
            // The store doesn't have it yet.
            Ok(watcher::Event::InitApply(workload)) => self.record_replicas(workload),
            Ok(watcher::Event::InitDone) => {
                self.dirty.all();
                if !replace(&mut self.is_listed, true) {
                    self.listed.send_modify(|listed| *listed += 1);
                }
            }
            _ => {}
        }
        self.changed.send_replace(());
    }

    fn record_replicas(&self, workload: &CachedWorkload) {
        if self.kind != Kind::DaemonSet && workload.too_large().is_none() {
            let key = WorkloadKey::new(self.kind, workload.meta());
            self.replicas.record(key, workload, Timestamp::now());
        }
    }
}

/// The reference of a workload in its store.
#[must_use]
pub fn reference(key: &WorkloadKey) -> ObjectRef<CachedWorkload> {
    ObjectRef::new_with(&key.name, key.kind).within(&key.namespace)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::ResourceExt as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::runtime::test_support::{client, failure};

    fn page(generations: &[(&str, i64)], next: &str) -> Value {
        let deployment = |(name, generation): &(&str, i64)| json!({"metadata": {"name": name, "namespace": "shop", "generation": generation}});
        let items: Vec<_> = generations.iter().map(deployment).collect();
        json!({"metadata": {"resourceVersion": "1", "continue": next}, "items": items})
    }

    #[tokio::test(start_paused = true)]
    async fn workloads_of_a_paged_list_are_reported_once_they_are_in_the_store() {
        let (lists, watches) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let client = client(move |_, target| {
            if target.contains("watch=") {
                let expired = json!({"type": "ERROR", "object": failure(410, "too old resource version")});
                return (watches.fetch_add(1, Ordering::Relaxed) == 0).then_some((200, expired));
            }
            let list = match lists.fetch_add(1, Ordering::Relaxed) {
                0 => page(&[("old", 1), ("gone", 1)], ""),
                1 => page(&[("new", 1), ("old", 2)], "more"),
                _ => page(&[("last", 1)], ""),
            };
            Some((200, list))
        });
        let (workloads, [mut deployments, ..]) =
            Workloads::follow(&client, None, &UnusableObjects::default());
        let mut reported = vec![];
        while reported.len() < 5 {
            // The error of the expired watch is reported too.
            let Ok(cached) = timeout(Duration::from_mins(1), deployments.next()).await.unwrap().unwrap()
            else {
                continue;
            };
            let found =
                workloads.get(Kind::Deployment, "shop", &cached.name_any()).map(|found| found.metadata);
            assert_eq!(found.as_ref(), Some(cached.meta()));
            reported.push((cached.name_any(), cached.meta().generation));
        }
        let (before, mut after) = (reported.drain(..2).collect::<Vec<_>>(), reported);
        after.sort();
        assert!(before.contains(&("old".into(), Some(1))));
        assert_eq!(after, [("last", 1), ("new", 1), ("old", 2)].map(|(name, at)| (name.into(), Some(at))));
    }
}
