//! Listed workloads without their large fields: those of a cluster may be larger than the memory.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource,
    core::{ApiResource, DynamicObject, DynamicResourceScope},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A workload without its containers and volumes. It has all fields that decide whether and when it is opted out.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Listed {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Value,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Template {
    metadata: Value,
}

impl Listed {
    /// The workload, with the fields that were read.
    pub(super) fn object(self) -> DynamicObject {
        let Self { metadata, spec, status } = self;
        DynamicObject { types: None, metadata, data: json!({"spec": spec, "status": status}) }
    }
}

impl Resource for Listed {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::group(resource)
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::version(resource)
    }

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::kind(resource)
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::plural(resource)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
