//! Writes the caBundle of the MutatingWebhookConfiguration, and restores it if another client changes it.

use std::{future::pending, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use json_patch::{AddOperation, Patch as JsonPatch, PatchOperation, jsonptr::PointerBuf};
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use tokio::{sync::watch, time::sleep};

use super::{managed_fields, readiness::ReadinessCheck};
use crate::api::FIELD_MANAGER;

/// The annotation with the failurePolicy of the webhooks for workloads, from the chart's values.
const FAILURE_POLICY: &str = "adieu.dev/failure-policy";
/// The time from a failure to the next attempt: no event may ever trigger one.
const RETRY: Duration = Duration::from_secs(5);

/// While this replica leads, keeps the caBundle of the configuration `name` equal to `bundle`; `None` if another
/// component writes it. `check` passes when the caBundle is set for the first time. Never returns.
pub async fn run(
    client: Client,
    name: String,
    mut bundle: Option<watch::Receiver<String>>,
    mut is_leader: watch::Receiver<bool>,
    check: ReadinessCheck,
) {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client);
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = watcher(api.clone(), only)
        .default_backoff()
        .applied_objects()
        .inspect_err(|error| tracing::warn!(%error, "watch of the webhook configuration failed, retrying"))
        .filter_map(async |event| event.ok())
        .boxed();
    let mut check = Some(check);
    let mut current = None;
    let mut failed = false;
    loop {
        tokio::select! {
            () = sleep(RETRY), if failed => {}
            event = events.next() => match event {
                Some(configuration) => current = Some(configuration),
                None => return,
            },
            () = changed(&mut bundle) => {}
            changed = is_leader.changed() => if changed.is_err() { return },
        }
        failed = false;
        let Some(configuration) = &current else { continue };
        let pem = bundle.as_mut().map(|bundle| bundle.borrow_and_update().clone());
        let is_leader = *is_leader.borrow_and_update();
        let outcome = reconcile(&api, configuration, pem.as_deref(), is_leader).await;
        failed = matches!(outcome, Outcome::NotWritten | Outcome::NotReleased);
        let is_written = matches!(outcome, Outcome::Current | Outcome::NotReleased);
        if is_written && (has_ca_bundles(configuration) || pem.is_some()) {
            check.take().into_iter().for_each(ReadinessCheck::pass);
        }
    }
}

#[derive(Clone, Copy)]
enum Outcome {
    Current,
    /// The leader has to write it.
    Pending,
    NotWritten,
    /// It is current, but adieu still owns fields.
    NotReleased,
}

/// Writes the caBundle if it differs, and otherwise releases the ownership of the fields.
async fn reconcile(
    api: &Api<MutatingWebhookConfiguration>,
    configuration: &MutatingWebhookConfiguration,
    pem: Option<&str>,
    is_leader: bool,
) -> Outcome {
    let name = configuration.metadata.name.as_deref().unwrap_or_default();
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
    let send = async |patch| api.patch(name, &parameters, &Patch::<()>::Json(patch)).await;
    let change = patch(configuration, pem);
    if !change.0.is_empty() {
        if !is_leader {
            return Outcome::Pending;
        }
        return match send(change).await {
            Ok(_) => {
                tracing::info!(configuration = name, "wrote caBundle");
                Outcome::Current
            }
            Err(error) => {
                tracing::warn!(configuration = name, %error, "cannot write caBundle, retrying");
                Outcome::NotWritten
            }
        };
    }
    // Otherwise an upgrade of the chart that sets another value would conflict.
    let release = managed_fields::release_ownership(&configuration.metadata).filter(|_| is_leader);
    if let Some(release) = release
        && let Err(error) = send(release).await
    {
        tracing::debug!(configuration = name, %error, "cannot remove the entry in managedFields, retrying");
        return Outcome::NotReleased;
    }
    Outcome::Current
}

async fn changed(bundle: &mut Option<watch::Receiver<String>>) {
    if let Some(bundle) = bundle
        && bundle.changed().await.is_ok()
    {
        return;
    }
    pending::<()>().await;
}

/// Whether every webhook has a caBundle.
fn has_ca_bundles(configuration: &MutatingWebhookConfiguration) -> bool {
    configuration.webhooks.iter().flatten().all(|webhook| ca_bundle(webhook).is_some())
}

fn ca_bundle(webhook: &MutatingWebhook) -> Option<&ByteString> {
    webhook.client_config.ca_bundle.as_ref().filter(|bundle| !bundle.0.is_empty())
}

/// The patch that sets the caBundle of every webhook to `pem`, if it is given, and the failurePolicy of the webhooks for
/// workloads, but only with a caBundle: without one they would fail. The precondition on resourceVersion protects against
/// a webhook that moved in the list, which would get another's value.
fn patch(configuration: &MutatingWebhookConfiguration, pem: Option<&str>) -> JsonPatch {
    let bundle = pem.map(|pem| ByteString(pem.as_bytes().to_vec()));
    let wanted = configuration.metadata.annotations.as_ref().and_then(|all| all.get(FAILURE_POLICY));
    let mut operations = Vec::new();
    for (index, webhook) in configuration.webhooks.iter().flatten().enumerate() {
        let mut add = |path: &[&str], value| {
            let path = PointerBuf::from_tokens([&["webhooks", &index.to_string()], path].concat());
            operations.push(PatchOperation::Add(AddOperation { path, value }));
        };
        if bundle.is_some() && webhook.client_config.ca_bundle != bundle {
            add(&["clientConfig", "caBundle"], json!(bundle));
        }
        // The webhook for pods never fails closed.
        let of_pods = webhook.rules.iter().flatten().any(|rule| is_for(rule, "pods"));
        let trusting = bundle.is_some() || ca_bundle(webhook).is_some();
        if trusting && !of_pods && wanted.is_some() && webhook.failure_policy.as_ref() != wanted {
            add(&["failurePolicy"], json!(wanted));
        }
    }
    if !operations.is_empty() {
        operations.insert(0, managed_fields::precondition(&configuration.metadata));
    }
    JsonPatch(operations)
}

fn is_for(rule: &RuleWithOperations, resource: &str) -> bool {
    rule.resources.iter().flatten().any(|of_rule| of_rule == resource)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use http::Method;
    use tokio::{sync::mpsc, time::timeout};

    use super::*;
    use crate::{
        runtime::test_support::{client, failure},
        runtime::{client::LIMIT, readiness::Readiness},
    };

    /// A replica, and the senders of its CAs and its leadership.
    fn start(client: Client, leading: bool) -> (Readiness, (watch::Sender<String>, watch::Sender<bool>)) {
        let readiness = Readiness::default();
        let check = readiness.check("caBundle");
        let (cas, bundle) = watch::channel("pem".to_owned());
        let (election, is_leader) = watch::channel(leading);
        tokio::spawn(run(client, "adieu".into(), Some(bundle), is_leader, check));
        (readiness, (cas, election))
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_ca_bundle_write_is_retried_without_an_event() {
        for first in [Some((500, failure(500, "etcd has no leader"))), None] {
            let configuration = json!({
                "metadata": {"name": "adieu", "resourceVersion": "7"},
                "webhooks": [{"name": "a", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {}}],
            });
            let failed = AtomicBool::default();
            let client = client(move |method, target| match *method {
                Method::PATCH if !failed.swap(true, Ordering::Relaxed) => first.clone(),
                Method::PATCH => Some((200, configuration.clone())),
                _ if target.contains("watch=") => None,
                _ => Some((200, json!({"metadata": {"resourceVersion": "7"}, "items": [configuration]}))),
            });
            let (readiness, _senders) = start(client, true);
            let filled_in = async {
                while !readiness.pending_checks().is_empty() {
                    sleep(RETRY).await;
                }
            };
            timeout(LIMIT + 10 * RETRY, filled_in).await.expect("another attempt");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_drops_its_managed_fields() {
        let entry = |manager: &str| json!({"manager": manager, "operation": "Update"});
        let configuration = json!({
            "metadata": {"name": "adieu", "resourceVersion": "7", "managedFields": [entry("helm"), entry(FIELD_MANAGER)]},
            "webhooks": [{"name": "a", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                          "clientConfig": {"caBundle": "cGVt"}}],
        });
        for leading in [true, false] {
            let configuration = configuration.clone();
            let (sender, mut sent) = mpsc::unbounded_channel();
            let client = client(move |method, target| match *method {
                Method::PATCH => {
                    sender.send(()).unwrap();
                    Some((200, configuration.clone()))
                }
                _ if target.contains("watch=") => None,
                _ => Some((200, json!({"metadata": {"resourceVersion": "7"}, "items": [configuration]}))),
            });
            let (readiness, _senders) = start(client, leading);
            assert_eq!(timeout(RETRY, sent.recv()).await.is_ok(), leading);
            assert_eq!(readiness.pending_checks(), [""; 0]);
        }
    }

    #[test]
    fn the_failure_policy_is_set_with_the_ca_bundle_except_for_pods() {
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
        let patched = patch(&serde_json::from_value(failing.clone()).unwrap(), Some("pem"));
        json_patch::patch(&mut failing, &patched).unwrap();
        let policies = |of: &serde_json::Value| {
            of["webhooks"].as_array().unwrap().iter().map(|w| w["failurePolicy"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(policies(&failing), ["Fail", "Ignore"]);
        assert!(patch(&serde_json::from_value(failing.clone()).unwrap(), Some("pem")).0.is_empty());
        failing["metadata"]["annotations"][FAILURE_POLICY] = json!("Ignore");
        let back = patch(&serde_json::from_value(failing.clone()).unwrap(), Some("pem"));
        json_patch::patch(&mut failing, &back).unwrap();
        assert_eq!(policies(&failing), ["Ignore", "Ignore"]);
    }

    #[test]
    fn an_external_ca_bundle_is_kept_and_awaited() {
        let configuration = |trusting: bool| {
            let client = if trusting { json!({"caBundle": "cGVt"}) } else { json!({}) };
            serde_json::from_value::<MutatingWebhookConfiguration>(json!({
                "metadata": {"name": "adieu", "annotations": {FAILURE_POLICY: "Fail"}},
                "webhooks": [{"name": "a", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                              "clientConfig": client, "failurePolicy": "Ignore"}],
            }))
            .unwrap()
        };
        assert!(patch(&configuration(false), None).0.is_empty() && !has_ca_bundles(&configuration(false)));
        let patched = serde_json::to_value(patch(&configuration(true), None)).unwrap();
        assert_eq!(patched[1], json!({"op": "add", "path": "/webhooks/0/failurePolicy", "value": "Fail"}));
        assert_eq!(patched.as_array().unwrap().len(), 2);
        assert!(has_ca_bundles(&configuration(true)));
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
        let patched = patch(&serde_json::from_value(configuration.clone()).unwrap(), Some("pem"));
        assert_eq!(patched.0.len(), 3, "{patched:?}");
        json_patch::patch(&mut configuration, &patched).unwrap();
        for webhook in configuration["webhooks"].as_array().unwrap() {
            assert_eq!(webhook["clientConfig"]["caBundle"], "cGVt");
        }
        assert!(patch(&serde_json::from_value(configuration).unwrap(), Some("pem")).0.is_empty());
    }
}
