//! Workloads without their large fields: all workloads of a cluster may not fit into memory.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cli::live_object::small_metadata;

/// A workload without its containers and volumes. It has all fields that decide whether and when it is opted out.
#[derive(Deserialize)]
pub(super) struct SlimWorkload {
    #[serde(deserialize_with = "small_metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Value,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(skip_serializing_if = "Value::is_null")]
    replicas: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    paused: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    update_strategy: Value,
    template: Template,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Template {
    metadata: Value,
}

impl From<SlimWorkload> for DynamicObject {
    fn from(SlimWorkload { metadata, spec, status }: SlimWorkload) -> Self {
        Self { types: None, metadata, data: json!({"spec": spec, "status": status}) }
    }
}
