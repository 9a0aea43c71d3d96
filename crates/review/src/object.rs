//! Parses the objects of a review, as far as they are used.

use std::collections::BTreeMap;

use adieu_core::plan::Owner;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::DynamicObject;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};

use crate::{error::BadRequest, shape::Shape};

/// The longest labels and owner references by which the workload of a pod is found, in bytes of JSON each.
const OWNER_LIMIT: usize = 64 * 1024;

/// The used fields of an object as text; without `managedFields`, which can be larger than the rest.
#[derive(Debug, Deserialize)]
pub struct RawObject<'a> {
    #[serde(borrow)]
    metadata: Option<RawMetadata<'a>>,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetadata<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
    #[serde(borrow)]
    owner_references: Option<&'a RawValue>,
    #[serde(borrow)]
    deletion_timestamp: Option<&'a RawValue>,
}

impl<'a> RawObject<'a> {
    /// Whether the object has metadata, as every object of an API server. A patch of the metadata fits no other one.
    pub(crate) fn has_metadata(&self) -> bool {
        self.metadata.is_some()
    }

    fn metadata(&self) -> RawMetadata<'a> {
        self.metadata.unwrap_or_default()
    }

    /// Whether the object is being deleted.
    #[must_use]
    pub fn is_being_deleted(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }

    /// The workload that owns the object, a pod. It is parsed before memory is reserved for the pod, so long labels and
    /// owner references count as none.
    pub fn owner(&self) -> Result<Option<Owner>, BadRequest> {
        let RawMetadata { labels, owner_references, .. } = self.metadata();
        let value = |text: Option<&RawValue>| -> Result<Value, BadRequest> {
            Ok(parsed(text.filter(|text| text.get().len() <= OWNER_LIMIT))?.unwrap_or_default())
        };
        let metadata = json!({"labels": value(labels)?, "ownerReferences": value(owner_references)?});
        Ok(Owner::of(&json!({ "metadata": metadata })))
    }

    /// The length of the spec's text, in bytes.
    pub(crate) fn spec_length(&self) -> usize {
        self.spec.map_or(0, |spec| spec.get().len())
    }

    /// The shape of the used fields.
    pub(crate) fn shape(&self) -> Shape {
        let RawMetadata { name, annotations, labels, owner_references, .. } = self.metadata();
        let parts = [name, annotations, labels, owner_references, self.spec].into_iter().flatten();
        parts.fold(Shape::default(), |shape, part| shape.and(Shape::of(part.get())))
    }

    /// Parses a workload.
    pub(crate) fn parse(&self) -> Result<DynamicObject, BadRequest> {
        let mut data = Map::new();
        if let Some(spec) = parsed(self.spec)? {
            data.insert("spec".to_owned(), spec);
        }
        Ok(DynamicObject { types: None, metadata: self.parse_metadata()?, data: Value::Object(data) })
    }

    /// Parses a pod, for [`adieu_core::plan::admit_pod`].
    pub(crate) fn parse_pod(&self) -> Result<Value, BadRequest> {
        let mut pod = json!({ "metadata": self.parse_metadata()? });
        pod["spec"] = parsed(self.spec)?.unwrap_or_default();
        Ok(pod)
    }

    fn parse_metadata(&self) -> Result<ObjectMeta, BadRequest> {
        let metadata = self.metadata();
        Ok(ObjectMeta {
            name: parsed(metadata.name)?,
            annotations: parsed::<BTreeMap<String, String>>(metadata.annotations)?,
            labels: parsed::<BTreeMap<String, String>>(metadata.labels)?,
            owner_references: parsed::<Vec<OwnerReference>>(metadata.owner_references)?,
            ..ObjectMeta::default()
        })
    }
}

fn parsed<T: DeserializeOwned>(text: Option<&RawValue>) -> Result<Option<T>, BadRequest> {
    text.map(|text| serde_json::from_str(text.get())).transpose().map_err(BadRequest::not_a_review)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The metadata of a pod, whose labels and owner references are made this long by a text in them.
    fn metadata(kind: &str, name: &str, [labels, references]: [usize; 2]) -> Value {
        let text = |length: usize, rest: &Value| "x".repeat(length.saturating_sub(rest.to_string().len()));
        let mut metadata = json!({
            "labels": {"pod-template-hash": "5d8c", "text": ""},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": name, "controller": true, "uid": ""}],
        });
        metadata["labels"]["text"] = text(labels, &metadata["labels"]).into();
        metadata["ownerReferences"][0]["uid"] = text(references, &metadata["ownerReferences"]).into();
        metadata
    }

    #[test]
    fn size_of_what_names_the_owner_of_a_pod_is_limited() {
        let owner = |kind, name, lengths| {
            let text = json!({ "metadata": metadata(kind, name, lengths) }).to_string();
            let object: RawObject<'_> = serde_json::from_str(&text).unwrap();
            object.owner().unwrap().map(|owner| owner.name)
        };
        let found = Some("web".to_owned());
        assert_eq!(owner("ReplicaSet", "web-5d8c", [OWNER_LIMIT, OWNER_LIMIT]), found);
        assert_eq!(owner("ReplicaSet", "web-5d8c", [OWNER_LIMIT + 1, 0]), None);
        assert_eq!(owner("StatefulSet", "web", [OWNER_LIMIT + 1, OWNER_LIMIT]), found);
        assert_eq!(owner("StatefulSet", "web", [0, OWNER_LIMIT + 1]), None);
    }
}
