//! The memory of a replica that lists objects of unusual size. In a separate process, because the whole process is
//! measured.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{convert::Infallible, time::Duration};

use adieu::{
    index::{caches::Caches, unusable_objects::UnusableObjects, workloads::Workloads},
    plan::Kind,
};
use axum::body::Body as Answer;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, Response};
use kube::{Client, client::Body};
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::service_fn;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The limit: a container has 128 MiB, which include the program itself and the allocator.
const LIMIT: usize = 80 << 20;

/// The end of a Deployment after its container's fields.
const END: &str = "}]}}}}";

const DEPLOYMENTS: usize = 300;
const POLICIES: usize = 2000;

/// An API server with these objects, in pages and in chunks, whose watches have no events.
#[derive(Clone)]
struct ApiServer {
    /// 1.4 MB that don't compress.
    noise: Bytes,
    /// 750,000 empty strings.
    arguments: Bytes,
    /// A spec of the maximal size.
    policy: Bytes,
}

impl ApiServer {
    fn new() -> Self {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
                [usize::try_from(state >> 58).unwrap()]
        };
        let noise: Vec<u8> = (0..1_400_000).map(|_| random()).collect();
        let values: Vec<_> = (0..480).map(|number| format!("{number:0>60}")).collect();
        let expressions = json!([{"key": "app", "operator": "In", "values": values}]);
        let policy = json!({"selector": {"matchExpressions": expressions}}).to_string();
        assert!((30_000..33_000).contains(&policy.len()), "{}", policy.len());
        Self {
            noise: noise.into(),
            arguments: ["\"\""].repeat(750_000).join(",").into(),
            policy: policy.into(),
        }
    }

    /// The chunks of an object.
    fn deployment(&self, number: usize) -> Vec<Bytes> {
        let deployment = |name: &str, annotations: Value, container: &str| {
            let metadata = json!({"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1",
                "generation": 1, "annotations": annotations});
            format!(
                r#"{{"metadata":{metadata},"spec":{{"replicas":0,"template":{{"spec":{{"containers":[{{"name":"a",{container}"#
            )
        };
        match number {
            0 => vec![
                deployment("arguments", json!({}), r#""args":["#).into(),
                self.arguments.clone(),
                format!("]{END}").into(),
            ],
            150 => {
                let annotations = json!({"adieu.dev/graceful": "true"});
                vec![deployment("web", annotations, r#""image":"web""#).into(), END.into()]
            }
            _ => {
                let name = format!("large-{number}");
                let chunks = self.noise.chunks(64 << 10).map(|chunk| self.noise.slice_ref(chunk));
                let begin = deployment(&name, json!({}), r#""env":[{"name":"A","value":""#);
                [begin.into()].into_iter().chain(chunks).chain([format!("\"}}]{END}").into()]).collect()
            }
        }
    }

    fn policy(&self, number: usize) -> Vec<Bytes> {
        let condition = json!({"type": "Ready", "status": "True", "reason": "Injected",
            "message": "x".repeat(7_000), "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let status = json!({"conditions": [condition, condition]});
        let metadata = json!({"name": format!("policy-{number}"), "namespace": "shop",
            "uid": number.to_string(), "resourceVersion": "1", "generation": 1,
            "managedFields": [{"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:a": "y".repeat(20_000)}}]});
        let begin = format!(r#"{{"metadata":{metadata},"status":{status},"spec":"#);
        vec![begin.into(), self.policy.clone(), "}".into()]
    }

    fn answer(&self, target: &str) -> Answer {
        if target == "/version" {
            let version = json!({"major": "1", "minor": "40", "gitVersion": "", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
            return Answer::from(version.to_string());
        }
        if target.contains("watch=") {
            return Answer::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        }
        let number_of = |key: &str| {
            let value = target.split(['?', '&']).find_map(|parameter| parameter.strip_prefix(key))?;
            value.parse::<usize>().ok()
        };
        let total = match target.split('?').next().unwrap() {
            "/apis/apps/v1/deployments" => DEPLOYMENTS + 2,
            "/apis/adieu.dev/v1alpha1/gracefulpolicies" => POLICIES,
            _ => 0,
        };
        let (first, limit) = (number_of("continue=").unwrap_or(0), number_of("limit=").unwrap());
        let last = total.min(first + limit);
        let after = if last < total { last.to_string() } else { String::new() };
        let metadata = json!({"resourceVersion": "7", "continue": after});
        let (server, is_policy) = (self.clone(), total == POLICIES);
        let items = stream::iter(first..last).flat_map(move |number| {
            let object = if is_policy { server.policy(number) } else { server.deployment(number) };
            let comma = if number == first { "" } else { "," };
            stream::iter([Bytes::from(comma)].into_iter().chain(object))
        });
        let begin = Bytes::from(format!(r#"{{"metadata":{metadata},"items":["#));
        let list = stream::iter([begin]).chain(items).chain(stream::iter([Bytes::from("]}")]));
        Answer::from_stream(list.map(Ok::<_, Infallible>))
    }
}

#[tokio::test]
async fn listing_objects_of_unusual_size_needs_little_memory() {
    let server = ApiServer::new();
    let answers = service_fn(move |request: Request<Body>| {
        let answer = server.answer(&request.uri().to_string());
        async move { Ok::<_, Infallible>(Response::new(answer)) }
    });
    let client = Client::new(answers, "default");
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();

    let unusable = UnusableObjects::default();
    let (workloads, events) = Workloads::follow(&client, None, &unusable);
    let (caches, follow) = Caches::follow(&client, workloads, &unusable);
    let follow = tokio::spawn(follow);
    let watches = events.map(|events| tokio::spawn(events.for_each(async |_| {})));
    let filled = async {
        caches.synced().await.unwrap();
        caches.workloads().filled().await.unwrap();
    };
    timeout(Duration::from_mins(10), filled).await.expect("an end");

    let peak = MEMORY.peak_usage() - before;
    let left = MEMORY.current_usage() - before;
    eprintln!("{} KiB at most, {} KiB afterwards", peak >> 10, left >> 10);
    assert!(peak < LIMIT, "{} MiB", peak >> 20);
    let web = caches.workloads().get(Kind::Deployment, "shop", "web").unwrap();
    assert_eq!(web.data["spec"]["template"]["spec"]["containers"][0]["image"], "web");
    assert_eq!(caches.workloads().kept().count(), DEPLOYMENTS + 2);
    let stubs = caches.workloads().kept().filter(|(_, kept)| kept.too_large().is_some()).count();
    assert_eq!(stubs, DEPLOYMENTS + 1);
    let policies = caches.namespace_context("shop").policies.len();
    assert!((500..600).contains(&policies), "{policies} policies are kept");
    assert_eq!(unusable.all().len(), DEPLOYMENTS + 1 + POLICIES - policies);
    follow.abort();
    watches.iter().for_each(tokio::task::JoinHandle::abort);
}
