//! How much memory large workloads may take, and all policies, Services and `PodDisruptionBudgets`: a few large ones do
//! no harm, and thousands, made by one tenant, leave those of others what they need.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource as _,
    runtime::reflector::{ObjectRef, Store},
};

use super::{cached::CachedWorkload, unusable::Reason, workloads::resource};
use crate::plan::Kind;

/// A workload up to this size counts for nothing, in bytes of compressed text. Most have one or two KiB.
const SMALL: usize = 16 << 10;
/// What the larger ones of a namespace may have together.
const NAMESPACE_LIMIT: usize = 2 << 20;
/// What the larger ones of the cluster may have together.
const CLUSTER_LIMIT: usize = 16 << 20;

/// Kind, namespace and name.
type Key = (Kind, String, String);

/// The large workloads that are kept, and their sizes.
#[derive(Debug, Default)]
pub(super) struct Quota(Mutex<HashMap<Key, usize>>);

impl Quota {
    /// The workload as it may be kept: a stub of it if there is no room for more.
    pub(super) fn apply(&self, kind: Kind, kept: CachedWorkload) -> CachedWorkload {
        let (key, size) = (key(kind, &kept), kept.size());
        let mut sizes = self.sizes();
        sizes.remove(&key);
        if size <= SMALL {
            return kept;
        }
        let together = |counts: &dyn Fn(&Key) -> bool| -> usize {
            size + sizes.iter().filter(|(key, _)| counts(key)).map(|(_, size)| size).sum::<usize>()
        };
        let (where_, limit) = if together(&|(_, namespace, _)| *namespace == key.1) > NAMESPACE_LIMIT {
            ("its namespace", NAMESPACE_LIMIT)
        } else if together(&|_| true) > CLUSTER_LIMIT {
            ("the cluster", CLUSTER_LIMIT)
        } else {
            sizes.insert(key, size);
            return kept;
        };
        let reason = format!(
            "spec and status: {} KiB, compressed: adieu keeps at most {} MiB of the workloads of {where_} that have \
             more than {} KiB: make them smaller",
            size >> 10,
            limit >> 20,
            SMALL >> 10
        );
        kept.stub(&reason)
    }

    /// Gives back the room of a workload that is gone.
    pub(super) fn forget(&self, kind: Kind, kept: &CachedWorkload) {
        self.sizes().remove(&key(kind, kept));
    }

    /// Gives back the room of all workloads of a kind that are gone.
    pub(super) fn retain(&self, kind: Kind, store: &Store<CachedWorkload>) {
        let exists = |namespace: &str, name: &str| {
            store.get(&ObjectRef::new_with(name, resource(kind)).within(namespace)).is_some()
        };
        self.sizes().retain(|(of, namespace, name), _| *of != kind || exists(namespace, name));
    }

    fn sizes(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(kind: Kind, kept: &CachedWorkload) -> Key {
    let metadata = kept.meta();
    (kind, metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// How much of the objects of one kind is kept, in bytes of their specs' JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) of_namespace: usize,
    pub(super) in_all: usize,
}

impl Limits {
    pub(super) const NONE: Self = Self { of_namespace: usize::MAX, in_all: usize::MAX };
}

/// What is kept of one kind.
#[derive(Debug)]
pub(super) struct Shares {
    limits: Limits,
    kept: Mutex<Sizes>,
}

#[derive(Debug, Default)]
struct Sizes {
    /// By namespace and name; and whether the list that is under way had it.
    objects: HashMap<(String, String), (usize, bool)>,
    namespaces: HashMap<String, usize>,
    all: usize,
}

impl Shares {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, kept: Mutex::default() }
    }

    pub(super) fn are_bounded(&self) -> bool {
        self.limits.in_all < usize::MAX
    }

    /// Keeps an object of that size, if there is room for it.
    pub(super) fn keep(&self, metadata: &ObjectMeta, size: usize) -> Result<(), Reason> {
        let mut kept = self.kept();
        let (key, Limits { of_namespace, in_all }) = (name(metadata), self.limits);
        let before = kept.objects.get(&key).map_or(0, |(size, _)| *size);
        let with = |all: usize| all.saturating_sub(before).saturating_add(size);
        let (of, limit) = if with(kept.namespaces.get(&key.0).copied().unwrap_or_default()) > of_namespace {
            ("its namespace", of_namespace)
        } else if with(kept.all) > in_all {
            ("the cluster", in_all)
        } else {
            kept.remove(&key);
            *kept.namespaces.entry(key.0.clone()).or_default() += size;
            kept.all += size;
            kept.objects.insert(key, (size, true));
            return Ok(());
        };
        if let Some((_, listed)) = kept.objects.get_mut(&key) {
            *listed = true;
        }
        Err(Reason::TooLarge(format!(
            "spec: {} KiB of JSON: adieu keeps at most {} MiB of all objects of this kind in {of}: remove some, or make \
             them smaller",
            size.div_ceil(1 << 10),
            limit >> 20
        )))
    }

    pub(super) fn forget(&self, metadata: &ObjectMeta) {
        self.kept().remove(&name(metadata));
    }

    /// A list begins.
    pub(super) fn list_begins(&self) {
        self.kept().objects.values_mut().for_each(|(_, listed)| *listed = false);
    }

    /// A list is complete: what it didn't have is gone.
    pub(super) fn list_ends(&self) {
        let mut kept = self.kept();
        let gone = kept.objects.iter().filter(|(_, (_, listed))| !listed).map(|(key, _)| key.clone());
        for key in gone.collect::<Vec<_>>() {
            kept.remove(&key);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Sizes> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sizes {
    fn remove(&mut self, key: &(String, String)) {
        let Some((size, _)) = self.objects.remove(key) else { return };
        self.all -= size;
        if let Some(of_namespace) = self.namespaces.get_mut(&key.0) {
            *of_namespace -= size;
            if *of_namespace == 0 {
                self.namespaces.remove(&key.0);
            }
        }
    }
}

fn name(metadata: &ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    use kube::core::DynamicObject;
    use serde_json::json;

    use super::*;

    /// A workload that can't be compressed.
    fn workload(namespace: &str, name: &str, kib: usize) -> CachedWorkload {
        let noise = (0..kib * 64).map(|number| {
            let mut hasher = DefaultHasher::new();
            number.hash(&mut hasher);
            format!("{:016x}", hasher.finish())
        });
        // Half of hexadecimal digits is noise.
        let text: String = noise.collect::<String>() + &"-".repeat(kib);
        let object = json!({
            "metadata": {"namespace": namespace, "name": name}, "spec": {"text": text},
        });
        serde_json::from_value::<DynamicObject>(object).unwrap().into()
    }

    #[test]
    fn many_objects_of_one_namespace_leave_room_for_those_of_others() {
        let shares = Shares::new(Limits { of_namespace: 10 << 20, in_all: 25 << 20 });
        let object = |namespace: &str, name: &str| ObjectMeta {
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            ..ObjectMeta::default()
        };
        let keep = |namespace: &str, name: usize, mib: usize| {
            shares.keep(&object(namespace, &name.to_string()), mib << 20).map_err(|error| error.to_string())
        };
        assert_eq!((0..20).filter(|number| keep("greedy", *number, 1).is_ok()).count(), 10);
        assert!(
            keep("greedy", 20, 1)
                .unwrap_err()
                .contains("at most 10 MiB of all objects of this kind in its namespace")
        );
        assert!(keep("greedy", 0, 1).is_ok(), "it has its place");
        assert!(keep("greedy", 0, 2).is_err());
        shares.forget(&object("greedy", "1"));
        assert!(keep("greedy", 0, 2).is_ok());
        assert!(keep("shop", 0, 10).is_ok());
        assert!(
            keep("bank", 0, 6).unwrap_err().contains("25 MiB of all objects of this kind in the cluster")
        );
        shares.list_begins();
        assert!(keep("shop", 0, 10).is_ok());
        shares.list_ends();
        assert!(keep("greedy", 0, 10).is_ok());
        shares.list_begins();
        shares.list_ends();
        let kept = shares.kept();
        assert!(kept.all == 0 && kept.objects.is_empty() && kept.namespaces.is_empty(), "{kept:?}");
    }

    #[test]
    fn large_workloads_of_one_namespace_leave_room_for_others() {
        let quota = Quota::default();
        let keep = |namespace: &str, name: &str, kib| {
            quota.apply(Kind::Deployment, workload(namespace, name, kib)).too_large().map(ToOwned::to_owned)
        };
        let kept = (0..20).filter(|number| keep("greedy", &number.to_string(), 200).is_none()).count();
        assert!((5..20).contains(&kept), "{kept}");
        assert!(keep("greedy", "0", 200).is_none(), "it has its place");
        assert!(keep("greedy", "late", 200).unwrap().contains("its namespace"));
        assert_eq!(keep("greedy", "small", 10), None);
        assert_eq!(keep("shop", "web", 200), None);
        quota.forget(Kind::Deployment, &workload("greedy", "0", 1));
        assert_eq!(keep("greedy", "late", 200), None);
        for number in 0..20 {
            for name in ["a", "b", "c", "d", "e"] {
                keep(&format!("n{number}"), name, 200);
            }
        }
        assert!(keep("last", "web", 200).unwrap().contains("the cluster"));
    }
}
