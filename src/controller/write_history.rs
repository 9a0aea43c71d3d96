//! The templates that were written, to detect a client that keeps reverting them.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use crate::{hash::hash_of, keys::WorkloadKey as Key, runtime::lock::lock};

/// How often the same template is written to a workload whose injection another client keeps reverting, such as a
/// GitOps tool if the API server can't reach the webhook: each time is two rollouts.
const MAX_REVERTED_WRITES: u32 = 3;
/// How long after the last of them no other write is made.
const WRITE_SUSPENSION: Duration = Duration::from_hours(1);

/// The last template that was written to each workload.
#[derive(Default)]
pub(super) struct WriteHistory(Mutex<HashMap<Key, Written>>);

/// A template that was written, as hashes.
struct Written {
    desired: u64,
    /// With the defaults of the API server.
    stored: u64,
    times: u32,
    last: Instant,
}

impl WriteHistory {
    /// Records that a template was written, and how the API server stored it.
    pub(super) fn record(&self, key: Key, desired: &Value, stored: &Value) {
        let (desired, stored, last) = (hash_of(desired), hash_of(stored), Instant::now());
        let mut written = lock(&self.0);
        let before = written.get(&key).filter(|before| before.desired == desired);
        let times = before.map_or(0, |before| before.times) + 1;
        written.insert(key, Written { desired, stored, times, last });
    }

    /// The workload is up to date with this template. If it is not the written one, earlier writes no longer count.
    pub(super) fn observe(&self, key: &Key, template: &Value) {
        let mut written = lock(&self.0);
        if written.get(key).is_some_and(|written| written.stored != hash_of(template)) {
            written.remove(key);
        }
    }

    /// Whether this template was written so often that another client must be reverting it.
    pub(super) fn is_reverted_repeatedly(&self, key: &Key, template: &Value) -> bool {
        lock(&self.0).get(key).is_some_and(|written| {
            written.times >= MAX_REVERTED_WRITES
                && written.desired == hash_of(template)
                && written.last.elapsed() < WRITE_SUSPENSION
        })
    }

    /// Drops workloads that were deleted.
    pub(super) fn retain(&self, exists: impl Fn(&Key) -> bool) {
        lock(&self.0).retain(|key, _| exists(key));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::Kind;

    #[tokio::test(start_paused = true)]
    async fn a_template_that_is_reverted_repeatedly_is_not_written_for_a_while() {
        let key = || Key { namespace: "shop".into(), kind: Kind::Deployment, name: "web".into() };
        let (desired, other) = (json!({"drain": 10}), json!({"drain": 20}));
        let stored = json!({"drain": 10, "default": true});
        let history = WriteHistory::default();
        for _ in 0..MAX_REVERTED_WRITES {
            assert!(!history.is_reverted_repeatedly(&key(), &desired));
            history.record(key(), &desired, &stored);
            history.observe(&key(), &stored);
        }
        assert!(history.is_reverted_repeatedly(&key(), &desired));
        assert!(!history.is_reverted_repeatedly(&key(), &other));
        tokio::time::advance(WRITE_SUSPENSION).await;
        assert!(!history.is_reverted_repeatedly(&key(), &desired));

        // A policy that alternates between values is not a client that reverts.
        for template in [&desired, &other, &desired, &other, &desired, &other] {
            history.record(key(), template, template);
        }
        assert!(!history.is_reverted_repeatedly(&key(), &other));
        for _ in 0..MAX_REVERTED_WRITES {
            history.record(key(), &desired, &stored);
        }
        history.observe(&key(), &other);
        assert!(!history.is_reverted_repeatedly(&key(), &desired));
        history.retain(|_| false);
        assert!(lock(&history.0).is_empty());
    }
}
