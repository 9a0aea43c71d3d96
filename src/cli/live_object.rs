//! Objects as the command line reads them from a cluster, without what a client may add in any size.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use kube::{Client, Resource as _, core::DynamicObject};
use serde::{
    Deserialize,
    de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny},
};
use serde_json::{Map, Value, json};

use crate::{
    api::annotations::GRACEFUL,
    index::{
        dynamic_resource::dynamic_resource,
        list::{self, OBJECT_LIMIT},
        memory_estimate::parsed_size,
        workloads::resource,
    },
    plan::Kind,
    runtime::client::is_unreachable,
};

/// The maximum memory of an object once it is parsed, in bytes: a small text may take 90 times its size.
pub(super) const MEMORY_LIMIT: usize = 16 << 20;

/// The maximum number of entries of `managedFields`. With more, none is kept.
const MAX_MANAGERS: usize = 1000;

/// Why an object can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The API server denies it or can't be reached, or its answer can't be decoded.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The object is larger than a limit. The sizes are in MiB.
    #[error("it takes {size} MiB {of}, more than the limit of {limit} MiB: {remedy}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// What is limited.
        of: &'static str,
        /// The limit.
        limit: usize,
        /// What to do.
        remedy: &'static str,
    },
}

impl ReadError {
    /// Whether the API server gave no answer.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Api(error) if is_unreachable(error))
    }
}

/// Reads a workload; `None` if it doesn't exist.
///
/// # Errors
/// If it can't be read, or is larger than [`OBJECT_LIMIT`] or [`MEMORY_LIMIT`].
pub(super) async fn get_workload(
    client: &Client,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Result<Option<DynamicObject>, ReadError> {
    let path = DynamicObject::url_path(&resource(kind), Some(namespace));
    let remedy = "make it smaller, for example by moving values of env to a ConfigMap";
    let found: Option<LiveObject> = get(client, &path, name, remedy).await?;
    Ok(found.map(Into::into))
}

/// Reads an object; `None` if it doesn't exist. `remedy` is for an object that is too large.
///
/// # Errors
/// As [`get_workload`].
pub(super) async fn get<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    name: &str,
    remedy: &'static str,
) -> Result<Option<T>, ReadError> {
    let too_large = |bytes: usize, of: &'static str, limit: usize| ReadError::TooLarge {
        size: bytes.div_ceil(1 << 20),
        of,
        limit: limit >> 20,
        remedy,
    };
    let decode = |text: Result<&[u8], usize>| -> Result<T, ReadError> {
        let text = text.map_err(|length| too_large(length, "as JSON", OBJECT_LIMIT))?;
        let memory = std::str::from_utf8(text).map_or(0, parsed_size);
        if memory > MEMORY_LIMIT {
            return Err(too_large(memory, "of memory", MEMORY_LIMIT));
        }
        serde_json::from_slice(text).map_err(|error| kube::Error::SerdeError(error).into())
    };
    list::get(client, path, name, decode).await?.transpose()
}

/// An object. Of `managedFields`, which take some 80 times their text as values, it has the managers and the annotation
/// [`GRACEFUL`].
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
    use crate::runtime::test_support::{client, not_found};

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

    #[tokio::test]
    async fn an_object_over_a_limit_is_an_error_with_its_size_the_limit_and_a_remedy() {
        let read = async |object: Value| {
            let client = client(move |_, target| {
                assert_eq!(target, "/apis/apps/v1/namespaces/shop/deployments/web");
                Some((200, object.clone()))
            });
            get_workload(&client, Kind::Deployment, "shop", "web").await
        };
        let with = |spec: Value| json!({"metadata": {"name": "web"}, "spec": spec});
        let small = read(with(json!({"replicas": 1}))).await.unwrap().unwrap();
        assert_eq!(small.data, json!({"spec": {"replicas": 1}}));
        for (spec, expected) in [
            (
                json!("x".repeat(OBJECT_LIMIT)),
                "it takes 17 MiB as JSON, more than the limit of 16 MiB: make it",
            ),
            (
                json!(vec![json!({}); 30_000]),
                "it takes 22 MiB of memory, more than the limit of 16 MiB: make it",
            ),
        ] {
            let error = read(with(spec)).await.unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
            assert!(!error.is_unreachable());
        }
        let missing = client(|_, _| Some((404, not_found())));
        assert!(get_workload(&missing, Kind::Deployment, "shop", "web").await.unwrap().is_none());
        let cut = client(|_, _| Some((200, Value::Null)));
        assert!(get_workload(&cut, Kind::Deployment, "shop", "web").await.unwrap_err().is_unreachable());
    }
}
