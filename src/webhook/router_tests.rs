use axum::{body::Body, http::Request};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::webhook::body::{BODY_LIMIT, SMALL, arrival_limit};
use crate::{
    index::{
        unusable::{Reason, UnusableObjects},
        workloads::Workloads,
    },
    trial::test_support::client,
};

/// What the chart gives the webhooks.
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
async fn answered(operation: &str, object: Value, old_object: Value) -> (Value, Value) {
    patched(&review_of(operation, object, old_object)).await
}

/// The response to a review, and its object with the patch applied.
pub(super) async fn patched(review: &Value) -> (Value, Value) {
    let (status, body) = send(review.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let mut answer: Value = serde_json::from_str(&body).unwrap();
    let response = answer["response"].take();
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
async fn an_annotated_workload_is_patched_and_nothing_else_in_it_changes() {
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let mut object = deployment(&json!({"adieu.dev/graceful": "true"}));
        object["kind"] = json!(kind);
        let (response, mut patched) = answered("CREATE", object.clone(), Value::Null).await;
        assert_eq!(response["allowed"], true);
        let template = patched["spec"]["template"].as_object_mut().unwrap();
        assert_eq!(template["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
        assert_eq!(template["spec"]["containers"][0].get("readinessProbe").is_some(), kind == "Deployment");
        assert_eq!(template["spec"]["terminationGracePeriodSeconds"], 45);

        let container = template["spec"]["containers"][0].as_object_mut().unwrap();
        container.remove("lifecycle");
        container.remove("readinessProbe");
        template["spec"]["terminationGracePeriodSeconds"] = json!(30);
        template["metadata"].as_object_mut().unwrap().remove("annotations");
        let label = template["metadata"]["labels"].as_object_mut().unwrap().remove("adieu.dev/injection");
        assert_eq!(label, Some(json!("enabled")));
        let labels = patched["metadata"].as_object_mut().unwrap().remove("labels");
        assert_eq!(labels, Some(json!({"adieu.dev/injected": "true"})));
        assert_eq!(patched, object);
    }
}

#[tokio::test]
async fn others_pass_untouched() {
    for annotations in [Value::Null, json!({}), json!({"adieu.dev/graceful": "false"})] {
        let object = deployment(&annotations);
        let (response, patched) = answered("CREATE", object.clone(), Value::Null).await;
        assert_eq!((&response["allowed"], &response["patch"]), (&json!(true), &Value::Null));
        assert_eq!(patched, object);
    }
}

#[tokio::test]
async fn the_label_of_an_injected_workload_goes_with_the_injection() {
    let (_, injected) =
        answered("CREATE", deployment(&json!({"adieu.dev/graceful": "true"})), Value::Null).await;
    let mut replaced = injected.clone();
    replaced["metadata"].as_object_mut().unwrap().remove("labels");
    let (_, kept) = answered("UPDATE", replaced, injected.clone()).await;
    assert_eq!(kept["metadata"]["labels"], json!({"adieu.dev/injected": "true"}));
    let mut out = injected.clone();
    out["metadata"]["annotations"]["adieu.dev/graceful"] = json!("false");
    let (_, out) = answered("UPDATE", out, injected).await;
    assert_eq!(out["metadata"]["labels"], json!({}));
    assert_eq!(out["spec"], deployment(&Value::Null)["spec"]);
}

/// In labelled namespaces its writes reach the webhook, and this replica may know an older policy than the one
/// that leads.
#[tokio::test]
async fn what_the_controller_writes_is_left_as_it_is() {
    let (_, old) = answered("CREATE", deployment(&json!({"adieu.dev/graceful": "true"})), Value::Null).await;
    let mut taken_out = old.clone();
    taken_out["spec"] = deployment(&Value::Null)["spec"].clone();
    let mut review = review_of("UPDATE", taken_out.clone(), old.clone());
    for (username, manager, expected) in [
        ("system:serviceaccount:adieu-system:adieu", "adieu", &taken_out),
        ("system:serviceaccount:adieu-system:adieu", "kubectl-edit", &old),
        // `adieu verify` writes as a person.
        ("admin", "adieu", &old),
    ] {
        review["request"]["userInfo"]["username"] = json!(username);
        review["request"]["options"] = json!({"kind": "PatchOptions", "fieldManager": manager});
        assert_eq!(patched(&review).await.1["spec"], expected["spec"], "{username}, {manager}");
    }
}

#[tokio::test]
async fn a_pod_is_patched_where_it_is_created() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "job-", "annotations": {"adieu.dev/graceful": "true"}},
        "spec": {"containers": [{"name": "job", "image": "job:1"}], "fieldOfTheFuture": 1},
    });
    let mut review = review_of("CREATE", pod.clone(), Value::Null);
    review["request"]["kind"] = json!({"group": "", "version": "v1", "kind": "Pod"});
    let (response, mut patched) = patched(&review).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(patched["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 10);
    assert_eq!(patched["spec"]["terminationGracePeriodSeconds"], 45);
    patched["spec"].as_object_mut().unwrap().remove("terminationGracePeriodSeconds");
    patched["spec"]["containers"][0].as_object_mut().unwrap().remove("lifecycle");
    patched["metadata"]["annotations"].as_object_mut().unwrap().remove("adieu.dev/injected");
    assert_eq!(patched, pod);
}

#[tokio::test]
async fn only_an_anonymous_request_undoes_a_rollout() {
    let annotations = json!({"adieu.dev/graceful": "true", "deployment.kubernetes.io/revision": "2"});
    let (_, mut old) = answered("CREATE", deployment(&annotations), Value::Null).await;
    old["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    let earlier = deployment(&json!({"deployment.kubernetes.io/revision": "2"}));
    for (options, kept) in [
        (json!({"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"}), true),
        (json!({"kind": "UpdateOptions", "fieldManager": "kubectl-edit"}), false),
    ] {
        let mut review = review_of("UPDATE", earlier.clone(), old.clone());
        review["request"]["options"] = options;
        let (response, patched) = patched(&review).await;
        assert_eq!(patched["metadata"]["annotations"].get("adieu.dev/graceful").is_some(), kept);
        let hook = patched["spec"]["template"]["spec"]["containers"][0].get("lifecycle");
        assert_eq!(hook.is_some(), kept);
        assert_eq!(patched["spec"]["template"]["spec"]["containers"][0]["image"], "web:1");
        assert_eq!(response["warnings"].to_string().contains("they are kept"), kept);
    }
}

#[tokio::test]
async fn only_an_anonymous_request_goes_back_to_an_earlier_injection() {
    let mut injected = Vec::new();
    for drain in ["5", "7"] {
        let said = json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": drain});
        let (_, mut object) = answered("CREATE", deployment(&said), Value::Null).await;
        object["metadata"]["annotations"] = json!({"adieu.dev/graceful": "true"});
        injected.push(object);
    }
    let [earlier, old] = injected.as_slice() else { unreachable!() };
    for (manager, expected) in [("", earlier), ("argocd-controller", old)] {
        let mut review = review_of("UPDATE", earlier.clone(), old.clone());
        review["request"]["options"] = json!({"kind": "UpdateOptions", "fieldManager": manager});
        assert_eq!(patched(&review).await.1, *expected, "{manager:?}");
    }
}

#[tokio::test]
async fn the_mark_of_who_waits_goes_with_the_change_of_its_template() {
    let marked = deployment(&json!({"adieu.dev/pending": "NextUpdate", "team": "shop"}));
    let mark = |object: &Value| object["metadata"]["annotations"].get("adieu.dev/pending").is_some();
    let (_, scaled) = answered("UPDATE", marked.clone(), marked.clone()).await;
    assert!(mark(&scaled));
    let mut next = marked.clone();
    next["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    let (_, updated) = answered("UPDATE", next, marked).await;
    assert!(!mark(&updated));
    assert_eq!(updated["metadata"]["annotations"]["team"], "shop");
}

#[tokio::test]
async fn a_generated_name_and_missing_fields_are_no_trouble() {
    let mut object = deployment(&json!({"adieu.dev/graceful": "true"}));
    object["metadata"].as_object_mut().unwrap().remove("name");
    object["metadata"]["generateName"] = json!("web-");
    assert!(answered("CREATE", object.clone(), Value::Null).await.0["patch"].is_string());
    object["spec"]["template"] = json!({});
    assert_eq!(answered("CREATE", object.clone(), Value::Null).await.0["allowed"], true);
    object["spec"] = Value::Null;
    assert_eq!(answered("CREATE", object, Value::Null).await.0["allowed"], true);
}

#[tokio::test]
async fn a_malformed_annotation_is_refused_with_path_value_rule_and_example() {
    let object = deployment(&json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "ten"}));
    let (response, _) = answered("UPDATE", object, deployment(&Value::Null)).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(
        (&response["status"]["code"], &response["status"]["reason"]),
        (&json!(422), &json!("Invalid"))
    );
    assert_eq!(
        response["status"]["message"],
        "metadata.annotations[adieu.dev/drain-seconds]: Invalid value: \"ten\": must be a whole number of seconds \
         from 0 to 3600, without a unit, for example \"15\""
    );
}

#[tokio::test]
async fn before_the_policies_are_known_the_failure_policy_decides() {
    let review = review_of("CREATE", deployment(&json!({"adieu.dev/graceful": "true"})), Value::Null);
    let caches = Caches::fixed(vec![], vec![], vec![]).unfilled();
    let (status, text) = send_to(caches, review.to_string()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    assert!(text.contains("doesn't know the policies yet"), "{text}");
}

#[tokio::test]
async fn what_is_being_deleted_is_let_go() {
    let mut object = deployment(&json!({"adieu.dev/graceful": "perhaps"}));
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let (response, _) = answered("UPDATE", object, deployment(&Value::Null)).await;
    assert_eq!((&response["allowed"], &response["patch"]), (&json!(true), &Value::Null));
}

#[tokio::test]
async fn warnings_reach_the_user_and_keep_to_the_limit() {
    let annotations = json!({
        "adieu.dev/graceful": "true",
        "adieu.dev/policy": "gone",
        format!("adieu.dev/{}", "x".repeat(300)): "1",
    });
    let (response, _) = answered("CREATE", deployment(&annotations), Value::Null).await;
    let warnings = response["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.as_str().unwrap().chars().count() <= 256), "{warnings:?}");
}

#[tokio::test]
async fn an_update_takes_nothing_away_while_a_policy_of_the_namespace_can_not_be_read() {
    let (_, injected) =
        answered("CREATE", deployment(&json!({"adieu.dev/graceful": "true"})), Value::Null).await;
    for (unreadable, annotations, drains) in [
        ("shop", json!({}), true),
        ("bank", json!({}), false),
        ("shop", json!({"adieu.dev/graceful": "false"}), false),
    ] {
        let caches = Caches::fixed(vec![], vec![], vec![]);
        let policy = ObjectReference { namespace: Some(unreadable.into()), ..ObjectReference::default() };
        caches.unusable().add("GracefulPolicy", policy, Reason::Undecodable("spec".into()));
        let mut old = injected.clone();
        old["metadata"]["annotations"] = json!({});
        let mut new = old.clone();
        new["metadata"]["annotations"] = annotations;
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
        let (_, answer) = send_to(caches, review_of("UPDATE", new.clone(), old).to_string()).await;
        let response = &serde_json::from_str::<Value>(&answer).unwrap()["response"];
        assert_eq!(response.get("patch").is_none(), drains, "{unreadable}: {response}");
        assert_eq!(response["warnings"].to_string().contains("can't be read"), drains, "{response}");
    }
}

#[tokio::test]
async fn nothing_is_changed_before_it_is_known_which_policies_hold_in_the_namespace() {
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy", "metadata": {"name": "all"},
        "spec": {"selector": {}, "namespaceSelector": {
            "matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["bank"]}],
        }},
    });
    let unknown = Caches::fixed(vec![], vec![], vec![])
        .with_cluster_policies(vec![serde_json::from_value(policy).unwrap()]);
    let known = |team: &str| {
        let namespace = json!({"metadata": {"name": "shop", "labels": {"team": team}}});
        unknown.clone().with_namespaces(vec![serde_json::from_value(namespace).unwrap()])
    };
    let review = review_of("CREATE", deployment(&json!({})), Value::Null).to_string();
    for (caches, patched, warned) in
        [(unknown.clone(), false, true), (known("shop"), true, false), (known("bank"), false, false)]
    {
        let (_, answer) = send_to(caches, review.clone()).await;
        let response = &serde_json::from_str::<Value>(&answer).unwrap()["response"];
        assert_eq!(response["allowed"], true);
        assert_eq!(response.get("patch").is_some(), patched, "{response}");
        assert_eq!(
            response["warnings"].to_string().contains("labels of the namespace"),
            warned,
            "{response}"
        );
    }
}

#[tokio::test]
async fn bad_input_gets_a_clear_refusal() {
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
        (b"not json".to_vec(), 400, "no admission.k8s.io/v1 AdmissionReview"),
        (good.as_bytes()[..good.len() / 2].to_vec(), 400, "no admission.k8s.io/v1 AdmissionReview"),
        (b"\xff\xfe{}".to_vec(), 400, "no admission.k8s.io/v1 AdmissionReview"),
        (unread, 400, "invalid utf-8"),
        (vec![], 400, "no admission.k8s.io/v1 AdmissionReview"),
        (v1beta1.to_string().into_bytes(), 400, "got AdmissionReview of admission.k8s.io/v1beta1"),
        (br#"{"apiVersion":"v1","kind":"Pod"}"#.to_vec(), 400, "got Pod of v1"),
        (br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#.to_vec(), 400, "with a request"),
        (pod.to_string().into_bytes(), 422, "Update of /v1 Pod"),
        (deletion.to_string().into_bytes(), 422, "Delete of apps/v1 Deployment"),
        (vec![b' '; BODY_LIMIT + 1], 413, "length limit exceeded"),
    ] {
        let (answered, text) = send(body).await;
        assert_eq!(answered.as_u16(), status, "{text}");
        assert!(text.contains(reason), "{reason:?} is missing in {text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_no_api_server_sends_counts_as_a_bad_request() {
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
        let (answered, text) = send_counted(caches, metrics.clone(), body).await;
        assert_eq!(answered, status, "{text}");
        assert_eq!(metrics.admission_bad_requests.get(), counted, "{text}");
    }
}

#[tokio::test]
async fn only_posts_are_taken() {
    let router = router(Caches::fixed(vec![], vec![], vec![]), Arc::default(), TIMEOUT);
    let request = Request::get(PATH).body(Body::empty()).unwrap();
    assert_eq!(router.oneshot(request).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_given_up() {
    let asked = tokio::time::Instant::now();
    let begun = futures::stream::iter([Ok::<_, std::io::Error>("{")]);
    let body = futures::StreamExt::chain(begun, futures::stream::pending());
    let answer = tokio::time::timeout(2 * TIMEOUT, send(Body::from_stream(body)));
    let (status, _) = answer.await.expect("an answer");
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert!(asked.elapsed() <= arrival_limit(SMALL) + Duration::from_millis(10), "{:?}", asked.elapsed());
}

/// A review as the API server encodes it, with the fields in the order of its types.
fn encoded(kind: &str, object: &str) -> String {
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"705ab4f5","kind":{kind},"namespace":"shop","operation":"CREATE","userInfo":{{"username":"object"}},"object":{object},"oldObject":null,"dryRun":false}}}}"#
    )
}

const DEPLOYMENT: &str = r#"{"group":"apps","version":"v1","kind":"Deployment"}"#;

#[tokio::test]
async fn a_review_too_large_for_injection_is_let_through_with_a_warning() {
    let of = |spec: &str| {
        let metadata = r#"{"name":"web","annotations":{"adieu.dev/graceful":"true"}}"#;
        encoded(DEPLOYMENT, &format!(r#"{{"metadata":{metadata},"spec":{{"template":{spec}}}}}"#))
    };
    let zeros = |bytes: usize| format!("[{}0]", "0,".repeat(bytes / 2));
    for (review, reason) in [
        (of(&zeros(BODY_LIMIT / 2)), "of memory"),
        (of(&format!("[{}{{}}]", r#"{"a":1},"#.repeat(20_000))), "of memory"),
        (of(&format!("{}{}", "[".repeat(150), "]".repeat(150))), "levels deep"),
        (of(&zeros(BODY_LIMIT)), "is larger than"),
    ] {
        let metrics: Arc<Metrics> = Arc::default();
        let caches = Caches::fixed(vec![], vec![], vec![]);
        let (status, answer) = send_counted(caches, metrics.clone(), review).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let response = &serde_json::from_str::<Value>(&answer).unwrap()["response"];
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
async fn what_could_not_be_genuine_is_refused_before_its_object_is_looked_at() {
    let zeros = format!("[{}0]", "0,".repeat(BODY_LIMIT / 4));
    let object = format!(r#"{{"a":{zeros}}}"#);
    let large = format!(r#"{{"a":{}}}"#, "x".repeat(BODY_LIMIT));
    let secret = r#"{"group":"","version":"v1","kind":"Secret"}"#;
    let uid = encoded(DEPLOYMENT, "{}").replace("705ab4f5", &"7".repeat(1000));
    for (body, status, reason) in [
        (encoded(secret, &object), 422, "Create of /v1 Secret"),
        (encoded(secret, &large), 422, "Create of /v1 Secret"),
        (encoded(DEPLOYMENT, "null"), 422, "Deployment without an object"),
        (encoded("1", &object), 400, "no admission.k8s.io/v1 AdmissionReview"),
        (encoded(DEPLOYMENT, &zeros), 400, "no admission.k8s.io/v1 AdmissionReview"),
        (encoded(DEPLOYMENT, &format!("{}{}", "[".repeat(20_000), "]".repeat(20_000))), 400, "levels deep"),
        (uid, 400, "request.uid has 1000 characters"),
        (format!(r#"{{"kind":"{}"}}"#, "x".repeat(BODY_LIMIT / 2)), 400, "expected kind AdmissionReview"),
        (format!(r#"{{"request":"{}"}}"#, "x".repeat(BODY_LIMIT / 2)), 400, "no admission.k8s.io/v1"),
    ] {
        let (answered, text) = send(body).await;
        assert_eq!(answered.as_u16(), status, "{text}");
        assert!(text.contains(reason) && text.len() < 1000, "{reason:?} is missing in {text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_being_deleted_is_let_go_before_the_policies_are_known() {
    let mut object = deployment(&json!({"adieu.dev/graceful": "true"}));
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let review = review_of("UPDATE", object, deployment(&Value::Null));
    let caches = Caches::fixed(vec![], vec![], vec![]).unfilled();
    let asked = tokio::time::Instant::now();
    let (status, answer) = send_to(caches, review.to_string()).await;
    assert_eq!((status, asked.elapsed()), (StatusCode::OK, Duration::ZERO), "{answer}");
    assert!(answer.contains("\"allowed\":true") && !answer.contains("\"patch\""), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn every_answer_comes_before_a_timeout_of_one_or_two_seconds() {
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
    let (empty, _follow) = Caches::follow(&client(|_, _| None), Workloads::fixed(vec![]), &unusable);
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
            let (answered, text) = send_with_query(caches.clone(), Arc::default(), &query, body).await;
            assert_eq!(answered, status, "{what}: {text}");
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
    // Its peer holds all that it may for as long as it may, and the review waits for no longer than it can.
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
    let router = guarded(Router::new().route("/panic", post(panics)), metrics.clone());
    let response = router.oneshot(Request::post("/panic").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(metrics.render().unwrap().contains("adieu_panics_total{component=\"webhook\"} 1"));
}
