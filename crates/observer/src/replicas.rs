//! When workloads were scaled down, and by how many pods.

use std::collections::HashMap;

use adieu_core::{hash::hash_of, keys::WorkloadKey};
use k8s_openapi::jiff::Timestamp;

/// Within this time, in seconds, the first pod of a workload that is scaled down starts to terminate, and each next one
/// after the one before.
const WINDOW: i64 = 120;

/// How many workloads may be added before those that don't exist are to be forgotten.
const GROWTH: usize = 1000;

/// The replicas of workloads, and what they were scaled down by.
#[derive(Debug, Default)]
pub struct ReplicaHistory {
    workloads: HashMap<WorkloadKey, Replicas>,
    /// How many there were when others were last forgotten.
    retained: usize,
}

#[derive(Clone, Copy, Debug)]
struct Replicas {
    /// The hash of the workload's uid.
    uid: u64,
    now: i64,
    /// Pods that are still to terminate because of the last decrease, and when that was.
    excess: i64,
    since: Timestamp,
}

impl ReplicaHistory {
    /// Records a workload's replicas.
    pub fn set(&mut self, key: WorkloadKey, uid: &str, replicas: i64, at: Timestamp) {
        let new = Replicas { uid: hash_of(&uid), now: replicas, excess: 0, since: at };
        let known = self.workloads.entry(key).or_insert(new);
        if known.uid != new.uid {
            // It was deleted and created again.
            *known = new;
        }
        if replicas < known.now {
            let excess = if is_recent(known.since, at) { known.excess } else { 0 };
            (known.excess, known.since) = (excess + known.now - replicas, at);
        }
        known.now = replicas;
    }

    /// Whether a pod that terminates now does so because the workload was scaled down. Each decrease explains as many.
    pub fn explain(&mut self, key: &WorkloadKey, at: Timestamp) -> bool {
        let Some(known) = self.workloads.get_mut(key) else { return false };
        let is_explained = known.excess > 0 && is_recent(known.since, at);
        if is_explained {
            // The pods of a StatefulSet end one after another.
            (known.excess, known.since) = (known.excess - 1, at);
        }
        is_explained
    }

    /// Forgets workloads that don't exist, if there are many more than the last time.
    pub fn prune(&mut self, exists: impl Fn(&WorkloadKey) -> bool) {
        if self.workloads.len() >= 2 * self.retained + GROWTH {
            self.workloads.retain(|key, _| exists(key));
            self.retained = self.workloads.len();
        }
    }
}

fn is_recent(since: Timestamp, at: Timestamp) -> bool {
    at.as_second() - since.as_second() <= WINDOW
}

#[cfg(test)]
mod tests {
    use adieu_core::api::WorkloadKind as Kind;

    use super::*;

    #[test]
    fn each_decrease_explains_as_many_terminations() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let key = || WorkloadKey { namespace: "shop".into(), kind: Kind::Deployment, name: "web".into() };
        let mut history = ReplicaHistory::default();
        assert!(!history.explain(&key(), at(0)), "unknown");
        history.set(key(), "1", 5, at(0));
        assert!(!history.explain(&key(), at(1)), "not scaled");
        history.set(key(), "1", 3, at(10));
        history.set(key(), "1", 3, at(11));
        // One after another.
        assert_eq!(
            [12, 12 + WINDOW, 13 + WINDOW].map(|second| history.explain(&key(), at(second))),
            [true, true, false]
        );
        history.set(key(), "1", 6, at(140));
        history.set(key(), "1", 5, at(141));
        assert!(!history.explain(&key(), at(141 + WINDOW + 1)), "too late");
        history.set(key(), "1", 4, at(300));
        let twice = [(); 2].map(|()| history.explain(&key(), at(301)));
        assert_eq!(twice, [true, false], "only the recent decrease");
        history.set(key(), "2", 1, at(302));
        assert!(!history.explain(&key(), at(303)), "another workload of that name");
    }

    #[test]
    fn deleted_workloads_are_forgotten() {
        let at = Timestamp::UNIX_EPOCH;
        let mut history = ReplicaHistory::default();
        let key = |number: usize| WorkloadKey {
            namespace: "shop".into(),
            kind: Kind::Deployment,
            name: format!("web-{number}"),
        };
        for number in 0..100_000 {
            history.set(key(number), "1", 1, at);
            history.prune(|key| key.name == "web-7");
        }
        assert!(history.workloads.len() <= 2 + GROWTH && history.workloads.contains_key(&key(7)));
    }
}
