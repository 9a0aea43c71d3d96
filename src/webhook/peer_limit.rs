//! Limits how many reviews of a peer compete for a thread: however many connections and requests it has, the others wait
//! for the peer's own, and not the reviews of other peers for them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many reviews of a peer compete at a time: as many as the webhook has threads at most.
const MAX_REVIEWS_OF_PEER: usize = 4;

/// The reviews of all peers.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerLimit(Arc<Mutex<HashMap<IpAddr, Weak<Semaphore>>>>);

impl PeerLimit {
    /// Waits until a review of this peer may compete, in the order of the calls.
    pub(super) async fn acquire(&self, peer: IpAddr) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.of(peer).acquire_owned().await.ok()
    }

    /// The semaphore of a peer, which is dropped when it is unused.
    fn of(&self, peer: IpAddr) -> Arc<Semaphore> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = peers.get(&peer).and_then(Weak::upgrade) {
            return known;
        }
        peers.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(Semaphore::new(MAX_REVIEWS_OF_PEER));
        peers.insert(peer, Arc::downgrade(&new));
        new
    }
}
