//! What is left in our name in `managedFields`: nothing, or what others apply would conflict with it.

use json_patch::{
    Patch as JsonPatch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation, jsonptr::PointerBuf,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::FIELD_MANAGER;

/// What takes our entry out of `managedFields`, if there is one and nobody changed the object since. What a
/// controller writes is owned by it, and an unforced server-side apply of another value would conflict.
#[must_use]
pub fn give_up(metadata: &ObjectMeta) -> Option<JsonPatch> {
    let ours =
        metadata.managed_fields.iter().flatten().position(|entry| {
            entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.subresource.is_none()
        })?;
    let entry = PointerBuf::from_tokens(["metadata", "managedFields", &ours.to_string()]);
    let manager = entry.concat(&PointerBuf::from_tokens(["manager"]));
    Some(JsonPatch(vec![
        precondition(metadata),
        PatchOperation::Test(TestOperation { path: manager, value: json!(FIELD_MANAGER) }),
        PatchOperation::Remove(RemoveOperation { path: entry }),
    ]))
}

/// Setting the resourceVersion to what was read makes the API server refuse the write with a conflict
/// where it is another by now.
#[must_use]
pub fn precondition(metadata: &ObjectMeta) -> PatchOperation {
    let path = PointerBuf::from_tokens(["metadata", "resourceVersion"]);
    PatchOperation::Replace(ReplaceOperation { path, value: json!(metadata.resource_version) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_entry_is_given_up() {
        let entry = |manager: &str, more: serde_json::Value| {
            let mut entry = json!({"manager": manager, "operation": "Update"});
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            entry
        };
        let status = entry(FIELD_MANAGER, json!({"subresource": "status"}));
        let entries = [entry("helm", json!({})), status, entry(FIELD_MANAGER, json!({}))];
        let mut object = json!({"metadata": {"resourceVersion": "7", "managedFields": entries}});
        let metadata = |of: &serde_json::Value| serde_json::from_value(of["metadata"].clone()).unwrap();
        let patch = give_up(&metadata(&object)).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
        assert_eq!(object["metadata"]["managedFields"], json!(entries[..2]));
        assert_eq!(give_up(&metadata(&object)), None);
    }
}
