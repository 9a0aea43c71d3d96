//! The reviews in tests/reviews, which the webhook's own tests answer: they are what this API server sends.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use adieu::{
    api::annotations::INJECTED,
    runtime::serving::{self, KeyPair},
};
use axum::{Json, Router, extract::State, routing::post};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{Scene, eventually, workload};

/// Names the folder that what was sent is written to: `tests/reviews`, to have it anew.
const RECORD: &str = "ADIEU_RECORD";

/// The requests of reviews, in the order in which they came.
type Seen = Arc<Mutex<Vec<Value>>>;

/// Lets everything pass, and keeps what it was asked.
async fn record(State(seen): State<Seen>, Json(review): Json<Value>) -> Json<Value> {
    let response = json!({"uid": review["request"]["uid"], "allowed": true});
    seen.lock().unwrap().push(review);
    Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

/// Has the API server ask a webhook in this process, before adieu's, about all in the scene's namespace.
async fn recorder(scene: &Scene, configurations: &Api<MutatingWebhookConfiguration>) -> Seen {
    let seen = Seen::default();
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let pair = KeyPair { certificate: signed.cert.pem(), key: signed.signing_key.serialize_pem() };
    let tls = serving::configure(&pair).unwrap();
    let router = Router::new().route("/", post(record)).with_state(seen.clone());
    let listener = serving::listen((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serving::serve(listener, router, tls, Arc::default(), CancellationToken::new()));
    let rule = |group: &str, resources: &[&str]| {
        json!({
            "apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
            "resources": resources,
        })
    };
    let configuration = json!({
        // Webhooks are asked in the order of their configurations' names.
        "metadata": {"name": format!("a-{}", scene.namespace)},
        "webhooks": [{
            "name": "recorder.adieu.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {
                "url": format!("https://{address}/"), "caBundle": BASE64_STANDARD.encode(&pair.certificate),
            },
            "rules": [rule("apps", &["deployments", "statefulsets", "daemonsets"]), rule("", &["pods"])],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scene.namespace}},
        }],
    });
    let configuration = serde_json::from_value(configuration).unwrap();
    configurations.create(&PostParams::default(), &configuration).await.unwrap();
    eventually("the recorder to be asked", || async {
        scene.try_create_dry(&workload("Deployment", "probe", &json!({}))).await.unwrap();
        !seen.lock().unwrap().is_empty()
    })
    .await;
    seen
}

/// What people do, and what the API server asked about each.
async fn reviews(scene: &Scene, seen: &Seen) -> BTreeMap<&'static str, Value> {
    let graceful = json!({"adieu.dev/graceful": "true"});
    let mut reviews = BTreeMap::new();
    let mut keep = |name, of: &dyn Fn(&Value) -> bool| {
        // The newest: some are asked about twice, or were before.
        let seen = seen.lock().unwrap();
        let review = seen.iter().rev().find(|review| of(&review["request"]));
        reviews.insert(name, review.unwrap_or_else(|| unreachable!("nobody asked about {name}")).clone());
    };
    let by_a_person = |kind: &'static str, operation: &'static str| {
        move |request: &Value| {
            let who = request["userInfo"]["username"].as_str().unwrap();
            let is_it = request["kind"]["kind"] == kind && request["operation"] == operation;
            is_it && !who.starts_with("system:")
        }
    };
    let of_a_replica_set = |request: &Value| {
        let metadata = &request["object"]["metadata"];
        let is_injected = metadata["annotations"].get(INJECTED).is_some();
        request["kind"]["kind"] == "Pod" && metadata["ownerReferences"].is_array() && is_injected
    };
    let web = |annotations: &Value| workload("Deployment", "web", annotations);

    scene.kubectl_with(&["apply", "--filename=-"], &web(&json!({}))).await.unwrap();
    scene.rolled_out("web").await;
    keep("apply-without-annotation", &by_a_person("Deployment", "CREATE"));
    scene.kubectl(&["annotate", "deployment", "web", "adieu.dev/graceful=true"]).await;
    keep("annotate", &by_a_person("Deployment", "UPDATE"));
    scene.rolled_out("web").await;
    keep("pod-of-a-replica-set", &of_a_replica_set);
    let mut next = web(&graceful);
    next["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "RELEASE", "value": "2"}]);
    scene.kubectl_with(&["apply", "--filename=-"], &next).await.unwrap();
    keep("apply-over-what-was-injected", &by_a_person("Deployment", "UPDATE"));
    scene.kubectl(&["rollout", "undo", "deployment", "web"]).await;
    keep("rollout-undo", &by_a_person("Deployment", "UPDATE"));
    scene.kubectl(&["annotate", "deployment", "web", "adieu.dev/graceful-"]).await;
    keep("opt-out", &by_a_person("Deployment", "UPDATE"));

    let mut dry = workload("Deployment", "dry", &graceful);
    scene.kubectl_with(&["apply", "--dry-run=server", "--filename=-"], &dry).await.unwrap();
    keep("dry-run", &by_a_person("Deployment", "CREATE"));
    dry["metadata"].as_object_mut().unwrap().remove("name");
    dry["metadata"]["generateName"] = json!("generated-");
    dry["spec"]["replicas"] = json!(0);
    scene.kubectl_with(&["create", "--filename=-"], &dry).await.unwrap();
    keep("generate-name", &by_a_person("Deployment", "CREATE"));
    for (name, kind) in [("server-side-apply", "StatefulSet"), ("daemon-set", "DaemonSet")] {
        let object = workload(kind, "other", &graceful);
        scene.kubectl_with(&["apply", "--server-side", "--filename=-"], &object).await.unwrap();
        keep(name, &by_a_person(kind, "CREATE"));
    }
    let container = json!({"name": "web", "image": crate::support::image()});
    let metadata =
        json!({"name": "bare", "annotations": graceful, "labels": {"adieu.dev/injection": "enabled"}});
    let spec = json!({"containers": [container]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    scene.kubectl_with(&["create", "--filename=-"], &pod).await.unwrap();
    keep("bare-pod", &by_a_person("Pod", "CREATE"));
    reviews
}

/// The fields of a review: of the object only those of its metadata, the rest being the user's.
fn fields(review: &Value) -> BTreeSet<String> {
    let under = |path: &str, value: &Value| {
        let keys = value.as_object().into_iter().flatten().map(|(key, _)| format!("{path}.{key}"));
        keys.collect::<Vec<_>>()
    };
    let request = &review["request"];
    [
        under("", review),
        under("request", request),
        under("kind", &request["kind"]),
        under("options", &request["options"]),
        under("userInfo", &request["userInfo"]),
        under("object", &request["object"]),
        under("object.metadata", &request["object"]["metadata"]),
        under("oldObject", &request["oldObject"]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_recorded_reviews_are_as_the_api_server_sends_them() {
    let scene = Scene::new().await;
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(scene.client.clone());
    let seen = recorder(&scene, &configurations).await;
    let reviews = reviews(&scene, &seen).await;
    configurations.delete(&format!("a-{}", scene.namespace), &DeleteParams::default()).await.unwrap();

    let record = env::var_os(RECORD).map(PathBuf::from);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reviews");
    for (name, review) in reviews {
        if let Some(record) = &record {
            let text = serde_json::to_string_pretty(&review).unwrap();
            fs::write(record.join(format!("{name}.json")), text + "\n").unwrap();
        }
        let recorded = fs::read_to_string(format!("{folder}/{name}.json")).unwrap();
        let recorded: Value = serde_json::from_str(&recorded).unwrap();
        assert_eq!(fields(&review), fields(&recorded), "{name}: have it anew with {RECORD}={folder}");
    }
    scene.end().await;
}
