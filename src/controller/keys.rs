//! The keys of workloads and policies.

use kube::core::DynamicObject;

pub(super) use crate::keys::{PolicyKey, WorkloadKey as Key, policy_key};
use crate::plan::Kind;

pub(super) fn key(kind: Kind, object: &DynamicObject) -> Key {
    Key::of(kind, object)
}
