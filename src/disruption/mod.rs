//! Disrupts a workload, follows its pods, and restores temporary changes.

mod access;
mod disrupt;
mod error;
mod evict;
mod follow;
mod kind;
mod node;
mod object;
mod remote;
#[cfg(test)]
pub(crate) mod test_support;
mod workload;

pub use access::check as check_access;
pub use disrupt::Disruptor;
pub use error::Error;
pub use follow::follow;
pub use kind::Disruption;
pub use remote::{Image, Job, operator_image};
pub use workload::Workload;
