//! The two paths on which a workload is injected.

use std::{sync::Arc, time::Duration};

use adieu::{index::caches::Caches, webhook};
use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    row::Row,
    support::{documents, succeed},
};

/// The namespace of all objects.
const NAMESPACE: &str = "shop";

/// The chart's `timeoutSeconds`.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The pod template before and after, and the warnings.
pub struct Outcome {
    pub before: Value,
    pub after: Value,
    pub warnings: Vec<String>,
}

/// Runs `adieu inject` on the workload, followed by the objects beside it.
pub fn command_line(row: &Row) -> Outcome {
    let input = format!("{}---\n{}", row.workload(), row.beside);
    let (output, reported) =
        succeed(&["inject", "--namespace", NAMESPACE, "--kube-version", &row.kubelets, "-f", "-"], &input);
    let [before, after] = [&input, &output].map(|text| documents(text)[0]["spec"]["template"].clone());
    let warnings = reported.lines().filter(|line| !line.starts_with("adieu: ")).map(str::to_owned).collect();
    Outcome { before, after, warnings }
}

/// Sends the review of a request that creates the workload, in a namespace with the objects beside it.
pub async fn webhook(row: &Row) -> Outcome {
    let mut object = with_defaults(documents(&row.workload()).remove(0));
    let before = object["spec"]["template"].clone();
    let response = respond(caches(row), &review(&object)).await;
    assert_eq!(response["allowed"], true, "{}: {response}", row.name);
    if let Some(patch) = response["patch"].as_str() {
        let patch: json_patch::Patch =
            serde_json::from_slice(&BASE64_STANDARD.decode(patch).unwrap()).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
    }
    let warnings = response["warnings"].as_array().into_iter().flatten();
    let warnings = warnings.map(|warning| warning.as_str().unwrap().to_owned()).collect();
    Outcome { before, after: object["spec"]["template"].take(), warnings }
}

fn review(object: &Value) -> Value {
    let kind = object["kind"].as_str().unwrap();
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "apps", "version": "v1", "kind": kind},
            "resource": {"group": "apps", "version": "v1", "resource": format!("{}s", kind.to_lowercase())},
            "namespace": NAMESPACE, "name": object["metadata"]["name"], "operation": "CREATE",
            "userInfo": {"username": "admin"},
            "options": {"kind": "CreateOptions", "fieldManager": "kubectl-client-side-apply"},
            "object": object,
        },
    })
}

async fn respond(caches: Caches, review: &Value) -> Value {
    let request = Request::post(webhook::PATH).body(Body::from(review.to_string())).unwrap();
    let answer = webhook::router(caches, Arc::default(), TIMEOUT).oneshot(request).await.unwrap();
    let (status, body) = (answer.status(), to_bytes(answer.into_body(), usize::MAX).await.unwrap());
    assert_eq!(status, StatusCode::OK, "{body:?}");
    serde_json::from_slice::<Value>(&body).unwrap()["response"].take()
}

/// The caches of a cluster with the objects beside the workload.
fn caches(row: &Row) -> Caches {
    fn of_kind<T: DeserializeOwned>(objects: &[Value], kind: &str) -> Vec<T> {
        let found = objects.iter().filter(|object| object["kind"] == kind);
        found.map(|object| serde_json::from_value(object.clone()).unwrap()).collect()
    }
    let objects: Vec<_> = documents(&row.beside).into_iter().map(with_defaults).collect();
    Caches::fixed(of_kind(&objects, "GracefulPolicy"), of_kind(&objects, "Service"), vec![])
        .with_cluster_policies(of_kind(&objects, "ClusterGracefulPolicy"))
        .with_namespaces(of_kind(&objects, "Namespace"))
        .with_native_sleep(row.kubelets != "1.29")
}

/// The object as the API server sends it: with the defaults that decisions read.
fn with_defaults(mut object: Value) -> Value {
    let kind = object["kind"].as_str().unwrap().to_owned();
    if !["Namespace", "ClusterGracefulPolicy"].contains(&kind.as_str()) {
        object["metadata"]["namespace"] = json!(NAMESPACE);
    }
    if let Some(pod) = object.pointer_mut("/spec/template/spec").and_then(Value::as_object_mut) {
        pod.entry("terminationGracePeriodSeconds").or_insert(json!(30));
    }
    if kind == "Service" {
        for port in object["spec"]["ports"].as_array_mut().into_iter().flatten() {
            port["protocol"] = json!("TCP");
            if port["targetPort"].is_null() {
                port["targetPort"] = port["port"].clone();
            }
        }
    }
    object
}
