//! The memory quota for cached objects of all kinds: whatever some namespaces have, the others keep what ordinary
//! namespaces need.
//!
//! Each namespace has a guaranteed floor for each kind. What exceeds a floor counts against the limit of the namespace and
//! against that of the cluster, with all kinds together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::unusable_objects::Reason;

/// The limits of a replica. It has 128 MiB, and needs some 10 at rest and 50 for the worst requests to its port.
const LIMITS: Limits = Limits { of_namespace: 40 << 20, in_all: 44 << 20, for_stubs: 4 << 20 };

/// Limits in bytes, in addition to the floors.
#[derive(Clone, Copy, Debug)]
struct Limits {
    of_namespace: usize,
    in_all: usize,
    /// What stubs may take in addition.
    for_stubs: usize,
}

/// The quota that all kinds share.
#[derive(Clone, Debug)]
pub(super) struct Quota {
    limits: Limits,
    sums: Arc<Mutex<Sums>>,
}

/// The memory above the floors.
#[derive(Debug, Default)]
struct Sums {
    namespaces: HashMap<String, usize>,
    all: usize,
    /// How often some was released.
    released: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { limits: LIMITS, sums: Arc::default() }
    }
}

impl Quota {
    #[cfg(test)]
    pub(super) fn limited_to(bytes: usize) -> Self {
        let limits = Limits { of_namespace: bytes, in_all: bytes, for_stubs: 0 };
        Self { limits, ..Self::default() }
    }

    /// The part of the quota for one kind, with its floor in each namespace, in bytes.
    pub(super) fn of_kind(&self, floor: usize) -> Shares {
        Shares { quota: self.clone(), floor, kept: Mutex::default() }
    }

    /// Changes what a kind has above its floor in a namespace. Only an increase can be refused.
    fn change(&self, namespace: &str, [before, after]: [usize; 2], is_stub: bool) -> Result<(), Exceeded> {
        if before == after {
            return Ok(());
        }
        let mut sums = self.sums();
        let Limits { of_namespace, in_all, for_stubs } = self.limits;
        let reserve = if is_stub { for_stubs } else { 0 };
        let now = sums.namespaces.get(namespace).copied().unwrap_or_default() - before + after;
        let all = sums.all - before + after;
        if after > before && now > of_namespace + reserve {
            return Err(Exceeded { of: "its namespace", limit: of_namespace });
        }
        if after > before && all > in_all + reserve {
            return Err(Exceeded { of: "the cluster", limit: in_all });
        }
        sums.released += u64::from(after < before);
        sums.all = all;
        if now == 0 {
            sums.namespaces.remove(namespace);
        } else {
            sums.namespaces.insert(namespace.to_owned(), now);
        }
        Ok(())
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An exceeded limit.
struct Exceeded {
    of: &'static str,
    limit: usize,
}

impl Exceeded {
    fn reason(&self, size: usize) -> Reason {
        Reason::TooLarge(format!(
            "{} KiB in memory: adieu keeps at most {} MiB of the objects of {} beyond what every namespace may have: \
             remove some, or make them smaller",
            size.div_ceil(1 << 10),
            self.limit >> 20,
            self.of
        ))
    }
}

/// The cached objects of one kind, as part of the quota.
#[derive(Debug)]
pub(super) struct Shares {
    quota: Quota,
    floor: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    namespaces: HashMap<String, Sizes>,
    /// The count of releases when the first object since the last list was refused.
    refused: Option<u64>,
}

/// The objects of a namespace.
#[derive(Debug, Default)]
struct Sizes {
    /// By name: the size, and whether the current list has it.
    objects: HashMap<String, (usize, bool)>,
    sum: usize,
}

impl Shares {
    /// Adds or resizes an object, if there is room; one that shrinks is always kept. Stubs may use a reserve.
    pub(super) fn keep(&self, metadata: &ObjectMeta, size: usize, is_stub: bool) -> Result<(), Reason> {
        let (namespace, name) = key(metadata);
        let mut kept = self.kept();
        let of = kept.namespaces.get(namespace);
        let sum = of.map_or(0, |of| of.sum);
        let before = of.and_then(|of| of.objects.get(name)).map_or(0, |(size, _)| *size);
        let now = sum - before + size;
        if let Err(exceeded) =
            self.quota.change(namespace, [sum, now].map(|sum| self.above_floor(sum)), is_stub)
        {
            let released = self.quota.sums().released;
            kept.refused.get_or_insert(released);
            return Err(exceeded.reason(size));
        }
        let of = kept.namespaces.entry(namespace.to_owned()).or_default();
        of.sum = now;
        of.objects.insert(name.to_owned(), (size, true));
        Ok(())
    }

    /// Removes an object.
    pub(super) fn forget(&self, metadata: &ObjectMeta) {
        let (namespace, name) = key(metadata);
        self.remove(&mut self.kept(), namespace, name);
    }

    /// Starts a list.
    pub(super) fn list_begins(&self) {
        let mut kept = self.kept();
        kept.refused = None;
        let objects = kept.namespaces.values_mut().flat_map(|of| of.objects.values_mut());
        objects.for_each(|(_, listed)| *listed = false);
    }

    /// Completes a list: objects that it didn't have, or that were refused, are removed.
    pub(super) fn list_ends(&self) {
        let mut kept = self.kept();
        let objects = kept.namespaces.iter().flat_map(|(namespace, of)| {
            of.objects.iter().map(move |(name, (_, listed))| (namespace, name, listed))
        });
        let gone = objects
            .filter(|(.., listed)| !**listed)
            .map(|(namespace, name, _)| (namespace.clone(), name.clone()));
        for (namespace, name) in gone.collect::<Vec<_>>() {
            self.remove(&mut kept, &namespace, &name);
        }
    }

    /// Whether a new list may find room for an object that was refused.
    pub(super) fn wants_list(&self) -> bool {
        self.kept().refused.is_some_and(|refused| self.quota.sums().released > refused)
    }

    fn remove(&self, kept: &mut Kept, namespace: &str, name: &str) {
        let Some(of) = kept.namespaces.get_mut(namespace) else { return };
        let Some((size, _)) = of.objects.remove(name) else { return };
        let before = of.sum;
        of.sum -= size;
        // A decrease is never refused.
        let _ = self.quota.change(namespace, [before, of.sum].map(|sum| self.above_floor(sum)), false);
        if of.objects.is_empty() {
            kept.namespaces.remove(namespace);
        }
    }

    fn above_floor(&self, sum: usize) -> usize {
        sum.saturating_sub(self.floor)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The namespace and the name.
fn key(metadata: &ObjectMeta) -> (&str, &str) {
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

#[cfg(test)]
#[path = "object_quota_tests.rs"]
mod tests;
