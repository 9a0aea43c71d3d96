//! A MutatingAdmissionPolicy that simulates another mutating webhook.

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};

use crate::support::Scene;

/// The kinds, ordered by creation.
const KINDS: [&str; 2] = ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"];

/// A policy for one scene's namespace.
pub struct Mutator<'a>(&'a Scene);

impl<'a> Mutator<'a> {
    /// Applies the JSON patch of the CEL expression `patch` to requests with this operation that meet `condition`.
    pub async fn start(
        scene: &'a Scene,
        (group, resource, operation): (&str, &str, &str),
        condition: &str,
        patch: &str,
    ) -> Self {
        let mutator = Self(scene);
        let rule = json!({
            "apiGroups": [group], "apiVersions": ["v1"], "operations": [operation], "resources": [resource],
        });
        let namespace = json!({"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}});
        let policy = json!({
            "reinvocationPolicy": "Never",
            "matchConstraints": {"namespaceSelector": namespace, "resourceRules": [rule]},
            "matchConditions": [{"name": "condition", "expression": condition}],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
        });
        for (kind, spec) in KINDS.into_iter().zip([policy, json!({"policyName": scene.namespace})]) {
            let object: Value = json!({"metadata": {"name": scene.namespace}, "spec": spec});
            let object = serde_json::from_value(object).unwrap();
            mutator.api(kind).create(&PostParams::default(), &object).await.unwrap();
        }
        mutator
    }

    pub async fn end(self) {
        for kind in KINDS.into_iter().rev() {
            self.api(kind).delete(&self.0.namespace, &DeleteParams::default()).await.unwrap();
        }
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
        Api::all_with(self.0.client.clone(), &ApiResource::from_gvk(&kind))
    }
}
