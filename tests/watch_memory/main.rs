//! The memory of a replica that lists many objects, or objects of unusual size. In a separate process, because the whole
//! process is measured.

#![allow(clippy::unwrap_used, clippy::panic)]

mod server;
mod typical;

use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use adieu::{
    index::{caches::Caches, unusable_objects::UnusableObjects, workloads::Workloads},
    plan::Kind,
};
use adieu_exposures::KINDS;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response};
use kube::{Client, client::Body};
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};
use server::ApiServer;
use tokio::time::timeout;
use tower::service_fn;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs one test at a time, until its runtime has freed everything: the whole process is measured.
fn measured(test: impl Future<Output = ()>) {
    static MEASURED: Mutex<()> = Mutex::new(());
    let _measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

/// The limit: a container has 128 MiB, which include the program itself and the allocator.
const LIMIT: usize = 80 << 20;
/// The limit for the objects of one namespace.
const NAMESPACE_LIMIT: usize = 48 << 20;

const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const POLICIES: &str = "/apis/adieu.dev/v1alpha1/gracefulpolicies";
const SERVICES: &str = "/api/v1/services";
const BUDGETS: &str = "/apis/policy/v1/poddisruptionbudgets";
const INGRESSES: &str = "/apis/networking.k8s.io/v1/ingresses";

/// The end of a Deployment after its container's fields.
const END: &str = "}]}}}}";

/// The caches of a replica that has listed everything, and the peak of its memory in bytes.
async fn listed(server: ApiServer) -> (Caches, UnusableObjects, usize) {
    let (caches, unusable, [peak, _]) = list(server).await;
    (caches, unusable, peak)
}

/// The caches of a replica that has listed everything; the peak of its memory and what it takes afterwards, in bytes.
async fn list(server: ApiServer) -> (Caches, UnusableObjects, [usize; 2]) {
    let answers = service_fn(move |request: Request<Body>| {
        let answer = server.answer(&request.uri().to_string());
        async move { Ok::<_, Infallible>(Response::new(answer)) }
    });
    let client = Client::new(answers, "default");
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let unusable = UnusableObjects::default();
    let (workloads, events) = Workloads::follow(&client, None, &unusable);
    let (caches, follow) = Caches::follow(&client, workloads, &unusable, KINDS.iter().collect());
    let follow = tokio::spawn(follow);
    let watches = events.map(|events| tokio::spawn(events.for_each(async |_| {})));
    let filled = async {
        caches.synced().await.unwrap();
        caches.workloads().filled().await.unwrap();
    };
    assert!(timeout(Duration::from_mins(10), filled).await.is_ok(), "the caches are not filled");
    let peak = MEMORY.peak_usage() - before;
    let left = MEMORY.current_usage() - before;
    eprintln!("{} KiB at most, {} KiB afterwards", peak >> 10, left >> 10);
    // What the tasks hold isn't counted for the next case.
    for task in watches.into_iter().chain([follow]) {
        task.abort();
        drop(task.await);
    }
    (caches, unusable, [peak, left])
}

/// 1.4 MB that don't compress.
fn noise() -> Bytes {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
            [usize::try_from(state >> 58).unwrap()]
    };
    (0..1_400_000).map(|_| random()).collect::<Vec<_>>().into()
}

/// A text of that length that doesn't compress, another one for each number.
fn text(noise: &Bytes, number: usize, length: usize) -> &str {
    let first = number * 7 % (noise.len() - length);
    std::str::from_utf8(&noise[first..first + length]).unwrap()
}

/// Labels with 16 KiB.
fn labels(noise: &Bytes, number: usize) -> Value {
    let label = |index| (text(noise, number + 31 * index, 300).to_owned(), text(noise, index, 50).into());
    (0..45).map(label).collect::<serde_json::Map<_, _>>().into()
}

/// An object with these fields in its metadata and this spec.
fn object(namespace: &str, name: &str, fields: Value, spec: Value) -> Vec<Bytes> {
    let mut metadata = json!({"name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"),
        "resourceVersion": "1", "generation": 1});
    metadata.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    vec![json!({"metadata": metadata, "spec": spec}).to_string().into()]
}

fn deployment(template: Value, env: Value) -> Value {
    json!({"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {
        "metadata": template, "spec": {"containers": [{"name": "web", "image": "web", "env": env}]},
    }})
}

/// A Deployment whose text takes 16 KiB.
fn text_deployment(noise: &Bytes, namespace: &str, number: usize) -> Vec<Bytes> {
    let env = json!([{"name": "A", "value": text(noise, number, 15_800)}]);
    object(namespace, &number.to_string(), json!({}), deployment(json!({}), env))
}

/// A Deployment whose metadata takes 80 KiB.
fn labelled_deployment(noise: &Bytes, namespace: &str, number: usize) -> Vec<Bytes> {
    let annotations = json!({"a": text(noise, number, 16_000)});
    let fields = json!({"labels": labels(noise, number), "annotations": annotations, "ownerReferences": owners(noise, number)});
    let template = json!({"labels": labels(noise, number), "annotations": annotations});
    object(namespace, &format!("l{number}"), fields, deployment(template, json!([])))
}

/// 16 KiB of owner references.
fn owners(noise: &Bytes, number: usize) -> Value {
    json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": text(noise, number, 8_000), "uid": text(noise, number, 7_800)}])
}

fn budget(noise: &Bytes, namespace: &str, number: usize) -> Vec<Bytes> {
    let fields = json!({"labels": labels(noise, number), "ownerReferences": owners(noise, number)});
    object(namespace, &number.to_string(), fields, json!({}))
}

fn service(noise: &Bytes, namespace: &str, number: usize) -> Vec<Bytes> {
    let spec =
        json!({"selector": {"a": text(noise, number, 40)}, "ports": [{"port": 80}], "clusterIP": "10.0.0.1"});
    object(namespace, &number.to_string(), json!({}), spec)
}

/// An Ingress to a thousand Services.
fn ingress(noise: &Bytes, namespace: &str, number: usize) -> Vec<Bytes> {
    let path = |index: usize| {
        let service = json!({"name": text(noise, 1000 * number + index, 40), "port": {"number": 80}});
        json!({"path": "/", "pathType": "Prefix", "backend": {"service": service}})
    };
    let paths: Vec<_> = (0..1000).map(path).collect();
    object(namespace, &number.to_string(), json!({}), json!({"rules": [{"http": {"paths": paths}}]}))
}

/// A policy of almost 32 KiB, with a large status.
fn policy(namespace: &str, number: usize) -> Vec<Bytes> {
    let values: Vec<_> = (0..480).map(|number| format!("{number:0>60}")).collect();
    let expressions = json!([{"key": "app", "operator": "In", "values": values}]);
    let spec = json!({"selector": {"matchExpressions": expressions}});
    let condition = json!({"type": "Ready", "status": "True", "reason": "Injected",
        "message": "x".repeat(7_000), "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let metadata = json!({"name": format!("policy-{number}"), "namespace": namespace,
        "uid": format!("{namespace}-{number}"), "resourceVersion": "1", "generation": 1,
        "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:a": "y".repeat(20_000)}}]});
    let object =
        json!({"metadata": metadata, "spec": spec, "status": {"conditions": [condition, condition]}});
    vec![object.to_string().into()]
}

/// Also an ordinary namespace, which the lists have last.
fn with_shop(server: ApiServer) -> ApiServer {
    let shop = |name: &'static str, spec: Value| move |_| object("shop", name, json!({}), spec.clone());
    server
        .with(DEPLOYMENTS, 1, shop("web", deployment(json!({"labels": {"app": "web"}}), json!([]))))
        .with(POLICIES, 1, shop("all", json!({"selector": {}})))
        .with(SERVICES, 1, shop("web", json!({"ports": [{"port": 80}]})))
        .with(BUDGETS, 1, shop("web", json!({"maxUnavailable": 1})))
}

fn assert_shop_is_kept(caches: &Caches, unusable: &UnusableObjects, case: &str) {
    let web = caches.workloads().get(Kind::Deployment, "shop", "web").unwrap();
    assert_eq!(web.data["spec"]["template"]["spec"]["containers"][0]["image"], "web", "{case}");
    let context = caches.namespace_context("shop");
    assert_eq!((context.policies.len(), context.services.len()), (1, 1), "{case}");
    assert_eq!(caches.budgets("shop").len(), 1, "{case}");
    assert!(!unusable.has_policy_for("shop") && !unusable.has_budget_in("shop"), "{case}");
}

#[test]
fn many_objects_of_one_namespace_need_little_memory() {
    measured(async {
        let noise = &noise();
        let make = |object: fn(&Bytes, &str, usize) -> Vec<Bytes>| {
            let noise = noise.clone();
            move |number| object(&noise, "greedy", number)
        };
        for (case, path, count, object) in [
            (
                "unmanaged Deployments of 16 KiB",
                DEPLOYMENTS,
                4_000,
                text_deployment as fn(&Bytes, &str, usize) -> _,
            ),
            ("Deployments with large metadata", DEPLOYMENTS, 1_200, labelled_deployment),
            ("PodDisruptionBudgets with large metadata", BUDGETS, 2_000, budget),
            ("Services", SERVICES, 30_000, service),
            ("Ingresses to many Services", INGRESSES, 300, ingress),
        ] {
            let (caches, unusable, peak) =
                listed(with_shop(ApiServer::default().with(path, count, make(object)))).await;
            assert!(peak < NAMESPACE_LIMIT, "{case}: {} MiB", peak >> 20);
            assert_shop_is_kept(&caches, &unusable, case);
            assert!(unusable.all().len() <= 100, "{case}: {}", unusable.all().len());
        }
    });
}

#[test]
fn two_greedy_namespaces_leave_memory_and_room_for_others() {
    measured(async {
        let noise = noise();
        let mut server = ApiServer::default();
        for namespace in ["a", "b"] {
            let make = |object: fn(&Bytes, &str, usize) -> Vec<Bytes>| {
                let noise = noise.clone();
                move |number| object(&noise, namespace, number)
            };
            server = server
                .with(POLICIES, 450, move |number| policy(namespace, number))
                .with(DEPLOYMENTS, 1_500, make(text_deployment))
                .with(DEPLOYMENTS, 500, make(labelled_deployment))
                .with(BUDGETS, 500, make(budget))
                .with(SERVICES, 10_000, make(service));
        }
        let (caches, unusable, peak) = listed(with_shop(server)).await;
        assert!(peak < LIMIT, "{} MiB", peak >> 20);
        assert_shop_is_kept(&caches, &unusable, "two greedy namespaces");
        assert!(unusable.has_policy_for("b"));
    });
}

#[test]
fn ordinary_deployments_of_one_namespace_are_kept_by_the_thousand() {
    measured(async {
        let noise = noise();
        let server = ApiServer::default().with(DEPLOYMENTS, 5_000, move |number| {
        let env = json!([{"name": "A", "value": text(&noise, number, 1_500)}]);
        let labels = json!({"app": "web", "app.kubernetes.io/instance": number.to_string(), "team": "shop", "tier": "front"});
        let fields = json!({"labels": labels, "annotations": {"adieu.dev/graceful": "true", "deployment.kubernetes.io/revision": "1"}});
        object("shop", &number.to_string(), fields, deployment(json!({"labels": labels}), env))
    });
        let (caches, unusable, peak) = listed(server).await;
        assert!(peak < LIMIT, "{} MiB", peak >> 20);
        assert!(unusable.all().is_empty());
        assert!(caches.workloads().all().all(|(_, cached)| cached.too_large().is_none()));
        assert_eq!(caches.workloads().all().count(), 5_000);
    });
}

#[test]
fn managed_fields_of_any_size_need_little_memory() {
    measured(async {
        let nested = (0..100).fold(json!({}), |inner, _| json!({ "f:a": inner }));
        let mut server = ApiServer::default();
        for (manager, name) in [("adieu", "own"), ("kubectl", "others")] {
            // 1.4 MB of text, and 80 times that as values.
            let entry = json!({"manager": manager, "operation": "Update", "fieldsV1": nested}).to_string();
            let fields = Bytes::from([entry.as_str()].repeat(1_400_000 / entry.len()).join(","));
            for path in [DEPLOYMENTS, POLICIES, SERVICES, BUDGETS] {
                let fields = fields.clone();
                server = server.with(path, 20, move |number| {
                let begin = format!(
                    r#"{{"metadata":{{"name":"{name}-{number}","namespace":"greedy","uid":"{name}-{number}","resourceVersion":"1","managedFields":["#
                );
                vec![begin.into(), fields.clone(), Bytes::from(r#"]},"spec":{"replicas":0,"selector":{}}}"#)]
            });
            }
        }
        let (caches, unusable, peak) = listed(with_shop(server)).await;
        assert!(peak < NAMESPACE_LIMIT, "{} MiB", peak >> 20);
        assert_shop_is_kept(&caches, &unusable, "managedFields");
        let too_large = caches.workloads().all().filter(|(_, cached)| cached.too_large().is_some());
        assert_eq!(too_large.count(), 20, "those with adieu's own");
    });
}

#[test]
fn listing_objects_of_unusual_size_needs_little_memory() {
    measured(async {
        let noise = noise();
        let begin = |name: &str, container: &str| {
            let metadata = json!({"name": name, "namespace": "greedy", "uid": name, "resourceVersion": "1", "generation": 1});
            Bytes::from(format!(
                r#"{{"metadata":{metadata},"spec":{{"replicas":0,"template":{{"spec":{{"containers":[{{"name":"a",{container}"#
            ))
        };
        // 750,000 empty strings.
        let arguments = Bytes::from(["\"\""].repeat(750_000).join(","));
        let server = ApiServer::default()
            .with(DEPLOYMENTS, 1, move |_| {
                vec![begin("arguments", r#""args":["#), arguments.clone(), format!("]{END}").into()]
            })
            .with(DEPLOYMENTS, 300, move |number| {
                let chunks = noise.chunks(64 << 10).map(|chunk| noise.slice_ref(chunk));
                let begin = begin(&format!("large-{number}"), r#""env":[{"name":"A","value":""#);
                [begin].into_iter().chain(chunks).chain([format!("\"}}]{END}").into()]).collect()
            })
            .with(POLICIES, 2_000, |number| policy("greedy", number));
        let (caches, unusable, peak) = listed(with_shop(server)).await;
        assert!(peak < LIMIT, "{} MiB", peak >> 20);
        assert_shop_is_kept(&caches, &unusable, "unusual sizes");
        assert_eq!(caches.workloads().all().filter(|(_, cached)| cached.too_large().is_some()).count(), 301);
        let policies = caches.namespace_context("greedy").policies.len();
        assert!((300..700).contains(&policies), "{policies} policies are cached");
        // Of each kind.
        assert_eq!(unusable.all().len(), 200);
    });
}
