//! The profiles of workloads, bounded in number and memory, and the order in which they are to be written.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound::{Excluded, Included, Unbounded},
    time::Duration,
};

use adieu_observer::{Profile, Termination};
use tokio::time::Instant;

use crate::keys::WorkloadKey as Key;

/// How many workloads have a profile at most. Those after them are only counted in metrics.
const MAX_PROFILES: usize = 20_000;
/// How many of them are of one namespace, so that no namespace takes all.
const MAX_PROFILES_OF_NAMESPACE: usize = 4000;
/// How much memory they take at most, in bytes: most need 1 to 2 KiB, those of pods that end in many different ways 30.
const MAX_MEMORY: usize = 16 << 20;
/// How much of it those of one namespace take.
const MAX_MEMORY_OF_NAMESPACE: usize = 4 << 20;
/// How often the profiles of deleted workloads are dropped at most if there are too many, because all are read for it.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);

/// The profiles by workload.
#[derive(Default)]
pub(super) struct ProfileSet {
    /// Boxed, because nodes of a map have room for eleven entries, and half of that is often unused.
    entries: BTreeMap<Key, Box<Entry>>,
    total: Share,
    of_namespaces: HashMap<String, Share>,
    /// Those to write by namespace, the first one first.
    due: BTreeMap<String, BTreeSet<(Instant, Key)>>,
    /// The namespace of the profile that was written last.
    last: String,
    /// When those of deleted workloads were last dropped.
    pruned: Option<Instant>,
}

/// What some of the profiles take.
#[derive(Clone, Copy, Default)]
struct Share {
    profiles: usize,
    /// In bytes.
    memory: usize,
}

/// The profile of a workload.
pub(super) struct Entry {
    /// The uid of the workload: one that is deleted and created again has a new profile.
    pub(super) uid: String,
    pub(super) profile: Profile,
    /// How many terminations it counts since it was restored or created.
    pub(super) added: u64,
    /// Whether the object exists.
    pub(super) exists: bool,
    /// When it is to be written; `None` if it is up to date.
    pub(super) due: Option<Instant>,
    /// Not written before.
    pub(super) earliest: Instant,
}

impl Entry {
    /// One that an earlier leader wrote.
    pub(super) fn restored(uid: String, profile: Profile) -> Self {
        Self { uid, profile, added: 0, exists: true, due: None, earliest: Instant::now() }
    }

    fn new(uid: &str, termination: &Termination, now: Instant) -> Self {
        let (uid, profile) = (uid.to_owned(), Profile::new(termination));
        Self { uid, profile, added: 1, exists: false, due: Some(now), earliest: now }
    }

    /// About how many bytes of memory it takes.
    fn memory(&self, key: &Key) -> usize {
        // The key is in two maps.
        self.profile.memory() + self.uid.len() + 2 * (size_of::<Key>() + key.namespace.len() + key.name.len())
    }
}

impl ProfileSet {
    /// Adds a termination to the profile of its workload, which has this uid. Profiles of workloads that don't exist are
    /// dropped if all take too much. Whether it was added: the others may still take too much.
    pub(super) fn add(
        &mut self,
        key: &Key,
        uid: &str,
        termination: &Termination,
        exists: impl Fn(&Key) -> bool,
    ) -> bool {
        let now = Instant::now();
        let needed = usize::from(!self.entries.contains_key(key));
        if !self.has_room(&key.namespace, needed) {
            self.prune(now, exists);
        }
        if !self.has_room(&key.namespace, needed) {
            return false;
        }
        let known = self.update(key, |entry| {
            if entry.uid == uid {
                entry.profile.add(termination);
                entry.added += 1;
                entry.due = entry.due.or(Some(entry.earliest.max(now)));
            } else {
                *entry = Entry::new(uid, termination, now);
            }
        });
        known.is_some() || self.insert(key.clone(), Entry::new(uid, termination, now))
    }

    /// Adds the profile of a workload, unless the others take too much.
    pub(super) fn insert(&mut self, key: Key, entry: Entry) -> bool {
        self.remove(&key);
        let has_room = self.has_room(&key.namespace, 1);
        if has_room {
            self.account(&key, 1, 0, entry.memory(&key));
            self.schedule(&key, entry.due);
            self.entries.insert(key, Box::new(entry));
        }
        has_room
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key).map(AsRef::as_ref)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key, &**entry))
    }

    /// Changes a profile. `None` if there is none.
    pub(super) fn update<T>(&mut self, key: &Key, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.entries.get_mut(key)?.as_mut();
        let before = (entry.due, entry.memory(key));
        let changed = change(entry);
        let after = (entry.due, entry.memory(key));
        self.account(key, 0, before.1, after.1);
        if after.0 != before.0 {
            self.unschedule(key, before.0);
            self.schedule(key, after.0);
        }
        Some(changed)
    }

    /// Counts a profile that was added, and memory that is used instead of what was used before.
    fn account(&mut self, key: &Key, added: usize, before: usize, after: usize) {
        let of_namespace = self.of_namespaces.entry(key.namespace.clone()).or_default();
        for share in [&mut self.total, of_namespace] {
            share.profiles += added;
            share.memory = share.memory + after - before;
        }
    }

    fn schedule(&mut self, key: &Key, due: Option<Instant>) {
        if let Some(due) = due {
            self.due.entry(key.namespace.clone()).or_default().insert((due, key.clone()));
        }
    }

    fn unschedule(&mut self, key: &Key, due: Option<Instant>) {
        if let Some(due) = due
            && let Some(of_namespace) = self.due.get_mut(&key.namespace)
        {
            of_namespace.remove(&(due, key.clone()));
            if of_namespace.is_empty() {
                self.due.remove(&key.namespace);
            }
        }
    }

    /// The profile that is to be written next, and when. If several are due, one namespace follows the other.
    pub(super) fn next_due(&mut self) -> Option<(Key, Instant)> {
        let (now, last) = (Instant::now(), self.last.as_str());
        let later = self.due.range::<str, _>((Excluded(last), Unbounded));
        let earlier = self.due.range::<str, _>((Unbounded, Included(last)));
        let mut firsts = later.chain(earlier).filter_map(|(_, of_namespace)| of_namespace.first());
        let Some((due, key)) = firsts.find(|(due, _)| *due <= now) else {
            let first = self.due.values().filter_map(BTreeSet::first).min();
            return first.map(|(due, key)| (key.clone(), *due));
        };
        let next = (key.clone(), *due);
        self.last.clone_from(&next.0.namespace);
        Some(next)
    }

    /// All profiles that are to be written.
    pub(super) fn all_due(&self) -> Vec<Key> {
        self.due.values().flatten().map(|(_, key)| key.clone()).collect()
    }

    /// Whether so many other workloads of the namespace may have a profile, and a profile may grow.
    fn has_room(&self, namespace: &str, needed: usize) -> bool {
        let of_namespace = self.of_namespaces.get(namespace).copied().unwrap_or_default();
        self.total.profiles + needed <= MAX_PROFILES
            && of_namespace.profiles + needed <= MAX_PROFILES_OF_NAMESPACE
            && self.total.memory < MAX_MEMORY
            && of_namespace.memory < MAX_MEMORY_OF_NAMESPACE
    }

    fn prune(&mut self, now: Instant, exists: impl Fn(&Key) -> bool) {
        if self.pruned.is_some_and(|pruned| now - pruned < PRUNE_INTERVAL) {
            return;
        }
        self.pruned = Some(now);
        let deleted: Vec<_> = self.entries.keys().filter(|key| !exists(key)).cloned().collect();
        for key in deleted {
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.unschedule(key, entry.due);
        let memory = entry.memory(key);
        self.total = self.total.without(memory);
        if let Some(share) = self.of_namespaces.get_mut(&key.namespace) {
            *share = share.without(memory);
            if share.profiles == 0 {
                self.of_namespaces.remove(&key.namespace);
            }
        }
    }
}

impl Share {
    /// Without a profile that takes so much memory.
    fn without(self, memory: usize) -> Self {
        Self { profiles: self.profiles - 1, memory: self.memory - memory }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use adieu_observer::PodOwner;
    use k8s_openapi::jiff::Timestamp;
    use tokio::time::advance;

    use super::*;
    use crate::{
        api::{RequestedTimes, TerminationCause, TerminationOutcome},
        plan::Kind,
    };

    pub(in crate::controller::terminations) fn key(name: &str) -> Key {
        Key { namespace: "shop".into(), kind: Kind::Deployment, name: name.into() }
    }

    pub(in crate::controller::terminations) fn termination() -> Termination {
        Termination {
            namespace: "shop".into(),
            pod: "web-7d4b9-x2x".into(),
            owner: PodOwner::Other,
            end: Timestamp::UNIX_EPOCH,
            outcome: TerminationOutcome::Completed,
            container: "app".into(),
            exit_code: Some(0),
            cause: TerminationCause::Rollout,
            used_seconds: None,
            shutdown_seconds: None,
            withdrawal_seconds: None,
            requested: RequestedTimes::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_has_a_share_of_the_profiles() {
        let (mut profiles, termination) = (ProfileSet::default(), termination());
        let mut fill = |namespace: &str| {
            let (before, mut added) = (profiles.entries.len(), 0);
            for kind in [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet] {
                for number in 0..MAX_PROFILES_OF_NAMESPACE / 2 {
                    let key = Key { namespace: namespace.to_owned(), kind, name: number.to_string() };
                    added += usize::from(profiles.add(&key, "1", &termination, |_| true));
                }
            }
            assert_eq!(profiles.entries.len() - before, added);
            added
        };
        let namespaces = ["b", "a", "ab", "c", "d", "e"];
        let [full, none] = [MAX_PROFILES_OF_NAMESPACE, 0];
        assert_eq!(namespaces.map(&mut fill), [full, full, full, full, full, none], "of {MAX_PROFILES}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_has_a_share_of_the_memory_of_profiles() {
        let (mut profiles, mut profile) = (ProfileSet::default(), Profile::new(&termination()));
        for seconds in (0..100).map(Some) {
            let times =
                Termination { shutdown_seconds: seconds, withdrawal_seconds: seconds, ..termination() };
            profile.add(&times);
        }
        let of = |namespace: &str, number: i32| Key {
            namespace: namespace.to_owned(),
            ..key(&number.to_string())
        };
        let mut fill = |namespace: &str| {
            let restored = || Entry::restored("1".into(), profile.clone());
            (0..2000).filter(|number| profiles.insert(of(namespace, *number), restored())).count()
        };
        let [first, second] = ["noisy", "quiet"].map(&mut fill);
        assert!((500..1500).contains(&first), "{first}");
        assert_eq!(second, first, "another namespace has its own share");
        assert!(!profiles.add(&of("noisy", 0), "1", &termination(), |_| true), "none grows");
        assert!(profiles.add(&of("shop", 0), "1", &termination(), |_| true));
        let memory: usize = profiles.all().map(|(key, entry)| entry.memory(key)).sum();
        assert_eq!((profiles.total.profiles, profiles.total.memory), (2 * first + 1, memory));
        advance(PRUNE_INTERVAL).await;
        let exists = |key: &Key| key.name != "7";
        assert!(profiles.add(&of("noisy", 0), "1", &termination(), exists), "a deleted one made room");
        profiles.prune(Instant::now() + PRUNE_INTERVAL, |_| false);
        assert_eq!((profiles.total.profiles, profiles.total.memory, profiles.of_namespaces.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_namespace_is_searched_for_deleted_workloads_once_a_minute() {
        let (mut profiles, termination, searched) = (ProfileSet::default(), termination(), Cell::new(0));
        let mut add = |name: &str, deleted: &str| {
            profiles.add(&key(name), "1", &termination, |key| {
                searched.set(searched.get() + 1);
                key.name != deleted
            });
            ["new", "newer", deleted].map(|name| profiles.get(&key(name)).is_some())
        };
        for number in 0..MAX_PROFILES_OF_NAMESPACE {
            add(&number.to_string(), "7");
        }
        assert_eq!(searched.get(), 0, "there is room");
        assert_eq!(add("new", "none"), [false; 3]);
        assert_eq!(searched.get(), MAX_PROFILES_OF_NAMESPACE);
        for _ in 0..100 {
            assert_eq!(add("new", "7"), [false, false, true]);
        }
        assert_eq!(searched.get(), MAX_PROFILES_OF_NAMESPACE);
        advance(PRUNE_INTERVAL).await;
        assert_eq!(add("new", "7"), [true, false, false]);
        assert_eq!(searched.get(), 2 * MAX_PROFILES_OF_NAMESPACE);
        assert_eq!(add("newer", "7"), [true, false, false], "only one was deleted");
    }

    #[tokio::test(start_paused = true)]
    async fn profiles_are_due_in_the_order_of_their_times() {
        let (mut profiles, termination) = (ProfileSet::default(), termination());
        let due = |profiles: &mut ProfileSet| {
            let due: BTreeSet<_> =
                profiles.all().filter_map(|(key, entry)| Some((entry.due?, key.clone()))).collect();
            assert_eq!(profiles.due.values().flatten().cloned().collect::<BTreeSet<_>>(), due);
            assert_eq!(profiles.next_due().map(|(key, _)| key), profiles.all_due().first().cloned());
            profiles.all_due().into_iter().map(|key| key.name).collect::<Vec<_>>().join(" ")
        };
        for name in ["b", "a", "c"] {
            profiles.add(&key(name), "1", &termination, |_| true);
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(due(&mut profiles), "b a c");
        // It is written.
        profiles.update(&key("b"), |entry| {
            (entry.due, entry.earliest) = (None, Instant::now() + Duration::from_secs(10));
        });
        assert_eq!(due(&mut profiles), "a c");
        profiles.add(&key("b"), "1", &termination, |_| true);
        profiles.add(&key("a"), "1", &termination, |_| true);
        assert_eq!(due(&mut profiles), "a c b");
        // It was created again.
        profiles.add(&key("a"), "2", &termination, |_| true);
        assert_eq!(due(&mut profiles), "c a b");
        profiles.insert(key("c"), Entry::restored("1".into(), Profile::new(&termination)));
        assert_eq!(due(&mut profiles), "a b");
        profiles.prune(Instant::now(), |key| key.name != "a");
        assert_eq!(due(&mut profiles), "b");
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_with_many_profiles_to_write_delays_no_other() {
        let (mut profiles, termination) = (ProfileSet::default(), termination());
        let of = |namespace: &str, name: &str| Key { namespace: namespace.to_owned(), ..key(name) };
        for number in 0..100 {
            profiles.add(&of("restless", &number.to_string()), "1", &termination, |_| true);
        }
        advance(Duration::from_secs(1)).await;
        for namespace in ["blog", "shop"] {
            profiles.add(&of(namespace, "web"), "1", &termination, |_| true);
        }
        let written: Vec<_> = (0..4)
            .map(|_| {
                let (key, _) = profiles.next_due().unwrap();
                profiles.update(&key, |entry| entry.due = None);
                key.namespace
            })
            .collect();
        assert_eq!(written, ["blog", "restless", "shop", "restless"]);
    }
}
