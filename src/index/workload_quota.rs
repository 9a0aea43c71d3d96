//! The memory quota for large workloads: many of one tenant leave room for those of others.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::{
    Resource as _,
    runtime::reflector::{ObjectRef, Store},
};

use super::cached_workload::{CachedWorkload, resource};
use crate::plan::Kind;

/// The largest workload that doesn't count, in bytes of compressed text. Most have one or two KiB.
const SMALL: usize = 16 << 10;
/// The total for larger ones of a namespace.
const NAMESPACE_LIMIT: usize = 2 << 20;
/// The total for larger ones of the cluster.
const CLUSTER_LIMIT: usize = 16 << 20;

/// Kind, namespace and name.
type Key = (Kind, String, String);

/// The sizes of the cached large workloads.
#[derive(Debug, Default)]
pub(super) struct Quota(Mutex<HashMap<Key, usize>>);

impl Quota {
    /// The workload, or a stub of it if the quota is exhausted.
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
        let (scope, limit) = if together(&|(_, namespace, _)| *namespace == key.1) > NAMESPACE_LIMIT {
            ("its namespace", NAMESPACE_LIMIT)
        } else if together(&|_| true) > CLUSTER_LIMIT {
            ("the cluster", CLUSTER_LIMIT)
        } else {
            sizes.insert(key, size);
            return kept;
        };
        let reason = format!(
            "spec and status: {} KiB compressed exceed the limit of {} MiB in {scope} for workloads of more than {} \
             KiB: make them smaller",
            size >> 10,
            limit >> 20,
            SMALL >> 10
        );
        kept.stub(&reason)
    }

    /// Releases the quota of a deleted workload.
    pub(super) fn forget(&self, kind: Kind, kept: &CachedWorkload) {
        self.sizes().remove(&key(kind, kept));
    }

    /// Releases the quota of all workloads of a kind that don't exist.
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
        // Hexadecimal digits compress to half.
        let text: String = noise.collect::<String>() + &"-".repeat(kib);
        let object = json!({
            "metadata": {"namespace": namespace, "name": name}, "spec": {"text": text},
        });
        serde_json::from_value::<DynamicObject>(object).unwrap().into()
    }

    #[test]
    fn large_workloads_of_one_namespace_leave_room_for_others() {
        let quota = Quota::default();
        let keep = |namespace: &str, name: &str, kib| {
            quota.apply(Kind::Deployment, workload(namespace, name, kib)).too_large().map(ToOwned::to_owned)
        };
        let kept = (0..20).filter(|number| keep("greedy", &number.to_string(), 200).is_none()).count();
        assert!((5..20).contains(&kept), "{kept}");
        assert!(keep("greedy", "0", 200).is_none(), "it is counted already");
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
