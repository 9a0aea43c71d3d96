//! The replica that runs the controller.

use futures::{Stream, stream};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

use crate::index::caches::{Caches, changes};

/// The replica that runs the controller, and what it may write.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The name of its pod, for Events.
    pub pod: String,
    /// How many workloads roll out at a time because of policy changes, in the whole cluster.
    pub max_concurrent_rollouts: usize,
    /// Whether it leads.
    pub is_leader: watch::Receiver<bool>,
    /// When the previous leader last renewed the Lease, by its clock.
    pub previous_renewal: watch::Receiver<Option<Timestamp>>,
    /// Whether writes to workloads are paused.
    pub paused: watch::Receiver<bool>,
}

impl Replica {
    /// Whether it leads.
    pub(super) fn is_leader(&self) -> bool {
        *self.is_leader.borrow()
    }

    /// Whether it may write workloads: not while writes are paused, nor without the CRDs.
    pub(super) fn may_write(&self, caches: &Caches) -> bool {
        self.is_leader() && !*self.paused.borrow() && caches.is_served()
    }

    /// Completes a future, unless this replica stops leading before.
    pub(super) async fn while_leading<T>(&self, write: impl Future<Output = T>) -> Option<T> {
        let mut is_leader = self.is_leader.clone();
        tokio::select! {
            biased;
            Ok(_) = is_leader.wait_for(|is_leader| !is_leader) => None,
            written = write => Some(written),
        }
    }

    /// An item whenever it starts or stops leading, or is paused or resumed.
    pub(super) fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        stream::select(changes(self.is_leader.clone()), changes(self.paused.clone()))
    }
}
