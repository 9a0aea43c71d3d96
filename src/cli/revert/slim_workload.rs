//! Workloads without their large fields: all workloads of a cluster may not fit into memory.

use kube::core::{DynamicObject, Object};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A workload without its containers and volumes. It has all fields that decide whether and when it is opted out.
pub(super) type SlimWorkload = Object<Spec, Value>;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    #[serde(skip_serializing_if = "Value::is_null")]
    replicas: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    paused: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    update_strategy: Value,
    template: Template,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Template {
    metadata: Value,
}

/// The workload, with the fields that were read.
pub(super) fn to_object(SlimWorkload { metadata, spec, status, .. }: SlimWorkload) -> DynamicObject {
    DynamicObject { types: None, metadata, data: json!({"spec": spec, "status": status}) }
}
