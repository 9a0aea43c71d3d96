//! The caBundle of our own webhook configuration: filled in, and put back when something takes it away.

use futures::{StreamExt as _, TryStreamExt as _};
use json_patch::{AddOperation, Patch as JsonPatch, PatchOperation, TestOperation, jsonptr::PointerBuf};
use k8s_openapi::{
    ByteString, api::admissionregistration::v1::MutatingWebhookConfiguration,
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

/// What must change for every webhook to trust `pem`. Tests the resourceVersion, so that a webhook that
/// moved in the list gets no other's value.
fn patch(configuration: &MutatingWebhookConfiguration, pem: &str) -> JsonPatch {
    let bundle = ByteString(pem.as_bytes().to_vec());
    let webhooks = configuration.webhooks.iter().flatten().enumerate();
    let mut operations: Vec<_> = webhooks
        .filter(|(_, webhook)| webhook.client_config.ca_bundle.as_ref() != Some(&bundle))
        .map(|(index, _)| {
            let index = index.to_string();
            PatchOperation::Add(AddOperation {
                path: PointerBuf::from_tokens(["webhooks", &index, "clientConfig", "caBundle"]),
                value: json!(bundle),
            })
        })
        .collect();
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

#[cfg(test)]
mod tests {
    use super::*;

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
