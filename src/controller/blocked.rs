//! Workloads that can't be brought to their plan because something refuses or undoes the write. Each is
//! tried again, less and less often, and holds up no other.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::turns::Key;

/// How long after the first failure the next attempt is made; twice as long after each further one.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_mins(10);

#[derive(Default)]
pub(super) struct Blocked(Mutex<HashMap<Key, Block>>);

struct Block {
    reason: String,
    attempts: u32,
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

    /// The workload is as it shall be, or gone.
    pub(super) fn clear(&self, key: &Key) {
        self.all().remove(key);
    }

    pub(super) fn is_blocked(&self, key: &Key) -> bool {
        self.all().contains_key(key)
    }

    /// Why it is blocked.
    pub(super) fn reason(&self, key: &Key) -> Option<String> {
        self.all().get(key).map(|block| block.reason.clone())
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, Block>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kube::{core::DynamicObject, runtime::reflector::ObjectRef};

    use super::*;
    use crate::{plan::Kind, runtime::workloads::resource};

    #[test]
    fn attempts_grow_rare_and_a_reason_is_told_once() {
        let blocked = Blocked::default();
        let key = || -> Key {
            (Kind::Deployment, ObjectRef::<DynamicObject>::new_with("web", resource(Kind::Deployment)))
        };
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
