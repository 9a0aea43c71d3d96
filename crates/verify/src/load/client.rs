//! One request and its answer.

use std::{error::Error as StdError, io, net::IpAddr, sync::Arc, time::Duration};

use adieu_core::api::limits;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpInfo, capture_connection},
    },
    rt::TokioExecutor,
};
use tokio::time::{Instant, timeout};

use super::{
    connector::{Connector, connector},
    options::Options,
    resolver::Unresolved,
    tls,
};
use crate::verify::{Cause, Outcome, Sample};

/// Why a load can't be sent with the given options.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is invalid, or has no scheme or host.
    #[error(
        "--url: {0:?} is not the URL of a service: it must start with http:// or https://, followed by a host"
    )]
    Url(String),
    /// The method is invalid.
    #[error("--method: {0:?} is not an HTTP method")]
    Method(String),
    /// A header is invalid.
    #[error("--header: {0:?} is not an HTTP header: use the form \"Name: value\"")]
    Header(String),
    /// The name of the header that names the pod is invalid.
    #[error("--pod-header: {0:?} is not the name of an HTTP header")]
    PodHeader(String),
    /// The path of `WebSocket` connections is invalid.
    #[error("--websocket: {0:?} is not a path such as /events")]
    WebSocket(String),
    /// The gRPC method is invalid.
    #[error("--grpc-stream: {0:?} is not a method such as grpc.health.v1.Health/Watch")]
    GrpcStream(String),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// Sends the requests of a load.
#[derive(Clone, Debug)]
pub struct Client {
    client: legacy::Client<Connector, Full<Bytes>>,
    request: Arc<Template>,
}

/// What the requests of a load have in common.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) uri: Uri,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
    pub(crate) pod_header: Option<HeaderName>,
    /// The host, if it is an IP address: the peer of requests that get no connection.
    host: Option<IpAddr>,
}

/// The outcome of a request, without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it was answered.
    pub outcome: Outcome,
    /// The pod that the answer names.
    pub pod: Option<String>,
    /// The peer's address, if known.
    pub peer: Option<IpAddr>,
    /// How long the request waited for its connection, including TLS; the whole time if it got none.
    pub connecting: Duration,
}

impl Answer {
    /// The sample of a request with these times.
    #[must_use]
    pub fn sample(self, due: Duration, took: Duration) -> Sample {
        let Self { outcome, pod, peer, connecting } = self;
        Sample { due, took, connecting, outcome, pod, peer }
    }
}

impl Client {
    /// A client for these requests. It sends none yet.
    ///
    /// # Errors
    /// An option is invalid.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let request = Template::new(options)?;
        let connector = connector(&request.uri, options, options.http2)?;
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.http2_only(options.http2);
        if !options.keep_alive {
            builder.pool_max_idle_per_host(0);
        }
        Ok(Self { client: builder.build(connector), request: Arc::new(request) })
    }

    /// Sends one request, and waits for its answer.
    pub fn request(&self) -> impl Future<Output = Answer> + Send + use<> {
        let Self { client, request: template } = self.clone();
        async move {
            let lost = |cause| Answer {
                outcome: Outcome::Lost(cause),
                pod: None,
                peer: template.host,
                connecting: Duration::ZERO,
            };
            let Ok(mut request) = template.request() else { return lost(Cause::Other) };
            let started = Instant::now();
            let mut connection = capture_connection(&mut request);
            // Ends with the request at the latest.
            let connected = async {
                let connected = connection.wait_for_connection_metadata().await.is_some();
                connected.then(|| started.elapsed())
            };
            let exchange = async {
                let response = client.request(request).await.map_err(|error| lost(cause(&error)))?;
                let mut answer = template.answer(&response);
                let mut body = response.into_body();
                while let Some(frame) = body.frame().await {
                    if let Err(error) = frame {
                        answer.outcome = Outcome::Lost(cause(&error));
                        return Err(answer);
                    }
                }
                Ok::<_, Answer>(answer)
            };
            let (exchanged, connected) = tokio::join!(timeout(template.timeout, exchange), connected);
            let answer = match exchanged {
                Ok(Ok(answer) | Err(answer)) => answer,
                Err(_) => lost(Cause::TimedOut),
            };
            Answer { connecting: connected.unwrap_or_else(|| started.elapsed()), ..answer }
        }
    }
}

impl Template {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let invalid_url = || Error::Url(options.url.clone());
        let uri: Uri = options.url.parse().map_err(|_| invalid_url())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(invalid_url)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(invalid_url());
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        let mut headers = HeaderMap::new();
        for (name, value) in &options.headers {
            let invalid_header = || Error::Header(format!("{name}: {value}"));
            let name = HeaderName::try_from(name).map_err(|_| invalid_header())?;
            headers.append(name, HeaderValue::try_from(value).map_err(|_| invalid_header())?);
        }
        // With this header the server closes first, and TIME_WAIT stays at its side: a client that opens hundreds of
        // connections per second would run out of ports.
        if !options.keep_alive && !options.http2 {
            headers.entry(header::CONNECTION).or_insert(HeaderValue::from_static("close"));
        }
        let pod_header = options.pod_header.as_ref();
        let pod_header =
            pod_header.map(|name| HeaderName::try_from(name).map_err(|_| Error::PodHeader(name.clone())));
        Ok(Self {
            uri,
            method: options.method.parse().map_err(|_| Error::Method(options.method.clone()))?,
            headers,
            body: options.data.clone().unwrap_or_default().into(),
            timeout: options.timeout,
            pod_header: pod_header.transpose()?,
            host,
        })
    }

    fn request(&self) -> http::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(&self.method).uri(&self.uri);
        if let Some(headers) = request.headers_mut() {
            headers.clone_from(&self.headers);
        }
        request.body(Full::new(self.body.clone()))
    }

    fn answer<B>(&self, response: &Response<B>) -> Answer {
        let status = response.status();
        let pod = self.pod_header.as_ref().and_then(|name| response.headers().get(name)?.to_str().ok());
        // A service may send anything, and each answer is kept.
        let pod = pod.filter(|pod| pod.len() <= limits::OBJECT_NAME_LENGTH);
        Answer {
            outcome: if status.is_server_error() {
                Outcome::Lost(Cause::ServerError(status.as_u16()))
            } else {
                Outcome::Answered(status.as_u16())
            },
            pod: pod.map(str::to_owned),
            peer: response.extensions().get().map(|info: &HttpInfo| info.remote_addr().ip()).or(self.host),
            connecting: Duration::ZERO,
        }
    }
}

/// The cause of an error: the innermost known one.
fn cause(error: &(dyn StdError + 'static)) -> Cause {
    let mut found = Cause::Closed;
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<Unresolved>() {
            return Cause::Unresolved;
        }
        if error.is::<rustls::Error>() {
            return Cause::Tls;
        }
        if let Some(error) = error.downcast_ref::<legacy::Error>() {
            found = if error.is_connect() { Cause::Other } else { Cause::Closed };
        }
        // The error inside an io::Error is not its source.
        let inner = error.downcast_ref::<io::Error>().map(|error| {
            found = of_io(error.kind());
            error.get_ref().map(|inner| inner as &(dyn StdError + 'static))
        });
        next = inner.flatten().or_else(|| error.source());
    }
    found
}

fn of_io(kind: io::ErrorKind) -> Cause {
    match kind {
        io::ErrorKind::ConnectionRefused => Cause::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Cause::Reset,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Cause::Unreachable,
        io::ErrorKind::TimedOut => Cause::TimedOut,
        io::ErrorKind::UnexpectedEof => Cause::Closed,
        _ => Cause::Other,
    }
}
