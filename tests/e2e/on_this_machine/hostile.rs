//! What comes to the webhook's port that isn't the API server, and whether the API server notices.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, ResourceExt as _};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    admissions::Admissions,
    figures::figure,
    operator::{ADIEU, Operator, restarts},
    support::{Scene, drain, eventually, web},
};

/// Connections at once.
const CROWD: usize = 1000;
/// Connections that hold as large a body as they may.
const HEAVY: usize = 40;
/// What each of them sends, of what it says that it will: together more than a replica has memory.
const WEIGHT: usize = 7 * 1024 * 1024;
/// How long the webhook may leave a client without an answer or an end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The webhook's port, without the API server in between.
#[derive(Clone)]
struct Target {
    address: (String, u16),
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Target {
    async fn of(scene: &Scene, operator: &str, pod: &Pod) -> Self {
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
        self.tls.connect(self.name.clone(), self.plain().await).await.unwrap()
    }

    /// The answer to one request.
    async fn post(&self, body: &[u8]) -> String {
        post(self.connect().await, body).await
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

fn review() -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": "default",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "userInfo": {"username": "somebody"},
            "object": web("web", &json!({"adieu.dev/graceful": "true"})),
        },
    })
}

/// What the operator's container has in memory, in bytes, as its kubelet tells once it has measured.
async fn measurement(scene: &Scene, pod: &Pod) -> Option<String> {
    let node = pod.spec.as_ref()?.node_name.as_ref()?;
    let text =
        scene.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/metrics/resource")]).await;
    let mut lines = text.lines().filter(|line| line.starts_with("container_memory_working_set_bytes"));
    let line = lines.find(|line| line.contains(&pod.name_any()))?;
    line.split_whitespace().nth(1).map(str::to_owned)
}

/// The next measurement that differs from `last`: the kubelet takes one every few seconds.
async fn next_measurement(scene: &Scene, pod: &Pod, last: Option<String>) -> String {
    eventually("a measurement of the memory", || async {
        let now = measurement(scene, pod).await;
        now.is_some() && now != last
    })
    .await;
    measurement(scene, pod).await.expect("there was one a moment ago")
}

fn mebibytes(measurement: &str) -> f64 {
    measurement.parse::<f64>().unwrap() / 1024.0 / 1024.0
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn strangers_get_clear_answers_and_are_in_nobody_s_way() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let pod = operator.pods().await.remove(0);
    let target = Target::of(&scene, &operator.name, &pod).await;
    let before = mebibytes(&next_measurement(&scene, &pod, None).await);

    // kube-proxy may not have heard of a fresh pod yet.
    let annotated = web("web", &json!({"adieu.dev/graceful": "true"}));
    eventually("the webhook behind its Service", || async {
        let created = scene.try_create_dry(&annotated).await.unwrap();
        drain(&serde_json::to_value(created).unwrap()) == Some(10)
    })
    .await;
    // Under `Ignore`, a review that isn't answered in time shows as one without injection.
    let admissions = Admissions::start(&scene);

    for (body, status, reason) in [
        ("no review".to_owned(), "400", "no admission.k8s.io/v1 AdmissionReview"),
        (json!({"kind": "Pod", "apiVersion": "v1"}).to_string(), "400", "AdmissionReview"),
        (
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}).to_string(),
            "400",
            "v1",
        ),
        (format!("{{\"object\": {}", "[".repeat(100_000)), "400", "no admission.k8s.io/v1 AdmissionReview"),
        (" ".repeat(10 * 1024 * 1024), "413", "limit"),
    ] {
        let answer = target.post(body.as_bytes()).await;
        let shown: String = body.chars().take(40).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {answer}");
        assert!(answer.contains(reason), "{shown}: {answer}");
    }
    assert!(!post(target.plain().await, b"{}").await.contains("200 OK"), "no TLS");

    // Those who say nothing, and those who never come to an end of what they say.
    let mut silent = target.plain().await;
    let mut slow = Vec::new();
    for _ in 0..CROWD / 10 {
        let mut client = target.connect().await;
        client.write_all(b"POST /mutate HTTP/1.1\r\n").await.unwrap();
        slow.push(client);
    }
    ended(&mut silent).await;

    // Those who send as much as they may, and then keep it there.
    let mut heavy = JoinSet::new();
    for _ in 0..HEAVY {
        let target = target.clone();
        heavy.spawn(async move { heavy_and_slow(&target).await });
    }
    let answers = heavy.join_all().await;
    let waited_for = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 408 ")).count();
    assert!(waited_for < HEAVY / 4, "{waited_for} of {HEAVY} were waited for");
    assert!(answers.iter().any(|answer| answer.starts_with("HTTP/1.1 503 ")), "{answers:?}");

    let review = Arc::new(review().to_string());
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let (target, review) = (target.clone(), review.clone());
        crowd.spawn(async move { target.post(review.as_bytes()).await });
    }
    let answers = crowd.join_all().await;
    let patched = answers.iter().filter(|answer| answer.contains("\"patchType\":\"JSONPatch\"")).count();
    assert_eq!(patched, CROWD);

    let last = measurement(&scene, &pod).await;
    let after = mebibytes(&next_measurement(&scene, &pod, last).await);
    drop(slow);
    let others = admissions.end().await;
    let admissions = Admissions::start(&scene);
    admissions.further(100).await;
    let afterwards = admissions.end().await;
    figure(
        &format!("{CROWD} strangers at the webhook's port at once, {} that never come to an end", CROWD / 10),
        &format!(
            "{} of {} admissions beside them not injected in time, none afterwards, the slowest took {:.0} ms; \
             memory {before:.1} MiB before, {after:.1} MiB after",
            others.failed.len(),
            others.count,
            others.slowest.as_secs_f64() * 1e3,
        ),
    );
    assert_eq!(others.failed, Vec::<String>::new());
    assert_eq!(afterwards.failed, Vec::<String>::new());
    let now = operator.pods().await.remove(0);
    assert_eq!(restarts(&now), restarts(&pod), "it was killed");
    scene.end().await;
}
