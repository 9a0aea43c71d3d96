//! Objects with the fields that a disruption needs: `managedFields` and pod templates may be large, and take many times
//! their text in memory.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time},
};
use kube::core::DynamicObject;
use serde::{Deserialize, Serialize, de::Deserializer};
use serde_json::{Value, json};

use crate::index::dynamic_resource::dynamic_resource;

/// A workload without its pod template.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct SlimWorkload {
    #[serde(deserialize_with = "slim_metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    /// Only the workload's controller may write it.
    #[serde(default)]
    status: Value,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(skip_serializing)]
    selector: Option<LabelSelector>,
    #[serde(skip_serializing_if = "Value::is_null")]
    replicas: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    paused: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    update_strategy: Value,
}

impl SlimWorkload {
    /// Its label selector.
    pub(super) fn selector(&self) -> Option<&LabelSelector> {
        self.spec.selector.as_ref()
    }
}

impl From<SlimWorkload> for DynamicObject {
    fn from(SlimWorkload { metadata, spec, status }: SlimWorkload) -> Self {
        Self { types: None, metadata, data: json!({"spec": spec, "status": status}) }
    }
}

dynamic_resource!(SlimWorkload, self, &mut self.metadata);

/// A pod's metadata.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct SlimPod {
    #[serde(deserialize_with = "slim_metadata")]
    metadata: ObjectMeta,
}

impl From<SlimPod> for Pod {
    fn from(SlimPod { metadata }: SlimPod) -> Self {
        Self { metadata, ..Self::default() }
    }
}

dynamic_resource!(SlimPod, self, &mut self.metadata);

/// Decodes metadata without `managedFields`.
fn slim_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Metadata {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        generation: Option<i64>,
        deletion_timestamp: Option<Time>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    let read = Metadata::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: read.name,
        namespace: read.namespace,
        uid: read.uid,
        resource_version: read.resource_version,
        generation: read.generation,
        deletion_timestamp: read.deletion_timestamp,
        labels: read.labels,
        annotations: read.annotations,
        owner_references: read.owner_references,
        ..ObjectMeta::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_fields_and_templates_are_not_decoded() {
        let fields = json!([{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]);
        let metadata = json!({"name": "web", "uid": "1", "generation": 2, "labels": {"app": "web"}});
        let mut with_fields = metadata.clone();
        with_fields["managedFields"] = fields;
        let workload = json!({
            "metadata": with_fields.clone(),
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {}}},
            "status": {"replicas": 2},
        });
        let slim: SlimWorkload = serde_json::from_value(workload).unwrap();
        assert_eq!(slim.selector().unwrap().match_labels.as_ref().unwrap()["app"], "web");
        let object = DynamicObject::from(slim);
        assert_eq!(serde_json::to_value(&object.metadata).unwrap(), metadata);
        assert_eq!(object.data, json!({"spec": {"replicas": 2}, "status": {"replicas": 2}}));
        let pod = json!({"metadata": with_fields, "spec": {"containers": []}});
        let pod = Pod::from(serde_json::from_value::<SlimPod>(pod).unwrap());
        assert_eq!(serde_json::to_value(&pod).unwrap()["metadata"], metadata);
        assert!(pod.spec.is_none());
    }
}
