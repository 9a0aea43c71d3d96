//! An AdmissionReview as it comes: its envelope is read, the objects in it stay text until it is decided that they are
//! worth a tree.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::{DynamicObject, admission::Operation};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    review::{BadRequest, Subject},
    tree::Shape,
};
use crate::runtime::FIELD_MANAGER;

/// The longest uid that is echoed. The API server's have 36 characters.
const UID_LIMIT: usize = 128;
/// The deepest nesting of an envelope: the API server's own decoder of JSON goes no deeper.
const ENVELOPE_DEPTH: usize = 10_000;
/// The most characters of a foreign text that go into a message or the log.
const SHOWN: usize = 253;

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

/// What is read of the request.
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

/// What a review is about: everything but its objects.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) uid: String,
    pub(super) subject: Subject,
    pub(super) operation: Operation,
    pub(super) name: String,
    pub(super) namespace: String,
    /// Whether the client named no field manager, as `kubectl rollout undo` doesn't. The other commands of kubectl,
    /// Helm and GitOps tools do.
    pub(super) is_anonymous: bool,
    /// Whether the request is the controller's own. It writes what this replica would answer, or what a policy says
    /// that this replica has yet to hear of: undoing that would roll pods out twice. In labelled namespaces no
    /// condition of the webhook configuration keeps these requests away. A service account that uses the same field
    /// manager only does without the webhook; the controller then injects what it wrote.
    pub(super) is_by_the_controller: bool,
}

/// A review whose objects are text.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    pub(super) head: Head,
    pub(super) object: RawObject<'a>,
    pub(super) old_object: Option<RawObject<'a>>,
}

/// What is used of an object. Of its metadata that excludes `managedFields`, which can be larger than the rest.
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

impl<'a> Sent<'a> {
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

    /// What its trees will take.
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
            kind: format!("{} without an object", self.subject.as_str()),
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
        let subject = Subject::from_gvk(group, version, kind);
        let Some(subject) = subject.filter(|subject| subject.takes(&self.operation)) else {
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
            subject,
            operation: self.operation,
            name: shown(&self.name.unwrap_or_default()),
            namespace: shown(&self.namespace.unwrap_or_default()),
            is_anonymous: manager.is_empty(),
            is_by_the_controller: manager == FIELD_MANAGER && username.starts_with("system:serviceaccount:"),
        })
    }
}

impl RawObject<'_> {
    /// How long the text of its spec is, in bytes.
    pub(super) fn spec_length(&self) -> usize {
        self.spec.map_or(0, |spec| spec.get().len())
    }

    /// Whether it is being deleted.
    pub(super) fn is_being_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    fn shape(&self) -> Shape {
        let RawMetadata { name, annotations, labels, owner_references, .. } = self.metadata;
        let parts = [name, annotations, labels, owner_references, self.spec].into_iter().flatten();
        parts.fold(Shape::default(), |shape, part| shape.and(Shape::of(part.get())))
    }

    /// The object, as far as it is used.
    pub(super) fn build(&self) -> Result<DynamicObject, BadRequest> {
        let mut data = Map::new();
        if let Some(spec) = parsed(self.spec)? {
            data.insert("spec".to_owned(), spec);
        }
        Ok(DynamicObject { types: None, metadata: self.build_metadata()?, data: Value::Object(data) })
    }

    /// The same of a pod, in the form that [`crate::plan::admit_pod`] takes.
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

/// A foreign text for a message: its beginning, if it is long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
