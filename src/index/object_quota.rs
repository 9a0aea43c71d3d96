//! Memory quotas for policies, Services and `PodDisruptionBudgets`: many objects of one tenant leave room for those of
//! others.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::unusable_objects::Reason;

/// The quotas of one kind, in bytes of the specs' JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) of_namespace: usize,
    pub(super) in_all: usize,
}

impl Limits {
    pub(super) const NONE: Self = Self { of_namespace: usize::MAX, in_all: usize::MAX };
}

/// The cached objects of one kind, with their quotas.
#[derive(Debug)]
pub(super) struct Shares {
    limits: Limits,
    kept: Mutex<Sizes>,
}

#[derive(Debug, Default)]
struct Sizes {
    /// By namespace and name; and whether the current list has it.
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

    /// Adds an object of that size, if the quota allows it.
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
            "spec: {} KiB of JSON exceed the limit of {} MiB for all objects of this kind in {of}: delete some, or \
             make them smaller",
            size.div_ceil(1 << 10),
            limit >> 20
        )))
    }

    pub(super) fn forget(&self, metadata: &ObjectMeta) {
        self.kept().remove(&name(metadata));
    }

    /// Starts a list.
    pub(super) fn list_begins(&self) {
        self.kept().objects.values_mut().for_each(|(_, listed)| *listed = false);
    }

    /// Completes a list: objects that it didn't have are removed.
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
    use super::*;

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
                .contains("limit of 10 MiB for all objects of this kind in its namespace")
        );
        assert!(keep("greedy", 0, 1).is_ok(), "it is counted already");
        assert!(keep("greedy", 0, 2).is_err());
        shares.forget(&object("greedy", "1"));
        assert!(keep("greedy", 0, 2).is_ok());
        assert!(keep("shop", 0, 10).is_ok());
        assert!(
            keep("bank", 0, 6).unwrap_err().contains("25 MiB for all objects of this kind in the cluster")
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
}
