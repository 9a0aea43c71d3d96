//! The request of a writer for a slot, and its reservation.

use adieu_core::keys::WorkloadKey;

/// The permission to write one workload, until it is committed or released.
#[derive(Debug, PartialEq, Eq)]
pub struct SlotReservation {
    pub(super) key: WorkloadKey,
    pub(super) number: u64,
}

/// The pod template that a writer is about to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRequest<'a> {
    /// The workload's uid.
    pub uid: Option<&'a str>,
    /// The workload's `metadata.generation`.
    pub generation: i64,
    /// The pod template, as a hash.
    pub desired_template: u64,
}
