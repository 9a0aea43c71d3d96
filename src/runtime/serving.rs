//! Serving the webhook over TLS, with a certificate that can change while it serves.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use axum_server::{Handle, tls_rustls::RustlsConfig};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::linger;

/// What a client may take for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Serves until `handle` is told to stop.
///
/// # Errors
/// Where the address can't be bound.
pub async fn serve(
    address: SocketAddr,
    router: Router,
    config: RustlsConfig,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let mut server = axum_server::bind_rustls(address, config).handle(handle);
    let timer = hyper_util::rt::TokioTimer::new;
    server.http_builder().http1().timer(timer()).header_read_timeout(HEADER_TIMEOUT);
    server.http_builder().http2().timer(timer()).keep_alive_interval(Some(HEADER_TIMEOUT));
    server
        .map(|acceptor| acceptor.handshake_timeout(HANDSHAKE_TIMEOUT).acceptor(linger::Acceptor))
        .serve(router.into_make_service())
        .await
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
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
