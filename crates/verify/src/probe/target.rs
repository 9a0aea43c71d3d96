//! The service whose connections are observed.

use std::{future::poll_fn, net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Uri, Version, header,
    uri::{Authority, PathAndQuery},
};
use http_body_util::Full;
use hyper_util::client::legacy::connect::{Connection as _, HttpInfo};
use tokio::time::timeout;
use tower::Service;

use super::error_text::text;
use crate::{
    load::{
        Error, Options, Probes, Template,
        connector::{Connector, connector},
    },
    verify::ConnectionKind,
};

/// A connection, with TLS if the URL needs it.
pub(super) type Stream = <Connector as Service<Uri>>::Response;

/// Headers of HTTP/1.1 connections, which HTTP/2 doesn't allow.
const HTTP1_ONLY: [&str; 6] =
    ["connection", "host", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// The service whose connections are observed, and the requests to it.
#[derive(Debug)]
pub struct Target {
    template: Template,
    http1: Connector,
    http2: Connector,
    /// The header `Host` of HTTP/1.1.
    host: HeaderValue,
    websocket: Option<PathAndQuery>,
    grpc: Option<PathAndQuery>,
    hold: bool,
    is_http2: bool,
}

impl Target {
    /// The service of a load.
    ///
    /// # Errors
    /// An option is invalid.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let template = Template::new(&Options { keep_alive: true, ..options.clone() })?;
        let authority = template.uri.authority().map(Authority::as_str).unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = HeaderValue::try_from(host).map_err(|_| Error::Url(options.url.clone()))?;
        let Probes { websocket, grpc, hold, .. } = &options.probes;
        let websocket = websocket.as_ref().map(|path| {
            let parsed = path.starts_with('/').then(|| path.parse::<PathAndQuery>().ok()).flatten();
            parsed.ok_or_else(|| Error::WebSocket(path.clone()))
        });
        let grpc = grpc.as_ref().map(|method| {
            let names = method.trim_start_matches('/').split_once('/');
            let is_method = names.is_some_and(|(service, name)| !service.is_empty() && !name.is_empty());
            let path = format!("/{}", method.trim_start_matches('/')).parse::<PathAndQuery>().ok();
            path.filter(|_| is_method).ok_or_else(|| Error::GrpcStream(method.clone()))
        });
        Ok(Self {
            http1: connector(&template.uri, options, false)?,
            http2: connector(&template.uri, options, true)?,
            template,
            host,
            websocket: websocket.transpose()?,
            grpc: grpc.transpose()?,
            hold: *hold,
            is_http2: options.http2,
        })
    }

    /// The kinds of connections to hold open.
    pub(super) fn kinds(&self) -> Vec<ConnectionKind> {
        let mut kinds = match (self.hold, self.is_http2) {
            (true, true) => vec![ConnectionKind::Http2],
            (true, false) => vec![ConnectionKind::Busy, ConnectionKind::Idle],
            (false, _) => vec![],
        };
        kinds.extend(self.grpc.as_ref().map(|_| ConnectionKind::Grpc));
        kinds.extend(self.websocket.as_ref().map(|_| ConnectionKind::WebSocket));
        kinds
    }

    /// How long to wait for a connection or a response.
    pub(super) fn timeout(&self) -> Duration {
        self.template.timeout
    }

    /// Opens a connection.
    pub(super) async fn connect(&self, is_http2: bool) -> Result<Stream, String> {
        let mut connector = if is_http2 { self.http2.clone() } else { self.http1.clone() };
        let uri = self.template.uri.clone();
        let connected = timeout(self.timeout(), async {
            poll_fn(|context| connector.poll_ready(context)).await?;
            connector.call(uri).await
        });
        match connected.await {
            Ok(connected) => connected.map_err(|error| text(&*error)),
            Err(_) => Err("connecting timed out".to_owned()),
        }
    }

    /// A request for HTTP/1.1.
    pub(super) fn http1_request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.template.body.clone()));
        request.method_mut().clone_from(&self.template.method);
        let path = self.template.uri.path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        *request.headers_mut() = self.http1_headers();
        request
    }

    /// The request that opens a `WebSocket`.
    pub(super) fn websocket_request(&self) -> Request<Full<Bytes>> {
        // 16 bytes in base64. The response to them isn't verified.
        const KEY: &str = "YWRpZXUgdmVyaWZ5IHdzIQ==";
        let mut request = Request::new(Full::default());
        let path = self.websocket.clone();
        *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        let headers = request.headers_mut();
        *headers = self.http1_headers();
        for (name, value) in [
            (header::CONNECTION, "Upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            (header::SEC_WEBSOCKET_KEY, KEY),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        request
    }

    fn http1_headers(&self) -> HeaderMap {
        let mut headers = self.template.headers.clone();
        headers.remove(header::CONNECTION);
        headers.entry(header::HOST).or_insert_with(|| self.host.clone());
        headers
    }

    /// A request for HTTP/2, and its body.
    pub(super) fn http2_request(&self) -> (Request<()>, Bytes) {
        let mut request = self.http2_request_to(self.template.uri.path_and_query().cloned());
        request.method_mut().clone_from(&self.template.method);
        (request, self.template.body.clone())
    }

    /// The request of a gRPC stream, and its body: one empty message.
    pub(super) fn grpc_request(&self) -> (Request<()>, Bytes) {
        let mut request = self.http2_request_to(self.grpc.clone());
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        // Not compressed, and of length 0.
        (request, Bytes::from_static(&[0; 5]))
    }

    fn http2_request_to(&self, path: Option<PathAndQuery>) -> Request<()> {
        let mut request = Request::new(());
        let mut parts = self.template.uri.clone().into_parts();
        parts.path_and_query = path.or(parts.path_and_query);
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_else(|_| self.template.uri.clone());
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.clone_from(&self.template.headers);
        for name in HTTP1_ONLY {
            headers.remove(name);
        }
        request
    }

    /// The pod that a response names.
    pub(super) fn pod(&self, headers: &HeaderMap) -> Option<String> {
        let named = headers.get(self.template.pod_header.as_ref()?)?;
        named.to_str().ok().map(str::to_owned)
    }
}

/// The address of a connection's peer.
pub(super) fn peer(stream: &Stream) -> Option<IpAddr> {
    let mut extensions = Extensions::new();
    stream.connected().get_extras(&mut extensions);
    extensions.get::<HttpInfo>().map(|info| info.remote_addr().ip())
}
