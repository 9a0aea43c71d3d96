//! A client of the webhook's port.

use std::{io, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use json_patch::Patch;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    operator::ADIEU,
    support::{Scene, drain, web},
};

/// The limit for the webhook to answer or close a connection.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

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

    pub(super) async fn plain(&self) -> TcpStream {
        TcpStream::connect(self.address.clone()).await.unwrap()
    }

    pub(super) async fn connect(&self) -> TlsStream<TcpStream> {
        self.try_connect().await.unwrap()
    }

    pub(super) async fn try_connect(&self) -> io::Result<TlsStream<TcpStream>> {
        self.tls.connect(self.name.clone(), TcpStream::connect(self.address.clone()).await?).await
    }

    /// The answer to one request.
    pub(super) async fn post(&self, body: &[u8]) -> String {
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

/// The answer to one request over a connection.
pub(super) async fn post(mut client: impl AsyncRead + AsyncWrite + Unpin, body: &[u8]) -> String {
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

/// Reads until the end of the connection.
pub(super) async fn ended(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    // Includes an end without a TLS close.
    let _ = timeout(TIMEOUT, client.read_to_end(&mut answer)).await.expect("an end of the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A review of a Deployment that is created with these annotations.
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
