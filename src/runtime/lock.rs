//! Locks that are held for a computation in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. A poisoned lock stays usable, because a panic fails one attempt only.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
