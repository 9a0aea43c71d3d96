//! Unknown clients at the webhook's port, and their effect on admissions of the API server.

use std::{fs, io, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use json_patch::Patch;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use nix::unistd::Pid;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::processes;
use crate::{
    admissions::Admissions,
    figures::figure,
    operator::{ADIEU, Operator, memory_limit, restarts},
    support::{Scene, drain, eventually, web},
};

/// Concurrent connections: with the slow ones nearly the limit of one peer.
const CROWD: usize = 400;
/// Connections that never complete their request.
const SLOW: usize = 100;
/// More connections than the limit of one peer.
const TOO_MANY: usize = 600;
/// Connections that repeatedly send the most expensive bodies, and for how long.
const COSTLY: (usize, Duration) = (16, Duration::from_secs(20));
/// The limit for the 99th percentile of admissions meanwhile.
const IN_TIME: Duration = Duration::from_secs(1);
/// Connections that hold a body of the maximal size.
const HEAVY: usize = 40;
/// The bytes that each sends of its declared length: together more than a replica's memory.
const WEIGHT: usize = 4 * 1024 * 1024 - 1;
/// The share of its memory limit that a container may use: sockets count in addition to resident memory.
const ENOUGH: f64 = 0.75;
/// The limit for the webhook to answer or close a connection.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The webhook's port, without the API server.
#[derive(Clone)]
pub(super) struct Target {
    address: (String, u16),
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Target {
    pub(super) async fn of(scene: &Scene, operator: &str, pod: &Pod) -> Self {
        let port = pod.spec.as_ref().unwrap().containers[0].ports.as_ref().unwrap();
        let port = port.iter().find(|port| port.name.as_deref() == Some("webhook")).unwrap().container_port;
        let secrets: Api<Secret> = Api::namespaced(scene.client.clone(), ADIEU);
        let data = secrets.get(&format!("{operator}-certificates")).await.unwrap().data.unwrap();
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(&data["ca.crt"].0) {
            roots.add(authority.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let ip = pod.status.as_ref().unwrap().pod_ip.clone().unwrap();
        Self {
            address: (ip, port.try_into().unwrap()),
            name: format!("{operator}.{ADIEU}.svc").try_into().unwrap(),
            tls: TlsConnector::from(Arc::new(tls)),
        }
    }

    async fn plain(&self) -> TcpStream {
        TcpStream::connect(self.address.clone()).await.unwrap()
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        self.try_connect().await.unwrap()
    }

    pub(super) async fn try_connect(&self) -> io::Result<TlsStream<TcpStream>> {
        self.tls.connect(self.name.clone(), TcpStream::connect(self.address.clone()).await?).await
    }

    /// The answer to one request.
    async fn post(&self, body: &[u8]) -> String {
        post(self.connect().await, body).await
    }

    /// The drain that would be injected into a Deployment with these annotations, in seconds.
    pub(super) async fn drain(&self, namespace: &str, annotations: &Value) -> Option<i64> {
        let answer = self.post(review(namespace, annotations).to_string().as_bytes()).await;
        let review: Value = serde_json::from_str(&answer[answer.find('{')?..]).ok()?;
        let patch = BASE64_STANDARD.decode(review["response"]["patch"].as_str()?).ok()?;
        let patch: Patch = serde_json::from_slice(&patch).ok()?;
        let mut deployment = web("web", annotations);
        json_patch::patch(&mut deployment, &patch).ok()?;
        drain(&deployment)
    }
}

async fn post(mut client: impl AsyncRead + AsyncWrite + Unpin, body: &[u8]) -> String {
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: adieu\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    // A body over the limit is answered before it is read.
    let _ = client.write_all(body).await;
    let _ = client.flush().await;
    ended(&mut client).await
}

/// Sends most of a large body, and waits. Returns the answer, or a part of it: a client that is rejected while it
/// sends may get a reset connection.
async fn heavy_and_slow(target: &Target) -> String {
    let mut client = target.connect().await;
    let head = format!("POST /mutate HTTP/1.1\r\nhost: adieu\r\ncontent-length: {}\r\n\r\n", WEIGHT + 1);
    client.write_all(head.as_bytes()).await.unwrap();
    let _ = client.write_all(&vec![b' '; WEIGHT]).await;
    let mut answer = Vec::new();
    let _ = timeout(2 * TIMEOUT, client.read_to_end(&mut answer)).await.expect("an end of the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until the end of the connection.
async fn ended(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    // Includes an end without a TLS close.
    let _ = timeout(TIMEOUT, client.read_to_end(&mut answer)).await.expect("an end of the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

pub(super) fn review(namespace: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": namespace,
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "userInfo": {"username": "user"},
            "object": web("web", annotations),
        },
    })
}

/// The memory of a process, in MiB: `VmRSS` now, `VmHWM` the maximum so far.
fn mebibytes(process: Pid, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    let kibibytes: f64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
    kibibytes / 1024.0
}

/// A row of figures about invalid input.
fn outcome(what: &str, found: &str) {
    figure(&format!("The webhook's port was sent {what}"), found);
}

async fn bad_input(target: &Target) {
    let not_a_review = "not an admission.k8s.io/v1 AdmissionReview";
    for (what, body, status, reason) in [
        ("invalid JSON", "not a review".to_owned(), "400", not_a_review),
        (
            "another kind of object",
            json!({"kind": "Pod", "apiVersion": "v1"}).to_string(),
            "400",
            "AdmissionReview",
        ),
        (
            "a review of v1beta1",
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}).to_string(),
            "400",
            "v1",
        ),
        ("100,000 nested lists", format!("{{\"object\": {}", "[".repeat(100_000)), "400", not_a_review),
        ("10 MiB", " ".repeat(10 * 1024 * 1024), "413", "limit"),
    ] {
        let answer = target.post(body.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert!(answer.contains(reason), "{what}: {answer}");
        outcome(what, &format!("response {status} with the reason"));
    }
    assert!(!post(target.plain().await, b"{}").await.contains("200 OK"), "no TLS");
    outcome("a request without TLS", "the connection was closed");
}

/// Clients that send bodies up to the limit, without the last byte.
async fn incomplete_bodies(target: &Target) {
    let mut heavy = JoinSet::new();
    for _ in 0..HEAVY {
        let target = target.clone();
        heavy.spawn(async move { heavy_and_slow(&target).await });
    }
    let answers = heavy.join_all().await;
    let answered = |status: &str| answers.iter().filter(|answer| answer.starts_with(status)).count();
    let (waited_for, turned_away) = (answered("HTTP/1.1 408 "), answered("HTTP/1.1 503 "));
    // Clients that wait for memory hold none. The total is checked at the end.
    assert_eq!(answered("HTTP/1.1 200 "), 0, "{answers:?}");
    assert!(waited_for + turned_away > 0, "{answers:?}");
    outcome(
        &format!("{HEAVY} concurrent requests of 4 MiB, each without its last byte"),
        &format!(
            "{turned_away} responses with 503, {waited_for} with 408 after the time limit, {} closed connections",
            HEAVY - turned_away - waited_for
        ),
    );
}

/// Complete bodies of 4 MiB that are the most expensive to read: reviews and other JSON.
fn costly_bodies() -> Vec<(&'static str, String)> {
    let list = |item: &str| format!("[{}{item}]", format!("{item},").repeat(WEIGHT / (item.len() + 1) - 200));
    let foreign = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"1","object":{{"a":{}}}}}}}"#,
        list("0")
    );
    let of = |containers: &str| {
        let kind = r#"{"group":"apps","version":"v1","kind":"Deployment"}"#;
        let metadata = r#"{"name":"web","annotations":{"adieu.dev/graceful":"true"}}"#;
        let spec = format!(r#"{{"template":{{"spec":{{"containers":{containers}}}}}}}"#);
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"1","kind":{kind},"namespace":"default","operation":"CREATE","object":{{"metadata":{metadata},"spec":{spec}}}}}}}"#
        )
    };
    vec![
        ("HTTP/1.1 4", foreign),
        ("HTTP/1.1 200 ", of(&list("0"))),
        ("HTTP/1.1 200 ", of(&list(r#"{"a":1}"#))),
        ("HTTP/1.1 200 ", of(&list("[0]"))),
        ("HTTP/1.1 200 ", of(&list("\"\""))),
    ]
}

/// Clients that send the most expensive bodies.
async fn costly(target: &Target) {
    let bodies = Arc::new(costly_bodies());
    let mut senders = JoinSet::new();
    for sender in 0..COSTLY.0 {
        let (target, bodies) = (target.clone(), bodies.clone());
        senders.spawn(async move {
            let (begun, mut answered) = (Instant::now(), 0);
            while begun.elapsed() < COSTLY.1 {
                let (status, body) = &bodies[(sender + answered) % bodies.len()];
                let answer = target.post(body.as_bytes()).await;
                // 503: the limit of this peer is reached.
                assert!(
                    [status, "HTTP/1.1 503 ", "HTTP/1.1 408 "].iter().any(|s| answer.starts_with(s)),
                    "{answer}"
                );
                answered += 1;
            }
            answered
        });
    }
    let answered: usize = senders.join_all().await.into_iter().sum();
    outcome(
        &format!(
            "bodies of 4 MiB that cost most to read, for {} s from {} connections",
            COSTLY.1.as_secs(),
            COSTLY.0
        ),
        &format!("{answered} were answered"),
    );
}

/// Clients that open more connections than the limit of one peer.
async fn too_many(target: &Target) {
    let mut open = Vec::new();
    for _ in 0..TOO_MANY {
        open.push(target.plain().await);
    }
    let mut closed = 0;
    for client in &mut open {
        // The others send nothing, and are closed after some seconds.
        if timeout(Duration::from_millis(5), client.read(&mut [0])).await.is_ok() {
            closed += 1;
        }
    }
    assert!(closed > 0, "all {TOO_MANY} were kept");
    outcome(&format!("{TOO_MANY} connections of one peer"), &format!("{closed} were closed immediately"));
}

/// A client that sends nothing, until it is disconnected, and clients that never complete a request.
async fn incomplete_requests(target: &Target) -> Vec<TlsStream<TcpStream>> {
    let (mut silent, since) = (target.plain().await, Instant::now());
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut client = target.connect().await;
        client.write_all(b"POST /mutate HTTP/1.1\r\n").await.unwrap();
        slow.push(client);
    }
    ended(&mut silent).await;
    outcome("nothing", &format!("the connection was closed after {:.1} s", since.elapsed().as_secs_f64()));
    slow
}

/// Clients that send valid reviews concurrently.
async fn crowd(target: &Target, annotations: &Value) {
    let review = Arc::new(review("default", annotations).to_string());
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let (target, review) = (target.clone(), review.clone());
        crowd.spawn(async move { target.post(review.as_bytes()).await });
    }
    let answers = crowd.join_all().await;
    let patched = answers.iter().filter(|answer| answer.contains("\"patchType\":\"JSONPatch\"")).count();
    assert_eq!(patched, CROWD);
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn unknown_clients_get_clear_answers_and_delay_no_admission() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let pod = operator.pods().await.remove(0);
    let target = Target::of(&scene, &operator.name, &pod).await;
    let process = processes(&pod).remove(0);
    // Resets the maximum of earlier tests, if the kernel supports it.
    drop(fs::write(format!("/proc/{process}/clear_refs"), "5"));
    let before = mebibytes(process, "VmRSS:");

    // kube-proxy may not know a new pod yet.
    let annotations = json!({"adieu.dev/graceful": "true"});
    let annotated = web("web", &annotations);
    eventually("the webhook behind its Service", || async {
        let created = scene.try_create_dry(&annotated).await.unwrap();
        drain(&serde_json::to_value(created).unwrap()) == Some(10)
    })
    .await;
    // With `failurePolicy: Ignore`, a review without a timely answer results in no injection.
    let admissions = Admissions::start(&scene);

    bad_input(&target).await;

    let slow = incomplete_requests(&target).await;
    incomplete_bodies(&target).await;
    crowd(&target, &annotations).await;

    drop(slow);
    costly(&target).await;
    too_many(&target).await;
    let others = admissions.end().await;
    let admissions = Admissions::start(&scene);
    admissions.further(100).await;
    let afterwards = admissions.end().await;
    let now = operator.pods().await.remove(0);
    assert_eq!(restarts(&now), restarts(&pod), "it was killed");
    let (peak, after, limit) =
        (mebibytes(process, "VmHWM:"), mebibytes(process, "VmRSS:"), memory_limit(&pod));
    figure(
        &format!(
            "{CROWD} concurrent unknown clients at the webhook's port, {SLOW} that never complete a request"
        ),
        &format!(
            "{} of {} admissions meanwhile not injected in time, none afterwards, 99 of 100 took at most {:.0} ms, the slowest {:.0} ms; \
             memory {before:.1} MiB before, {peak:.1} MiB at most, {after:.1} MiB after, of {limit:.0} MiB",
            others.failed.len(),
            others.count,
            others.p99().as_secs_f64() * 1e3,
            others.slowest.as_secs_f64() * 1e3,
        ),
    );
    assert_eq!(others.failed, Vec::<String>::new());
    assert!(others.p99() < IN_TIME, "{:?}", others.p99());
    assert_eq!(afterwards.failed, Vec::<String>::new());
    assert!(peak < limit * ENOUGH, "{peak:.1} of {limit:.0} MiB were in use");
    scene.end().await;
}
