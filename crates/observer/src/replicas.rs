//! When workloads were scaled down, and by how many pods.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
};

use adieu_core::{hash::hash_of, keys::WorkloadKey};
use k8s_openapi::jiff::Timestamp;

/// Within this time, in seconds, the first pod of a workload that is scaled down starts to terminate, and each next one
/// after the one before, while its controller reports more pods than replicas.
const WINDOW: i64 = 120;
/// How long after its controller reports no more pods than replicas they may still start to terminate, in seconds: the
/// number of pods in the status of a Deployment may be old, although its controller has observed the spec.
const SETTLING: i64 = 30;

/// How many workloads may be added before those that don't exist are to be forgotten.
const GROWTH: usize = 1000;

/// The replicas of workloads, and what they were scaled down by.
#[derive(Debug, Default)]
pub struct ReplicaHistory {
    /// By the hash of the workload's key.
    workloads: HashMap<u64, Replicas>,
    /// With random keys, so that no tenant can choose names with the same hash.
    keys: RandomState,
    /// How many there were when others were last forgotten.
    retained: usize,
}

/// The replicas of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Scale<'a> {
    /// The workload's uid.
    pub uid: &'a str,
    /// Its `metadata.generation`.
    pub generation: i64,
    /// The number of its replicas.
    pub replicas: i64,
    /// Whether its controller has observed the generation, and reports no more pods than replicas. It doesn't report pods
    /// that terminate, except those of a StatefulSet.
    pub is_settled: bool,
}

#[derive(Clone, Copy, Debug)]
struct Replicas {
    /// The hash of the workload's uid.
    uid: u64,
    generation: i64,
    now: i64,
    /// Pods that are still to terminate because of the last decrease, and when that was, or when the last one started.
    excess: i64,
    since: Timestamp,
    /// Since when there are no more pods than replicas.
    settled: Option<Timestamp>,
}

impl ReplicaHistory {
    /// Records a workload's replicas.
    pub fn set(&mut self, key: WorkloadKey, scale: Scale<'_>, at: Timestamp) {
        let Scale { uid, generation, replicas, is_settled } = scale;
        let new =
            Replicas { uid: hash_of(&uid), generation, now: replicas, excess: 0, since: at, settled: None };
        let known = self.workloads.entry(self.keys.hash_one(key)).or_insert(new);
        if known.uid != new.uid {
            // It was deleted and created again.
            *known = new;
        }
        if replicas < known.now {
            let excess = if known.may_explain(at) { known.excess } else { 0 };
            (known.excess, known.since, known.settled) = (excess + known.now - replicas, at, None);
        }
        (known.generation, known.now) = (generation, replicas);
        if is_settled && known.settled.is_none() {
            known.settled = Some(at);
        }
    }

    /// Whether nothing about this generation of a workload is to be [recorded](Self::set) any more.
    #[must_use]
    pub fn is_recorded(&self, key: &WorkloadKey, uid: &str, generation: i64) -> bool {
        self.workloads.get(&self.keys.hash_one(key)).is_some_and(|known| {
            let is_same = (known.uid, known.generation) == (hash_of(&uid), generation);
            is_same && (known.excess == 0 || known.settled.is_some())
        })
    }

    /// Whether a pod that terminates now does so because the workload was scaled down. Each decrease explains as many.
    pub fn explain(&mut self, key: &WorkloadKey, at: Timestamp) -> bool {
        let Some(known) = self.workloads.get_mut(&self.keys.hash_one(key)) else { return false };
        let is_explained = known.excess > 0 && known.may_explain(at);
        if is_explained {
            // The pods of a StatefulSet end one after another.
            (known.excess, known.since) = (known.excess - 1, at);
        }
        is_explained
    }

    /// Forgets workloads that aren't among the existing ones, if there are many more than the last time.
    pub fn prune<E: IntoIterator<Item = WorkloadKey>>(&mut self, existing: impl FnOnce() -> E) {
        if self.workloads.len() >= 2 * self.retained + GROWTH {
            let existing: HashSet<_> = existing().into_iter().map(|key| self.keys.hash_one(key)).collect();
            self.workloads.retain(|key, _| existing.contains(key));
            self.retained = self.workloads.len();
        }
    }
}

impl Replicas {
    /// Whether pods may still start to terminate because of the last decrease.
    fn may_explain(&self, at: Timestamp) -> bool {
        let (since, limit) = self.settled.map_or((self.since, WINDOW), |settled| (settled, SETTLING));
        at.as_second() - since.as_second() <= limit
    }
}

#[cfg(test)]
mod tests {
    use adieu_core::api::WorkloadKind as Kind;

    use super::*;

    fn key(name: &str) -> WorkloadKey {
        WorkloadKey { namespace: "shop".into(), kind: Kind::Deployment, name: name.into() }
    }

    /// What happens to a workload.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// Its spec has so many replicas.
        Spec(i64),
        /// Its controller has observed that, and reports no more pods.
        Settled,
        /// One of its pods terminates. Whether that is explained.
        Pod(bool),
    }

    /// Checks a history of events, each with its second.
    fn check(events: &[(i64, Event)]) {
        let (mut history, mut generation, mut now) = (ReplicaHistory::default(), 0, 0);
        for (second, event) in events {
            let at = Timestamp::from_second(*second).unwrap();
            let mut set = |generation: i64, replicas: i64, is_settled: bool| {
                history.set(key("web"), Scale { uid: "1", generation, replicas, is_settled }, at);
            };
            match *event {
                Event::Spec(replicas) => {
                    (generation, now) = (generation + 1, replicas);
                    set(generation, replicas, false);
                }
                Event::Settled => set(generation, now, true),
                Event::Pod(expected) => {
                    assert_eq!(history.explain(&key("web"), at), expected, "{second}: {events:?}");
                }
            }
        }
    }

    #[test]
    fn each_decrease_explains_as_many_terminations() {
        use Event::{Pod, Spec};
        check(&[(0, Pod(false))]);
        check(&[(0, Spec(5)), (1, Pod(false)), (2, Spec(6)), (3, Pod(false))]);
        check(&[(0, Spec(5)), (1, Spec(3)), (2, Spec(3)), (3, Pod(true)), (3, Pod(true)), (3, Pod(false))]);
        // One after another.
        let last = 12 + WINDOW;
        check(&[(0, Spec(5)), (10, Spec(3)), (12, Pod(true)), (last, Pod(true)), (last, Pod(false))]);
        check(&[(0, Spec(6)), (1, Spec(5)), (1 + WINDOW, Pod(true))]);
        check(&[(0, Spec(6)), (1, Spec(5)), (2 + WINDOW, Pod(false))]);
        // Only the recent decrease.
        check(&[(0, Spec(6)), (1, Spec(5)), (300, Spec(4)), (301, Pod(true)), (301, Pod(false))]);
    }

    #[test]
    fn replicas_without_a_pod_that_terminates_explain_no_later_deletion() {
        use Event::{Pod, Settled, Spec};
        for events in [
            // The pods of a scale-down that never ran, or that never existed, aren't seen.
            vec![(0, Spec(5)), (9, Settled), (10, Spec(3)), (11, Settled), (11 + SETTLING, Pod(true))],
            vec![(0, Spec(5)), (9, Settled), (10, Spec(3)), (11, Settled), (12 + SETTLING, Pod(false))],
            // The status has fewer pods than there are, although the spec is observed.
            vec![(0, Spec(0)), (1, Spec(5)), (2, Spec(3)), (2, Settled), (4, Pod(true)), (5, Pod(true))],
            // Pods of a StatefulSet that take long.
            vec![(0, Spec(3)), (10, Spec(1)), (11, Pod(true)), (110, Pod(true)), (200, Settled)],
            // It isn't settled before its controller has observed the last decrease.
            vec![(0, Spec(5)), (10, Spec(4)), (11, Settled), (60, Spec(3)), (170, Pod(true))],
            // Only what happened since.
            vec![(0, Spec(5)), (1, Spec(3)), (2, Settled), (60, Spec(2)), (61, Pod(true)), (62, Pod(false))],
            // Another change of the spec.
            vec![(0, Spec(5)), (10, Spec(3)), (11, Settled), (50, Spec(3)), (51, Pod(false))],
            vec![(0, Spec(5)), (1, Spec(3)), (2, Settled), (3, Spec(6)), (4, Pod(true)), (50, Pod(false))],
        ] {
            check(&events);
        }
    }

    #[test]
    fn a_workload_is_read_while_it_changes() {
        let mut history = ReplicaHistory::default();
        let scale = |generation, replicas, is_settled| Scale { uid: "1", generation, replicas, is_settled };
        let mut is_recorded = |scale: Scale<'_>| {
            history.set(key("web"), scale, Timestamp::UNIX_EPOCH);
            let versions = [("1", 1), ("1", 2), ("2", 2)];
            versions.map(|(uid, generation)| history.is_recorded(&key("web"), uid, generation))
        };
        assert_eq!(is_recorded(scale(1, 5, false)), [true, false, false]);
        assert_eq!(is_recorded(scale(2, 3, false)), [false, false, false], "it is scaled down");
        assert_eq!(is_recorded(scale(2, 3, true)), [false, true, false]);
        assert!(!history.is_recorded(&key("other"), "1", 2));
    }

    #[test]
    fn a_workload_that_is_created_again_was_not_scaled_down() {
        let mut history = ReplicaHistory::default();
        for (uid, replicas) in [("1", 5), ("2", 1)] {
            let scale = Scale { uid, generation: 1, replicas, is_settled: false };
            history.set(key("web"), scale, Timestamp::UNIX_EPOCH);
        }
        assert!(!history.explain(&key("web"), Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn deleted_workloads_are_forgotten() {
        let mut history = ReplicaHistory::default();
        for number in 0..100_000 {
            let scale = Scale { uid: "1", generation: 1, replicas: 1, is_settled: true };
            history.set(key(&format!("web-{number}")), scale, Timestamp::UNIX_EPOCH);
            history.prune(|| [key("web-7")]);
        }
        assert!(history.workloads.len() <= 2 + GROWTH && history.is_recorded(&key("web-7"), "1", 1));
    }
}
