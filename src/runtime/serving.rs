//! Serving the webhook over TLS, with a certificate that can change while it serves.
//!
//! The API server speaks HTTP/1.1 to webhooks (k8s.io/apiserver/pkg/util/webhook: over HTTP/2 one replica would
//! get all requests), on connections that it keeps. If the server closes a connection while the client sends a request,
//! the request is lost, and a POST isn't retried. So the client closes: idle connections stay open for longer than the
//! client keeps them, and the last answer on a connection carries `Connection: close`.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, header::CONNECTION},
    middleware::map_response_with_state,
    response::Response,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{net::TcpListener, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    metrics::{Metrics, Port},
    server::{ConnectionInfo, Limits, Server, serve_connection},
    stream::{BoundedStream, BoundedTlsStream},
};

pub use super::listen::listen;

/// The time limit for a TLS handshake. The connection counts against the limits from the start.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// The time in which requests are still answered during shutdown, with `Connection: close`. A connection that is idle
/// for that long is unlikely to carry a request when it is closed.
const LAME_DUCK: Duration = Duration::from_secs(10);

/// The limits of the webhook's port. A connection takes some 25 KiB, and up to 64 KiB in the kernel. Ten peers that open
/// as many as they can leave the API server more than 50.
pub const LIMITS: Limits = Limits {
    connections: 640,
    connections_per_peer: 512,
    // The API server closes connections that are idle for 90 s (`IdleConnTimeout` of net/http's `DefaultTransport`).
    head: Duration::from_mins(2),
    // The API server opens a new one.
    age: Duration::from_hours(1),
    // The API server's request has timed out by then (`timeoutSeconds`).
    drain: Duration::from_secs(5),
};

/// A certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// The TLS configuration of new connections.
#[derive(Clone, Debug)]
pub struct Tls(Arc<RwLock<Arc<ServerConfig>>>);

impl Tls {
    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// A TLS configuration with `pair`; see [`reload`].
///
/// # Errors
/// If the certificate or the key can't be read, or the key is not the certificate's.
pub fn configure(pair: &KeyPair) -> io::Result<Tls> {
    Ok(Tls(Arc::new(RwLock::new(Arc::new(server_config(pair)?)))))
}

/// Uses `pair` for new connections. On an error the previous one stays.
///
/// # Errors
/// Like [`configure`].
pub fn reload(tls: &Tls, pair: &KeyPair) -> io::Result<()> {
    let config = Arc::new(server_config(pair)?);
    *tls.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    Ok(())
}

/// Serves until `stop` is cancelled, and then until the clients have disconnected or [`LAME_DUCK`] is over.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Tls,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let router = router.layer(map_response_with_state(stop.clone(), set_connection_close));
    let serve = move |stream, info, closing| serve_tls(stream, info, router.clone(), tls.acceptor(), closing);
    let mut server = Server::new(listener, Port::Webhook, LIMITS, metrics, serve);
    tokio::select! {
        () = server.accept() => {}
        () = stop.cancelled() => {}
    }
    drop(timeout(LAME_DUCK, server.accept_until_idle()).await);
    server.close().await;
}

async fn serve_tls(
    stream: BoundedStream,
    info: ConnectionInfo,
    router: Router,
    acceptor: TlsAcceptor,
    closing: CancellationToken,
) {
    let handshake = acceptor.accept(stream.of_tls());
    let handshake = closing.run_until_cancelled(timeout(HANDSHAKE_TIMEOUT, handshake)).await;
    match handshake {
        Some(Ok(Ok(stream))) => {
            serve_connection(BoundedTlsStream::new(stream), info, router, LIMITS, closing).await;
        }
        Some(Ok(Err(error))) => tracing::debug!(%error, peer = %info.address, "TLS handshake failed"),
        Some(Err(_)) | None => {}
    }
}

async fn set_connection_close(State(stop): State<CancellationToken>, mut response: Response) -> Response {
    if stop.is_cancelled() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn server_config(pair: &KeyPair) -> io::Result<ServerConfig> {
    let certificates = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(io::Error::other)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::{
        body::Bytes,
        extract::DefaultBodyLimit,
        routing::{get, post},
    };
    use rustls::{ClientConfig, RootCertStore};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        time::Instant,
    };
    use tokio_rustls::{TlsConnector, client::TlsStream};

    use super::*;

    /// A server, and a client that trusts it.
    struct Setup {
        address: SocketAddr,
        connector: TlsConnector,
        stop: CancellationToken,
        ended: tokio::task::JoinHandle<()>,
    }

    async fn setup() -> Setup {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pair = KeyPair { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() };
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "hello" })).route(
            "/length",
            post(|body: Bytes| async move { body.len().to_string() }).layer(DefaultBodyLimit::disable()),
        );
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = configure(&pair).unwrap();
        let ended = tokio::spawn(serve(listener, router, tls, Arc::default(), stop.clone()));
        Setup { address, connector: TlsConnector::from(Arc::new(client)), stop, ended }
    }

    impl Setup {
        async fn connect(&self) -> TlsStream<TcpStream> {
            let stream = TcpStream::connect(self.address).await.unwrap();
            self.connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
        }
    }

    /// Sends a request and reads the answer to its end.
    async fn ask(client: &mut TlsStream<TcpStream>) -> String {
        client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "closed without an answer");
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn shutdown_closes_connections_with_an_answer() {
        let setup = setup().await;
        let (mut one, mut other) = (setup.connect().await, setup.connect().await);
        for client in [&mut one, &mut other] {
            assert!(!ask(client).await.contains("connection: close"));
        }
        setup.stop.cancel();
        for mut client in [one, other] {
            assert!(ask(&mut client).await.contains("connection: close"));
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
        setup.ended.await.unwrap();
    }

    #[tokio::test]
    async fn an_unused_connection_does_not_block_the_shutdown() {
        let setup = setup().await;
        let mut client = setup.connect().await;
        ask(&mut client).await;
        tokio::time::pause();
        setup.stop.cancel();
        let stopped = Instant::now();
        setup.ended.await.unwrap();
        assert!(stopped.elapsed() >= LAME_DUCK);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_client_without_a_handshake_is_disconnected() {
        let setup = setup().await;
        let mut client = TcpStream::connect(setup.address).await.unwrap();
        tokio::time::pause();
        assert_eq!(timeout(2 * HANDSHAKE_TIMEOUT, client.read(&mut [0])).await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_large_body_is_received_quickly_through_the_small_buffer() {
        let setup = setup().await;
        let mut client = setup.connect().await;
        let body = vec![b' '; 4 << 20];
        let head =
            format!("POST /length HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
        let begun = Instant::now();
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&body).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(body.len().to_string().as_bytes()) {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "closed without an answer");
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}
