use axum::{body::Body, http::Request};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::webhook::body::{BODY_LIMIT, SMALL, arrival_limit};
use crate::{
    index::{unusable_objects::UnusableObjects, workloads::Workloads},
    runtime::test_support::client,
};

/// The `timeoutSeconds` of the chart.
const TIMEOUT: Duration = Duration::from_secs(5);

fn deployment(annotations: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
        "spec": {
            "replicas": 2,
            "fieldOfTheFuture": {"kept": [1, 2]},
            "template": {
                "metadata": {"labels": {"app": "web"}, "creationTimestamp": null},
                "spec": {
                    "containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 8080, "name": "http"}]}],
                    "terminationGracePeriodSeconds": 30,
                    "anotherOne": "kept too",
                },
            },
        },
    })
}

fn review_of(operation: &str, object: Value, old_object: Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "apps", "version": "v1", "kind": object["kind"]},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "namespace": "shop", "operation": operation,
            "userInfo": {"username": "admin"},
            "object": object, "oldObject": old_object, "dryRun": true,
        },
    })
}

async fn send(body: impl Into<Body>) -> (StatusCode, String) {
    send_to(Caches::fixed(vec![], vec![], vec![]), body).await
}

async fn send_to(caches: Caches, body: impl Into<Body>) -> (StatusCode, String) {
    send_counted(caches, Arc::default(), body).await
}

async fn send_counted(caches: Caches, metrics: Arc<Metrics>, body: impl Into<Body>) -> (StatusCode, String) {
    send_with_query(caches, metrics, "timeout=5s", body).await
}

async fn send_with_query(
    caches: Caches,
    metrics: Arc<Metrics>,
    query: &str,
    body: impl Into<Body>,
) -> (StatusCode, String) {
    let router = router(caches, metrics, TIMEOUT);
    let request = Request::post(format!("{PATH}?{query}"))
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// The response, and the object with the patch applied.
async fn reviewed(operation: &str, object: Value, old_object: Value) -> (Value, Value) {
    patched(&review_of(operation, object, old_object)).await
}

/// The response to a review, and its object with the patch applied.
pub(super) async fn patched(review: &Value) -> (Value, Value) {
    patched_with(Caches::fixed(vec![], vec![], vec![]), review).await
}

/// The same with these caches.
async fn patched_with(caches: Caches, review: &Value) -> (Value, Value) {
    let (status, body) = send_to(caches, review.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let mut returned: Value = serde_json::from_str(&body).unwrap();
    let response = returned["response"].take();
    assert_eq!(response["uid"], review["request"]["uid"]);
    let mut patched = review["request"]["object"].clone();
    if !response["patch"].is_null() {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = BASE64_STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        json_patch::patch(&mut patched, &patch).unwrap();
    }
    (response, patched)
}

#[tokio::test]
async fn bad_input_is_rejected_with_a_clear_message() {
    let object = deployment(&Value::Null);
    let good = review_of("CREATE", object.clone(), Value::Null).to_string();
    let mut pod = review_of("UPDATE", object.clone(), object.clone());
    pod["request"]["kind"] = json!({"group": "", "version": "v1", "kind": "Pod"});
    let mut v1beta1 = review_of("CREATE", object.clone(), Value::Null);
    v1beta1["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut deletion = review_of("DELETE", object.clone(), object);
    deletion["request"]["object"] = Value::Null;
    let unread = good.replacen('{', "{\"unread\":\"?\",", 1).into_bytes();
    let unread = unread.into_iter().map(|byte| if byte == b'?' { b'\xff' } else { byte }).collect();
    for (body, status, reason) in [
        (b"not json".to_vec(), 400, "not an admission.k8s.io/v1 AdmissionReview"),
        (good.as_bytes()[..good.len() / 2].to_vec(), 400, "not an admission.k8s.io/v1 AdmissionReview"),
        (b"\xff\xfe{}".to_vec(), 400, "not an admission.k8s.io/v1 AdmissionReview"),
        (unread, 400, "invalid utf-8"),
        (vec![], 400, "not an admission.k8s.io/v1 AdmissionReview"),
        (v1beta1.to_string().into_bytes(), 400, "got AdmissionReview of admission.k8s.io/v1beta1"),
        (br#"{"apiVersion":"v1","kind":"Pod"}"#.to_vec(), 400, "got Pod of v1"),
        (br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#.to_vec(), 400, "with a request"),
        (pod.to_string().into_bytes(), 422, "Update of /v1 Pod"),
        (deletion.to_string().into_bytes(), 422, "Delete of apps/v1 Deployment"),
        (vec![b' '; BODY_LIMIT + 1], 413, "length limit exceeded"),
    ] {
        let (actual, text) = send(body).await;
        assert_eq!(actual.as_u16(), status, "{text}");
        assert!(text.contains(reason), "{reason:?} is missing in {text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_requests_that_no_api_server_sends_count_as_bad() {
    let metrics: Arc<Metrics> = Arc::default();
    let good = review_of("CREATE", deployment(&json!({})), Value::Null).to_string();
    let slow = || Body::from_stream(futures::stream::pending::<Result<String, std::io::Error>>());
    let broken =
        || Body::from_stream(futures::stream::iter([Err::<String, _>(std::io::Error::other("reset"))]));
    let caches = || Caches::fixed(vec![], vec![], vec![]);
    for (caches, body, status, counted) in [
        (caches(), Body::from(good.clone()), StatusCode::OK, 0),
        (caches().unfilled(), Body::from(good), StatusCode::SERVICE_UNAVAILABLE, 0),
        (caches(), slow(), StatusCode::REQUEST_TIMEOUT, 0),
        (caches(), broken(), StatusCode::BAD_REQUEST, 0),
        (caches(), Body::from("{}"), StatusCode::BAD_REQUEST, 1),
        (caches(), Body::from(vec![b' '; BODY_LIMIT + 1]), StatusCode::PAYLOAD_TOO_LARGE, 2),
    ] {
        let (actual, text) = send_counted(caches, metrics.clone(), body).await;
        assert_eq!(actual, status, "{text}");
        assert_eq!(metrics.admission_bad_requests.get(), counted, "{text}");
    }
}

#[tokio::test]
async fn only_posts_are_accepted() {
    let router = router(Caches::fixed(vec![], vec![], vec![]), Arc::default(), TIMEOUT);
    let request = Request::get(PATH).body(Body::empty()).unwrap();
    assert_eq!(router.oneshot(request).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_times_out() {
    let asked = tokio::time::Instant::now();
    let begun = futures::stream::iter([Ok::<_, std::io::Error>("{")]);
    let body = futures::StreamExt::chain(begun, futures::stream::pending());
    let response = tokio::time::timeout(2 * TIMEOUT, send(Body::from_stream(body)));
    let (status, _) = response.await.expect("a response");
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert!(asked.elapsed() <= arrival_limit(SMALL) + Duration::from_millis(10), "{:?}", asked.elapsed());
}

/// A review as the API server encodes it, with the fields in the order of its types.
fn encoded(kind: &str, object: &str) -> String {
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"705ab4f5","kind":{kind},"namespace":"shop","operation":"CREATE","userInfo":{{"username":"object"}},"object":{object},"oldObject":null,"dryRun":false}}}}"#
    )
}

const USERNAME: &str = r#""username":"object""#;

/// The same as a client writes it that sorts the fields.
fn with_the_object_first(object: &str) -> String {
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"kind":{DEPLOYMENT},"namespace":"shop","object":{object},"oldObject":{object},"operation":"UPDATE","uid":"705ab4f5"}}}}"#
    )
}

const DEPLOYMENT: &str = r#"{"group":"apps","version":"v1","kind":"Deployment"}"#;

#[tokio::test]
async fn a_review_too_large_for_injection_is_allowed_with_a_warning() {
    let of = |spec: &str| {
        let metadata = r#"{"name":"web","annotations":{"adieu.dev/graceful":"true"}}"#;
        encoded(DEPLOYMENT, &format!(r#"{{"metadata":{metadata},"spec":{{"template":{spec}}}}}"#))
    };
    let zeros = |bytes: usize| format!("[{}0]", "0,".repeat(bytes / 2));
    let groups =
        |bytes: usize| format!(r#""groups":[{}"system:authenticated"]"#, r#""\u003c","#.repeat(bytes / 9));
    for (review, reason) in [
        (of(&zeros(BODY_LIMIT / 2)), "of memory"),
        (of(&format!("[{}{{}}]", r#"{"a":1},"#.repeat(20_000))), "of memory"),
        (of(&format!("{}{}", "[".repeat(150), "]".repeat(150))), "levels deep"),
        (of(&zeros(BODY_LIMIT)), "is larger than"),
        // A user may be in many groups, and their names may take six times as much as in its certificate or token.
        (
            of(&zeros(BODY_LIMIT)).replace(USERNAME, &format!("{USERNAME},{}", groups(2 * SMALL))),
            "is larger than",
        ),
        (
            of(&zeros(SMALL)).replace(USERNAME, &format!("{USERNAME},{}", groups(BODY_LIMIT))),
            "is larger than",
        ),
        (with_the_object_first(&format!(r#"{{"spec":{}}}"#, zeros(BODY_LIMIT))), "is larger than"),
    ] {
        let metrics: Arc<Metrics> = Arc::default();
        let caches = Caches::fixed(vec![], vec![], vec![]);
        let (status, text) = send_counted(caches, metrics.clone(), review).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let response = &serde_json::from_str::<Value>(&text).unwrap()["response"];
        assert_eq!(
            (&response["uid"], &response["allowed"]),
            (&json!("705ab4f5"), &json!(true)),
            "{response}"
        );
        assert!(response.get("patch").is_none());
        let warning = response["warnings"][0].as_str().unwrap();
        assert!(warning.starts_with("not injected: ") && warning.contains(reason), "{warning}");
        assert!(metrics.render().unwrap().contains("result=\"too_large\"} 1"));
        assert_eq!(metrics.admission_bad_requests.get(), 0);
    }
}

#[tokio::test]
async fn invalid_reviews_are_rejected_before_their_objects_are_parsed() {
    let zeros = format!("[{}0]", "0,".repeat(BODY_LIMIT / 4));
    let object = format!(r#"{{"a":{zeros}}}"#);
    let large = format!(r#"{{"a":{}}}"#, "x".repeat(BODY_LIMIT));
    let secret = r#"{"group":"","version":"v1","kind":"Secret"}"#;
    let uid = encoded(DEPLOYMENT, "{}").replace("705ab4f5", &"7".repeat(1000));
    for (body, status, reason) in [
        (encoded(secret, &object), 422, "Create of /v1 Secret"),
        (encoded(secret, &large), 422, "Create of /v1 Secret"),
        (encoded(DEPLOYMENT, "null"), 422, "Deployment without an object"),
        (encoded("1", &object), 400, "not an admission.k8s.io/v1 AdmissionReview"),
        (encoded(DEPLOYMENT, &zeros), 400, "not an admission.k8s.io/v1 AdmissionReview"),
        (encoded(DEPLOYMENT, &format!("{}{}", "[".repeat(20_000), "]".repeat(20_000))), 400, "levels deep"),
        (uid, 400, "request.uid has 1000 characters"),
        (format!(r#"{{"kind":"{}"}}"#, "x".repeat(BODY_LIMIT / 2)), 400, "expected kind AdmissionReview"),
        (format!(r#"{{"request":"{}"}}"#, "x".repeat(BODY_LIMIT / 2)), 400, "not an admission.k8s.io/v1"),
    ] {
        let (actual, text) = send(body).await;
        assert_eq!(actual.as_u16(), status, "{text}");
        assert!(text.contains(reason) && text.len() < 1000, "{reason:?} is missing in {text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn deletions_are_allowed_before_the_caches_are_filled() {
    let mut object = deployment(&json!({"adieu.dev/graceful": "true"}));
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let review = review_of("UPDATE", object, deployment(&Value::Null));
    let caches = Caches::fixed(vec![], vec![], vec![]).unfilled();
    let asked = tokio::time::Instant::now();
    let (status, text) = send_to(caches, review.to_string()).await;
    assert_eq!((status, asked.elapsed()), (StatusCode::OK, Duration::ZERO), "{text}");
    assert!(text.contains("\"allowed\":true") && !text.contains("\"patch\""), "{text}");
}

#[tokio::test(start_paused = true)]
async fn every_response_is_sent_before_a_timeout_of_one_or_two_seconds() {
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy", "metadata": {"name": "all"},
        "spec": {"selector": {}, "namespaceSelector": {"matchLabels": {"team": "shop"}}},
    });
    let caches = || Caches::fixed(vec![], vec![], vec![]);
    let unknown = || caches().with_cluster_policies(vec![serde_json::from_value(policy.clone()).unwrap()]);
    let workload = review_of("CREATE", deployment(&json!({"adieu.dev/graceful": "true"})), Value::Null);
    let mut pod = workload.clone();
    pod["request"]["kind"] = json!({"group": "", "version": "v1", "kind": "Pod"});
    pod["request"]["object"]["metadata"] = json!({
        "labels": {"pod-template-hash": "1"},
        "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "1", "controller": true,
        }],
    });
    let slow = || Body::from_stream(futures::stream::pending::<Result<String, std::io::Error>>());
    let unusable = UnusableObjects::default();
    let (empty, _follow) = Caches::follow(&client(|_, _| None), Workloads::fixed(vec![]), &unusable, vec![]);
    let ((fixed, _watches), (unknown, _others)) = (caches().with_watches(), unknown().with_watches());
    for seconds in [1, 2] {
        for (what, caches, body, status) in [
            ("policies", &empty, workload.to_string().into(), StatusCode::SERVICE_UNAVAILABLE),
            ("namespace", &unknown, workload.to_string().into(), StatusCode::OK),
            ("owner", &fixed, pod.to_string().into(), StatusCode::OK),
            ("both", &unknown, pod.to_string().into(), StatusCode::OK),
            ("body", &fixed, slow(), StatusCode::REQUEST_TIMEOUT),
        ] {
            let asked = tokio::time::Instant::now();
            let query = format!("timeout={seconds}s");
            let (actual, text) = send_with_query(caches.clone(), Arc::default(), &query, body).await;
            assert_eq!(actual, status, "{what}: {text}");
            let (took, timeout) = (asked.elapsed(), Duration::from_secs(seconds));
            assert!(took > timeout / 4 && took <= timeout * 8 / 10, "{what}: {took:?} of {timeout:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_memory_for_a_review_the_failure_policy_decides() {
    let metrics: Arc<Metrics> = Arc::default();
    let router = router(Caches::fixed(vec![], vec![], vec![]), metrics.clone(), TIMEOUT);
    let mut object = deployment(&json!({"adieu.dev/graceful": "true"}));
    object["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["x".repeat(BODY_LIMIT * 3 / 4)]);
    let review = review_of("CREATE", object, Value::Null).to_string();
    // Its peer holds its whole share until it times out; the review waits until its own deadline at most.
    let (first, rest) = review.split_at(10);
    let begun = futures::stream::iter([Ok::<_, std::io::Error>(first.to_owned())]);
    let stuck = Body::from_stream(futures::StreamExt::chain(begun, futures::stream::pending()));
    let stuck =
        crate::webhook::body::tests::Sized { length: (first.len() + rest.len()) as u64, inner: stuck };
    let ask = |body: Body, seconds: u64| {
        let request = Request::post(format!("{PATH}?timeout={seconds}s")).body(body).unwrap();
        router.clone().oneshot(request)
    };
    let (stuck, early, late) =
        tokio::join!(ask(Body::new(stuck), 10), ask(review.clone().into(), 1), ask(review.into(), 10));
    let statuses = [stuck, early, late].map(|response| response.unwrap().status().as_u16());
    assert_eq!(statuses, [408, 503, 200]);
    let text = metrics.render().unwrap();
    assert!(text.contains("adieu_admission_overload_total{reason=\"memory\"} 1"), "{text}");
    assert!(text.contains("adieu_admission_overload_total{reason=\"slow_body\"} 1"), "{text}");
}

#[tokio::test]
async fn a_panic_in_the_webhook_is_answered_with_500_and_counted() {
    async fn panics() {
        panic!("on purpose");
    }
    let metrics: Arc<Metrics> = Arc::default();
    let router = with_limits(Router::new().route("/panic", post(panics)), metrics.clone());
    let response = router.oneshot(Request::post("/panic").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(metrics.render().unwrap().contains("adieu_panics_total{component=\"webhook\"} 1"));
}

#[path = "admission_tests.rs"]
mod admission;
