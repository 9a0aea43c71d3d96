//! Owner references.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;

/// The reference to the controller of an object (`metav1.GetControllerOf` of client-go).
#[must_use]
pub fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// The same, of metadata that isn't decoded.
#[must_use]
pub fn controller_of_value(metadata: &Value) -> Option<&Value> {
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    owners.into_iter().find(|owner| owner["controller"] == true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_controller_is_the_owner_that_manages_the_object() {
        let owner = |name: &str, controller: bool| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "1", "controller": controller});
        for (owners, expected) in [
            (vec![], None),
            (vec![owner("a", false)], None),
            (vec![owner("a", false), owner("b", true)], Some("b")),
        ] {
            let value = json!({"ownerReferences": owners});
            let metadata: ObjectMeta = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(controller_of(&metadata).map(|owner| owner.name.as_str()), expected);
            assert_eq!(controller_of_value(&value).and_then(|owner| owner["name"].as_str()), expected);
        }
    }
}
