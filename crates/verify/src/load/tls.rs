//! Whose certificates a load trusts.

use std::sync::Arc;

use http::Uri;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of authorities holds none.
    #[error("--cacert: no PEM certificate in it")]
    Authorities,
    /// The machine has none.
    #[error(
        "this machine has no certificate authorities to check the service's certificate with: \
         give --cacert FILE, or --insecure"
    )]
    NoAuthorities,
    /// They can't be used.
    #[error("setting up TLS")]
    Tls(#[from] rustls::Error),
}

/// The configuration for requests to `uri`: `authorities` (PEM) instead of the machine's, or none at all.
pub(super) fn config(uri: &Uri, insecure: bool, authorities: Option<&str>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    if insecure {
        let anything = Arc::new(Anything(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(anything).with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    if let Some(pem) = authorities {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        roots.add_parsable_certificates(certificates.map_err(|_| Error::Authorities)?);
        if roots.is_empty() {
            return Err(Error::Authorities);
        }
    } else if uri.scheme_str() == Some("https") {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Error::NoAuthorities);
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Takes any certificate, but checks that the server holds its key.
#[derive(Debug)]
struct Anything(Arc<CryptoProvider>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
