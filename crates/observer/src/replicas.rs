//! When workloads were scaled down, and by how many pods.

use std::collections::HashMap;

use adieu_core::keys::WorkloadKey;
use k8s_openapi::jiff::Timestamp;

/// Within this time, in seconds, the pods of a workload that is scaled down start to terminate.
const WINDOW: i64 = 60;

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
    now: i64,
    /// Pods that are still to terminate because of the last decrease, and when that was.
    excess: i64,
    since: Timestamp,
}

impl ReplicaHistory {
    /// Records a workload's replicas.
    pub fn set(&mut self, key: WorkloadKey, replicas: i64, at: Timestamp) {
        let known = self.workloads.entry(key).or_insert(Replicas { now: replicas, excess: 0, since: at });
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
        known.excess -= i64::from(is_explained);
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
    fn each_decrease_explains_as_many_terminations_for_a_minute() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let key = || WorkloadKey { namespace: "shop".into(), kind: Kind::Deployment, name: "web".into() };
        let mut history = ReplicaHistory::default();
        assert!(!history.explain(&key(), at(0)), "unknown");
        history.set(key(), 5, at(0));
        assert!(!history.explain(&key(), at(1)), "not scaled");
        history.set(key(), 3, at(10));
        history.set(key(), 3, at(11));
        assert_eq!([(); 3].map(|()| history.explain(&key(), at(12))), [true, true, false]);
        history.set(key(), 6, at(20));
        history.set(key(), 5, at(21));
        assert!(!history.explain(&key(), at(82)), "too late");
        history.set(key(), 4, at(83));
        assert_eq!(
            [(); 2].map(|()| history.explain(&key(), at(84))),
            [true, false],
            "only the recent decrease"
        );
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
            history.set(key(number), 1, at);
            history.prune(|key| key.name == "web-7");
        }
        assert!(history.workloads.len() <= 2 + GROWTH && history.workloads.contains_key(&key(7)));
    }
}
