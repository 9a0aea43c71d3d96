//! Serving the webhook over TLS, with a certificate that can change while it serves.
//!
//! The API server speaks HTTP/1.1 to webhooks (k8s.io/apiserver/pkg/util/webhook: over HTTP/2 one replica would
//! get all requests), on connections that it keeps. Whoever closes such a connection while the other sends a
//! request loses it, and a POST isn't sent again. So it is the client that closes: here, an idle connection is
//! kept for longer than the client keeps it, and one that has to end is told so in an answer.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, header::CONNECTION},
    middleware::map_response_with_state,
    response::Response,
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use super::listen::listen;

/// What a client may take for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a client may take from one request to the head of the next. The API server closes what it hasn't used
/// for 90 s (`IdleConnTimeout` of net/http's `DefaultTransport`).
const IDLE_TIMEOUT: Duration = Duration::from_mins(2);
/// How long connections are still answered when they have to end. One that wasn't used in all this time is
/// hardly used in the moment in which it is closed.
const FAREWELL: Duration = Duration::from_secs(10);
/// What open requests may take to end after that: the API server has left by then (`timeoutSeconds`).
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// A certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// A TLS configuration that holds `pair`; see [`reload`].
///
/// # Errors
/// Where the certificate or the key can't be read, or don't belong together.
pub fn configure(pair: &KeyPair) -> io::Result<RustlsConfig> {
    Ok(RustlsConfig::from_config(Arc::new(server_config(pair)?)))
}

/// Lets new connections have `pair`. On an error the last good one stays.
///
/// # Errors
/// Like [`configure`].
pub fn reload(config: &RustlsConfig, pair: &KeyPair) -> io::Result<()> {
    config.reload_from_config(Arc::new(server_config(pair)?));
    Ok(())
}

/// Serves until `stop`, and then until the clients have left, or had the time to.
///
/// # Errors
/// Where the address can't be bound.
pub async fn serve(
    address: SocketAddr,
    router: Router,
    config: RustlsConfig,
    handle: Handle<SocketAddr>,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = listen(address).await?.into_std()?;
    let mut server = axum_server::from_tcp_rustls(listener, config)?.handle(handle.clone()).http1_only();
    server.http_builder().http1().timer(hyper_util::rt::TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT);
    let router = router.layer(map_response_with_state(stop.clone(), take_leave));
    let mut serving = pin!(
        server
            .map(|acceptor| acceptor.handshake_timeout(HANDSHAKE_TIMEOUT))
            .serve(router.into_make_service())
    );
    tokio::select! {
        outcome = &mut serving => return outcome,
        () = stop.cancelled() => {}
    }
    tokio::select! {
        outcome = &mut serving => return outcome,
        _ = timeout(FAREWELL, left(&handle)) => handle.graceful_shutdown(Some(DRAIN_LIMIT)),
    }
    serving.await
}

async fn take_leave(State(stop): State<CancellationToken>, mut response: Response) -> Response {
    if stop.is_cancelled() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn left(handle: &Handle<SocketAddr>) {
    let mut tick = interval(Duration::from_millis(50));
    while handle.connection_count() > 0 {
        tick.tick().await;
    }
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
    use axum::routing::get;
    use rustls::{ClientConfig, RootCertStore};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        time::Instant,
    };
    use tokio_rustls::{TlsConnector, client::TlsStream};

    use super::*;

    /// A server of its own, and who trusts it.
    struct Setup {
        address: SocketAddr,
        connector: TlsConnector,
        stop: CancellationToken,
        ended: tokio::task::JoinHandle<io::Result<()>>,
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
        let (handle, stop) = (Handle::new(), CancellationToken::new());
        let router = Router::new().route("/", get(|| async { "hello" }));
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let ended = serve(address, router, configure(&pair).unwrap(), handle.clone(), stop.clone());
        let ended = tokio::spawn(ended);
        let address = handle.listening().await.unwrap();
        Setup { address, connector: TlsConnector::from(Arc::new(client)), stop, ended }
    }

    impl Setup {
        async fn connect(&self) -> TlsStream<TcpStream> {
            let stream = TcpStream::connect(self.address).await.unwrap();
            self.connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
        }
    }

    /// Up to the end of the answer.
    async fn ask(client: &mut TlsStream<TcpStream>) -> String {
        client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "closed without an answer");
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_connection_that_has_to_end_is_told_so_in_an_answer() {
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
        setup.ended.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_nobody_uses_does_not_keep_the_server() {
        let setup = setup().await;
        let mut client = setup.connect().await;
        ask(&mut client).await;
        tokio::time::pause();
        setup.stop.cancel();
        let stopped = Instant::now();
        setup.ended.await.unwrap().unwrap();
        assert!(stopped.elapsed() >= FAREWELL);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}
