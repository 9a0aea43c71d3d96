//! The caBundle of our own webhook configuration: filled in, and put back when something takes it away.

use futures::{StreamExt as _, TryStreamExt as _};
use json_patch::{AddOperation, Patch as JsonPatch, PatchOperation, TestOperation, jsonptr::PointerBuf};
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{MutatingWebhookConfiguration, RuleWithOperations},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use tokio::sync::watch;

use super::{FIELD_MANAGER, readiness::Gate};

/// Keeps the caBundle of the configuration `name` equal to what `authority` holds, for ever. `gate` opens
/// when that is so for the first time.
pub async fn keep(client: Client, name: String, mut authority: watch::Receiver<String>, gate: Gate) {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client);
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(api.clone(), only)
        .default_backoff()
        .applied_objects()
        .inspect_err(
            |error| tracing::warn!(%error, "watch of the webhook configuration failed, trying again"),
        )
        .filter_map(async |event| event.ok())
        .boxed();
    let mut gate = Some(gate);
    let mut current = None;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(configuration) => current = Some(configuration),
                None => return,
            },
            changed = authority.changed() => if changed.is_err() { return },
        }
        let Some(configuration) = &current else { continue };
        let pem = authority.borrow_and_update().clone();
        let patch = patch(configuration, &pem);
        if !patch.0.is_empty() {
            let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
            match api.patch(&name, &parameters, &Patch::<()>::Json(patch)).await {
                Ok(_) => tracing::info!(configuration = name, "caBundle filled in"),
                // Whatever changed it in between is the watch's next event.
                Err(error) => {
                    tracing::warn!(configuration = name, %error, "caBundle not filled in");
                    continue;
                }
            }
        }
        if let Some(gate) = gate.take() {
            gate.open();
        }
    }
}

/// The failurePolicy of the webhooks for workloads, as the chart's value has it.
const FAILURE_POLICY: &str = "adieu.dev/failure-policy";

/// What must change for every webhook to trust `pem`, and for those of workloads to fail as the chart says,
/// which must not be before they are trusted. Tests the resourceVersion, so that a webhook that moved in the
/// list gets no other's value.
fn patch(configuration: &MutatingWebhookConfiguration, pem: &str) -> JsonPatch {
    let bundle = ByteString(pem.as_bytes().to_vec());
    let wanted = configuration.metadata.annotations.as_ref().and_then(|all| all.get(FAILURE_POLICY));
    let mut operations = Vec::new();
    for (index, webhook) in configuration.webhooks.iter().flatten().enumerate() {
        let mut add = |path: &[&str], value| {
            let path = PointerBuf::from_tokens([&["webhooks", &index.to_string()], path].concat());
            operations.push(PatchOperation::Add(AddOperation { path, value }));
        };
        if webhook.client_config.ca_bundle.as_ref() != Some(&bundle) {
            add(&["clientConfig", "caBundle"], json!(bundle));
        }
        // A pod that is created is let through in any case.
        let of_pods = webhook.rules.iter().flatten().any(|rule| is_for(rule, "pods"));
        if !of_pods && wanted.is_some() && webhook.failure_policy.as_ref() != wanted {
            add(&["failurePolicy"], json!(wanted));
        }
    }
    if let (false, ObjectMeta { resource_version: Some(version), .. }) =
        (operations.is_empty(), &configuration.metadata)
    {
        let test = TestOperation {
            path: PointerBuf::from_tokens(["metadata", "resourceVersion"]),
            value: json!(version),
        };
        operations.insert(0, PatchOperation::Test(test));
    }
    JsonPatch(operations)
}

fn is_for(rule: &RuleWithOperations, resource: &str) -> bool {
    rule.resources.iter().flatten().any(|of_rule| of_rule == resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_policy_comes_with_the_bundle_and_spares_pods() {
        let configuration = |policy: &str| {
            let rules = |resource| json!([{"resources": [resource]}]);
            json!({
                "metadata": {"name": "adieu", "resourceVersion": "7", "annotations": {FAILURE_POLICY: policy}},
                "webhooks": [
                    {"name": "a", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {},
                     "failurePolicy": "Ignore", "rules": rules("deployments")},
                    {"name": "b", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {},
                     "failurePolicy": "Ignore", "rules": rules("pods")},
                ],
            })
        };
        let mut failing = configuration("Fail");
        let patched = patch(&serde_json::from_value(failing.clone()).unwrap(), "pem");
        json_patch::patch(&mut failing, &patched).unwrap();
        let policies = |of: &serde_json::Value| {
            of["webhooks"].as_array().unwrap().iter().map(|w| w["failurePolicy"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(policies(&failing), ["Fail", "Ignore"]);
        assert!(patch(&serde_json::from_value(failing.clone()).unwrap(), "pem").0.is_empty());
        failing["metadata"]["annotations"][FAILURE_POLICY] = json!("Ignore");
        let back = patch(&serde_json::from_value(failing.clone()).unwrap(), "pem");
        json_patch::patch(&mut failing, &back).unwrap();
        assert_eq!(policies(&failing), ["Ignore", "Ignore"]);
    }

    #[test]
    fn only_a_webhook_without_the_right_bundle_is_patched() {
        let mut configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "adieu", "resourceVersion": "7"},
            "webhooks": [
                {"name": "a", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {"caBundle": "cGVt"}},
                {"name": "b", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {"caBundle": "b3RoZXI="}},
                {"name": "c", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {}},
            ],
        });
        let patched = patch(&serde_json::from_value(configuration.clone()).unwrap(), "pem");
        assert_eq!(patched.0.len(), 3, "{patched:?}");
        json_patch::patch(&mut configuration, &patched).unwrap();
        for webhook in configuration["webhooks"].as_array().unwrap() {
            assert_eq!(webhook["clientConfig"]["caBundle"], "cGVt");
        }
        assert!(patch(&serde_json::from_value(configuration).unwrap(), "pem").0.is_empty());
    }
}
