//! Opens the connections of a load.

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;

use super::{options::Options, resolver::Resolver, tls};

/// Opens connections to an http: or https: URL.
pub(crate) type Connector = HttpsConnector<HttpConnector<Resolver>>;

/// A connector for `uri`. With TLS it offers HTTP/2 or HTTP/1.1, not both.
pub(crate) fn connector(uri: &Uri, options: &Options, http2: bool) -> Result<Connector, tls::Error> {
    let mut http = HttpConnector::new_with_resolver(Resolver::default());
    http.enforce_http(false);
    http.set_nodelay(true);
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls::config(uri, options.insecure, options.ca_certificates.as_deref())?)
        .https_or_http();
    Ok(if http2 {
        https.enable_http2().wrap_connector(http)
    } else {
        https.enable_http1().wrap_connector(http)
    })
}
