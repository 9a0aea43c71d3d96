//! Releases the ownership of fields, so that other clients' applies don't conflict with adieu's writes.

use json_patch::{
    Patch as JsonPatch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation, jsonptr::PointerBuf,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::api::FIELD_MANAGER;

/// A patch that drops adieu's entry from `managedFields`, with a precondition; `None` if there is no entry. With it, an
/// unforced server-side apply of another value would conflict.
#[must_use]
pub fn release_ownership(metadata: &ObjectMeta) -> Option<JsonPatch> {
    let own =
        metadata.managed_fields.iter().flatten().position(|entry| {
            entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.subresource.is_none()
        })?;
    let entry = PointerBuf::from_tokens(["metadata", "managedFields", &own.to_string()]);
    let manager = entry.concat(&PointerBuf::from_tokens(["manager"]));
    Some(JsonPatch(vec![
        precondition(metadata),
        PatchOperation::Test(TestOperation { path: manager, value: json!(FIELD_MANAGER) }),
        PatchOperation::Remove(RemoveOperation { path: entry }),
    ]))
}

/// Sets the resourceVersion to the one that was read: the API server rejects the write with a conflict if the object has
/// changed since.
#[must_use]
pub fn precondition(metadata: &ObjectMeta) -> PatchOperation {
    let path = PointerBuf::from_tokens(["metadata", "resourceVersion"]);
    PatchOperation::Replace(ReplaceOperation { path, value: json!(metadata.resource_version) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_entry_of_adieu_is_dropped() {
        let entry = |manager: &str, more: serde_json::Value| {
            let mut entry = json!({"manager": manager, "operation": "Update"});
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            entry
        };
        let status = entry(FIELD_MANAGER, json!({"subresource": "status"}));
        let entries = [entry("helm", json!({})), status, entry(FIELD_MANAGER, json!({}))];
        let mut object = json!({"metadata": {"resourceVersion": "7", "managedFields": entries}});
        let metadata = |of: &serde_json::Value| serde_json::from_value(of["metadata"].clone()).unwrap();
        let patch = release_ownership(&metadata(&object)).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
        assert_eq!(object["metadata"]["managedFields"], json!(entries[..2]));
        assert_eq!(release_ownership(&metadata(&object)), None);
    }
}
