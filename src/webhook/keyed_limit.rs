//! Limits of each peer, or of each namespace of a peer.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of permits for each key.
#[derive(Clone, Debug)]
pub(super) struct KeyedLimit<K> {
    permits: usize,
    semaphores: Arc<Mutex<HashMap<K, Weak<Semaphore>>>>,
}

impl<K: Eq + Hash> KeyedLimit<K> {
    pub(super) fn new(permits: usize) -> Self {
        Self { permits, semaphores: Arc::default() }
    }

    /// Waits for permits of this key, in the order of the calls.
    pub(super) async fn acquire(&self, key: K, permits: u32) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.of(key).acquire_many_owned(permits).await.ok()
    }

    /// The number of keys with a semaphore.
    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.semaphores.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The semaphore of a key, which is dropped when it is unused.
    pub(super) fn of(&self, key: K) -> Arc<Semaphore> {
        let mut semaphores = self.semaphores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = semaphores.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        semaphores.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(Semaphore::new(self.permits));
        semaphores.insert(key, Arc::downgrade(&new));
        new
    }
}
