//! The memory that requests at the webhook's port need, whatever they contain. In a separate program, because it
//! counts every allocation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use adieu::{
    index::caches::Caches,
    plan::{self, Kind, NamespaceContext, Workload},
    runtime::{
        server::{Peer, serve_connection},
        serving::LIMITS,
    },
    webhook::{self, PATH},
};
use axum::Router;
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;
/// The limit for all requests together. A replica has 128 MiB, and needs some for its caches.
const BOUND: usize = 64 * MIB;
/// Concurrent connections of two peers.
const CROWD: usize = 40;
const TIMEOUT: Duration = Duration::from_mins(2);

fn peer(number: u8) -> Peer {
    Peer::new(IpAddr::from(Ipv4Addr::new(10, 0, 0, number)))
}

fn connect(router: &Router, number: u8) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
    let (client, server) = duplex(16 * 1024);
    let serving = serve_connection(server, peer(number), router.clone(), LIMITS, CancellationToken::new());
    tokio::spawn(serving);
    client
}

/// The answer to a body; empty if the connection was closed without one.
async fn post(router: &Router, number: u8, body: &[u8]) -> String {
    let (mut reader, mut writer) = tokio::io::split(connect(router, number));
    let head = format!(
        "POST {PATH}?timeout=30s HTTP/1.1\r\nhost: adieu\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let send = async {
        writer.write_all(head.as_bytes()).await?;
        writer.write_all(body).await
    };
    let mut answer = Vec::new();
    // After an early answer the connection is closed.
    let both = async { tokio::join!(send, reader.read_to_end(&mut answer)) };
    let _ = timeout(TIMEOUT, both).await.expect("an end of the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

fn deployment(annotations: &Value, env: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
        "spec": {"template": {"spec": {
            "containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 8080}], "env": env}],
        }}},
    })
}

/// A review with fields in the API server's order, so that the uid is first.
fn review(operation: &str, object: &str, old_object: &str) -> String {
    let kind = r#"{"group":"apps","version":"v1","kind":"Deployment"}"#;
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"1","kind":{kind},"namespace":"shop","operation":"{operation}","object":{object},"oldObject":{old_object}}}}}"#
    )
}

/// A review of a Deployment that is being annotated.
fn annotated(env: &Value) -> String {
    let object = |annotations| deployment(&annotations, env).to_string();
    review("UPDATE", &object(json!({"adieu.dev/graceful": "true"})), &object(json!({})))
}

fn normal() -> String {
    annotated(&json!([]))
}

/// An update of the largest Deployment that etcd accepts, with a few large values.
fn genuine() -> String {
    let variable = |number: usize| json!({"name": format!("V{number}"), "value": "x".repeat(1024)});
    let review = annotated(&(0..1400).map(variable).collect());
    assert!(review.len() > 2 * 1_400_000);
    review
}

/// An update that needs nearly all of a review's limit.
fn at_the_limit() -> String {
    let variable = |number: usize| json!({"name": format!("V{number}"), "value": ""});
    annotated(&(0..3000).map(variable).collect())
}

/// A Deployment with a record of this many bytes, a tree of numbers.
fn recorded(bytes: usize) -> String {
    let said = [("adieu.dev/graceful".to_owned(), "true".to_owned())].into();
    let mut object = deployment(&json!(said), &json!([]));
    let workload = Workload::new(Kind::Deployment, &said, &object["spec"]["template"]);
    let mut template = plan::admit(&workload, None, &NamespaceContext::default()).template.unwrap();
    let record = &mut template["metadata"]["annotations"]["adieu.dev/injected"];
    let mut forged: Value = serde_json::from_str(record.as_str().unwrap()).unwrap();
    forged["containers"]["web"]["preStop"]["injected"] = vec![0; bytes / 2 - 1000].into();
    *record = forged.to_string().into();
    object["spec"]["template"] = template;
    object.to_string()
}

/// A review whose hook, of many values under a long key, is restored from the record.
fn under_a_long_key(bytes: usize) -> Vec<u8> {
    let key = "k".repeat((bytes / 10).min(60_000));
    let hook = |item: &str, count: usize| format!(r#"{{"{key}":[{}]}}"#, vec![item; count].join(","));
    let count = (bytes / 20).min(12_000);
    let (injected, before) = (hook("0", count), hook("1", count));
    let record = format!(
        r#"{{"optedInBy":"annotation","settings":{{}},"containers":{{"c":{{"preStop":{{"injected":{injected}}}}}}}}}"#
    );
    let container = format!(r#"{{"name":"c","lifecycle":{{"preStop":{injected}}}}}"#);
    with_record("false", &format!("{record}\n{{\"c\":{before}}}"), &format!("[{container}]"))
}

/// A review of a Deployment with this value of `adieu.dev/graceful`, this record, and these containers.
fn with_record(graceful: &str, record: &str, containers: &str) -> Vec<u8> {
    let record = json!({"adieu.dev/injected": record});
    let template =
        format!(r#"{{"metadata":{{"annotations":{record}}},"spec":{{"containers":{containers}}}}}"#);
    let annotations = json!({"adieu.dev/graceful": graceful});
    let object =
        format!(r#"{{"metadata":{{"annotations":{annotations}}},"spec":{{"template":{template}}}}}"#);
    review("CREATE", &object, "null").into_bytes()
}

/// Reviews of this size with a forged record or name that each of many containers could multiply.
fn multiplied(bytes: usize) -> Vec<(&'static str, Vec<u8>)> {
    let long = "\u{7f}".repeat((bytes / 2).min(200_000));
    let hooked =
        |name: &str| format!(r#"{{"name":"{name}","lifecycle":{{"preStop":{{"sleep":{{"seconds":2}}}}}}}}"#);
    let declaring = |name: &str| format!(r#"{{"name":"{name}","ports":[{{"containerPort":1}}]}}"#);
    let all = |container: &dyn Fn(&str) -> String, count: usize| {
        let containers: Vec<_> = (0..count).map(|number| container(&format!("c{number}"))).collect();
        format!("[{}]", containers.join(","))
    };
    let [few, many] = [450, bytes / 2 / 70];
    let with_record = |record: &Value, containers: &str| with_record("true", &record.to_string(), containers);
    let request = json!({
        "preStopMethod": {"value": "HTTPGet", "from": "command line"},
        "httpGet": {"value": {"path": format!("/{long}"), "port": 1}, "from": "command line"},
    });
    let renamed = json!({"optedInBy": "annotation", "settings": {}, "containers": {
        &long: {"preStop": {"injected": {"sleep": {"seconds": 2}}}},
    }});
    let short = json!({"optedInBy": "annotation", "settings": {}, "containers": {
        "a": {"preStop": {"injected": {"sleep": {"seconds": 2}}}},
    }});
    let rendered = json!({"optedInBy": "command line", "rendered": true, "settings": request});
    vec![
        ("renamed containers", with_record(&renamed, &all(&hooked, few))),
        ("more renamed containers", with_record(&renamed, &all(&hooked, many))),
        ("a path for each container", with_record(&rendered, &all(&declaring, few))),
        ("a path for each of more containers", with_record(&rendered, &all(&declaring, many))),
        (
            "a script",
            in_template(&format!(
                r#"[{{"name":"c","lifecycle":{{"preStop":{{"exec":{{"command":["sh","-c",{}]}}}}}}}}]"#,
                string(bytes, "a;")
            )),
        ),
        (
            "commas",
            with_annotations(&format!(
                r#""adieu.dev/graceful":"true","adieu.dev/exclude-containers":{}"#,
                string(bytes, ",")
            )),
        ),
        ("a long key in a hook", under_a_long_key(bytes)),
        (
            "a long name with the injection of another",
            with_record(&short, &format!("[{}]", hooked(&"\u{7f}".repeat(bytes - 4000)))),
        ),
    ]
}

/// An update without a field manager that removes a large annotation, which is restored: the answer is larger than the
/// request.
fn restoring() -> String {
    let object = |graceful: Value, drain: usize| {
        let mut object = deployment(&json!({"deployment.kubernetes.io/revision": "1"}), &json!([]));
        object["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .extend(graceful.as_object().unwrap().clone());
        object["spec"]["template"]["spec"]["activeDeadlineSeconds"] = drain.into();
        object.to_string()
    };
    review("UPDATE", &object(json!({}), 1), &object(json!({"adieu.dev/x": "x".repeat(1_400_000)}), 2))
}

fn list(bytes: usize, item: &str) -> String {
    format!("[{}{item}]", format!("{item},").repeat(bytes / (item.len() + 1) - 300))
}

fn string(bytes: usize, part: &str) -> String {
    format!("\"{}\"", part.repeat(bytes / part.len() - 300))
}

/// A review of a Deployment with these containers.
fn in_template(containers: &str) -> Vec<u8> {
    let annotations = r#"{"adieu.dev/graceful":"true"}"#;
    let template = format!(r#"{{"spec":{{"containers":{containers}}}}}"#);
    let object =
        format!(r#"{{"metadata":{{"annotations":{annotations}}},"spec":{{"template":{template}}}}}"#);
    review("CREATE", &object, "null").into_bytes()
}

/// A review of a Deployment with these annotations.
fn with_annotations(annotations: &str) -> Vec<u8> {
    let object = format!(r#"{{"metadata":{{"annotations":{{{annotations}}}}}}}"#);
    review("CREATE", &object, "null").into_bytes()
}

/// Reviews of this size that are the most expensive to parse.
fn hostile_containers(bytes: usize) -> Vec<(&'static str, Vec<u8>)> {
    let list = |item: &str| list(bytes, item);
    let keys: Vec<_> = (0..bytes / 13).map(|number| format!("\"{number:08}\":0")).collect();
    let named: Vec<_> = (0..bytes / 2 / 24).map(|number| format!(r#"{{"name":"c{number:08}"}}"#)).collect();
    let many_containers = format!("[{}]", named[..named.len() * 2 / 5].join(","));
    let names: Vec<_> = (0..bytes / 2 / 10).map(|number| format!("{number:08}")).collect();
    let excluding = String::from_utf8(in_template(&many_containers)).unwrap().replace(
        r#""adieu.dev/graceful""#,
        &format!(r#""adieu.dev/exclude-containers":"{}","adieu.dev/graceful""#, names.join(",")),
    );
    let mut cut = in_template(&string(bytes, "x"));
    let end = cut.len() - 200;
    cut[end] = 0xff;
    vec![
        ("numbers", in_template(&list("0"))),
        ("empty strings", in_template(&list("\"\""))),
        ("empty arrays", in_template(&list("[]"))),
        ("arrays of one", in_template(&list("[0]"))),
        ("objects", in_template(&list(r#"{"a":1}"#))),
        ("keys", in_template(&format!("[{{{}}}]", keys.join(",")))),
        (
            "the same key repeatedly",
            in_template(&format!("[{{{}}}]", list("\"a\":0").trim_matches(['[', ']']))),
        ),
        ("nesting", in_template(&format!("{}{}", "[".repeat(bytes / 2 - 300), "]".repeat(bytes / 2 - 300)))),
        ("nesting without an end", in_template(&"[".repeat(bytes - 600))),
        ("a string", in_template(&string(bytes, "x"))),
        ("escapes", in_template(&string(bytes, "\\u0001"))),
        ("a huge number", in_template(&"9".repeat(bytes - 600))),
        ("invalid UTF-8 at the end", cut),
        ("many containers", in_template(&many_containers)),
        ("many of them excluded", excluding.into()),
    ]
}

/// The most expensive bodies of this size.
fn hostile(bytes: usize) -> Vec<(&'static str, Vec<u8>)> {
    let outside =
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","object":{"a":"#;
    let escaped = string(bytes, "\\n");
    let keys: Vec<_> = (0..bytes / 13).map(|number| format!("\"{number:08}\":\"\"")).collect();
    let own_keys: Vec<_> = (0..bytes / 27).map(|number| format!("\"adieu.dev/{number:08}\":\"\"")).collect();
    let malformed = format!(r#""adieu.dev/graceful":{}"#, string(bytes, "\u{7f}"));
    let mut bodies = hostile_containers(bytes);
    bodies.extend(multiplied(bytes));
    bodies.extend([
        ("numbers outside of a Deployment", format!("{outside}{}}}}}}}", list(bytes, "0")).into_bytes()),
        (
            "a kind of escapes",
            review("CREATE", "{}", "null").replace("Deployment", escaped.trim_matches('"')).into(),
        ),
        ("a request that is a string", format!(r#"{{"request":{}}}"#, string(bytes, "\\u0001")).into_bytes()),
        ("annotations", with_annotations(&keys.join(","))),
        ("spaces", vec![b' '; bytes]),
        ("a record of numbers", review("CREATE", &recorded(bytes), "null").into()),
        ("two records of numbers", review("UPDATE", &recorded(bytes / 2), &recorded(bytes / 2 - 2)).into()),
        ("unknown annotations of adieu", with_annotations(&own_keys.join(","))),
        ("a malformed value to be escaped", with_annotations(&malformed)),
        ("no JSON", vec![b'\\'; bytes]),
    ]);
    bodies
}

fn router() -> Router {
    webhook::router(Caches::fixed(vec![], vec![], vec![]), Arc::default(), Duration::from_secs(30))
}

/// The peak of memory over the beginning.
struct Peak(usize);

impl Peak {
    fn begin() -> Self {
        MEMORY.reset_peak_usage();
        Self(MEMORY.current_usage())
    }

    fn check(&self, what: &str) {
        let peak = MEMORY.peak_usage().saturating_sub(self.0);
        println!("{what}: {} KiB", peak / 1024);
        assert!(peak < BOUND, "{what} took {} MiB", peak / MIB);
    }
}

async fn sequential(router: &Router) {
    for bytes in [MIB / 4, 4 * MIB - 1024] {
        for (what, body) in hostile(bytes) {
            let peak = Peak::begin();
            let answer = post(router, 1, &body).await;
            assert!(answer.starts_with("HTTP/1.1 "), "{what}: {answer}");
            assert!(!answer.starts_with("HTTP/1.1 5"), "{what}: {answer}");
            peak.check(&format!("{what}, {bytes} bytes"));
        }
    }
}

/// All bodies concurrently from two peers, while a third sends reviews.
async fn concurrent(router: &Router) {
    let bodies: Vec<_> =
        [4 * MIB - 1024, 8 * MIB].into_iter().flat_map(hostile).map(|(_, body)| Arc::new(body)).collect();
    let peak = Peak::begin();
    let mut crowd = JoinSet::new();
    for number in 0..CROWD {
        let (router, body) = (router.clone(), bodies[number % bodies.len()].clone());
        let number = u8::try_from(1 + number % 2).unwrap();
        crowd.spawn(async move { post(&router, number, &body).await });
    }
    let normal = normal();
    let mut reviewed = 0;
    while !crowd.is_empty() {
        let answer = post(router, 3, normal.as_bytes()).await;
        assert!(answer.contains("\"patchType\":\"JSONPatch\""), "{answer}");
        reviewed += 1;
        while crowd.try_join_next().is_some() {}
    }
    assert!(reviewed > 1);
    peak.check(&format!("{CROWD} hostile bodies concurrently, {reviewed} reviews meanwhile"));
}

/// Two peers send bodies up to the limit without their last byte, while a third sends reviews.
async fn incomplete_bodies(router: &Router) {
    let body = Arc::new(vec![b' '; 4 * MIB - 1]);
    let peak = Peak::begin();
    let mut held = Vec::new();
    for number in 0..CROWD {
        let (router, body) = (router.clone(), body.clone());
        let number = u8::try_from(1 + number % 2).unwrap();
        held.push(tokio::spawn(async move {
            let mut client = connect(&router, number);
            let head = format!(
                "POST {PATH}?timeout=10s HTTP/1.1\r\nhost: adieu\r\ncontent-length: {}\r\n\r\n",
                4 * MIB
            );
            client.write_all(head.as_bytes()).await.unwrap();
            let _ = client.write_all(&body).await;
            let mut answer = Vec::new();
            let _ = client.read_buf(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        }));
    }
    for review in [normal(), genuine(), normal()] {
        let answer = post(router, 3, review.as_bytes()).await;
        assert!(answer.contains("\"patchType\":\"JSONPatch\""), "{answer}");
    }
    peak.check(&format!("{CROWD} bodies without their last byte, the largest review meanwhile"));
    for held in held {
        let answer = timeout(TIMEOUT, held).await.expect("an answer").unwrap();
        assert!(
            ["408", "503"].iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status} "))),
            "{answer}"
        );
    }
}

/// Two peers request large answers and don't read them, while a third sends reviews.
async fn unread(router: &Router) {
    let body = restoring();
    let head =
        format!("POST {PATH}?timeout=5s HTTP/1.1\r\nhost: adieu\r\ncontent-length: {}\r\n\r\n", body.len());
    let request = Arc::new(head + &body);
    let peak = Peak::begin();
    let mut held = Vec::new();
    for number in 0..2 * CROWD {
        let mut client = connect(router, u8::try_from(1 + number % 2).unwrap());
        let request = request.clone();
        held.push(tokio::spawn(async move {
            let _ = client.write_all(request.as_bytes()).await;
            client
        }));
    }
    for review in [normal(), genuine(), normal(), body] {
        let answer = post(router, 3, review.as_bytes()).await;
        assert!(answer.contains("\"patchType\":\"JSONPatch\""), "{}", &answer[..answer.len().min(500)]);
    }
    peak.check(&format!(
        "{} large answers that the client does not read, the largest review beside them",
        2 * CROWD
    ));
    for held in held {
        drop(timeout(TIMEOUT, held).await.expect("the request was taken").unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_input_needs_bounded_memory_and_reviews_are_answered_meanwhile() {
    let router = router();
    for (what, review) in
        [("a review", normal()), ("the largest", genuine()), ("at the limit", at_the_limit())]
    {
        let peak = Peak::begin();
        let answer = post(&router, 3, review.as_bytes()).await;
        assert!(answer.contains("\"patchType\":\"JSONPatch\""), "{what}: {answer}");
        peak.check(what);
    }
    sequential(&router).await;
    concurrent(&router).await;
    incomplete_bodies(&router).await;
    unread(&router).await;
}
