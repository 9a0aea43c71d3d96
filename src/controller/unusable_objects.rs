//! Reports objects that can't be used: by Events, and in the status of policies.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    Client, Resource as _,
    api::{Patch, PatchParams, Request},
};
use serde_json::json;
use tokio::time::sleep;

use super::context::ReconcileContext;
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    index::{caches::changes, unusable_objects::UnusableReason},
    runtime::client,
};

/// How long changes are collected.
const DEBOUNCE: Duration = Duration::from_secs(1);

/// Publishes an Event for each object that can't be used, once for each reason, and sets the condition `Ready` of
/// policies, while this replica leads.
pub(super) async fn report(context: &ReconcileContext) {
    let unusable = context.caches.unusable();
    let mut changed = stream::select(changes(unusable.changed()).boxed(), context.permissions().boxed());
    let mut reported: HashMap<String, UnusableReason> = HashMap::new();
    loop {
        if context.replica.is_leader() {
            let all = unusable.all();
            let uids: HashSet<_> = all.iter().filter_map(|one| one.reference.uid.as_ref()).collect();
            reported.retain(|uid, _| uids.contains(uid));
            for one in &all {
                let uid = one.reference.uid.clone().unwrap_or_default();
                if reported.get(&uid) != Some(&one.reason) {
                    context.events.unusable(&one.reference, &one.reason);
                    reported.insert(uid, one.reason.clone());
                    let writing = set_not_ready(&context.client, &one.reference, &one.reason);
                    if let Some(Err(error)) = context.replica.while_leading(writing).await {
                        let ObjectReference { kind, namespace, name, .. } = &one.reference;
                        tracing::warn!(kind, namespace, name, %error, "cannot write the status of an unusable policy");
                    }
                }
            }
        } else {
            reported.clear();
        }
        if changed.next().await.is_none() {
            return;
        }
        sleep(DEBOUNCE).await;
    }
}

/// Sets the condition `Ready` of a policy to false. Its other conditions return once it can be used.
async fn set_not_ready(
    client: &Client,
    object: &ObjectReference,
    reason: &UnusableReason,
) -> Result<(), kube::Error> {
    let (name, namespace) = (object.name.as_deref().unwrap_or_default(), object.namespace.as_deref());
    let condition = Condition {
        type_: "Ready".into(),
        status: "False".into(),
        reason: reason.name().into(),
        message: format!("adieu cannot use this policy: {reason}"),
        observed_generation: None,
        last_transition_time: Time(Timestamp::now()),
    };
    let path = match (object.kind.as_deref(), namespace) {
        (Some("GracefulPolicy"), Some(_)) => GracefulPolicy::url_path(&(), namespace),
        (Some("ClusterGracefulPolicy"), _) => ClusterGracefulPolicy::url_path(&(), None),
        _ => return Ok(()),
    };
    let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
    let request = Request::new(path).patch_subresource("status", name, &PatchParams::default(), &patch);
    client::send(client, request).await
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use http::{Method, Request, Response};
    use http_body_util::BodyExt as _;
    use kube::{client::Body, runtime::events::Reporter};
    use serde_json::Value;
    use tokio::{join, time::timeout};
    use tokio_util::sync::CancellationToken;
    use tower::service_fn;

    use super::*;
    use crate::{
        controller::{events::publisher, test_support::context_with},
        index::caches::Caches,
    };

    type Requests<T> = Arc<Mutex<Vec<T>>>;

    /// A client of an API server that records Events, and the patches with their paths.
    fn recording() -> (Client, Requests<Value>, Requests<(String, Value)>) {
        let sent: Requests<Value> = Arc::default();
        let patched: Requests<(String, Value)> = Arc::default();
        let (events, statuses) = (sent.clone(), patched.clone());
        let server = service_fn(move |request: Request<Body>| {
            let (events, statuses) = (events.clone(), statuses.clone());
            async move {
                let (method, path) = (request.method().clone(), request.uri().path().to_owned());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let value = serde_json::from_slice(&body).unwrap();
                if method == Method::PATCH {
                    statuses.lock().unwrap().push((path, value));
                    return Ok(Response::new(Body::from(br#"{"metadata": {"name": "a"}}"#.to_vec())));
                }
                events.lock().unwrap().push(value);
                Ok::<_, Infallible>(Response::new(Body::from(body)))
            }
        });
        (Client::new(server, "default"), sent, patched)
    }

    #[tokio::test(start_paused = true)]
    async fn an_unusable_object_gets_one_event_from_the_leader() {
        let (client, sent, patched) = recording();
        let reporter = Reporter { controller: "adieu".into(), instance: None };
        let (publisher, publishing) = publisher(client.clone(), reporter, CancellationToken::new());
        let (mut context, [is_leader, _paused]) =
            context_with(client, Caches::fixed(vec![], vec![], vec![]), 1);
        context.events = publisher;
        let unusable = context.caches.unusable().clone();
        let add = |uid: &str| {
            let object = ObjectReference {
                kind: Some("GracefulPolicy".into()),
                name: Some(uid.into()),
                namespace: Some("shop".into()),
                uid: Some(uid.into()),
                ..ObjectReference::default()
            };
            unusable.add(
                "GracefulPolicy",
                object,
                UnusableReason::Undecodable("spec: not an integer".into()),
            );
        };
        is_leader.send_replace(false);
        add("a");
        let count = || sent.lock().unwrap().len();
        let change = async {
            sleep(2 * DEBOUNCE).await;
            assert_eq!(count(), 0, "another replica leads");
            is_leader.send_replace(true);
            for uid in ["a", "b", "b"] {
                sleep(2 * DEBOUNCE).await;
                add(uid);
            }
            sleep(2 * DEBOUNCE).await;
        };
        let limit = 30 * DEBOUNCE;
        let reporting = timeout(limit, report(&context));
        let _ = join!(reporting, timeout(limit, publishing), change);
        let sent = sent.lock().unwrap();
        let about: Vec<_> = sent.iter().map(|event| event["regarding"]["name"].as_str().unwrap()).collect();
        assert_eq!(about, ["a", "b"]);
        assert_eq!(sent[0]["reason"], "Undecodable");
        assert!(sent[0]["note"].as_str().unwrap().contains("spec: not an integer"));
        let patched = patched.lock().unwrap();
        let paths: Vec<_> =
            patched.iter().map(|(path, _)| path.rsplit_once("/gracefulpolicies/").unwrap().1).collect();
        assert_eq!(paths, ["a/status", "b/status"]);
        let condition = &patched[0].1["status"]["conditions"][0];
        assert_eq!(
            (&condition["type"], &condition["status"], &condition["reason"]),
            (&"Ready".into(), &"False".into(), &"Undecodable".into())
        );
        assert!(condition["message"].as_str().unwrap().contains("spec: not an integer"));
    }
}
