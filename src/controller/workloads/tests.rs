use std::{pin::pin, sync::Mutex};

use futures::{FutureExt as _, StreamExt as _, future::join_all};
use http::Method;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use super::*;
use crate::{
    api::{
        FIELD_MANAGER,
        annotations::{ACCEPTED, PENDING},
    },
    controller::{backoff::BlockReason, test_support::context_with},
    index::{caches::Caches, template_hash, unusable_objects::UnusableReason},
    runtime::client::LIMIT,
    runtime::test_support::{client, client_of_bodies, failure},
    scheduler::SlotRequest,
};

const DEPLOYMENT: Kind = Kind::Deployment;

/// A Deployment whose rollout is complete.
pub(super) fn deployment(name: &str) -> DynamicObject {
    let counts =
        json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1});
    serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop", "uid": name, "generation": 1, "resourceVersion": "7"},
        "spec": {"replicas": 1, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "web"}], "terminationGracePeriodSeconds": 30},
        }},
        "status": counts,
    }))
    .unwrap()
}

/// A workload that is up to date.
fn opted_out() -> DynamicObject {
    let mut object = deployment("a");
    object.metadata.annotations = Some([("adieu.dev/graceful".into(), "false".into())].into());
    object
}

/// These Deployments, and a policy for all of them.
fn caches(names: &[&str]) -> Caches {
    following(&json!({"maxConcurrent": 2}), names)
}

pub(super) fn following(rollout: &Value, names: &[&str]) -> Caches {
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": "all", "namespace": "shop", "generation": 1},
        "spec": {"selector": {}, "rollout": rollout},
    });
    let workloads = names.iter().map(|name| (DEPLOYMENT, deployment(name))).collect();
    Caches::fixed(vec![serde_json::from_value(policy).unwrap()], vec![], workloads)
}

type Requests = Arc<Mutex<Vec<String>>>;

/// A context with an API server that answers like this, and the requests that it got.
fn with(
    names: &[&str],
    answer: impl Fn(&Method) -> Option<(u16, Value)> + Send + 'static,
) -> (Arc<ReconcileContext>, [watch::Sender<bool>; 2], Requests) {
    let requests_seen = Requests::default();
    let requests = requests_seen.clone();
    let client = client(move |method, target| {
        let name = target.split('?').next().and_then(|path| path.rsplit('/').next());
        requests.lock().unwrap().push(format!("{method} {}", name.unwrap_or_default()));
        answer(method)
    });
    let (context, senders) = context_with(client, caches(names), 10);
    (Arc::new(context), senders, requests_seen)
}

async fn reconciled(context: &Arc<ReconcileContext>, object: DynamicObject) -> Result<Action, write::Error> {
    reconcile_cached(DEPLOYMENT, Arc::new(object.into()), context.clone()).await
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_not_answered_delays_no_other() {
    let (context, _senders, requests_seen) = with(&["a", "b"], |_| None);
    let both = ["a", "b"].map(|name| reconciled(&context, deployment(name)).boxed());
    let outcomes = timeout(3 * LIMIT, join_all(both)).await.expect("an end");
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains("did not answer within"), "{error}");
        assert!(!error.is_conflict() && !error.is_rejection());
    }
    assert_eq!(*requests_seen.lock().unwrap(), ["PATCH a", "PATCH b"]);
}

#[tokio::test]
async fn a_workload_that_is_not_written_releases_its_slot() {
    let (context, senders, requests_seen) =
        with(&["a"], |_| Some((409, failure(409, "the object has been modified"))));
    let object = deployment("a");
    let namespace_context = context.caches.namespace_context("shop");
    let evaluation = plan::evaluate(&Workload::of(DEPLOYMENT, &object), &namespace_context);
    let desired_template = template_hash(&evaluation.template.unwrap());
    let request = SlotRequest { uid: object.metadata.uid.as_deref(), generation: 1, desired_template };
    let reserve = || context.scheduling.reserve(&Key::of(DEPLOYMENT, &object), request);
    assert!(context.index.is_waiting(&Key::of(DEPLOYMENT, &object)));
    assert!(reconciled(&context, object.clone()).await.unwrap_err().is_conflict());
    assert!(!context.index.is_waiting(&Key::of(DEPLOYMENT, &object)));
    let slot = reserve().unwrap();
    assert!(reserve().is_none());
    slot.release();
    // While writes are paused nothing is sent.
    senders[1].send_replace(true);
    context.index.requeue_workload(&Key::of(DEPLOYMENT, &object));
    assert_eq!(reconciled(&context, object.clone()).await.unwrap(), Action::await_change());
    assert_eq!(*requests_seen.lock().unwrap(), ["PATCH a"]);
    assert!(reserve().is_some());
    assert!(context.index.is_waiting(&Key::of(DEPLOYMENT, &object)), "it was not reconciled");
}

#[tokio::test]
async fn leftover_managed_fields_do_not_prevent_the_write_of_the_template() {
    let written = {
        let (object, namespace_context) = (deployment("a"), caches(&["a"]).namespace_context("shop"));
        let template = plan::evaluate(&Workload::of(DEPLOYMENT, &object), &namespace_context).template;
        let mut written = serde_json::to_value(object).unwrap();
        written["spec"]["template"] = template.unwrap();
        written
    };
    let (context, _senders, requests_seen) = with(&["a"], move |method| match *method {
        Method::PATCH => Some((200, written.clone())),
        _ => Some((403, failure(403, "forbidden"))),
    });
    let mut object = deployment("a");
    let left = json!([{"manager": FIELD_MANAGER, "operation": "Update", "time": "2026-01-01T00:00:00Z"}]);
    object.metadata.managed_fields = serde_json::from_value(left).unwrap();
    let error = reconciled(&context, object).await.unwrap_err();
    assert!(error.is_rejection(), "{error}");
    assert_eq!(*requests_seen.lock().unwrap(), ["PATCH a", "GET a"]);
}

#[tokio::test]
async fn a_workload_in_an_unknown_namespace_is_not_written_and_delays_no_other() {
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy", "metadata": {"name": "all"},
        "spec": {
            "selector": {}, "rollout": {"maxConcurrent": 1},
            "namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["bank"]},
            ]},
        },
    });
    let (mut excluded, included) = (deployment("a"), deployment("b"));
    excluded.metadata.namespace = Some("bank".into());
    let shop = json!({"metadata": {"name": "shop", "labels": {"kubernetes.io/metadata.name": "shop"}}});
    let workloads = [&excluded, &included].map(|object| (DEPLOYMENT, object.clone()));
    let caches = Caches::fixed(vec![], vec![], workloads.into())
        .with_cluster_policies(vec![serde_json::from_value(policy).unwrap()])
        .with_namespaces(vec![serde_json::from_value(shop).unwrap()]);
    let requests_seen = Requests::default();
    let requests = requests_seen.clone();
    let client = client(move |method, target| {
        requests.lock().unwrap().push(format!("{method} {target}"));
        Some((409, failure(409, "the object has been modified")))
    });
    let (context, _senders) = context_with(client, caches, 10);
    let context = Arc::new(context);
    // Annotated, it needs no slot.
    excluded.metadata.annotations = Some([("adieu.dev/graceful".into(), "true".into())].into());
    assert_eq!(reconciled(&context, excluded).await.unwrap(), Action::await_change());
    assert!(requests_seen.lock().unwrap().is_empty());
    assert!(reconciled(&context, included).await.unwrap_err().is_conflict());
}

#[tokio::test]
async fn a_workload_that_waits_for_its_next_update_is_annotated_once() {
    let object = |annotations: &[&str]| {
        let mut object = deployment("a");
        let annotations = annotations.iter().map(|key| ((*key).to_owned(), "true".to_owned()));
        object.metadata.annotations = Some(annotations.collect());
        object
    };
    let labelled = |label: &str| {
        let labels = json!({"adieu.dev/injection": label});
        let namespace = json!({"metadata": {"name": "shop", "labels": labels}});
        let namespaces = vec![serde_json::from_value(namespace).unwrap()];
        following(&json!({"mode": "NextUpdate"}), &["a"]).with_namespaces(namespaces)
    };
    let waiting = || labelled("disabled");
    let no_policy = || Caches::fixed(vec![], vec![], vec![]);
    for (caches, annotations, written) in [
        (waiting(), &[][..], true),
        (waiting(), &[PENDING], false),
        // It reaches the webhook anyway.
        (waiting(), &["adieu.dev/drain-seconds"], false),
        (labelled("enabled"), &[], false),
        // It is not managed any more.
        (no_policy(), &[PENDING], true),
        (no_policy(), &[], false),
    ] {
        let requests_seen = Requests::default();
        let requests = requests_seen.clone();
        let client = client(move |method, _| {
            requests.lock().unwrap().push(method.to_string());
            Some((200, serde_json::to_value(deployment("a")).unwrap()))
        });
        let (context, _senders) = context_with(client, caches, 1);
        reconciled(&Arc::new(context), object(annotations)).await.unwrap();
        assert_eq!(*requests_seen.lock().unwrap() == ["PATCH"], written, "{annotations:?}");
    }
}

#[tokio::test]
async fn an_unmanaged_workload_is_not_reverted_while_a_policy_can_not_be_decoded() {
    for (readable, annotation, written) in
        [(true, None, true), (false, None, false), (false, Some("false"), true)]
    {
        let requests_seen = Requests::default();
        let requests = requests_seen.clone();
        let client = client(move |method, _| {
            requests.lock().unwrap().push(method.to_string());
            Some((200, serde_json::to_value(deployment("a")).unwrap()))
        });
        let (context, _senders) = context_with(client, Caches::fixed(vec![], vec![], vec![]), 1);
        let annotated = |value: &str| Some([("adieu.dev/graceful".into(), value.into())].into());
        let mut injected = deployment("a");
        injected.metadata.annotations = annotated("true");
        let namespace_context = context.caches.namespace_context("shop");
        let evaluation = plan::evaluate(&Workload::of(DEPLOYMENT, &injected), &namespace_context);
        injected.data["spec"]["template"] = evaluation.template.unwrap();
        injected.metadata.annotations = annotation.and_then(annotated);
        if !readable {
            let policy = ObjectReference { namespace: Some("shop".into()), ..ObjectReference::default() };
            let unusable = context.caches.unusable();
            unusable.add("GracefulPolicy", policy, UnusableReason::Undecodable("spec".into()));
        }
        reconciled(&Arc::new(context), injected).await.unwrap();
        assert_eq!(!requests_seen.lock().unwrap().is_empty(), written);
    }
}

#[tokio::test]
async fn a_stub_of_a_workload_is_never_written() {
    let (context, _senders, requests_seen) = with(&["a"], |_| None);
    let mut large = deployment("a");
    large.data["spec"]["template"]["spec"]["containers"][0]["env"] =
        vec![json!({"name": "A"}); 10_000].into();
    let stub = CachedWorkload::from(large).stub("too large");
    assert!(stub.too_large().is_some());
    assert_eq!(reconcile_cached(DEPLOYMENT, Arc::new(stub), context).await.unwrap(), Action::await_change());
    assert!(requests_seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn accepted_settings_are_written_on_the_workload_once() {
    let probing = |mode: &str| {
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
            "metadata": {"name": "all", "namespace": "shop"},
            "spec": {"selector": {}, "readinessProbe": {"mode": mode}},
        });
        let policies = vec![serde_json::from_value(policy).unwrap()];
        Caches::fixed(policies, vec![], vec![(DEPLOYMENT, deployment("a"))])
    };
    let mut object = deployment("a");
    let before = probing("Never").namespace_context("shop");
    object.data["spec"]["template"] =
        plan::evaluate(&Workload::of(DEPLOYMENT, &object), &before).template.unwrap();
    let written: Arc<Mutex<Vec<Value>>> = Arc::default();
    for (mode, expected) in [("Never", 0), ("Auto", 1), ("Auto", 1)] {
        let (bodies, answer) = (written.clone(), serde_json::to_value(&object).unwrap());
        let client = client_of_bodies(move |_, _, body| {
            bodies.lock().unwrap().push(serde_json::from_slice(body).unwrap());
            Some((200, answer.clone()))
        });
        let (context, _senders) = context_with(client, probing(mode), 1);
        reconciled(&Arc::new(context), object.clone()).await.unwrap();
        let written = written.lock().unwrap();
        assert_eq!(written.len(), expected, "{mode}: {written:?}");
        if let Some(patch) = written.last() {
            assert_eq!(patch["metadata"]["resourceVersion"], "7");
            let annotations = serde_json::from_value(patch["metadata"]["annotations"].clone()).unwrap();
            object.metadata.annotations = annotations;
        }
    }
    assert!(object.metadata.annotations.unwrap().contains_key(ACCEPTED));
}

#[tokio::test]
async fn a_workload_that_is_not_to_be_written_is_unblocked() {
    for spec in
        [json!({"selector": {}, "mode": "Audit"}), json!({"selector": {}, "rollout": {"mode": "NextUpdate"}})]
    {
        let policy = json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
            "metadata": {"name": "all", "namespace": "shop"}, "spec": spec,
        });
        let policies = vec![serde_json::from_value(policy).unwrap()];
        let caches = Caches::fixed(policies, vec![], vec![(DEPLOYMENT, deployment("a"))]);
        let answer = serde_json::to_value(deployment("a")).unwrap();
        let (context, _senders) = context_with(client(move |_, _| Some((200, answer.clone()))), caches, 1);
        let key = Key::of(DEPLOYMENT, &deployment("a"));
        let _ = context.backoff.block(key.clone(), BlockReason::WriteRejected, "denied".into());
        let context = Arc::new(context);
        reconciled(&context, deployment("a")).await.unwrap();
        assert!(!context.backoff.is_blocked(&key), "{spec}");
    }
}

#[tokio::test]
async fn a_rejected_and_a_reverted_write_have_their_own_reasons() {
    let unchanged = serde_json::to_value(deployment("a")).unwrap();
    for (answer, expected) in [
        ((403, failure(403, "forbidden")), BlockReason::WriteRejected),
        ((200, unchanged), BlockReason::InjectionReverted),
    ] {
        let (context, _senders, _) = with(&["a"], move |_| Some(answer.clone()));
        reconciled(&context, deployment("a")).await.unwrap();
        let (reason, message) = context.backoff.cause(&Key::of(DEPLOYMENT, &deployment("a"))).unwrap();
        assert_eq!(reason, expected, "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_blocked_workload_without_a_slot_waits_for_one() {
    let names = ["a", "b"];
    let caches = following(&json!({"maxConcurrent": 1}), &names);
    let (context, _senders) = context_with(client(|_, _| None), caches, 10);
    let (context, b) = (Arc::new(context), deployment("b"));
    let namespace_context = context.caches.namespace_context("shop");
    let desired_template =
        template_hash(&plan::evaluate(&Workload::of(DEPLOYMENT, &b), &namespace_context).template.unwrap());
    let _ =
        context.block_and_retry(DEPLOYMENT, &deployment("a"), BlockReason::WriteRejected, "denied".into());
    let request = SlotRequest { uid: b.metadata.uid.as_deref(), generation: 1, desired_template };
    let slot = context.scheduling.reserve(&Key::of(DEPLOYMENT, &b), request).unwrap();
    assert_eq!(reconciled(&context, deployment("a")).await.unwrap(), Action::await_change());
    let mut runnable = pin!(context.scheduling.runnable(DEPLOYMENT));
    while runnable.next().now_or_never().is_some() {}
    slot.release();
    let runnable = timeout(Duration::from_secs(1), runnable.next()).await.unwrap().unwrap();
    assert_eq!(runnable, reference(&Key::of(DEPLOYMENT, &deployment("a"))));
}

#[tokio::test]
async fn failed_attempts_back_off_until_a_reconciliation_succeeds() {
    let (context, _senders, _) = with(&[], |_| None);
    let source = || kube::Error::Service("the network is down".into());
    let fail = || {
        let object = deployment("a");
        let error = write::Error::new(DEPLOYMENT, &object, source());
        error_policy(DEPLOYMENT, &object.into(), &error, &context)
    };
    for _ in 0..10 {
        fail();
    }
    let key = Key::of(DEPLOYMENT, &deployment("a"));
    assert!(context.backoff.failed(key.clone()) >= Duration::from_secs(20), "with jitter, of 30 s");
    assert!(!context.backoff.is_blocked(&key), "the network is down for all workloads");
    reconciled(&context, opted_out()).await.unwrap();
    assert!(context.backoff.failed(key) < Duration::from_secs(2));
}

#[tokio::test]
async fn a_workload_that_another_client_keeps_writing_is_blocked_until_a_reconciliation_succeeds() {
    let conflict = |_: &Method| Some((409, failure(409, "the object has been modified")));
    let (context, _senders, _) = with(&["a"], conflict);
    let key = Key::of(DEPLOYMENT, &deployment("a"));
    let mut attempts = 0;
    while let Err(error) = reconciled(&context, deployment("a")).await {
        error_policy(DEPLOYMENT, &deployment("a").into(), &error, &context);
        assert!(!context.backoff.is_blocked(&key));
        attempts += 1;
    }
    assert!(attempts > 5, "{attempts}");
    let (reason, message) = context.backoff.cause(&key).unwrap();
    assert_eq!(reason, BlockReason::WriteConflict);
    assert!(message.contains("another client keeps updating this object"), "{message}");
    let again = reconciled(&context, deployment("a")).await;
    assert_eq!(again.unwrap(), Action::requeue(Duration::from_secs(20)), "with growing delays");
    reconciled(&context, opted_out()).await.unwrap();
    assert!(!context.backoff.is_blocked(&key));
}
