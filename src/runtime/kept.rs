//! Workloads as they are kept in memory.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource,
    core::{ApiResource, DynamicObject, DynamicResourceScope},
};
use serde::Deserialize;

use super::FIELD_MANAGER;

/// A workload whose fields, but for its metadata, are compressed text until somebody looks at them. As a tree of
/// values they would take many times the memory, and a large cluster has thousands that change once a week.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "DynamicObject")]
pub struct Kept {
    metadata: ObjectMeta,
    data: Box<[u8]>,
}

impl Kept {
    /// The workload, to be looked at and dropped.
    #[must_use]
    pub fn object(&self) -> DynamicObject {
        // What was written from a value is one.
        let text = lz4_flex::decompress_size_prepended(&self.data).unwrap_or_default();
        let data = serde_json::from_slice(&text).unwrap_or_default();
        DynamicObject { types: None, metadata: self.metadata.clone(), data }
    }
}

impl From<DynamicObject> for Kept {
    /// Keeps of `managedFields` only what is under our own name, which has to be given up.
    fn from(object: DynamicObject) -> Self {
        let DynamicObject { mut metadata, data, .. } = object;
        if let Some(fields) = &mut metadata.managed_fields {
            fields.retain(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
            fields.shrink_to_fit();
        }
        if let Some(annotations) = &mut metadata.annotations {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        let data = lz4_flex::compress_prepend_size(data.to_string().as_bytes()).into_boxed_slice();
        Self { metadata, data }
    }
}

impl Resource for Kept {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_comes_back_without_what_nobody_needs() {
        let entry = |manager: &str| json!({"manager": manager, "operation": "Update", "fieldsV1": {}});
        let spec = json!({"replicas": 2, "template": {"spec": {"fieldOfTomorrow": [1, null, {"a": "ü"}]}}});
        let kept: Kept = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "generation": 3,
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "shop"},
                "managedFields": [entry("kubectl"), entry(FIELD_MANAGER)],
            },
            "spec": spec, "status": {"replicas": 1},
        }))
        .unwrap();
        assert_eq!(kept.meta().generation, Some(3));
        let object = serde_json::to_value(kept.object()).unwrap();
        assert_eq!(
            object,
            json!({
                "metadata": {
                    "name": "web", "generation": 3, "annotations": {"team": "shop"},
                    "managedFields": [entry(FIELD_MANAGER)],
                },
                "spec": spec, "status": {"replicas": 1},
            })
        );
    }
}
