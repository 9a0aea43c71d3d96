//! Checks that the recorded reviews in tests/reviews are like those of this API server.

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

/// The variable with the folder for the reviews: `tests/reviews`, to record them again.
const RECORD: &str = "ADIEU_RECORD";

/// The requests of reviews, in order.
type Reviews = Arc<Mutex<Vec<Value>>>;

/// Allows everything, and records the review.
async fn record(State(recorded_reviews): State<Reviews>, Json(review): Json<Value>) -> Json<Value> {
    let response = json!({"uid": review["request"]["uid"], "allowed": true});
    recorded_reviews.lock().unwrap().push(review);
    Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

/// Registers a webhook in this process, called before adieu's, for the scene's namespace.
async fn recorder(scene: &Scene, configurations: &Api<MutatingWebhookConfiguration>) -> Reviews {
    let recorded_reviews = Reviews::default();
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let pair = KeyPair { certificate: signed.cert.pem(), key: signed.signing_key.serialize_pem() };
    let tls = serving::configure(&pair).unwrap();
    let router = Router::new().route("/", post(record)).with_state(recorded_reviews.clone());
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
        // Webhooks are called in the order of their configurations' names.
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
        !recorded_reviews.lock().unwrap().is_empty()
    })
    .await;
    recorded_reviews
}

/// A pod without an owner, with the label that routes it to the webhook.
fn bare_pod(annotations: &Value) -> Value {
    let metadata =
        json!({"name": "bare", "annotations": annotations, "labels": {"adieu.dev/injection": "enabled"}});
    let spec = json!({"containers": [{"name": "web", "image": crate::support::image()}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// Users' requests, with the reviews of each.
async fn reviews(scene: &Scene, recorded_reviews: &Reviews) -> BTreeMap<&'static str, Value> {
    let graceful = json!({"adieu.dev/graceful": "true"});
    let mut reviews = BTreeMap::new();
    let mut keep = |name, of: &dyn Fn(&Value) -> bool| {
        // The newest, since some objects are reviewed several times.
        let recorded_reviews = recorded_reviews.lock().unwrap();
        let review = recorded_reviews.iter().rev().find(|review| of(&review["request"]));
        reviews.insert(name, review.unwrap_or_else(|| unreachable!("no review of {name}")).clone());
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
    scene.kubectl_with(&["create", "--filename=-"], &bare_pod(&graceful)).await.unwrap();
    keep("bare-pod", &by_a_person("Pod", "CREATE"));
    reviews
}

/// The fields of a review, and of its object only metadata, as the rest is the user's.
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
async fn recorded_reviews_match_those_of_the_api_server() {
    let scene = Scene::new().await;
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(scene.client.clone());
    let recorded_reviews = recorder(&scene, &configurations).await;
    let reviews = reviews(&scene, &recorded_reviews).await;
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
        assert_eq!(fields(&review), fields(&recorded), "{name}: record it again with {RECORD}={folder}");
    }
    scene.end().await;
}
