//! Parses the envelope of an AdmissionReview. The objects in it stay text until they have to be parsed.

use std::borrow::Cow;

use adieu_core::{api::FIELD_MANAGER, plan::Kind};
use kube::core::admission::Operation;
use serde::Deserialize;

use crate::{
    error::{BadRequest, shown},
    object::RawObject,
    shape::Shape,
};

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
    object: Option<RawObject<'a>>,
    #[serde(borrow)]
    old_object: Option<RawObject<'a>>,
    #[serde(borrow)]
    options: Option<Options<'a>>,
    #[serde(borrow)]
    user_info: Option<UserInfo<'a>>,
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

#[derive(Deserialize)]
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

    fn from_gvk(group: &str, version: &str, kind: &str) -> Option<Self> {
        match (group, version, kind) {
            ("", "v1", "Pod") => Some(Self::Pod),
            _ => Kind::from_gvk(group, version, kind).map(Self::Workload),
        }
    }

    /// Updates of a pod aren't reviewed: its hooks can't be changed.
    fn is_reviewed_on(self, operation: &Operation) -> bool {
        match operation {
            Operation::Create => true,
            Operation::Update => self != Self::Pod,
            _ => false,
        }
    }
}

/// The fields of a review except its objects.
#[derive(Debug)]
pub struct ReviewHeader {
    /// The uid of the request, which the response repeats.
    pub uid: String,
    /// The kind of the object.
    pub kind: ReviewedKind,
    /// The operation.
    pub operation: Operation,
    /// The object's name; empty if the API server generates it later.
    pub name: String,
    /// The object's namespace.
    pub namespace: String,
    /// Whether the request has a field manager. That of `kubectl rollout undo` has none; other commands of kubectl,
    /// Helm and GitOps tools set one.
    pub has_field_manager: bool,
    /// Whether the request is the controller's own. It writes what this replica would respond, or what a policy needs
    /// that this replica hasn't cached yet: reverting that would roll out pods twice. In labelled namespaces the
    /// webhook configuration doesn't exclude these requests. Another service account with this field manager only
    /// bypasses the webhook; the controller then injects its workloads.
    pub is_by_controller: bool,
}

/// A review whose objects are not parsed yet.
#[derive(Debug)]
pub struct RawReview<'a> {
    /// Its other fields.
    pub header: ReviewHeader,
    /// The object of the request.
    pub object: RawObject<'a>,
    /// The object before an update.
    pub old_object: Option<RawObject<'a>>,
    /// The shape of the whole review.
    whole: Shape,
}

impl<'a> RawReview<'a> {
    /// Reads a review, without parsing its objects.
    pub fn parse(body: &'a [u8]) -> Result<Self, BadRequest> {
        let text = str::from_utf8(body)?;
        let whole = Shape::of(text);
        if whole.depth > ENVELOPE_DEPTH {
            return Err(BadRequest::TooDeep { depth: whole.depth });
        }
        let mut request = Request::parse(text)?;
        let (object, old_object) = (request.object.take(), request.old_object.take());
        let header = request.header()?;
        let Some(object) = object else {
            return Err(header.not_reviewed());
        };
        Ok(Self { header, object, old_object, whole })
    }

    /// The shape of the objects. That of the whole review, which is an upper bound, if even that is small: then the
    /// text isn't scanned again.
    #[must_use]
    pub fn shape(&self) -> Shape {
        if self.whole.is_small() {
            return self.whole;
        }
        let old = self.old_object.as_ref().map(RawObject::shape).unwrap_or_default();
        self.object.shape().and(old)
    }
}

impl ReviewHeader {
    /// Reads a review without its objects.
    pub(crate) fn parse(text: &str) -> Result<Self, BadRequest> {
        Request::parse(text)?.header()
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

    fn header(self) -> Result<ReviewHeader, BadRequest> {
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
        let username = self.user_info.and_then(|user| user.username).unwrap_or_default();
        Ok(ReviewHeader {
            uid: self.uid.into_owned(),
            kind,
            operation: self.operation,
            name: shown(&self.name.unwrap_or_default()),
            namespace: shown(&self.namespace.unwrap_or_default()),
            has_field_manager: !manager.is_empty(),
            is_by_controller: manager == FIELD_MANAGER && username.starts_with("system:serviceaccount:"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn review_of(managed_fields: usize) -> String {
        let object = |name: &str| {
            json!({
                "metadata": {"name": name, "managedFields": vec![json!({"manager": "kubectl"}); managed_fields]},
                "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}},
            })
        };
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "1", "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
                "namespace": "shop", "operation": "UPDATE", "object": object("web"), "oldObject": object("web"),
            },
        })
        .to_string()
    }

    #[test]
    fn shape_of_a_small_review_bounds_that_of_its_objects_and_others_are_scanned_without_unused_fields() {
        let exact =
            |review: &RawReview<'_>| review.object.shape().and(review.old_object.as_ref().unwrap().shape());
        let text = review_of(1);
        let small = RawReview::parse(text.as_bytes()).unwrap();
        assert_eq!(small.shape(), Shape::of(&text));
        assert!(
            small.shape().parsed_size > exact(&small).parsed_size
                && small.shape().depth > exact(&small).depth
        );
        let text = review_of(1000);
        let large = RawReview::parse(text.as_bytes()).unwrap();
        assert_eq!((large.shape(), exact(&large)), (exact(&small), exact(&small)));
    }
}
