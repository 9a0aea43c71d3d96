//! Limits of each peer, by its IP address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of permits for each peer.
#[derive(Clone, Debug)]
pub(super) struct PeerLimit {
    permits: usize,
    peers: Arc<Mutex<HashMap<IpAddr, Weak<Semaphore>>>>,
}

impl PeerLimit {
    pub(super) fn new(permits: usize) -> Self {
        Self { permits, peers: Arc::default() }
    }

    /// Waits for permits of this peer, in the order of the calls.
    pub(super) async fn acquire(&self, peer: IpAddr, permits: u32) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.of(peer).acquire_many_owned(permits).await.ok()
    }

    /// The number of peers with a semaphore.
    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The semaphore of a peer, which is dropped when it is unused.
    pub(super) fn of(&self, peer: IpAddr) -> Arc<Semaphore> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = peers.get(&peer).and_then(Weak::upgrade) {
            return known;
        }
        peers.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(Semaphore::new(self.permits));
        peers.insert(peer, Arc::downgrade(&new));
        new
    }
}
