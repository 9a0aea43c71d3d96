//! The JSON patch between a workload's pod templates.

use json_patch::{Patch, PatchOperation, jsonptr::PointerBuf};
use serde_json::Value;

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
