//! Back-off of workloads that can't be written, because the write is rejected, reverted, or always conflicts. Each is
//! retried with growing delays, and delays no other.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use kube::runtime::watcher::DefaultBackoff;

use crate::{keys::WorkloadKey as Key, runtime::lock::lock};

/// How long after the first failure the next attempt is made; twice as long after each further one.
const INITIAL_BACKOFF: Duration = Duration::from_secs(10);
const MAX_BACKOFF: Duration = Duration::from_mins(10);

/// After how many conflicts in a row another client writes the workload continuously.
const CONFLICTS: u32 = 10;

/// The reason of the condition `Blocked` of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockReason {
    /// The API server, or an admission webhook or policy, rejects the write.
    WriteRejected,
    /// Another client, or an admission webhook or policy, reverts the injection.
    InjectionReverted,
    /// The write always conflicts, because another client keeps updating the workload.
    WriteConflict,
}

impl BlockReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::WriteRejected => "WriteRejected",
            Self::InjectionReverted => "InjectionReverted",
            Self::WriteConflict => "WriteConflict",
        }
    }
}

/// The workloads that can't be written, and those whose last attempt failed.
#[derive(Default)]
pub(super) struct Backoff {
    blocks: Mutex<HashMap<Key, Block>>,
    failures: Mutex<HashMap<Key, Failures>>,
}

/// Failed attempts of a workload, one after the other.
#[derive(Default)]
struct Failures {
    conflicts: u32,
    waits: DefaultBackoff,
}

struct Block {
    reason: BlockReason,
    message: String,
    attempts: u32,
}

impl Backoff {
    /// Records why a workload can't be written. How long to wait before the next attempt, and whether the reason or the
    /// message is new.
    pub(super) fn block(&self, key: Key, reason: BlockReason, message: String) -> (Duration, bool) {
        let mut blocks = lock(&self.blocks);
        let block = blocks.entry(key).or_insert(Block { reason, message: String::new(), attempts: 0 });
        let is_new = (block.reason, &block.message) != (reason, &message);
        (block.reason, block.message) = (reason, message);
        let wait = INITIAL_BACKOFF.saturating_mul(2u32.saturating_pow(block.attempts)).min(MAX_BACKOFF);
        block.attempts = block.attempts.saturating_add(1);
        (wait, is_new)
    }

    /// The workload is up to date, or is not to be written for now. Whether it was blocked.
    pub(super) fn unblock(&self, key: &Key) -> bool {
        lock(&self.blocks).remove(key).is_some()
    }

    /// Records a failed attempt that needs no report: a conflict, or an API server that can't be reached. How long to
    /// wait before the next one.
    pub(super) fn failed(&self, key: Key) -> Duration {
        lock(&self.failures).entry(key).or_default().waits.next().unwrap_or(MAX_BACKOFF)
    }

    /// Records a conflict. Whether there were too many in a row for a coincidence.
    pub(super) fn conflicted(&self, key: Key) -> bool {
        let mut failures = lock(&self.failures);
        let conflicts = &mut failures.entry(key).or_default().conflicts;
        *conflicts = conflicts.saturating_add(1);
        *conflicts >= CONFLICTS
    }

    /// An attempt succeeded.
    pub(super) fn reset(&self, key: &Key) {
        lock(&self.failures).remove(key);
    }

    /// Drops workloads that were deleted.
    pub(super) fn retain(&self, exists: impl Fn(&Key) -> bool) {
        lock(&self.blocks).retain(|key, _| exists(key));
        lock(&self.failures).retain(|key, _| exists(key));
    }

    pub(super) fn is_blocked(&self, key: &Key) -> bool {
        lock(&self.blocks).contains_key(key)
    }

    /// Why it is blocked: the reason and the message.
    pub(super) fn cause(&self, key: &Key) -> Option<(BlockReason, String)> {
        lock(&self.blocks).get(key).map(|block| (block.reason, block.message.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Kind;

    fn key() -> Key {
        Key { namespace: "shop".into(), kind: Kind::Deployment, name: "web".into() }
    }

    #[test]
    fn deleted_workloads_are_dropped() {
        let backoff = Backoff::default();
        backoff.block(key(), BlockReason::WriteRejected, "rejected".into());
        backoff.failed(key());
        backoff.retain(|_| true);
        assert!(backoff.is_blocked(&key()) && !lock(&backoff.failures).is_empty());
        backoff.retain(|_| false);
        assert!(!backoff.is_blocked(&key()) && lock(&backoff.failures).is_empty());
    }

    #[test]
    fn failed_attempts_back_off_until_one_succeeds() {
        let backoff = Backoff::default();
        let seconds = Duration::from_secs;
        assert!(backoff.failed(key()) < seconds(2));
        for _ in 0..10 {
            backoff.failed(key());
        }
        assert!(backoff.failed(key()) >= seconds(30) && backoff.failed(key()) <= seconds(60));
        backoff.reset(&key());
        assert!(backoff.failed(key()) < seconds(2));
    }

    #[test]
    fn conflicts_in_a_row_are_counted() {
        let backoff = Backoff::default();
        for _ in 0..2 {
            for attempt in 1..=CONFLICTS {
                // Other failures don't count.
                backoff.failed(key());
                assert_eq!(backoff.conflicted(key()), attempt == CONFLICTS);
            }
            backoff.reset(&key());
        }
    }

    #[test]
    fn blocked_workloads_back_off_and_a_reason_is_new_once() {
        let backoff = Backoff::default();
        let block = |reason, message: &str| backoff.block(key(), reason, message.into());
        let reject = |message: &str| block(BlockReason::WriteRejected, message);
        assert_eq!(reject("denied"), (INITIAL_BACKOFF, true));
        assert_eq!(reject("denied"), (INITIAL_BACKOFF * 2, false));
        assert_eq!(reject("forbidden"), (INITIAL_BACKOFF * 4, true));
        assert_eq!(block(BlockReason::WriteConflict, "forbidden"), (INITIAL_BACKOFF * 8, true));
        for _ in 0..100 {
            reject("forbidden");
        }
        assert_eq!(reject("forbidden"), (MAX_BACKOFF, false));
        assert_eq!(backoff.cause(&key()), Some((BlockReason::WriteRejected, "forbidden".into())));
        backoff.unblock(&key());
        assert!(!backoff.is_blocked(&key()));
        assert_eq!(reject("forbidden"), (INITIAL_BACKOFF, true));
    }
}
