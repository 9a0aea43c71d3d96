//! Parses the envelope of an AdmissionReview. The objects in it stay text until they have to be parsed.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::{DynamicObject, admission::Operation};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    error::{BadRequest, shown},
    tree::Shape,
};
use crate::{plan::Kind, runtime::FIELD_MANAGER};

/// The longest accepted uid. The API server's have 36 characters.
const UID_LIMIT: usize = 128;
/// The deepest nesting of an envelope: the limit of the API server's JSON decoder.
const ENVELOPE_DEPTH: usize = 10_000;
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

/// The used fields of the request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow)]
    kind: GroupVersionKind<'a>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    namespace: Option<Cow<'a, str>>,
    operation: Operation,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    old_object: Option<&'a RawValue>,
    #[serde(borrow)]
    options: Option<Options<'a>>,
    #[serde(borrow, default)]
    user_info: UserInfo<'a>,
}

#[derive(Deserialize)]
struct GroupVersionKind<'a> {
    #[serde(borrow)]
    group: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Options<'a> {
    #[serde(borrow)]
    field_manager: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct UserInfo<'a> {
    #[serde(borrow)]
    username: Option<Cow<'a, str>>,
}

/// The kind of a reviewed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewedKind {
    /// A workload.
    Workload(Kind),
    /// A pod.
    Pod,
}

impl ReviewedKind {
    /// The kind as the API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workload(kind) => kind.as_str(),
            Self::Pod => "Pod",
        }
    }

    pub(super) fn from_gvk(group: &str, version: &str, kind: &str) -> Option<Self> {
        match (group, version, kind) {
            ("", "v1", "Pod") => Some(Self::Pod),
            _ => Kind::from_gvk(group, version, kind).map(Self::Workload),
        }
    }

    /// Updates of a pod aren't reviewed: its hooks can't be changed.
    pub(super) fn is_reviewed_on(self, operation: &Operation) -> bool {
        match operation {
            Operation::Create => true,
            Operation::Update => self != Self::Pod,
            _ => false,
        }
    }
}

/// The fields of a review except its objects.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) uid: String,
    pub(super) kind: ReviewedKind,
    pub(super) operation: Operation,
    pub(super) name: String,
    pub(super) namespace: String,
    /// Whether the request has no field manager, as that of `kubectl rollout undo`. Other commands of kubectl, Helm and
    /// GitOps tools set one.
    pub(super) is_anonymous: bool,
    /// Whether the request is the controller's own. It writes what this replica would answer, or what a policy needs
    /// that this replica hasn't cached yet: reverting that would roll out pods twice. In labelled namespaces the
    /// webhook configuration doesn't exclude these requests. Another service account with this field manager only
    /// bypasses the webhook; the controller then injects its workloads.
    pub(super) is_by_controller: bool,
}

/// A review whose objects are not parsed yet.
#[derive(Debug)]
pub(super) struct RawReview<'a> {
    pub(super) head: Head,
    pub(super) object: RawObject<'a>,
    pub(super) old_object: Option<RawObject<'a>>,
}

/// The used fields of an object; without `managedFields`, which can be larger than the rest.
#[derive(Debug, Deserialize)]
pub(super) struct RawObject<'a> {
    #[serde(borrow, default)]
    metadata: RawMetadata<'a>,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
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

impl<'a> RawReview<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, BadRequest> {
        let text = str::from_utf8(body)?;
        let Shape { depth, .. } = Shape::of(text);
        if depth > ENVELOPE_DEPTH {
            return Err(BadRequest::TooDeep { depth });
        }
        let request = Request::parse(text)?;
        let (object, old_object) = (request.object, request.old_object);
        let head = request.head()?;
        let Some(object) = object else {
            return Err(head.not_reviewed());
        };
        let old_object = old_object.map(|old| serde_json::from_str(old.get())).transpose();
        Ok(Self {
            object: serde_json::from_str(object.get()).map_err(BadRequest::not_a_review)?,
            old_object: old_object.map_err(BadRequest::not_a_review)?,
            head,
        })
    }

    /// The shape of the objects.
    pub(super) fn shape(&self) -> Shape {
        let old = self.old_object.as_ref().map(RawObject::shape).unwrap_or_default();
        self.object.shape().and(old)
    }
}

impl Head {
    /// Reads a review without its objects.
    pub(super) fn parse(text: &str) -> Result<Self, BadRequest> {
        Request::parse(text)?.head()
    }

    fn not_reviewed(&self) -> BadRequest {
        BadRequest::NotReviewed {
            operation: self.operation.clone(),
            kind: format!("{} without an object", self.kind.as_str()),
        }
    }
}

impl<'a> Request<'a> {
    fn parse(text: &'a str) -> Result<Self, BadRequest> {
        let envelope: Envelope<'a> = serde_json::from_str(text).map_err(BadRequest::not_a_review)?;
        let Envelope { api_version, kind, request } = envelope;
        match request {
            Some(request) if kind == "AdmissionReview" && api_version == "admission.k8s.io/v1" => Ok(request),
            _ => Err(BadRequest::WrongReview { kind: shown(&kind), api_version: shown(&api_version) }),
        }
    }

    fn head(self) -> Result<Head, BadRequest> {
        let GroupVersionKind { group, version, kind } = &self.kind;
        let reviewed = ReviewedKind::from_gvk(group, version, kind);
        let Some(kind) = reviewed.filter(|kind| kind.is_reviewed_on(&self.operation)) else {
            let kind = shown(&format!("{}/{} {}", shown(group), shown(version), shown(kind)));
            return Err(BadRequest::NotReviewed { operation: self.operation, kind });
        };
        if self.uid.len() > UID_LIMIT {
            return Err(BadRequest::LongUid { length: self.uid.len() });
        }
        let manager = self.options.and_then(|options| options.field_manager).unwrap_or_default();
        let username = self.user_info.username.unwrap_or_default();
        Ok(Head {
            uid: self.uid.into_owned(),
            kind,
            operation: self.operation,
            name: shown(&self.name.unwrap_or_default()),
            namespace: shown(&self.namespace.unwrap_or_default()),
            is_anonymous: manager.is_empty(),
            is_by_controller: manager == FIELD_MANAGER && username.starts_with("system:serviceaccount:"),
        })
    }
}

impl RawObject<'_> {
    /// The length of the spec's text, in bytes.
    pub(super) fn spec_length(&self) -> usize {
        self.spec.map_or(0, |spec| spec.get().len())
    }

    /// Whether the object is being deleted.
    pub(super) fn is_being_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn shape(&self) -> Shape {
        let RawMetadata { name, annotations, labels, owner_references, .. } = self.metadata;
        let parts = [name, annotations, labels, owner_references, self.spec].into_iter().flatten();
        parts.fold(Shape::default(), |shape, part| shape.and(Shape::of(part.get())))
    }

    /// Parses the used fields of the object.
    pub(super) fn build(&self) -> Result<DynamicObject, BadRequest> {
        let mut data = Map::new();
        if let Some(spec) = parsed(self.spec)? {
            data.insert("spec".to_owned(), spec);
        }
        Ok(DynamicObject { types: None, metadata: self.build_metadata()?, data: Value::Object(data) })
    }

    /// Parses the used fields of a pod, for [`crate::plan::admit_pod`].
    pub(super) fn build_pod(&self) -> Result<Value, BadRequest> {
        let mut pod = json!({ "metadata": self.build_metadata()? });
        pod["spec"] = parsed(self.spec)?.unwrap_or_default();
        Ok(pod)
    }

    pub(super) fn build_metadata(&self) -> Result<ObjectMeta, BadRequest> {
        let metadata = &self.metadata;
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
