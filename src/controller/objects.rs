//! Workloads as the watches bring them: of any kind, with their fields untyped.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::core::{ApiResource, DynamicObject};
use serde_json::Value;

use crate::plan::Kind;

/// The resource that holds workloads of a kind.
pub(super) fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::Deployment => ApiResource::erase::<Deployment>(&()),
        Kind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        Kind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
    }
}

/// Its pod template.
pub(super) fn template(object: &DynamicObject) -> &Value {
    &object.data["spec"]["template"]
}
