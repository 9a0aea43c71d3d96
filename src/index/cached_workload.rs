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
    compression::{compress, decompress},
    memory_estimate::{cached_size, parsed_size},
    slim::{METADATA_LIMIT, Metadata, Parts},
    unusable_objects::UnusableReason,
    watched::Watched,
};
use crate::{
    api::{FIELD_MANAGER, annotations::is_own},
    hash::hash_of,
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
/// The size when parsed counts against the quota too, divided by this: text that is repeated takes little memory, but its
/// evaluation takes time, some 2 ms for each MiB. The quota of a namespace so limits it to about a second.
const EVALUATION_COST: usize = 16;

/// A workload whose fields, except its metadata, are compressed text until they are read. As a tree of values they would
/// take many times the memory, and a large cluster has thousands of workloads that change once a week.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "DynamicObject")]
pub struct CachedWorkload {
    /// Without labels, annotations, owners and `managedFields`: maps of strings take a B-tree node each. Shared by clones, as
    /// is the text: most objects of a repeated list are unchanged.
    metadata: Arc<ObjectMeta>,
    /// The other metadata, then spec and status.
    data: Arc<[u8]>,
    /// The length of the other metadata, in bytes of JSON.
    metadata_length: usize,
    specification: u64,
    /// The approximate size of the tree of values, in bytes.
    parsed_size: usize,
    /// The approximate memory that it takes, in bytes.
    cached_size: usize,
    too_large: Option<Arc<str>>,
}

impl CachedWorkload {
    /// Decodes a workload, within the limits of the cache.
    ///
    /// # Errors
    /// If it can't be decoded.
    pub fn read(text: &[u8]) -> Result<Self, UnusableReason> {
        Self::decode(text)
    }

    /// The parsed workload. If it is [too large](Self::too_large), only its metadata, selector, and the template's
    /// labels and annotations.
    #[must_use]
    pub fn object(&self) -> DynamicObject {
        let text = self.text();
        let (metadata, data) = text.split_at_checked(self.metadata_length).unwrap_or_default();
        let others: ObjectMeta = serde_json::from_slice(metadata).unwrap_or_default();
        let metadata = ObjectMeta {
            labels: others.labels,
            annotations: others.annotations,
            owner_references: others.owner_references,
            managed_fields: others.managed_fields,
            ..self.meta().clone()
        };
        DynamicObject { types: None, metadata, data: serde_json::from_slice(data).unwrap_or_default() }
    }

    /// The parsed spec and status.
    pub(super) fn data(&self) -> Value {
        let text = self.text();
        serde_json::from_slice(text.get(self.metadata_length..).unwrap_or_default()).unwrap_or_default()
    }

    /// The text was written from values, so it parses.
    fn text(&self) -> Vec<u8> {
        decompress(&self.data)
    }

    /// A hash of what the desired state depends on, and the workload is reconciled for. The API server increments the
    /// generation with every change of the spec.
    pub(super) fn specification(&self) -> u64 {
        self.specification
    }

    /// The workload's metadata alone, without labels, annotations, owners and `managedFields`.
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

    fn new(mut metadata: ObjectMeta, text: &str, too_large: Option<&str>) -> Self {
        let specification = specification(&metadata, too_large);
        let metadata_size = cached_size(&metadata);
        let others = ObjectMeta {
            labels: metadata.labels.take(),
            annotations: metadata.annotations.take(),
            owner_references: metadata.owner_references.take(),
            managed_fields: metadata.managed_fields.take(),
            ..ObjectMeta::default()
        };
        let others = serde_json::to_string(&others).unwrap_or_default();
        let whole = [others.as_str(), text].concat();
        let data = compress(&whole);
        let parsed_size = parsed_size(text);
        let size = metadata_size + EVALUATION + data.len() + too_large.map_or(0, str::len);
        let cached_size = size.max(parsed_size / EVALUATION_COST);
        Self {
            metadata: metadata.into(),
            data,
            metadata_length: others.len(),
            specification,
            parsed_size,
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
    pub(crate) fn decode_answer(text: &[u8]) -> Result<DynamicObject, UnusableReason> {
        let parts = Parts::of(text)?;
        let metadata = Metadata::of(parts.metadata)?;
        let object = Self::complete(&metadata, &parts)?.object();
        Ok(DynamicObject { metadata: metadata.of_answer()?, ..object })
    }

    /// The used metadata of the object in the answer to a write, whatever the size of the object.
    ///
    /// # Errors
    /// If it can't be decoded, or is too large.
    pub(crate) fn decode_metadata(text: &[u8]) -> Result<DynamicObject, UnusableReason> {
        let metadata = Metadata::of(Parts::of(text)?.metadata)?.of_answer()?;
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

/// See [`CachedWorkload::specification`].
fn specification(metadata: &ObjectMeta, too_large: Option<&str>) -> u64 {
    let mut owners = metadata.owner_references.iter().flatten();
    let is_controlled = owners.any(|owner| owner.controller == Some(true));
    let is_deleted = metadata.deletion_timestamp.is_some();
    let maps = (&metadata.labels, &metadata.annotations);
    hash_of(&(&metadata.uid, metadata.generation, maps, is_controlled, is_deleted, too_large))
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
    /// Each key of a store and each queued request has one: an `ApiResource` would be five strings.
    type DynamicType = Kind;
    type Scope = DynamicResourceScope;

    fn kind(kind: &Kind) -> Cow<'_, str> {
        kind.as_str().into()
    }

    fn group(_: &Kind) -> Cow<'_, str> {
        Deployment::group(&())
    }

    fn version(_: &Kind) -> Cow<'_, str> {
        Deployment::version(&())
    }

    fn plural(kind: &Kind) -> Cow<'_, str> {
        match kind {
            Kind::Deployment => Deployment::plural(&()),
            Kind::StatefulSet => StatefulSet::plural(&()),
            Kind::DaemonSet => DaemonSet::plural(&()),
        }
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
#[path = "cached_workload_tests.rs"]
mod tests;
