//! What changed, as JSON patches.

use std::collections::BTreeMap;

use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, jsonptr::PointerBuf};
use serde_json::{Value, json};

use crate::api::annotations::PENDING;

/// The JSON patch that makes the workload's template `new`.
#[must_use]
pub fn template_patch(old: &Value, new: &Value) -> Patch {
    let prefix = PointerBuf::from_tokens(["spec", "template"]);
    let mut patch = json_patch::diff(old, new);
    for operation in &mut patch.0 {
        let path = match operation {
            PatchOperation::Add(operation) => &mut operation.path,
            PatchOperation::Remove(operation) => &mut operation.path,
            PatchOperation::Replace(operation) => &mut operation.path,
            PatchOperation::Test(operation) => &mut operation.path,
            PatchOperation::Move(operation) => {
                operation.from = prefix.concat(&operation.from);
                &mut operation.path
            }
            PatchOperation::Copy(operation) => {
                operation.from = prefix.concat(&operation.from);
                &mut operation.path
            }
        };
        *path = prefix.concat(path);
    }
    patch
}

/// The JSON patch that makes an object's annotations `new`.
#[must_use]
pub fn annotations_patch(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Patch {
    let wrapped = |annotations| json!({"metadata": {"annotations": annotations}});
    let mut patch = json_patch::diff(&wrapped(old), &wrapped(new));
    // There may be none yet to add to.
    if old.is_empty() {
        let path = PointerBuf::from_tokens(["metadata", "annotations"]);
        patch.0 = vec![PatchOperation::Add(AddOperation { path, value: json!(new) })];
    }
    patch
}

/// The operation that takes the mark of who waits for its next update away, where it is among the annotations.
#[must_use]
pub fn unmark(annotations: &BTreeMap<String, String>) -> Option<PatchOperation> {
    let path = PointerBuf::from_tokens(["metadata", "annotations", PENDING]);
    annotations.contains_key(PENDING).then_some(PatchOperation::Remove(RemoveOperation { path }))
}

/// The JSON patch that makes a pod, its metadata and spec, `new`.
#[must_use]
pub fn pod_patch(old: &Value, new: &Value) -> Patch {
    json_patch::diff(old, new)
}
