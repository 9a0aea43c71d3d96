//! The caBundle of our own webhook configuration: filled in, and put back when something takes it away.

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

use super::{FIELD_MANAGER, ownership, readiness::Gate};

/// Whom the webhooks shall trust.
#[derive(Clone, Debug)]
pub enum Bundle {
    /// The authorities whose certificates these are, PEM.
    Ours(watch::Receiver<String>),
    /// Somebody else fills it in, such as cert-manager.
    Theirs,
}

/// How long after a failure the next attempt is made. Nothing else may ever come to cause one.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the caBundle of the configuration `name` equal to what `bundle` holds, for ever, while this replica
/// leads. `gate` opens when that is so for the first time, whoever wrote it.
pub async fn keep(
    client: Client,
    name: String,
    mut bundle: Bundle,
    mut is_leader: watch::Receiver<bool>,
    gate: Gate,
) {
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
    let ours = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
    let send = async |due| api.patch(&name, &ours, &Patch::<()>::Json(due)).await;
    let mut gate = Some(gate);
    let mut current = None;
    let mut failed = false;
    loop {
        tokio::select! {
            () = sleep(RETRY), if failed => {}
            event = events.next() => match event {
                Some(configuration) => current = Some(configuration),
                None => return,
            },
            () = bundle.changed() => {}
            changed = is_leader.changed() => if changed.is_err() { return },
        }
        failed = false;
        let Some(configuration) = &current else { continue };
        let pem = bundle.pem();
        let due = patch(configuration, pem.as_deref());
        let is_leader = *is_leader.borrow_and_update();
        if due.0.is_empty() {
            // Or an upgrade of the chart that sets another value would conflict.
            let left = ownership::give_up(&configuration.metadata).filter(|_| is_leader);
            if let Some(left) = left
                && let Err(error) = send(left).await
            {
                tracing::debug!(configuration = name, %error, "our entry in managedFields is given up later");
                failed = true;
            }
        } else if !is_leader {
            continue;
        } else {
            match send(due).await {
                Ok(_) => tracing::info!(configuration = name, "caBundle filled in"),
                Err(error) => {
                    tracing::warn!(configuration = name, %error, "caBundle not filled in, trying again");
                    failed = true;
                    continue;
                }
            }
        }
        if is_trusting(configuration) || pem.is_some() {
            gate.take().into_iter().for_each(Gate::open);
        }
    }
}

impl Bundle {
    async fn changed(&mut self) {
        let told = match self {
            Self::Ours(bundle) => bundle.changed().await.is_ok(),
            Self::Theirs => false,
        };
        if !told {
            pending::<()>().await;
        }
    }

    fn pem(&mut self) -> Option<String> {
        match self {
            Self::Ours(bundle) => Some(bundle.borrow_and_update().clone()),
            Self::Theirs => None,
        }
    }
}

/// Whether every webhook trusts somebody.
fn is_trusting(configuration: &MutatingWebhookConfiguration) -> bool {
    configuration.webhooks.iter().flatten().all(|webhook| trusts(webhook).is_some())
}

fn trusts(webhook: &MutatingWebhook) -> Option<&ByteString> {
    webhook.client_config.ca_bundle.as_ref().filter(|bundle| !bundle.0.is_empty())
}

/// The failurePolicy of the webhooks for workloads, as the chart's value has it.
const FAILURE_POLICY: &str = "adieu.dev/failure-policy";

/// What must change for every webhook to trust `pem`, where it is ours to say, and for those of workloads to
/// fail as the chart says, which must not be before anybody is trusted. Not where the configuration is another by
/// now: a webhook that moved in the list would get another's value.
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
        // A pod that is created is let through in any case.
        let of_pods = webhook.rules.iter().flatten().any(|rule| is_for(rule, "pods"));
        let trusting = bundle.is_some() || trusts(webhook).is_some();
        if trusting && !of_pods && wanted.is_some() && webhook.failure_policy.as_ref() != wanted {
            add(&["failurePolicy"], json!(wanted));
        }
    }
    if !operations.is_empty() {
        operations.insert(0, ownership::precondition(&configuration.metadata));
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
        runtime::{client::LIMIT, readiness::Readiness},
        trial::test_support::{client, failure},
    };

    /// A replica that keeps the caBundle, and who tells it of authorities and of the election.
    fn keeping(client: Client, leading: bool) -> (Readiness, (watch::Sender<String>, watch::Sender<bool>)) {
        let readiness = Readiness::default();
        let gate = readiness.gate("caBundle");
        let (authorities, bundle) = watch::channel("pem".to_owned());
        let (election, is_leader) = watch::channel(leading);
        tokio::spawn(keep(client, "adieu".into(), Bundle::Ours(bundle), is_leader, gate));
        (readiness, (authorities, election))
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_filled_in_is_tried_again_though_nothing_happens() {
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
            let (readiness, _told) = keeping(client, true);
            let filled_in = async {
                while !readiness.waiting_for().is_empty() {
                    sleep(RETRY).await;
                }
            };
            timeout(LIMIT + 10 * RETRY, filled_in).await.expect("another attempt");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_of_it_stays_in_our_name() {
        let entry = |manager: &str| json!({"manager": manager, "operation": "Update"});
        let configuration = json!({
            "metadata": {"name": "adieu", "resourceVersion": "7", "managedFields": [entry("helm"), entry(FIELD_MANAGER)]},
            "webhooks": [{"name": "a", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                          "clientConfig": {"caBundle": "cGVt"}}],
        });
        for leading in [true, false] {
            let configuration = configuration.clone();
            let (tell, mut sent) = mpsc::unbounded_channel();
            let client = client(move |method, target| match *method {
                Method::PATCH => {
                    tell.send(()).unwrap();
                    Some((200, configuration.clone()))
                }
                _ if target.contains("watch=") => None,
                _ => Some((200, json!({"metadata": {"resourceVersion": "7"}, "items": [configuration]}))),
            });
            let (readiness, _told) = keeping(client, leading);
            assert_eq!(timeout(RETRY, sent.recv()).await.is_ok(), leading);
            assert_eq!(readiness.waiting_for(), [""; 0]);
        }
    }

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
    fn what_somebody_else_fills_in_is_left_and_waited_for() {
        let configuration = |trusting: bool| {
            let client = if trusting { json!({"caBundle": "cGVt"}) } else { json!({}) };
            serde_json::from_value::<MutatingWebhookConfiguration>(json!({
                "metadata": {"name": "adieu", "annotations": {FAILURE_POLICY: "Fail"}},
                "webhooks": [{"name": "a", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                              "clientConfig": client, "failurePolicy": "Ignore"}],
            }))
            .unwrap()
        };
        assert!(patch(&configuration(false), None).0.is_empty() && !is_trusting(&configuration(false)));
        let patched = serde_json::to_value(patch(&configuration(true), None)).unwrap();
        assert_eq!(patched[1], json!({"op": "add", "path": "/webhooks/0/failurePolicy", "value": "Fail"}));
        assert_eq!(patched.as_array().unwrap().len(), 2);
        assert!(is_trusting(&configuration(true)));
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
