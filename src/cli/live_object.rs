//! Objects as the command line reads them from a cluster, without what a client may add in any size.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use kube::core::DynamicObject;
use serde::{
    Deserialize,
    de::{Deserializer, Error as _, IgnoredAny},
};
use serde_json::{Map, Value, json};

use crate::{api::annotations::GRACEFUL, index::dynamic_resource::dynamic_resource};

/// The maximum number of entries of `managedFields`. With more, none is kept.
const MAX_MANAGERS: usize = 1000;

/// An object. Of `managedFields`, which take some 80 times their
/// text as values, it has the managers and the annotation [`GRACEFUL`].
#[derive(Clone, Debug, Deserialize)]
pub(super) struct LiveObject {
    #[serde(deserialize_with = "small_metadata")]
    metadata: ObjectMeta,
    #[serde(flatten)]
    data: Map<String, Value>,
}

impl From<LiveObject> for DynamicObject {
    fn from(LiveObject { metadata, data }: LiveObject) -> Self {
        Self { types: None, metadata, data: Value::Object(data) }
    }
}

dynamic_resource!(LiveObject, self, &mut self.metadata);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    managed_fields: Vec<Entry>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    manager: Option<String>,
    operation: Option<String>,
    subresource: Option<String>,
    fields_v1: Option<Fields>,
}

#[derive(Deserialize)]
struct Fields {
    #[serde(rename = "f:metadata")]
    metadata: Option<FieldsOfMetadata>,
}

#[derive(Deserialize)]
struct FieldsOfMetadata {
    #[serde(rename = "f:annotations")]
    annotations: Option<FieldsOfAnnotations>,
}

#[derive(Deserialize)]
struct FieldsOfAnnotations {
    #[serde(rename = "f:adieu.dev/graceful")]
    graceful: Option<IgnoredAny>,
}

impl From<Entry> for ManagedFieldsEntry {
    fn from(Entry { manager, operation, subresource, fields_v1 }: Entry) -> Self {
        let annotations = fields_v1.and_then(|fields| fields.metadata?.annotations);
        let graceful = annotations.is_some_and(|annotations| annotations.graceful.is_some());
        let key = format!("f:{GRACEFUL}");
        let fields_v1 = graceful.then(|| FieldsV1(json!({"f:metadata": {"f:annotations": {key: {}}}})));
        Self { manager, operation, subresource, fields_v1, ..Self::default() }
    }
}

/// Decodes metadata without the fields of other managers.
///
/// # Errors
/// If it can't be decoded.
pub(super) fn small_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let Metadata { managed_fields, others } = Metadata::deserialize(deserializer)?;
    let metadata: ObjectMeta = serde_json::from_value(Value::Object(others)).map_err(D::Error::custom)?;
    let managers = Some(managed_fields).filter(|entries| (1..=MAX_MANAGERS).contains(&entries.len()));
    let managed_fields = managers.map(|entries| entries.into_iter().map(Into::into).collect());
    Ok(ObjectMeta { managed_fields, ..metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_managed_fields_only_the_manager_of_the_opt_in_is_decoded() {
        let entry = |manager: &str, fields: Value| json!({"manager": manager, "operation": "Apply", "fieldsV1": fields});
        let graceful = json!({"f:metadata": {"f:annotations": {"f:adieu.dev/graceful": {}, "f:team": {}}}});
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "labels": {"app": "web"},
                "managedFields": [entry("kubectl", json!({"f:spec": {"f:a": {}}})), entry("argocd", graceful)],
            },
            "spec": {"replicas": 1}, "status": {"replicas": 2},
        });
        let live: LiveObject = serde_json::from_value(object.clone()).unwrap();
        let read = DynamicObject::from(live);
        assert_eq!(read.metadata.labels.as_ref().unwrap()["app"], "web");
        assert_eq!((&read.data["spec"], &read.data["status"]), (&object["spec"], &object["status"]));
        let entries = serde_json::to_value(read.metadata.managed_fields).unwrap();
        let kept = json!({"f:metadata": {"f:annotations": {"f:adieu.dev/graceful": {}}}});
        let expected = json!([{"manager": "kubectl", "operation": "Apply"}, entry("argocd", kept)]);
        assert_eq!(entries, expected, "with their positions");

        let many = json!({"metadata": {"name": "web", "managedFields": vec![json!({}); MAX_MANAGERS + 1]}});
        let read: LiveObject = serde_json::from_value(many).unwrap();
        assert_eq!(read.metadata.managed_fields, None);
    }
}
