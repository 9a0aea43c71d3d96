//! The workloads of the cluster, of every kind, followed by watches. They are untyped, so that fields this
//! version doesn't know survive.

use std::{mem::take, sync::Arc, time::Duration};

use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{
    Client, Resource as _,
    core::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt as _,
        reflector::{ObjectRef, Store, store::Writer},
        watcher,
    },
};
use tokio::{sync::watch, time::timeout};

use super::{
    Dirty, WorkloadKey,
    cached::CachedWorkload,
    list_watch::{Source, list_watch},
    namespaced::Names,
    quota::{Quota, Shares},
    slim::Watched as _,
    unusable::UnusableObjects,
};
use crate::plan::Kind;

/// How long an admission may wait for the watch to bring what was just created: a pod's workload, or a namespace.
pub const LAG: Duration = Duration::from_secs(1);

/// The workloads of every kind, as the watches last saw them.
#[derive(Clone, Debug)]
pub struct Workloads {
    /// In the order of [`Kind::ALL`].
    stores: [Store<CachedWorkload>; 3],
    names: [Names; 3],
    /// How many kinds have been listed.
    listed: watch::Receiver<usize>,
    changed: watch::Receiver<()>,
    dirty: Dirty,
}

/// What a watch brings, once the store has it.
pub type Events = BoxStream<'static, Result<CachedWorkload, watcher::Error>>;

impl Workloads {
    /// The workloads, and the watches of every kind in the order of [`Kind::ALL`]; they are followed for as
    /// long as these are polled. `fields` is a field selector.
    #[must_use]
    pub fn follow(client: &Client, fields: Option<&str>, unusable: &UnusableObjects) -> (Self, [Events; 3]) {
        let quota = Arc::new(Quota::default());
        let (tell, changed) = watch::channel(());
        let (count, listed) = watch::channel(0);
        let dirty = Dirty::default();
        let names = Kind::ALL.map(|_| Names::default());
        let follow = |kind: Kind| {
            let resource = resource(kind);
            let writer = Writer::new(resource.clone());
            let store = writer.as_reader();
            let (before, quota) = (store.clone(), quota.clone());
            let keep = {
                let (quota, resource) = (quota.clone(), resource.clone());
                move |kept| quota.apply(kind, unchanged(kept, &before, &resource))
            };
            let source = Source {
                client: client.clone(),
                path: CachedWorkload::url_path(&resource, None),
                api_version: resource.api_version.clone(),
                kind: kind.as_str(),
                fields: fields.map(Into::into),
                unusable: unusable.clone(),
                shares: Arc::new(Shares::new(CachedWorkload::LIMITS)),
                keep: Arc::new(keep),
            };
            let (tell, count, listed, done) = (tell.clone(), count.clone(), store.clone(), store.clone());
            let (dirty, names) = (dirty.clone(), names[kind as usize].clone());
            let mut first = true;
            let stream = list_watch(source)
                .default_backoff()
                .reflect(writer)
                .inspect(move |event| {
                    if let Ok(event) = event {
                        names.apply(event);
                    }
                    match event {
                        Ok(watcher::Event::Delete(kept)) => {
                            quota.forget(kind, kept);
                            dirty.workload(WorkloadKey::new(kind, kept.meta()));
                        }
                        Ok(watcher::Event::Apply(kept)) => {
                            dirty.workload(WorkloadKey::new(kind, kept.meta()));
                        }
                        Ok(watcher::Event::InitDone) => {
                            quota.retain(kind, &done);
                            dirty.all();
                        }
                        _ => {}
                    }
                    if matches!(event, Ok(watcher::Event::InitDone)) && take(&mut first) {
                        count.send_modify(|listed| *listed += 1);
                    }
                    tell.send_replace(());
                })
                .flat_map(move |event| brought(event, &listed));
            (store, stream.boxed())
        };
        let [(deployments, first), (stateful_sets, second), (daemon_sets, third)] = Kind::ALL.map(follow);
        let stores = [deployments, stateful_sets, daemon_sets];
        (Self { stores, names, listed, changed, dirty }, [first, second, third])
    }

    /// Whether every kind has been listed.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        *self.listed.borrow() == self.stores.len()
    }

    /// The same without having been filled.
    #[must_use]
    pub(super) fn unfilled(self) -> Self {
        Self { listed: watch::channel(0).1, ..self }
    }

    /// The same with a watch that may yet bring something.
    #[cfg(test)]
    pub(super) fn with_changes(self, changed: watch::Receiver<()>) -> Self {
        Self { changed, ..self }
    }

    /// Fixed content, for tests of what reads it.
    #[must_use]
    pub fn fixed(workloads: Vec<(Kind, DynamicObject)>) -> Self {
        let store = |kind: Kind| {
            let mut writer = Writer::new(resource(kind));
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
            for kept in stores[kind as usize].state() {
                names.apply(&watcher::Event::Apply(CachedWorkload::clone(&kept)));
            }
            names
        });
        Self { stores, names, listed, changed, dirty: Dirty::default() }
    }

    /// Told of every change, once the store has it.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.clone()
    }

    /// Returns when every kind has been listed for the first time. A store itself wakes only the last of
    /// those who wait for it, and its controller does.
    ///
    /// # Errors
    /// Where the watches are gone.
    pub async fn filled(&self) -> Result<(), watch::error::RecvError> {
        self.listed.clone().wait_for(|listed| *listed == self.stores.len()).await.map(drop)
    }

    /// Whether there is a workload of that name, now or within `limit`: the pods of one that was just created can
    /// come faster than the watch.
    pub async fn learns_of(&self, kind: Kind, namespace: &str, name: &str, limit: Duration) -> bool {
        let find = || self.contains(kind, namespace, name).then_some(());
        soon(self.changed.clone(), limit, find).await.is_some()
    }

    /// What has to be evaluated anew.
    #[must_use]
    pub fn dirty(&self) -> &Dirty {
        &self.dirty
    }

    /// The workload of that name, as it is kept.
    #[must_use]
    pub fn kept_of(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<CachedWorkload>> {
        self.of(kind).get(&ObjectRef::new_with(name, resource(kind)).within(namespace))
    }

    /// The workload of that name, as far as it is known.
    #[must_use]
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<DynamicObject> {
        self.kept_of(kind, namespace, name).map(|kept| kept.object())
    }

    /// Whether there is a workload of that name.
    #[must_use]
    pub fn contains(&self, kind: Kind, namespace: &str, name: &str) -> bool {
        self.kept_of(kind, namespace, name).is_some()
    }

    /// The workloads of a namespace.
    #[must_use]
    pub fn inside(&self, namespace: &str) -> Vec<WorkloadKey> {
        let key = |kind, name| WorkloadKey { namespace: namespace.to_owned(), kind, name };
        let of = |kind| self.names[kind as usize].of(namespace).into_iter().map(move |name| key(kind, name));
        Kind::ALL.into_iter().flat_map(of).collect()
    }

    /// Every workload, with its kind.
    pub fn kept(&self) -> impl Iterator<Item = (Kind, Arc<CachedWorkload>)> {
        self.kinds().flat_map(|(kind, store)| store.state().into_iter().map(move |kept| (kind, kept)))
    }

    /// The workloads of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &Store<CachedWorkload> {
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

/// What is found, now or after one of the changes that a watch brings within `limit`.
pub(super) async fn soon<T>(
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

/// The object that is kept already, if it is the same: what is listed anew takes no memory twice.
fn unchanged(kept: CachedWorkload, store: &Store<CachedWorkload>, resource: &ApiResource) -> CachedWorkload {
    let before = store.get(&ObjectRef::from_obj_with(&kept, resource.clone()));
    let is_same = |before: &CachedWorkload| {
        let [before, now] = [before.meta(), kept.meta()];
        now.resource_version.is_some()
            && before.resource_version == now.resource_version
            && before.uid == now.uid
    };
    before.filter(|before| is_same(before)).map_or(kept, |before| CachedWorkload::clone(&before))
}

/// What an event brought into the store. What is listed page by page gets there with the last page only: whoever
/// looked it up before would find it as it was, or not at all.
fn brought(
    event: watcher::Result<watcher::Event<CachedWorkload>>,
    store: &Store<CachedWorkload>,
) -> impl Stream<Item = watcher::Result<CachedWorkload>> + use<> {
    let (one, listed) = match event {
        Ok(watcher::Event::Apply(kept)) => (Some(Ok(kept)), vec![]),
        Ok(watcher::Event::InitDone) => (None, store.state()),
        Ok(_) => (None, vec![]),
        Err(error) => (Some(Err(error)), vec![]),
    };
    stream::iter(one.into_iter().chain(listed.into_iter().map(|kept| Ok(CachedWorkload::clone(&kept)))))
}

/// The resource that holds workloads of a kind.
#[must_use]
pub fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::Deployment => ApiResource::erase::<Deployment>(&()),
        Kind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        Kind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::ResourceExt as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::trial::test_support::{client, failure};

    fn page(generations: &[(&str, i64)], next: &str) -> Value {
        let deployment = |(name, generation): &(&str, i64)| json!({"metadata": {"name": name, "namespace": "shop", "generation": generation}});
        let items: Vec<_> = generations.iter().map(deployment).collect();
        json!({"metadata": {"resourceVersion": "1", "continue": next}, "items": items})
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_listed_anew_in_pages_is_told_of_once_it_is_found() {
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
        let mut told = vec![];
        while told.len() < 5 {
            // The watch that ended is told of as well.
            let Ok(kept) = timeout(Duration::from_mins(1), deployments.next()).await.unwrap().unwrap() else {
                continue;
            };
            let found = workloads.get(Kind::Deployment, "shop", &kept.name_any()).map(|found| found.metadata);
            assert_eq!(found.as_ref(), Some(kept.meta()));
            told.push((kept.name_any(), kept.meta().generation));
        }
        let (before, mut after) = (told.drain(..2).collect::<Vec<_>>(), told);
        after.sort();
        assert!(before.contains(&("old".into(), Some(1))));
        assert_eq!(after, [("last", 1), ("new", 1), ("old", 2)].map(|(name, at)| (name.into(), Some(at))));
    }
}
