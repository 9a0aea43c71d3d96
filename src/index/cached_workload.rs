//! Workloads in the cache, as compressed text.

use std::{borrow::Cow, sync::Arc};

use k8s_openapi::{
    api::apps::v1::{DaemonSet, Deployment, StatefulSet},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource,
    core::{ApiResource, DynamicObject, DynamicResourceScope},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    memory_estimate::{cached_size, parsed_size},
    slim::{METADATA_LIMIT, Metadata, Parts, Watched},
    unusable_objects::UnusableReason,
};
use crate::{
    api::{FIELD_MANAGER, annotations::is_own},
    plan::Kind,
};

/// The maximum size of a cached workload's spec and status, in bytes of JSON.
pub(super) const TEXT_LIMIT: usize = 256 << 10;
/// The maximum size of the parsed workload in memory, in bytes.
const PARSED_SIZE_LIMIT: usize = 4 << 20;
/// The maximum size of each field of a stub, in bytes of JSON. A stub for which the quota has no room has none.
const STUB_LIMIT: usize = 512;
/// The memory of a workload beside its cache entry, in bytes: its evaluation, its place in queues, and Events about it.
const EVALUATION: usize = 2 << 10;

/// A workload whose fields, except its metadata, are compressed text until they are read. As a tree of values they would
/// take many times the memory, and a large cluster has thousands of workloads that change once a week.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "DynamicObject")]
pub struct CachedWorkload {
    /// Shared by clones, as is the text: most objects of a repeated list are unchanged.
    metadata: Arc<ObjectMeta>,
    data: Arc<[u8]>,
    /// The approximate size of the tree of values, in bytes.
    parsed_size: usize,
    /// The approximate memory that it takes, in bytes.
    cached_size: usize,
    too_large: Option<Arc<str>>,
}

impl CachedWorkload {
    /// The parsed workload. If it is [too large](Self::too_large), only its metadata, selector, and the template's
    /// labels and annotations.
    #[must_use]
    pub fn object(&self) -> DynamicObject {
        // The text was written from a value, so it parses.
        let text = lz4_flex::decompress_size_prepended(&self.data).unwrap_or_default();
        let data = serde_json::from_slice(&text).unwrap_or_default();
        DynamicObject { types: None, metadata: self.meta().clone(), data }
    }

    /// The workload's metadata alone.
    #[must_use]
    pub fn metadata_only(&self) -> DynamicObject {
        DynamicObject { types: None, metadata: self.meta().clone(), data: Value::Null }
    }

    /// Why only a stub of the workload is cached, which can't be injected; `None` if it is complete.
    #[must_use]
    pub fn too_large(&self) -> Option<&str> {
        self.too_large.as_deref()
    }

    /// The approximate size of [`Self::object`] in memory, in bytes.
    #[must_use]
    pub fn parsed_size(&self) -> usize {
        self.parsed_size
    }

    /// A small stub: adieu's annotations, and what selects the pods, if that is short.
    pub(crate) fn stub(&self, too_large: &str) -> Self {
        let object = self.object();
        let template = &object.data["spec"]["template"]["metadata"];
        let small = |value: &Value| Some(value.clone()).filter(|value| value.to_string().len() <= STUB_LIMIT);
        let data = Stub {
            selector: small(&object.data["spec"]["selector"]),
            labels: small(&template["labels"]),
            annotations: small(&template["annotations"]),
        };
        let mut metadata = object.metadata;
        if let Some(annotations) = &mut metadata.annotations {
            annotations.retain(|key, value| is_own(key) && value.len() <= STUB_LIMIT);
        }
        let metadata = ObjectMeta { labels: None, owner_references: None, managed_fields: None, ..metadata };
        Self::new(metadata, &data.text(), Some(too_large))
    }

    fn new(metadata: ObjectMeta, text: &str, too_large: Option<&str>) -> Self {
        let data: Arc<[u8]> = lz4_flex::compress_prepend_size(text.as_bytes()).into();
        let cached_size = cached_size(&metadata) + EVALUATION + data.len() + too_large.map_or(0, str::len);
        Self {
            metadata: metadata.into(),
            data,
            parsed_size: parsed_size(text),
            cached_size,
            too_large: too_large.map(Into::into),
        }
    }

    /// Decodes the complete workload.
    fn complete(metadata: &Metadata<'_>, parts: &Parts<'_>) -> Result<Self, UnusableReason> {
        let length = |part: Option<&RawValue>| part.map_or(0, |part| part.get().len());
        let length = length(parts.spec) + length(parts.status);
        if length > TEXT_LIMIT {
            return Err(UnusableReason::too_large("spec and status", length, TEXT_LIMIT));
        }
        let fields = [("spec", parts.spec), ("status", parts.status)];
        let fields = fields.into_iter().filter_map(|(key, part)| Some(format!("\"{key}\":{}", part?.get())));
        let text = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
        if parsed_size(&text) > PARSED_SIZE_LIMIT {
            return Err(UnusableReason::too_large(
                "spec and status, in memory",
                parsed_size(&text),
                PARSED_SIZE_LIMIT,
            ));
        }
        Ok(Self::new(metadata.used()?, &text, None))
    }

    /// The object in the answer to a write, within the limits of the cache.
    ///
    /// # Errors
    /// If it can't be decoded, or is too large.
    pub(crate) fn decode_answer(text: &str) -> Result<DynamicObject, UnusableReason> {
        let parts = Parts::of(text.as_bytes())?;
        let metadata = Metadata::of(parts.metadata)?;
        let object = Self::complete(&metadata, &parts)?.object();
        Ok(DynamicObject { metadata: metadata.of_answer()?, ..object })
    }

    /// The used metadata of the object in the answer to a write, whatever the size of the object.
    ///
    /// # Errors
    /// If it can't be decoded, or is too large.
    pub(crate) fn decode_metadata(text: &str) -> Result<DynamicObject, UnusableReason> {
        let metadata = Metadata::of(Parts::of(text.as_bytes())?.metadata)?.of_answer()?;
        Ok(DynamicObject { types: None, metadata, data: Value::Null })
    }
}

impl Watched for CachedWorkload {
    const KIND: &'static str = "Workload";
    const FLOOR: usize = 2 << 20;

    /// Decodes a workload that is too large as a stub.
    fn decode(text: &[u8]) -> Result<Self, UnusableReason> {
        let parts = Parts::of(text)?;
        let metadata = Metadata::of(parts.metadata)?;
        match Self::complete(&metadata, &parts) {
            Err(UnusableReason::TooLarge(too_large)) => {
                let bare = ObjectMeta {
                    labels: metadata.labels().unwrap_or_default(),
                    annotations: metadata.annotations().unwrap_or_default(),
                    owner_references: metadata.owner_references().unwrap_or_default(),
                    ..metadata.bare()
                };
                let spec = parts.spec.map_or("null", RawValue::get);
                let stub =
                    serde_json::from_str::<Option<StubSpec<'_>>>(spec).ok().flatten().unwrap_or_default();
                Ok(Self::new(bare, &Stub::of(&stub).text(), Some(&too_large)))
            }
            decoded => decoded,
        }
    }

    fn of_metadata(metadata: ObjectMeta) -> Self {
        Self::new(metadata, "{}", None)
    }

    fn cached_size(&self) -> usize {
        self.cached_size
    }

    fn stub(&self, too_large: &str) -> Option<Self> {
        Some(Self::stub(self, too_large))
    }

    fn too_large(&self) -> Option<&str> {
        self.too_large.as_deref()
    }
}

/// The parts of a spec that a stub has.
struct Stub {
    selector: Option<Value>,
    labels: Option<Value>,
    annotations: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StubSpec<'a> {
    #[serde(borrow)]
    selector: Option<&'a RawValue>,
    #[serde(borrow)]
    template: StubTemplate<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StubTemplate<'a> {
    #[serde(borrow)]
    metadata: StubMetadata<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StubMetadata<'a> {
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

impl Stub {
    fn of(spec: &StubSpec<'_>) -> Self {
        let small = |text: Option<&RawValue>| {
            let text = text.map(RawValue::get).filter(|text| text.len() <= METADATA_LIMIT)?;
            serde_json::from_str(text).ok()
        };
        let StubMetadata { labels, annotations } = spec.template.metadata;
        Self { selector: small(spec.selector), labels: small(labels), annotations: small(annotations) }
    }

    fn text(&self) -> String {
        let Self { selector, labels, annotations } = self;
        let metadata = json!({"labels": labels, "annotations": annotations});
        json!({"spec": {"selector": selector, "template": {"metadata": metadata}}}).to_string()
    }
}

impl From<DynamicObject> for CachedWorkload {
    fn from(object: DynamicObject) -> Self {
        let DynamicObject { mut metadata, data, .. } = object;
        if let Some(fields) = &mut metadata.managed_fields {
            fields.retain(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
        }
        Self::new(metadata, &data.to_string(), None)
    }
}

impl Resource for CachedWorkload {
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
        Arc::make_mut(&mut self.metadata)
    }
}

/// The API resource of a kind.
#[must_use]
pub fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::Deployment => ApiResource::erase::<Deployment>(&()),
        Kind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        Kind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

    use super::*;

    fn decoded(object: &Value) -> CachedWorkload {
        CachedWorkload::decode(object.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_cached_workload_has_all_fields_but_unused_metadata() {
        let entry = |manager: &str| json!({"manager": manager, "operation": "Update", "fieldsV1": {}});
        let spec = json!({"replicas": 2, "template": {"spec": {"fieldOfTomorrow": [1, null, {"a": "ü"}]}}});
        let cached = decoded(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "generation": 3,
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "shop"},
                "managedFields": [entry("kubectl"), entry(FIELD_MANAGER)],
            },
            "spec": spec, "status": {"replicas": 1},
        }));
        assert_eq!(cached.meta().generation, Some(3));
        let object = serde_json::to_value(cached.object()).unwrap();
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

    #[test]
    fn a_workload_of_unusual_size_is_kept_as_a_stub() {
        let workload = |annotations: Value, env: Value| {
            json!({
                "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"a": "b"}, "annotations": annotations},
                "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
                    "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"env": env}]},
                }},
            })
        };
        let own = json!({"adieu.dev/graceful": "true", "team": "x".repeat(METADATA_LIMIT)});
        let value = |length: usize| json!([{"name": "A", "value": "x".repeat(length)}]);
        let small = decoded(&workload(json!({}), value(TEXT_LIMIT / 2)));
        assert!(small.too_large().is_none());
        for (annotations, env, why) in [
            (own.clone(), value(TEXT_LIMIT), "spec and status: 257 KiB"),
            (own, vec![json!({"name": "A"}); 10_000].into(), "in memory"),
            (json!({"adieu.dev/policy": "x".repeat(METADATA_LIMIT)}), json!([]), "adieu's annotations"),
        ] {
            let cached = decoded(&workload(annotations.clone(), env));
            assert!(cached.too_large().unwrap().contains(why), "{:?}", cached.too_large());
            assert!(cached.data.len() < 1000 && cached.parsed_size() < 10_000);
            let object = cached.object();
            assert_eq!(object.metadata.labels, Some([("a".into(), "b".into())].into()));
            assert_eq!(object.data["spec"]["selector"]["matchLabels"]["app"], "web");
            assert_eq!(object.data["spec"]["template"]["metadata"]["labels"]["app"], "web");
            let graceful = object
                .metadata
                .annotations
                .and_then(|annotations| annotations.get("adieu.dev/graceful").cloned());
            assert_eq!(graceful.as_deref(), annotations["adieu.dev/graceful"].as_str());
        }
        assert_eq!(small.stub("why").object().data["spec"]["selector"]["matchLabels"]["app"], "web");
    }

    #[test]
    fn managed_fields_of_any_size_need_little_memory() {
        let nested = (0..100).fold(json!({}), |inner, _| json!({ "f:a": inner }));
        let many = |manager: &str, count: usize| {
            let entry = json!({"manager": manager, "operation": "Update", "fieldsV1": nested});
            json!({"metadata": {"name": "web", "managedFields": vec![entry; count]}, "spec": {"replicas": 2}})
        };
        let of_others = decoded(&many("kubectl", 1000));
        assert!(of_others.too_large().is_none() && of_others.meta().managed_fields == Some(vec![]));
        for decode in [CachedWorkload::decode_answer, CachedWorkload::decode_metadata] {
            let answer = decode(&many("kubectl", 1000).to_string()).unwrap();
            let entries = answer.metadata.managed_fields.unwrap();
            assert_eq!(entries.len(), 1000, "an entry is released by its position");
            let is_bare = |entry: &ManagedFieldsEntry| {
                entry.manager.as_deref() == Some("kubectl") && entry.fields_v1.is_none()
            };
            assert!(entries.iter().all(is_bare));
            decode(&many("kubectl", 1001).to_string()).unwrap_err();
        }
        let own = decoded(&many(FIELD_MANAGER, 1000));
        assert!(own.too_large().unwrap().contains("managedFields"), "{:?}", own.too_large());
        assert!(own.cached_size < 16 << 10 && own.stub("why").meta().managed_fields.is_none());
    }

    #[test]
    fn the_parsed_size_of_a_workload_is_about_the_memory_that_it_takes() {
        let args = json!({"args": vec![""; 10_000], "text": "{[,\"\\".repeat(100)}).to_string();
        assert!((10_000 * 24..10_000 * 128).contains(&parsed_size(&args)), "{}", parsed_size(&args));
        let env = json!({"env": vec![json!({"a": 1}); 1_000]}).to_string();
        assert!((1_000 * 600..1_000 * 1_000).contains(&parsed_size(&env)), "{}", parsed_size(&env));
    }
}
