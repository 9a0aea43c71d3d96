//! What comes to the webhook's port that isn't the API server, and whether the API server notices.

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

/// Connections at once: with the slow ones nearly as many as one peer may have.
const CROWD: usize = 400;
/// Connections that never come to an end of their request.
const SLOW: usize = 100;
/// More connections than one peer may have.
const TOO_MANY: usize = 600;
/// Connections that send bodies that cost most to read, one after the other, and for how long.
const COSTLY: (usize, Duration) = (16, Duration::from_secs(20));
/// What 99 of 100 admissions may take beside all that.
const IN_TIME: Duration = Duration::from_secs(1);
/// Connections that hold as large a body as they may.
const HEAVY: usize = 40;
/// What each of them sends, of what it says that it will: together more than a replica has memory.
const WEIGHT: usize = 4 * 1024 * 1024 - 1;
/// How much of its limit a container may use: beside what is resident, its sockets count.
const ENOUGH: f64 = 0.75;
/// How long the webhook may leave a client without an answer or an end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The webhook's port, without the API server in between.
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

    /// The seconds of the sleep that a Deployment with these annotations would be given.
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
    // Too large a body is answered before it is read.
    let _ = client.write_all(body).await;
    let _ = client.flush().await;
    ended(&mut client).await
}

/// Sends most of a large body, and waits. The answer, or what there is of it: who is turned away in the middle of
/// his body may find the connection reset.
async fn heavy_and_slow(target: &Target) -> String {
    let mut client = target.connect().await;
    let head = format!("POST /mutate HTTP/1.1\r\nhost: adieu\r\ncontent-length: {}\r\n\r\n", WEIGHT + 1);
    client.write_all(head.as_bytes()).await.unwrap();
    let _ = client.write_all(&vec![b' '; WEIGHT]).await;
    let mut answer = Vec::new();
    let _ = timeout(2 * PATIENCE, client.read_to_end(&mut answer)).await.expect("an end of the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// What still comes, up to the end.
async fn ended(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    // An end without a goodbye is one, too.
    let _ = timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("an end of the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

fn review(namespace: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": namespace,
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "userInfo": {"username": "somebody"},
            "object": web("web", annotations),
        },
    })
}

/// What a process has in memory, in MiB: `VmRSS` now, `VmHWM` at most so far.
fn mebibytes(process: Pid, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    let kibibytes: f64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
    kibibytes / 1024.0
}

/// A row of what came of something that is no review.
fn outcome(what: &str, found: &str) {
    figure(&format!("The webhook's port was sent {what}"), found);
}

async fn bad_input(target: &Target) {
    let no_review = "no admission.k8s.io/v1 AdmissionReview";
    for (what, body, status, reason) in [
        ("what is no JSON", "no review".to_owned(), "400", no_review),
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
        (
            "100,000 lists within each other",
            format!("{{\"object\": {}", "[".repeat(100_000)),
            "400",
            no_review,
        ),
        ("10 MiB", " ".repeat(10 * 1024 * 1024), "413", "limit"),
    ] {
        let answer = target.post(body.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert!(answer.contains(reason), "{what}: {answer}");
        outcome(what, &format!("answered {status}, with the reason"));
    }
    assert!(!post(target.plain().await, b"{}").await.contains("200 OK"), "no TLS");
    outcome("a request without TLS", "the connection was closed");
}

/// Those who send as much as they may, and then keep it there.
async fn held_back(target: &Target) {
    let mut heavy = JoinSet::new();
    for _ in 0..HEAVY {
        let target = target.clone();
        heavy.spawn(async move { heavy_and_slow(&target).await });
    }
    let answers = heavy.join_all().await;
    let answered = |status: &str| answers.iter().filter(|answer| answer.starts_with(status)).count();
    let (waited_for, turned_away) = (answered("HTTP/1.1 408 "), answered("HTTP/1.1 503 "));
    // Those that wait for memory hold none; how much all of them take together is judged at the end.
    assert_eq!(answered("HTTP/1.1 200 "), 0, "{answers:?}");
    assert!(waited_for + turned_away > 0, "{answers:?}");
    outcome(
        &format!("{HEAVY} requests of 4 MiB at once, each kept back at its last byte"),
        &format!(
            "{turned_away} were turned away with 503, {waited_for} answered 408 when their time was over, {} cut off",
            HEAVY - turned_away - waited_for
        ),
    );
}

/// Bodies of 4 MiB that are complete, and cost most to read: what is no review, and what could be one.
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

/// Those who send what costs most to read.
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
                // 503: its peer holds all that it may.
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

/// Those who open more connections than one peer may have.
async fn too_many(target: &Target) {
    let mut open = Vec::new();
    for _ in 0..TOO_MANY {
        open.push(target.plain().await);
    }
    let mut closed = 0;
    for client in &mut open {
        // The others say nothing, and are closed after some seconds.
        if timeout(Duration::from_millis(5), client.read(&mut [0])).await.is_ok() {
            closed += 1;
        }
    }
    assert!(closed > 0, "all {TOO_MANY} were kept");
    outcome(&format!("{TOO_MANY} connections of one peer"), &format!("{closed} were closed at once"));
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn strangers_get_clear_answers_and_are_in_nobody_s_way() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let pod = operator.pods().await.remove(0);
    let target = Target::of(&scene, &operator.name, &pod).await;
    let process = processes(&pod).remove(0);
    // What it needed earlier, for other tests, is forgotten, where the kernel can.
    drop(fs::write(format!("/proc/{process}/clear_refs"), "5"));
    let before = mebibytes(process, "VmRSS:");

    // kube-proxy may not have heard of a fresh pod yet.
    let annotations = json!({"adieu.dev/graceful": "true"});
    let annotated = web("web", &annotations);
    eventually("the webhook behind its Service", || async {
        let created = scene.try_create_dry(&annotated).await.unwrap();
        drain(&serde_json::to_value(created).unwrap()) == Some(10)
    })
    .await;
    // Under `Ignore`, a review that isn't answered in time shows as one without injection.
    let admissions = Admissions::start(&scene);

    bad_input(&target).await;

    // Those who say nothing, and those who never come to an end of what they say.
    let (mut silent, since) = (target.plain().await, Instant::now());
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut client = target.connect().await;
        client.write_all(b"POST /mutate HTTP/1.1\r\n").await.unwrap();
        slow.push(client);
    }
    ended(&mut silent).await;
    outcome("nothing", &format!("the connection was closed after {:.1} s", since.elapsed().as_secs_f64()));

    held_back(&target).await;
    let review = Arc::new(review("default", &annotations).to_string());
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let (target, review) = (target.clone(), review.clone());
        crowd.spawn(async move { target.post(review.as_bytes()).await });
    }
    let answers = crowd.join_all().await;
    let patched = answers.iter().filter(|answer| answer.contains("\"patchType\":\"JSONPatch\"")).count();
    assert_eq!(patched, CROWD);

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
        &format!("{CROWD} strangers at the webhook's port at once, {SLOW} that never come to an end"),
        &format!(
            "{} of {} admissions beside them not injected in time, none afterwards, 99 of 100 took at most {:.0} ms, the slowest {:.0} ms; \
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
