//! The memory quota for cached objects of all kinds: whatever some namespaces have, the others keep what ordinary
//! namespaces need.
//!
//! Each namespace has a guaranteed floor for each kind. What exceeds a floor counts against the limit of the namespace and
//! against that of the cluster, with all kinds together.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::unusable_objects::UnusableReason;

/// The limits of a replica. It has 128 MiB, and needs some 10 at rest and 50 for the worst requests to its port.
const LIMITS: Limits = Limits { of_namespace: 40 << 20, in_all: 44 << 20, for_stubs: 4 << 20 };

/// Limits in bytes, in addition to the floors.
#[derive(Clone, Copy, Debug)]
struct Limits {
    of_namespace: usize,
    in_all: usize,
    /// The additional reserve for stubs.
    for_stubs: usize,
}

/// The quota that all kinds share.
#[derive(Clone, Debug)]
pub(super) struct Quota {
    limits: Limits,
    usage: Arc<Mutex<Usage>>,
}

/// The memory above the floors.
#[derive(Debug, Default)]
struct Usage {
    namespaces: HashMap<String, usize>,
    all: usize,
    /// How often some was released.
    released: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { limits: LIMITS, usage: Arc::default() }
    }
}

impl Quota {
    #[cfg(test)]
    pub(super) fn limited_to(bytes: usize) -> Self {
        let limits = Limits { of_namespace: bytes, in_all: bytes, for_stubs: 0 };
        Self { limits, ..Self::default() }
    }

    /// The part of the quota for one kind, with its floor in each namespace, in bytes.
    pub(super) fn for_kind(&self, floor: usize) -> KindQuota {
        KindQuota {
            quota: self.clone(),
            floor,
            max_objects: usize::MAX,
            usage: Mutex::default(),
            names: RandomState::new(),
        }
    }

    /// Changes what a kind has above its floor in a namespace. Only an increase can be rejected.
    fn change(&self, namespace: &str, [before, after]: [usize; 2], is_stub: bool) -> Result<(), Exceeded> {
        if before == after {
            return Ok(());
        }
        let mut usage = self.usage();
        let Limits { of_namespace, in_all, for_stubs } = self.limits;
        let reserve = if is_stub { for_stubs } else { 0 };
        let now = usage.namespaces.get(namespace).copied().unwrap_or_default() - before + after;
        let all = usage.all - before + after;
        if after > before && now > of_namespace + reserve {
            return Err(Exceeded { of: "its namespace", limit: of_namespace });
        }
        if after > before && all > in_all + reserve {
            return Err(Exceeded { of: "the cluster", limit: in_all });
        }
        usage.released += u64::from(after < before);
        usage.all = all;
        if now == 0 {
            usage.namespaces.remove(namespace);
        } else {
            usage.namespaces.insert(namespace.to_owned(), now);
        }
        Ok(())
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An exceeded limit.
struct Exceeded {
    of: &'static str,
    limit: usize,
}

impl Exceeded {
    fn reason(&self, size: usize) -> UnusableReason {
        UnusableReason::TooLarge(format!(
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
pub(super) struct KindQuota {
    quota: Quota,
    floor: usize,
    /// How many objects a namespace may have.
    max_objects: usize,
    usage: Mutex<KindUsage>,
    /// Hashes names, with random keys: no tenant can choose some with the same hash.
    names: RandomState,
}

#[derive(Debug, Default)]
struct KindUsage {
    namespaces: HashMap<String, Sizes>,
    /// The count of releases when the first object since the last list was rejected.
    rejected: Option<u64>,
}

/// The objects of a namespace.
#[derive(Debug, Default)]
struct Sizes {
    /// By the hash of the name: the size, and whether the current list has it.
    objects: HashMap<u64, (usize, bool)>,
    sum: usize,
}

impl KindQuota {
    /// The same, with a maximum number of objects in each namespace.
    pub(super) fn with_max_objects(self, max_objects: usize) -> Self {
        Self { max_objects, ..self }
    }

    /// Adds or resizes an object, if there is room; one that shrinks is always kept. Stubs may use a reserve.
    pub(super) fn reserve(
        &self,
        metadata: &ObjectMeta,
        size: usize,
        is_stub: bool,
    ) -> Result<(), UnusableReason> {
        let (namespace, name) = self.key(metadata);
        let mut usage = self.usage();
        let of = usage.namespaces.get(namespace);
        let sum = of.map_or(0, |of| of.sum);
        let known = of.and_then(|of| of.objects.get(&name));
        let before = known.map_or(0, |(size, _)| *size);
        if known.is_none() && of.is_some_and(|of| of.objects.len() >= self.max_objects) {
            let released = self.quota.usage().released;
            usage.rejected.get_or_insert(released);
            return Err(UnusableReason::TooLarge(format!(
                "adieu reads at most {} of these objects in a namespace: remove some",
                self.max_objects
            )));
        }
        let now = sum - before + size;
        if let Err(exceeded) =
            self.quota.change(namespace, [sum, now].map(|sum| self.above_floor(sum)), is_stub)
        {
            let released = self.quota.usage().released;
            usage.rejected.get_or_insert(released);
            return Err(exceeded.reason(size));
        }
        let of = usage.namespaces.entry(namespace.to_owned()).or_default();
        of.sum = now;
        of.objects.insert(name, (size, true));
        Ok(())
    }

    /// Removes an object.
    pub(super) fn release(&self, metadata: &ObjectMeta) {
        let (namespace, name) = self.key(metadata);
        self.remove(&mut self.usage(), namespace, name);
    }

    /// Starts a list.
    pub(super) fn list_begins(&self) {
        let mut usage = self.usage();
        usage.rejected = None;
        let objects = usage.namespaces.values_mut().flat_map(|of| of.objects.values_mut());
        objects.for_each(|(_, listed)| *listed = false);
    }

    /// Completes a list: objects that it didn't have, or that were rejected, are removed.
    pub(super) fn list_ends(&self) {
        let mut usage = self.usage();
        let objects = usage.namespaces.iter().flat_map(|(namespace, of)| {
            of.objects.iter().map(move |(name, (_, listed))| (namespace, name, listed))
        });
        let gone =
            objects.filter(|(.., listed)| !**listed).map(|(namespace, name, _)| (namespace.clone(), *name));
        for (namespace, name) in gone.collect::<Vec<_>>() {
            self.remove(&mut usage, &namespace, name);
        }
    }

    /// Whether a new list may find room for an object that was rejected.
    pub(super) fn should_relist(&self) -> bool {
        self.usage().rejected.is_some_and(|rejected| self.quota.usage().released > rejected)
    }

    fn remove(&self, usage: &mut KindUsage, namespace: &str, name: u64) {
        let Some(of) = usage.namespaces.get_mut(namespace) else { return };
        let Some((size, _)) = of.objects.remove(&name) else { return };
        let before = of.sum;
        of.sum -= size;
        // A decrease is never rejected.
        let _ = self.quota.change(namespace, [before, of.sum].map(|sum| self.above_floor(sum)), false);
        if of.objects.is_empty() {
            usage.namespaces.remove(namespace);
        }
    }

    /// The namespace, and the hash of the name.
    fn key<'a>(&self, metadata: &'a ObjectMeta) -> (&'a str, u64) {
        let name = metadata.name.as_deref().unwrap_or_default();
        (metadata.namespace.as_deref().unwrap_or_default(), self.names.hash_one(name))
    }

    fn above_floor(&self, sum: usize) -> usize {
        sum.saturating_sub(self.floor)
    }

    fn usage(&self) -> MutexGuard<'_, KindUsage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "object_quota_tests.rs"]
mod tests;
