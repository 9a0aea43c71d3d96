//! HTTP/2 and TLS, against a server that speaks both.

use axum::{Router, extract::Request, routing::any};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};

use super::*;

/// Says how it was asked, in the header that would name the pod.
fn router() -> Router {
    let answer = |request: Request| async move {
        let said = format!("{:?} {}", request.version(), request.method());
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1024).await.unwrap();
        let shop = parts.headers.get("x-shop").map(|value| value.to_str().unwrap().to_owned());
        ([("x-pod", format!("{said} {} {}", shop.unwrap_or_default(), String::from_utf8_lossy(&body)))], "ok")
    };
    Router::new().route("/", any(answer))
}

async fn plain() -> String {
    let handle = Handle::new();
    let server = axum_server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).handle(handle.clone());
    tokio::spawn(server.serve(router().into_make_service()));
    format!("http://{}/", handle.listening().await.unwrap())
}

/// A server for `localhost`, and the authority that its certificate is from.
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

async fn said(options: &Options) -> String {
    let answer = ask(options).await;
    assert_eq!(answer.outcome, Outcome::Answered(200));
    answer.pod.unwrap().trim().to_owned()
}

#[tokio::test]
async fn http_2_is_spoken_by_prior_knowledge_and_by_alpn() {
    let http = plain().await;
    assert_eq!(said(&options(&http)).await, "HTTP/1.1 GET");
    assert_eq!(said(&Options { http2: true, ..options(&http) }).await, "HTTP/2.0 GET");
    let (https, authority) = secure().await;
    let trusting = Options { authorities: Some(authority), ..options(&https) };
    assert_eq!(said(&trusting).await, "HTTP/1.1 GET");
    assert_eq!(said(&Options { http2: true, ..trusting }).await, "HTTP/2.0 GET");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_a_loss_unless_any_will_do() {
    let (https, _) = secure().await;
    let (_, other) = secure().await;
    let distrusting = Options { authorities: Some(other), ..options(&https) };
    assert_eq!(ask(&distrusting).await.outcome, Outcome::Lost(Cause::Tls));
    let careless = Options { insecure: true, ..options(&https) };
    assert_eq!(said(&careless).await, "HTTP/1.1 GET");
}

#[tokio::test]
async fn method_headers_and_data_are_sent_as_they_are_given() {
    let asking = Options {
        method: "POST".to_owned(),
        headers: vec![("X-Shop".to_owned(), "shoes".to_owned())],
        data: Some("hello".to_owned()),
        ..options(&plain().await)
    };
    assert_eq!(said(&asking).await, "HTTP/1.1 POST shoes hello");
}
