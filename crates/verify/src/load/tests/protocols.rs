//! HTTP/2 and TLS.

use axum::{Router, extract::Request, routing::any};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};

use super::*;

/// Echoes the request in the header that would name the pod.
fn router() -> Router {
    let answer = |request: Request| async move {
        let echo = format!("{:?} {}", request.version(), request.method());
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1024).await.unwrap();
        let shop = parts.headers.get("x-shop").map(|value| value.to_str().unwrap().to_owned());
        ([("x-pod", format!("{echo} {} {}", shop.unwrap_or_default(), String::from_utf8_lossy(&body)))], "ok")
    };
    Router::new().route("/", any(answer))
}

async fn plain() -> String {
    let handle = Handle::new();
    let server = axum_server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).handle(handle.clone());
    tokio::spawn(server.serve(router().into_make_service()));
    format!("http://{}/", handle.listening().await.unwrap())
}

/// A server for `localhost`, and its self-signed certificate.
async fn secure() -> (String, String) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(signing_key.serialize_pem().as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let handle = Handle::new();
    let config = RustlsConfig::from_config(Arc::new(config));
    let server =
        axum_server::bind_rustls(SocketAddr::from(([127, 0, 0, 1], 0)), config).handle(handle.clone());
    tokio::spawn(server.serve(router().into_make_service()));
    let port = handle.listening().await.unwrap().port();
    (format!("https://localhost:{port}/"), cert.pem())
}

async fn echo(options: &Options) -> String {
    let answer = request(options).await;
    assert_eq!(answer.outcome, Outcome::Answered(200));
    answer.pod.unwrap().trim().to_owned()
}

#[tokio::test]
async fn http_2_works_by_prior_knowledge_and_by_alpn() {
    let http = plain().await;
    assert_eq!(echo(&options(&http)).await, "HTTP/1.1 GET");
    assert_eq!(echo(&Options { http2: true, ..options(&http) }).await, "HTTP/2.0 GET");
    let (https, certificate) = secure().await;
    let trusting = Options { ca_certificates: Some(certificate), ..options(&https) };
    assert_eq!(echo(&trusting).await, "HTTP/1.1 GET");
    assert_eq!(echo(&Options { http2: true, ..trusting }).await, "HTTP/2.0 GET");
}

#[tokio::test]
async fn an_untrusted_certificate_is_a_loss_unless_insecure() {
    let (https, _) = secure().await;
    let (_, other) = secure().await;
    let untrusting = Options { ca_certificates: Some(other), ..options(&https) };
    assert_eq!(request(&untrusting).await.outcome, Outcome::Lost(Cause::Tls));
    let insecure = Options { insecure: true, ..options(&https) };
    assert_eq!(echo(&insecure).await, "HTTP/1.1 GET");
}

#[tokio::test]
async fn method_headers_and_data_are_sent() {
    let options = Options {
        method: "POST".to_owned(),
        headers: vec![("X-Shop".to_owned(), "shoes".to_owned())],
        data: Some("hello".to_owned()),
        ..options(&plain().await)
    };
    assert_eq!(echo(&options).await, "HTTP/1.1 POST shoes hello");
}
