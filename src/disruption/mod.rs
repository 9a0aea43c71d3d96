//! Disrupts a workload, follows its pods, and restores temporary changes.

mod disrupt;
mod error;
mod evict;
mod kind;
mod load_job;
mod node;
mod object_watch;
mod operator_image;
mod owner;
mod permissions;
mod pod_security;
mod pod_watch;
mod slim;
mod temporary_drain;
mod workload;

pub use disrupt::Disruptor;
pub use error::Error;
pub use kind::Disruption;
pub use load_job::{Image, Job};
pub use object_watch::states as object_states;
pub use operator_image::operator_image;
pub use owner::Owner;
pub use permissions::{
    Permission, check as check_access, missing as missing_permissions, require as require_access,
};
pub use pod_security::{container_security, pod_security};
pub use pod_watch::follow;
pub use temporary_drain::TemporaryDrain;
pub use workload::TargetWorkload;
