//! Watches of traffic objects.

use std::{
    collections::{BTreeSet, HashSet},
    mem::{replace, take},
    pin::pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use adieu_exposures::{AffectedService, KINDS, Kind, ObjectName, TrafficIndex};
use futures::{StreamExt as _, future::join_all};
use kube::{
    Client, Resource as _,
    core::DynamicObject,
    discovery::ApiResource,
    runtime::{WatchStreamExt as _, watcher::Event},
};
use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};

use super::{
    served::{Cause, DENIED_RETRY, FIRST_DENIED_RETRY, Served, follow_crds, follow_served},
    watched_traffic::WatchedTraffic,
};
use crate::index::{
    change_set::ChangeSet,
    dirty::Dirty,
    list_watch::{ListWatch, list_watch, status_code},
    object_quota::{KindQuota, Quota},
    unusable_objects::UnusableObjects,
    watched::Watched as _,
};

/// How many pages of lists are read at a time. At the start all kinds are listed, and the largest object of each page is held
/// in memory. A page that the API server doesn't send takes only one of them.
pub(super) const CONCURRENT_PAGES: usize = 4;
/// The minimum time between two searches of the index for the namespaces about which unusable objects decide: each reads the
/// whole index, and a tenant's object may become unusable, and usable again, with each update.
const MIN_SEARCH_INTERVAL: Duration = Duration::from_secs(1);

/// The watches of traffic objects, and what they fill.
pub(super) struct TrafficWatches {
    pub(super) client: Client,
    pub(super) unusable: UnusableObjects,
    pub(super) quota: Quota,
    pub(super) dirty: Dirty,
    pub(super) index: Arc<RwLock<TrafficIndex>>,
    pub(super) unknown: watch::Sender<UnknownKinds>,
    /// Limits how many pages of lists are read at a time.
    pub(super) pages: Arc<Semaphore>,
}

/// The numbers of kinds whose objects aren't known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UnknownKinds {
    /// Those that are served, but not listed yet.
    pub(super) unlisted: usize,
    /// Those that may not be read.
    pub(super) denied: usize,
}

impl UnknownKinds {
    fn number(&mut self, status: KindStatus) -> Option<&mut usize> {
        match status {
            KindStatus::Unlisted => Some(&mut self.unlisted),
            KindStatus::Denied => Some(&mut self.denied),
            KindStatus::Known => None,
        }
    }
}

/// Whether the objects of a kind are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KindStatus {
    /// It is served, but not listed yet.
    Unlisted,
    /// It may not be read.
    Denied,
    /// It is listed, or isn't served.
    Known,
}

/// The state of the watch of one kind.
struct KindState {
    kind: &'static Kind,
    quota: Arc<KindQuota>,
    status: KindStatus,
    /// The names in the current list.
    listed: HashSet<ObjectName>,
}

impl TrafficWatches {
    /// Watches the objects of these kinds, as far as they are served. Never returns.
    pub(super) async fn follow(self, kinds: Vec<&'static Kind>) {
        if kinds.is_empty() {
            return self.mark_unusable().await;
        }
        let causes = ChangeSet::default();
        let (sender, served) = watch::channel(None);
        let each = kinds.iter().map(|&kind| self.follow_kind(kind, served.clone(), causes.clone()));
        let each = join_all(each);
        tokio::join!(
            follow_crds(&self.client, &self.unusable, &causes),
            follow_served(&self.client, &kinds, &causes, &sender),
            each,
            self.mark_unusable()
        );
    }

    /// Marks the workloads of the namespaces about which an object decides that became unusable, or no longer is. In other
    /// namespaces one of a mesh only keeps drains from being shortened, which each write decides again. Never returns.
    async fn mark_unusable(&self) {
        loop {
            let mut changed = self.unusable.changed_groups().take().await;
            changed.retain(|(kind, _)| KINDS.iter().any(|known| known.resource == *kind));
            if changed.is_empty() {
                continue;
            }
            self.mark_decided_by(changed.iter().map(|(_, namespace)| namespace.as_str()).collect());
            sleep(MIN_SEARCH_INTERVAL).await;
        }
    }

    fn mark_decided_by(&self, namespaces: BTreeSet<&str>) {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        for namespace in index.decided_by(namespaces) {
            // The object has no namespace, or it isn't known.
            if namespace.is_empty() { self.dirty.all() } else { self.dirty.namespace(namespace) }
        }
    }

    /// Watches a kind while it is served.
    async fn follow_kind(
        &self,
        kind: &'static Kind,
        mut served: watch::Receiver<Option<Served>>,
        causes: ChangeSet<Cause>,
    ) {
        let quota = self.quota.for_kind(WatchedTraffic::FLOOR);
        let quota = Arc::new(quota.with_max_objects(WatchedTraffic::MAX_IN_NAMESPACE));
        let mut state = KindState { kind, quota, status: KindStatus::Unlisted, listed: HashSet::new() };
        while served.wait_for(Option::is_some).await.map(drop).is_ok() {
            let resource = version(served.borrow().as_ref(), kind).cloned();
            let changed = served.wait_for(|now| version(now.as_ref(), kind) != resource.as_ref());
            if let Some(resource) = &resource {
                self.set_status(&mut state, KindStatus::Unlisted);
                tokio::select! {
                    biased;
                    _ = changed => {}
                    () = self.watch(&mut state, resource, &causes) => {}
                }
            } else {
                self.forget(&mut state);
                if state.status == KindStatus::Denied {
                    self.unusable.set_denied(kind.resource, false);
                }
                self.set_status(&mut state, KindStatus::Known);
                drop(changed.await);
            }
        }
    }

    /// Watches a kind in this version. Never returns.
    async fn watch(&self, state: &mut KindState, resource: &ApiResource, causes: &ChangeSet<Cause>) {
        let source = self.source(state, resource);
        let mut was_denied = false;
        loop {
            let mut events = pin!(list_watch(source.clone()).default_backoff());
            while let Some(event) = events.next().await {
                let error = match event {
                    Ok(event) => {
                        was_denied &= !matches!(event, Event::InitDone);
                        self.apply(state, event);
                        continue;
                    }
                    Err(error) => error,
                };
                match status_code(&error) {
                    Some(403) => {
                        tracing::warn!(
                            kind = state.kind.resource, %error,
                            "not permitted to read this kind: no drain is shortened, and new ones may be too short for what is \
                             behind it"
                        );
                        let is_first = !replace(&mut was_denied, true);
                        if !is_first || state.status != KindStatus::Known {
                            self.set_denied(state);
                        }
                        sleep(if is_first { FIRST_DENIED_RETRY } else { DENIED_RETRY }).await;
                        break;
                    }
                    Some(404) => causes.add(Cause::Changed),
                    _ => {}
                }
                tracing::warn!(kind = state.kind.resource, %error, "watch failed, retrying");
            }
        }
    }

    /// The objects of a kind in this version.
    fn source(&self, state: &KindState, resource: &ApiResource) -> ListWatch<WatchedTraffic> {
        ListWatch {
            client: self.client.clone(),
            path: DynamicObject::url_path(resource, None),
            api_version: resource.api_version.clone(),
            kind: state.kind.kind,
            fields: None,
            unusable: self.unusable.clone(),
            quota: state.quota.clone(),
            reuse: Arc::new(|object| object),
            pages: Some(self.pages.clone()),
        }
    }

    /// Applies an event, and marks the affected workloads.
    fn apply(&self, state: &mut KindState, event: Event<WatchedTraffic>) {
        match event {
            Event::Init => state.listed.clear(),
            Event::InitApply(object) => {
                state.listed.extend(object.object.as_ref().map(|object| object.name().clone()));
                self.insert(state.kind, object);
            }
            Event::InitDone => {
                let listed = take(&mut state.listed);
                self.retain(state.kind, |name| listed.contains(name));
                self.unusable.set_denied(state.kind.resource, false);
                self.set_status(state, KindStatus::Known);
            }
            Event::Apply(object) => self.insert(state.kind, object),
            Event::Delete(WatchedTraffic { metadata, .. }) => {
                let [namespace, name] = [metadata.namespace, metadata.name].map(Option::unwrap_or_default);
                self.change(|index| index.remove(state.kind, &namespace, &name));
            }
        }
    }

    /// Adds an object. Until then it counts as unusable if it was: exposures without it are incomplete.
    fn insert(&self, kind: &Kind, WatchedTraffic { metadata, object }: WatchedTraffic) {
        if let Some(object) = object {
            self.change(|index| index.insert(object));
            self.unusable.remove(kind.resource, metadata.namespace.as_deref(), metadata.name.as_deref());
        }
    }

    /// Does without a kind that may not be read. Exposures are incomplete before its objects are dropped.
    fn set_denied(&self, state: &mut KindState) {
        self.unusable.set_denied(state.kind.resource, true);
        self.set_status(state, KindStatus::Denied);
        self.forget(state);
    }

    /// Drops the objects of a kind that isn't read.
    fn forget(&self, state: &mut KindState) {
        state.listed.clear();
        state.quota.list_begins();
        state.quota.list_ends();
        self.unusable.list_begins(state.kind.resource);
        self.unusable.list_ends(state.kind.resource);
        self.retain(state.kind, |_| false);
    }

    /// Removes the objects of a kind that `keep` doesn't have, one at a time: reviews wait for a lock that is held for a change.
    fn retain(&self, kind: &'static Kind, keep: impl Fn(&ObjectName) -> bool) {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = index.names(kind).filter(|name| !keep(name)).cloned().collect();
        drop(index);
        for ObjectName { namespace, name, .. } in gone {
            self.change(|index| index.remove(kind, &namespace, &name));
        }
    }

    fn change(&self, change: impl FnOnce(&mut TrafficIndex) -> BTreeSet<AffectedService>) {
        let affected = change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner));
        for AffectedService { namespace, name } in affected {
            match name {
                Some(name) => self.dirty.service(&namespace, &name),
                None => self.dirty.namespace(&namespace),
            }
        }
    }

    /// Counts a kind whose status changes. Once all are known, all workloads are evaluated again: their exposures are complete.
    fn set_status(&self, state: &mut KindState, now: KindStatus) {
        let before = replace(&mut state.status, now);
        if before == now {
            return;
        }
        self.unknown.send_modify(|unknown| {
            if let Some(number) = unknown.number(before) {
                *number -= 1;
            }
            if let Some(number) = unknown.number(now) {
                *number += 1;
            }
        });
        if *self.unknown.borrow() == UnknownKinds::default() {
            self.dirty.all();
        }
    }
}

/// The version of a kind that is served.
fn version<'a>(served: Option<&'a Served>, kind: &Kind) -> Option<&'a ApiResource> {
    served?.get(kind.resource)
}

#[cfg(test)]
#[path = "traffic_watches_tests.rs"]
mod tests;
