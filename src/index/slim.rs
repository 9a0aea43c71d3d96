//! Decodes objects from JSON without unused fields, within limits: decoded objects take many times the memory of their
//! text.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use adieu_exposures::is_service_annotation;
use k8s_openapi::{
    api::{
        core::v1::{Namespace, ObjectReference, Service, ServicePort, ServiceSpec},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time},
};
use serde::{
    Deserialize,
    de::{DeserializeOwned, Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    managers::{Managers, OwnFields},
    memory_estimate::cached_size,
    unusable_objects::UnusableReason,
    watched::Watched,
};
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy, annotations},
    plan::our_labels,
};

/// The maximum size of labels, of annotations and of owner references, in bytes of JSON.
pub(super) const METADATA_LIMIT: usize = 16 << 10;
const MANAGED_FIELDS: &str = "metadata.managedFields";
/// The maximum size of a Service's or PodDisruptionBudget's spec.
const SPEC_LIMIT: usize = 16 << 10;
/// The maximum size of a policy's spec, more than the CRDs allow.
const POLICY_LIMIT: usize = 64 << 10;
/// The maximum size of a policy's status, more than the CRDs allow: the next leader reads the failed rollouts from it.
const STATUS_LIMIT: usize = 128 << 10;

/// The parts of an object, as text.
#[derive(Deserialize)]
pub(super) struct Parts<'a> {
    #[serde(borrow)]
    pub(super) metadata: &'a RawValue,
    #[serde(borrow, default)]
    pub(super) spec: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) status: Option<&'a RawValue>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(text: &'a [u8]) -> Result<Self, UnusableReason> {
        serde_json::from_slice(text).map_err(|error| UnusableReason::undecodable("the object", &error))
    }

    /// The spec, within the limit.
    fn spec<T: DeserializeOwned>(&self, limit: usize) -> Result<Option<T>, UnusableReason> {
        let Some(text) = self.spec.map(RawValue::get) else { return Ok(None) };
        if text.len() > limit {
            return Err(UnusableReason::too_large("spec", text.len(), limit));
        }
        serde_json::from_str(text).map_err(|error| UnusableReason::undecodable("spec", &error))
    }

    /// The status; `None` also if it can't be read, because no decision depends on it.
    fn status<T: DeserializeOwned>(&self) -> Option<T> {
        let text = self.status.map(RawValue::get).filter(|text| text.len() <= STATUS_LIMIT)?;
        serde_json::from_str(text).ok()
    }
}

/// The used fields of metadata.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata<'a> {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
    #[serde(borrow)]
    owner_references: Option<&'a RawValue>,
    #[serde(borrow)]
    managed_fields: Option<&'a RawValue>,
}

impl<'a> Metadata<'a> {
    pub(super) fn of(text: &'a RawValue) -> Result<Self, UnusableReason> {
        serde_json::from_str(text.get()).map_err(|error| UnusableReason::undecodable("metadata", &error))
    }

    /// The fields that are always small.
    pub(super) fn bare(&self) -> ObjectMeta {
        ObjectMeta {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            uid: self.uid.clone(),
            resource_version: self.resource_version.clone(),
            generation: self.generation,
            creation_timestamp: self.creation_timestamp.clone(),
            deletion_timestamp: self.deletion_timestamp.clone(),
            ..ObjectMeta::default()
        }
    }

    /// The fields that an answer to a write is used for, within their limits. An entry of `managedFields` is released by its
    /// position, so all of them are there, but only with manager and subresource.
    pub(super) fn of_answer(&self) -> Result<ObjectMeta, UnusableReason> {
        let managers =
            self.managed_fields.map(|text| serde_json::from_str::<Managers>(text.get())).transpose();
        let managers = managers.map_err(|error| UnusableReason::undecodable(MANAGED_FIELDS, &error))?;
        Ok(ObjectMeta { managed_fields: managers.map(|Managers(entries)| entries), ..self.used()? })
    }

    /// All used fields, within their limits.
    pub(super) fn used(&self) -> Result<ObjectMeta, UnusableReason> {
        Ok(ObjectMeta {
            labels: self.labels()?,
            annotations: self.annotations()?,
            owner_references: self.owner_references()?,
            managed_fields: self.own_managed_fields()?,
            ..self.bare()
        })
    }

    pub(super) fn labels(&self) -> Result<Option<BTreeMap<String, String>>, UnusableReason> {
        small("metadata.labels", self.labels)
    }

    pub(super) fn owner_references(&self) -> Result<Option<Vec<OwnerReference>>, UnusableReason> {
        small("metadata.ownerReferences", self.owner_references)
    }

    /// adieu's annotations, and others within the limit.
    pub(super) fn annotations(&self) -> Result<Option<BTreeMap<String, String>>, UnusableReason> {
        let Some(text) = self.annotations else { return Ok(None) };
        let kept: Annotations = serde_json::from_str(text.get())
            .map_err(|error| UnusableReason::undecodable("metadata.annotations", &error))?;
        if kept.own > METADATA_LIMIT {
            return Err(UnusableReason::too_large("adieu's annotations", kept.own, METADATA_LIMIT));
        }
        Ok(Some(kept.all))
    }

    /// adieu's entries of `managedFields`, which have to be released. A client may send any number of them.
    pub(super) fn own_managed_fields(&self) -> Result<Option<Vec<ManagedFieldsEntry>>, UnusableReason> {
        let Some(text) = self.managed_fields else { return Ok(None) };
        let kept: OwnFields<'_> = serde_json::from_str(text.get())
            .map_err(|error| UnusableReason::undecodable(MANAGED_FIELDS, &error))?;
        let length = kept.0.iter().map(|entry| entry.get().len()).sum();
        if length > METADATA_LIMIT {
            return Err(UnusableReason::too_large("adieu's metadata.managedFields", length, METADATA_LIMIT));
        }
        kept.0.into_iter().map(|entry| small(MANAGED_FIELDS, Some(entry))).collect()
    }
}

fn small<T: DeserializeOwned>(field: &str, text: Option<&RawValue>) -> Result<Option<T>, UnusableReason> {
    let Some(text) = text.map(RawValue::get) else { return Ok(None) };
    if text.len() > METADATA_LIMIT {
        return Err(UnusableReason::too_large(field, text.len(), METADATA_LIMIT));
    }
    serde_json::from_str(text).map_err(|error| UnusableReason::undecodable(field, &error))
}

/// The used annotations, and the total size of adieu's.
#[derive(Default)]
struct Annotations {
    all: BTreeMap<String, String>,
    own: usize,
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AnnotationsVisitor)
    }
}

struct AnnotationsVisitor;

impl<'de> Visitor<'de> for AnnotationsVisitor {
    type Value = Annotations;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
        let (mut kept, mut foreign) = (Annotations::default(), 0);
        while let Some((key, value)) = map.next_entry::<Cow<'de, str>, Cow<'de, str>>()? {
            let length = key.len() + value.len();
            let keeps = if annotations::is_own(&key) {
                kept.own += length;
                kept.own <= METADATA_LIMIT
            } else {
                foreign += length;
                foreign <= METADATA_LIMIT && key != "kubectl.kubernetes.io/last-applied-configuration"
            };
            if keeps {
                kept.all.insert(key.into_owned(), value.into_owned());
            }
        }
        Ok(kept)
    }
}

/// The identity of an object, even if nothing else can be decoded.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    metadata: Identity,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

/// The identity of an object, even if nothing else can be decoded.
pub(super) fn identity(text: &[u8]) -> ObjectMeta {
    let Identity { name, namespace, uid, resource_version } =
        serde_json::from_slice::<Named>(text).unwrap_or_default().metadata;
    ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() }
}

/// A reference to an object, for Events.
pub(super) fn reference(api_version: &str, kind: &str, metadata: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

impl Watched for Service {
    const KIND: &'static str = "Service";
    const FLOOR: usize = 512 << 10;
    const MAX_IN_NAMESPACE: usize = 5000;

    /// The used fields of the spec, and the annotations of load balancers.
    fn decode(text: &[u8]) -> Result<Self, UnusableReason> {
        let parts = Parts::of(text)?;
        let metadata = Metadata::of(parts.metadata)?;
        let mut annotations = metadata.annotations()?;
        if let Some(annotations) = &mut annotations {
            annotations.retain(|key, _| is_service_annotation(key));
        }
        let annotations = annotations.filter(|annotations| !annotations.is_empty());
        let metadata = ObjectMeta { annotations, ..metadata.bare() };
        Ok(Self { metadata, spec: parts.spec(SPEC_LIMIT)?.map(used_service_spec), status: None })
    }

    fn cached_size(&self) -> usize {
        cached_size(self)
    }

    fn of_metadata(metadata: ObjectMeta) -> Self {
        Self { metadata, ..Self::default() }
    }
}

/// The fields on which readiness probes and exposures depend, without usual values that mean the same as none.
fn used_service_spec(spec: ServiceSpec) -> ServiceSpec {
    let used_port = |port: ServicePort| ServicePort {
        protocol: port.protocol.filter(|protocol| protocol != "TCP"),
        node_port: None,
        ..port
    };
    ServiceSpec {
        cluster_ip: spec.cluster_ip.filter(|address| address == "None"),
        external_traffic_policy: spec.external_traffic_policy,
        load_balancer_class: spec.load_balancer_class,
        ports: spec.ports.map(|ports| ports.into_iter().map(used_port).collect()),
        publish_not_ready_addresses: spec.publish_not_ready_addresses,
        selector: spec.selector,
        type_: spec.type_.filter(|type_| type_ != "ClusterIP"),
        ..ServiceSpec::default()
    }
}

impl Watched for Namespace {
    const KIND: &'static str = "Namespace";
    /// Tenants can't create any, and without its labels nothing is injected in a namespace.
    const FLOOR: usize = usize::MAX;

    /// The labels, which cluster policies select.
    fn decode(text: &[u8]) -> Result<Self, UnusableReason> {
        let metadata = Metadata::of(Parts::of(text)?.metadata)?;
        Ok(Self::of_metadata(ObjectMeta { labels: metadata.labels()?, ..metadata.bare() }))
    }

    fn cached_size(&self) -> usize {
        cached_size(self)
    }

    fn of_metadata(metadata: ObjectMeta) -> Self {
        Self { metadata, ..Self::default() }
    }
}

impl Watched for PodDisruptionBudget {
    const KIND: &'static str = "PodDisruptionBudget";
    const FLOOR: usize = 512 << 10;
    const MAX_IN_NAMESPACE: usize = 2000;

    fn decode(text: &[u8]) -> Result<Self, UnusableReason> {
        let parts = Parts::of(text)?;
        let metadata = Metadata::of(parts.metadata)?;
        // Only the label and the owner of adieu's budgets are used.
        let mut labels = metadata.labels()?;
        if let Some(labels) = &mut labels {
            let ours = our_labels();
            labels.retain(|key, _| ours.contains_key(key));
        }
        let owner_references = metadata.owner_references()?;
        let metadata = ObjectMeta { labels, owner_references, ..metadata.bare() };
        Ok(Self { metadata, spec: parts.spec(SPEC_LIMIT)?, status: None })
    }

    fn cached_size(&self) -> usize {
        cached_size(self)
    }

    fn of_metadata(metadata: ObjectMeta) -> Self {
        Self { metadata, ..Self::default() }
    }
}

macro_rules! watch_policy {
    ($policy:ident) => {
        impl Watched for $policy {
            const KIND: &'static str = stringify!($policy);
            const FLOOR: usize = 1 << 20;
            const MAX_IN_NAMESPACE: usize = 500;

            fn decode(text: &[u8]) -> Result<Self, UnusableReason> {
                let parts = Parts::of(text)?;
                let metadata = Metadata::of(parts.metadata)?.bare();
                Ok(Self {
                    metadata,
                    spec: parts.spec(POLICY_LIMIT)?.unwrap_or_default(),
                    status: parts.status(),
                })
            }

            fn cached_size(&self) -> usize {
                cached_size(self)
            }

            fn of_metadata(metadata: ObjectMeta) -> Self {
                Self { metadata, spec: Default::default(), status: None }
            }
        }
    };
}

watch_policy!(GracefulPolicy);
watch_policy!(ClusterGracefulPolicy);
