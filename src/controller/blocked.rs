//! Workloads that can't be brought to their plan because something refuses or undoes the write, at once or
//! later, or is always faster. Each is tried again, less and less often, and holds up no other.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::runtime::watcher::DefaultBackoff;
use serde_json::Value;
use tokio::time::Instant;

use super::keys::Key;
use crate::index::caches::hash_of;

/// How long after the first failure the next attempt is made; twice as long after each further one.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// How often the same template is written to a workload that somebody keeps changing back, as a sync of a GitOps
/// tool does where the API server can't reach the webhook: each is two rollouts.
const WRITES: u32 = 3;
/// How long after the last of them it is left as it is.
const LEFT_FOR: Duration = Duration::from_hours(1);

/// How many writes in a row lose to somebody else's who writes the workload all the time.
const CONFLICTS: u32 = 10;

#[derive(Default)]
pub(super) struct Blocked {
    blocks: Mutex<HashMap<Key, Block>>,
    written: Mutex<HashMap<Key, Written>>,
    /// Those whose last attempt failed.
    failures: Mutex<HashMap<Key, Failures>>,
}

/// Attempts of one workload that failed, one after the other.
#[derive(Default)]
struct Failures {
    conflicts: u32,
    waits: DefaultBackoff,
}

struct Block {
    reason: String,
    attempts: u32,
}

/// A template that was written, as hashes.
struct Written {
    planned: u64,
    /// With what the API server filled in.
    stored: u64,
    times: u32,
    last: Instant,
}

impl Blocked {
    /// Notes why a write came to nothing. How long to wait before the next one, and whether the reason is
    /// another than before.
    pub(super) fn note(&self, key: Key, reason: String) -> (Duration, bool) {
        let mut all = self.all();
        let block = all.entry(key).or_insert(Block { reason: String::new(), attempts: 0 });
        let news = block.reason != reason;
        block.reason = reason;
        let wait = FIRST_WAIT.saturating_mul(2u32.saturating_pow(block.attempts)).min(LONGEST_WAIT);
        block.attempts = block.attempts.saturating_add(1);
        (wait, news)
    }

    /// The workload is as it shall be, or isn't to be written for now.
    /// Whether it was blocked.
    pub(super) fn clear(&self, key: &Key) -> bool {
        self.all().remove(key).is_some()
    }

    /// Notes that an attempt failed, of which nobody need be told: somebody else was faster, or the API server
    /// couldn't be reached. How long to wait before the next one.
    pub(super) fn failed(&self, key: Key) -> Duration {
        self.failures().entry(key).or_default().waits.next().unwrap_or(LONGEST_WAIT)
    }

    /// Notes that somebody else was faster. Whether that was so too often to be a coincidence.
    pub(super) fn conflicted(&self, key: Key) -> bool {
        let mut all = self.failures();
        let conflicts = &mut all.entry(key).or_default().conflicts;
        *conflicts = conflicts.saturating_add(1);
        *conflicts >= CONFLICTS
    }

    /// Nothing failed in this attempt.
    pub(super) fn went_well(&self, key: &Key) {
        self.failures().remove(key);
    }

    /// Keeps nothing of workloads that are gone.
    pub(super) fn retain(&self, exists: impl Fn(&Key) -> bool) {
        self.all().retain(|key, _| exists(key));
        self.failures().retain(|key, _| exists(key));
        self.written().retain(|key, _| exists(key));
    }

    /// Notes that a workload was brought to its plan, and what the API server made of that.
    pub(super) fn wrote(&self, key: Key, planned: &Value, stored: &Value) {
        let (planned, stored, last) = (hash_of(planned), hash_of(stored), Instant::now());
        let mut written = self.written();
        let times = written.get(&key).filter(|before| before.planned == planned).map_or(0, |w| w.times);
        written.insert(key, Written { planned, stored, times: times + 1, last });
    }

    /// The workload is as it shall be with this template. Where that isn't what was written here, what is
    /// written next is another matter.
    pub(super) fn settled(&self, key: &Key, template: &Value) {
        let mut written = self.written();
        if written.get(key).is_some_and(|written| written.stored != hash_of(template)) {
            written.remove(key);
        }
    }

    /// Whether this template was written so often, and is not there again, that somebody doesn't want it.
    pub(super) fn keeps_coming_back(&self, key: &Key, template: &Value) -> bool {
        self.written().get(key).is_some_and(|written| {
            written.times >= WRITES
                && written.planned == hash_of(template)
                && written.last.elapsed() < LEFT_FOR
        })
    }

    pub(super) fn is_blocked(&self, key: &Key) -> bool {
        self.all().contains_key(key)
    }

    /// Why it is blocked.
    pub(super) fn reason(&self, key: &Key) -> Option<String> {
        self.all().get(key).map(|block| block.reason.clone())
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, Block>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<Key, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, HashMap<Key, Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::Kind;

    fn key() -> Key {
        Key { namespace: "shop".into(), kind: Kind::Deployment, name: "web".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_keeps_changing_back_is_left_for_a_while() {
        let (plan, other) = (json!({"drain": 10}), json!({"drain": 20}));
        let stored = json!({"drain": 10, "filledIn": true});
        let blocked = Blocked::default();
        for _ in 0..WRITES {
            assert!(!blocked.keeps_coming_back(&key(), &plan));
            blocked.wrote(key(), &plan, &stored);
            blocked.settled(&key(), &stored);
        }
        assert!(blocked.keeps_coming_back(&key(), &plan) && !blocked.keeps_coming_back(&key(), &other));
        tokio::time::advance(LEFT_FOR).await;
        assert!(!blocked.keeps_coming_back(&key(), &plan));

        // A policy that goes to and fro is nobody who changes back.
        for plan in [&plan, &other, &plan, &other, &plan, &other] {
            blocked.wrote(key(), plan, plan);
        }
        assert!(!blocked.keeps_coming_back(&key(), &other));
        for _ in 0..WRITES {
            blocked.wrote(key(), &plan, &stored);
        }
        blocked.settled(&key(), &other);
        assert!(!blocked.keeps_coming_back(&key(), &plan));
    }

    #[test]
    fn nothing_is_kept_of_workloads_that_are_gone() {
        let blocked = Blocked::default();
        blocked.note(key(), "refused".into());
        blocked.failed(key());
        blocked.retain(|_| true);
        assert!(blocked.is_blocked(&key()) && !blocked.failures().is_empty());
        blocked.retain(|_| false);
        assert!(!blocked.is_blocked(&key()) && blocked.failures().is_empty());
    }

    #[test]
    fn attempts_that_fail_grow_rare_until_one_does_not() {
        let blocked = Blocked::default();
        let seconds = Duration::from_secs;
        assert!(blocked.failed(key()) < seconds(2));
        for _ in 0..10 {
            blocked.failed(key());
        }
        assert!(blocked.failed(key()) >= seconds(30) && blocked.failed(key()) <= seconds(60));
        blocked.went_well(&key());
        assert!(blocked.failed(key()) < seconds(2));
    }

    #[test]
    fn who_is_written_by_somebody_else_all_the_time_is_no_coincidence() {
        let blocked = Blocked::default();
        for _ in 0..2 {
            for attempt in 1..=CONFLICTS {
                // What fails for another reason says nothing about that.
                blocked.failed(key());
                assert_eq!(blocked.conflicted(key()), attempt == CONFLICTS);
            }
            blocked.went_well(&key());
        }
    }

    #[test]
    fn attempts_grow_rare_and_a_reason_is_told_once() {
        let blocked = Blocked::default();
        let note = |reason: &str| blocked.note(key(), reason.into());
        assert_eq!(note("refused"), (FIRST_WAIT, true));
        assert_eq!(note("refused"), (FIRST_WAIT * 2, false));
        assert_eq!(note("undone"), (FIRST_WAIT * 4, true));
        for _ in 0..100 {
            note("undone");
        }
        assert_eq!(note("undone"), (LONGEST_WAIT, false));
        assert_eq!(blocked.reason(&key()).as_deref(), Some("undone"));
        blocked.clear(&key());
        assert!(!blocked.is_blocked(&key()));
        assert_eq!(note("undone"), (FIRST_WAIT, true));
    }
}
