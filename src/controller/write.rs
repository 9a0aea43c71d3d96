//! Writes to workloads: the template, or annotations on the workload itself. No entry in managedFields is left.

use std::collections::BTreeMap;

use kube::{
    Client, Resource as _, ResourceExt as _,
    api::{GetParams, Patch, PatchParams, Request},
    core::{DynamicObject, request},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    api::FIELD_MANAGER,
    index::{
        cached_workload::CachedWorkload,
        list::{self, OBJECT_LIMIT},
        unusable_objects::UnusableReason,
        workloads::resource,
    },
    plan::{Kind, Workload, clear_pending, label_injected, mark_rollout, opt_out_patch, template_patch},
    runtime::{
        client,
        managed_fields::{precondition, release_ownership},
    },
};

/// The API server rejected a write, or could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("{kind} {namespace}/{name}: {source}")]
pub(crate) struct Error {
    kind: Kind,
    namespace: String,
    name: String,
    source: kube::Error,
}

impl Error {
    pub(super) fn new(kind: Kind, object: &DynamicObject, source: kube::Error) -> Self {
        Self { kind, namespace: object.namespace().unwrap_or_default(), name: object.name_any(), source }
    }

    /// Whether the object changed meanwhile: its resourceVersion differs, or the patch can't be applied.
    pub(crate) fn is_conflict(&self) -> bool {
        let kube::Error::Api(status) = &self.source else { return false };
        let changed = status.code == 409 || status.code == 422 && status.message == INAPPLICABLE;
        changed && !is_denial(&status.message)
    }

    /// Whether the API server gave no answer.
    pub(crate) fn is_unreachable(&self) -> bool {
        client::is_unreachable(&self.source)
    }

    /// Whether the outcome is unknown: the object may have been written.
    pub(super) fn is_outcome_unknown(&self) -> bool {
        !matches!(&self.source, kube::Error::Api(status) if status.code < 500) && !self.is_rejection()
    }

    /// Whether the API server, or an admission webhook or policy, would reject it again. A required webhook that does
    /// not answer is a 500.
    pub(crate) fn is_rejection(&self) -> bool {
        let kube::Error::Api(status) = &self.source else { return false };
        let is_unanswered = status.code >= 500 && status.message.contains("webhook");
        let is_rejected = matches!(status.code, 400 | 403 | 422) && !self.is_conflict();
        is_rejected || is_unanswered || is_denial(&status.message)
    }
}

/// Whether an admission webhook or policy denied the request, for which they may use any code
/// (`ToStatusErr` of k8s.io/apiserver keeps a webhook's own; the policies' depends on their reason).
fn is_denial(message: &str) -> bool {
    let has = |subject, verb| message.contains(subject) && message.contains(verb);
    has("admission webhook", "denied the request") || has("ValidatingAdmissionPolicy", "denied request")
}

/// The message of the API server for a JSON patch that can't be applied (`NewGenericServerResponse` for 422).
const INAPPLICABLE: &str = "the server rejected our request due to an error in our request";

/// Writes the template, unless the object changed since, and removes the annotation of a workload that waited for it.
/// `mark`: that of the rollout, if it is for a policy.
/// To be followed by [`drop_managed_fields`].
pub(super) async fn template(
    client: &Client,
    kind: Kind,
    object: &DynamicObject,
    template: &Value,
    mark: Option<String>,
) -> Result<DynamicObject, Error> {
    let mut patch = template_patch(&object.data["spec"]["template"], template);
    patch.0.insert(0, precondition(&object.metadata));
    patch.0.extend(clear_pending(object.annotations()));
    patch.0.extend(mark_rollout(object.metadata.annotations.as_ref(), template, mark));
    patch.0.extend(label_injected(object.labels(), template));
    send(client, kind, object, Patch::Json(patch), CachedWorkload::decode_answer).await
}

/// Opts `object` out and restores its template in one write, unless the object changed since: the same as the webhook
/// does for the annotation, without the webhook. Returns its metadata. To be followed by [`drop_managed_fields`].
pub(crate) async fn opt_out(
    client: &Client,
    kind: Kind,
    object: &DynamicObject,
) -> Result<DynamicObject, Error> {
    let mut patch = opt_out_patch(&Workload::of(kind, object));
    patch.0.insert(0, precondition(&object.metadata));
    send(client, kind, object, Patch::Json(patch), CachedWorkload::decode_metadata).await
}

/// Sets or removes annotations on the workload itself, unless the object changed since.
pub(super) async fn set_annotations(
    client: &Client,
    kind: Kind,
    object: &DynamicObject,
    marks: &BTreeMap<&'static str, Option<String>>,
) -> Result<(), Error> {
    let metadata = json!({"resourceVersion": object.resource_version(), "annotations": marks});
    let patch = Patch::Merge(json!({"metadata": metadata}));
    let written = send(client, kind, object, patch, CachedWorkload::decode_metadata).await?;
    drop_managed_fields(client, kind, &written).await;
    Ok(())
}

/// Removes adieu's entry from managedFields.
pub(crate) async fn drop_managed_fields(client: &Client, kind: Kind, written: &DynamicObject) {
    let dropped = match drop_own_fields(client, kind, written).await {
        // The workload's controller wrote the status meanwhile.
        Err(error) if error.is_conflict() => drop_leftover_fields(client, kind, written).await,
        result => result,
    };
    if let Err(error) = dropped {
        tracing::debug!(%error, "cannot remove the entry in managedFields, retrying once the write is observed");
    }
}

/// Fields that the webhook sets have no owner, because managedFields are computed before it is called. Neither have
/// fields that are written here.
async fn drop_own_fields(client: &Client, kind: Kind, object: &DynamicObject) -> Result<(), Error> {
    let Some(patch) = release_ownership(&object.metadata) else { return Ok(()) };
    let request = patch_request(kind, object, &Patch::Json::<()>(patch));
    client::send(client, request).await.map_err(|source| Error::new(kind, object, source))
}

/// Removes an entry that an interrupted write left. To be retried after a conflict: changes of the status requeue
/// nothing.
pub(super) async fn drop_leftover_fields(
    client: &Client,
    kind: Kind,
    object: &DynamicObject,
) -> Result<(), Error> {
    let request = requests(kind, object).get(&object.name_any(), &GetParams::default());
    match answer(client, request, CachedWorkload::decode_metadata).await {
        Ok(current) => drop_own_fields(client, kind, &current).await,
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(Error::new(kind, object, source)),
    }
}

/// Decodes the object in an answer. Other clients' `managedFields` may be of any size.
type Decode = fn(&[u8]) -> Result<DynamicObject, UnusableReason>;

async fn send(
    client: &Client,
    kind: Kind,
    object: &DynamicObject,
    patch: Patch<Value>,
    decode: Decode,
) -> Result<DynamicObject, Error> {
    let sent = answer(client, patch_request(kind, object, &patch), decode).await;
    sent.map_err(|source| Error::new(kind, object, source))
}

async fn answer(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, request::Error>,
    decode: Decode,
) -> Result<DynamicObject, kube::Error> {
    let decode = |text: Result<&[u8], usize>| match text {
        Ok(text) => decode(text).map_err(|reason| reason.to_string()),
        Err(length) => Err(format!("the object has {length} bytes, more than the limit of {OBJECT_LIMIT}")),
    };
    let decoded = list::answer(client, request, decode).await?;
    decoded.map_err(|reason| kube::Error::Service(reason.into()))
}

fn patch_request<P: Serialize>(
    kind: Kind,
    object: &DynamicObject,
    patch: &Patch<P>,
) -> Result<http::Request<Vec<u8>>, request::Error> {
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    requests(kind, object).patch(&object.name_any(), &parameters, patch)
}

fn requests(kind: Kind, object: &DynamicObject) -> Request {
    Request::new(DynamicObject::url_path(&resource(kind), object.namespace().as_deref()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::runtime::test_support::client_of_bodies;

    fn error(source: kube::Error) -> Error {
        let object: DynamicObject = serde_json::from_value(json!({"metadata": {"name": "web"}})).unwrap();
        Error::new(Kind::Deployment, &object, source)
    }

    fn answer(code: u16, message: &str) -> Error {
        let status = json!({"code": code, "message": message, "reason": "Invalid"});
        error(kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())))
    }

    /// Whether it is a conflict, and whether it is a rejection.
    fn classified(code: u16, message: &str) -> (bool, bool) {
        let error = answer(code, message);
        (error.is_conflict(), error.is_rejection())
    }

    #[tokio::test]
    async fn a_rollout_is_marked_and_the_entry_of_adieu_is_released_by_its_position() {
        let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
        let sent = bodies.clone();
        let entry =
            |manager: &str| json!({"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {}}});
        let object = json!({
            "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "7",
                "managedFields": [entry("kubectl"), entry(FIELD_MANAGER)]},
            "spec": {"template": {"spec": {"containers": []}}},
        });
        let answer = object.clone();
        let client = client_of_bodies(move |_, _, body| {
            sent.lock().unwrap().push(serde_json::from_slice(body).unwrap_or_default());
            Some((200, answer.clone()))
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let written =
            template(&client, Kind::Deployment, &object, &json!({}), Some("1f".into())).await.unwrap();
        drop_managed_fields(&client, Kind::Deployment, &written).await;
        set_annotations(&client, Kind::Deployment, &object, &BTreeMap::new()).await.unwrap();
        drop_leftover_fields(&client, Kind::Deployment, &object).await.unwrap();
        let bodies = bodies.lock().unwrap();
        let marked = bodies[0].as_array().unwrap().iter().any(|operation| {
            operation["path"] == "/metadata/annotations"
                && operation["value"] == json!({"adieu.dev/rollout": "1f"})
        });
        assert!(marked, "{bodies:?}");
        let released = bodies.iter().filter(|body| body[2]["path"] == "/metadata/managedFields/1");
        assert_eq!(released.count(), 3, "{bodies:?}");
    }

    #[tokio::test]
    async fn an_answer_over_the_limit_is_an_error_and_the_outcome_is_unknown() {
        let client = client_of_bodies(|_, _, _| {
            Some((200, json!({"metadata": {"name": "web", "labels": "x".repeat(OBJECT_LIMIT)}})))
        });
        let object: DynamicObject = serde_json::from_value(json!({"metadata": {"name": "web"}})).unwrap();
        let error = set_annotations(&client, Kind::Deployment, &object, &BTreeMap::new()).await.unwrap_err();
        assert!(error.to_string().contains("more than the limit of 16777216"), "{error}");
        assert!(error.is_outcome_unknown());
    }

    #[test]
    fn without_an_answer_the_outcome_of_a_write_is_unknown() {
        assert!(error(kube::Error::Service("the connection was closed".into())).is_outcome_unknown());
        assert!(answer(500, "etcdserver: request timed out").is_outcome_unknown());
        for (code, message) in [
            (409, "the object has been modified"),
            (422, INAPPLICABLE),
            (403, "forbidden"),
            (429, "too many requests"),
            (500, "Internal error occurred: failed calling webhook \"a\""),
        ] {
            assert!(!answer(code, message).is_outcome_unknown(), "{code} {message}");
        }
    }

    #[test]
    fn a_patch_that_can_not_be_applied_is_a_conflict() {
        assert_eq!(classified(422, INAPPLICABLE), (true, false));
        assert_eq!(classified(409, "the object has been modified"), (true, false));
        assert_eq!(classified(422, "admission webhook denied the request"), (false, true));
        assert_eq!(classified(403, "forbidden"), (false, true));
        assert_eq!(classified(500, "Internal error occurred: failed calling webhook \"a\""), (false, true));
        assert_eq!(classified(500, "etcdserver: leader changed"), (false, false));
        assert_eq!(classified(503, "the server is currently unable to handle the request"), (false, false));
        assert_eq!(classified(429, "too many requests"), (false, false));
    }

    #[test]
    fn a_denial_is_a_rejection_whatever_its_code() {
        for code in [400, 401, 403, 404, 409, 413, 422, 429, 503] {
            for denial in [
                "admission webhook \"freeze.example\" denied the request: not this week",
                "admission webhook \"freeze.example\" denied the request without explanation",
                "deployments.apps \"web\" is forbidden: ValidatingAdmissionPolicy 'freeze' with binding 'freeze' \
                 denied request: not this week",
            ] {
                assert_eq!(classified(code, denial), (false, true), "{code} {denial}");
            }
        }
    }
}
