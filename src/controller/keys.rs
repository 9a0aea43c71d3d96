//! What workloads and policies are found by.

use kube::{core::DynamicObject, runtime::reflector::ObjectRef};

use crate::{
    plan::{Kind, Source},
    runtime::workloads::resource,
};

/// A workload.
pub(super) type Key = (Kind, ObjectRef<DynamicObject>);

pub(super) fn key(kind: Kind, object: &DynamicObject) -> Key {
    (kind, ObjectRef::from_obj_with(object, resource(kind)))
}

/// A policy: its namespace, which is empty for the cluster's, and its name.
pub(super) type PolicyKey = (String, Source);

pub(super) fn policy_key(namespace: &str, policy: &Source) -> PolicyKey {
    let namespace = if matches!(policy, Source::ClusterPolicy(_)) { "" } else { namespace };
    (namespace.to_owned(), policy.clone())
}
