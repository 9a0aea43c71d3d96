//! The workloads of watch events that have to be reconciled.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use futures::{Stream, stream};
use kube::{
    Resource as _,
    runtime::{reflector::Store, watcher},
};

use super::cached_workload::CachedWorkload;

/// The hashes of what a workload is reconciled for, by the hash of its namespace and name. Those of deleted workloads are
/// removed immediately: a tenant may create and delete hundreds each second.
#[derive(Default)]
pub(super) struct Specifications {
    hashes: HashMap<u64, u64>,
    /// With random keys, so that no tenant can choose names with the same hash.
    names: RandomState,
}

impl Specifications {
    /// Whether the workload changed since it was last passed here.
    fn update(&mut self, cached: &CachedWorkload) -> bool {
        let hash = cached.specification();
        self.hashes.insert(self.key(cached), hash) != Some(hash)
    }

    fn remove(&mut self, cached: &CachedWorkload) {
        self.hashes.remove(&self.key(cached));
    }

    /// Removes all but these.
    fn retain(&mut self, listed: &[Arc<CachedWorkload>]) {
        let listed: HashSet<_> = listed.iter().map(|cached| self.key(cached)).collect();
        self.hashes.retain(|key, _| listed.contains(key));
    }

    fn key(&self, cached: &CachedWorkload) -> u64 {
        let metadata = cached.meta();
        self.names.hash_one((&metadata.namespace, &metadata.name))
    }
}

/// The changed workloads of an event, once they are in the store: listed ones get there with the last page, and a lookup
/// before that would find an old version or none.
pub(super) fn stored(
    event: watcher::Result<watcher::Event<CachedWorkload>>,
    store: &Store<CachedWorkload>,
    known: &mut Specifications,
) -> impl Stream<Item = watcher::Result<CachedWorkload>> + use<> {
    let (one, listed) = match event {
        Ok(watcher::Event::Apply(cached)) => (known.update(&cached).then_some(Ok(cached)), vec![]),
        Ok(watcher::Event::Delete(cached)) => {
            known.remove(&cached);
            (None, vec![])
        }
        Ok(watcher::Event::InitDone) => {
            let mut listed = store.state();
            known.retain(&listed);
            listed.retain(|cached| known.update(cached));
            (None, listed)
        }
        Ok(_) => (None, vec![]),
        Err(error) => (Some(Err(error)), vec![]),
    };
    stream::iter(one.into_iter().chain(listed.into_iter().map(|cached| Ok(CachedWorkload::clone(&cached)))))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use kube::{core::DynamicObject, runtime::reflector::store::Writer};
    use serde_json::json;

    use super::*;
    use crate::plan::Kind;

    #[tokio::test]
    async fn a_deleted_workload_leaves_nothing_behind_and_a_status_is_no_change() {
        let cached = |uid: &str, generation: i64| -> CachedWorkload {
            let name = if uid == "3" { "other" } else { "web" };
            let metadata = json!({"name": name, "namespace": "shop", "uid": uid, "generation": generation});
            serde_json::from_value::<DynamicObject>(json!({"metadata": metadata})).unwrap().into()
        };
        let mut writer = Writer::new(Kind::Deployment);
        let store = writer.as_reader();
        let mut known = Specifications::default();
        let mut passed = async |event: watcher::Event<CachedWorkload>| {
            writer.apply_watcher_event(&event);
            let passed = stored(Ok(event), &store, &mut known).count().await;
            (passed, known.hashes.len())
        };
        assert_eq!(passed(watcher::Event::Apply(cached("1", 1))).await, (1, 1));
        assert_eq!(passed(watcher::Event::Apply(cached("1", 1))).await, (0, 1), "its status changed");
        assert_eq!(passed(watcher::Event::Apply(cached("1", 2))).await, (1, 1));
        assert_eq!(passed(watcher::Event::Delete(cached("1", 2))).await, (0, 0));
        assert_eq!(passed(watcher::Event::Apply(cached("1", 2))).await, (1, 1));
        assert_eq!(passed(watcher::Event::Apply(cached("2", 2))).await, (1, 1), "it was replaced");
        for event in [watcher::Event::Init, watcher::Event::InitApply(cached("3", 1))] {
            assert_eq!(passed(event).await, (0, 1));
        }
        assert_eq!(passed(watcher::Event::InitDone).await, (1, 1), "the one that isn't listed is gone");
    }

    #[test]
    fn a_workload_that_its_owner_releases_is_reconciled() {
        let owned = |by: &[&str]| -> CachedWorkload {
            let owners = by.iter().map(|uid| {
                json!({"apiVersion": "example/v1", "kind": "App", "name": "a", "uid": uid, "controller": true})
            });
            let metadata = json!({"name": "a", "uid": "1", "ownerReferences": owners.collect::<Vec<_>>()});
            serde_json::from_value::<DynamicObject>(json!({"metadata": metadata})).unwrap().into()
        };
        let mut known = Specifications::default();
        let changed = [owned(&["1"]), owned(&["1"]), owned(&[])].map(|cached| known.update(&cached));
        assert_eq!(changed, [true, false, true]);
    }
}
