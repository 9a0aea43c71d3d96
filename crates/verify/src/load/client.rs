//! One request and its answer.

use std::{error::Error as StdError, io, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{HttpConnector, HttpInfo, capture_connection},
    },
    rt::TokioExecutor,
};
use tokio::time::{Instant, timeout};

use super::{
    Options,
    resolver::{Resolver, Unresolved},
    tls,
};
use crate::verify::{Cause, Outcome, Sample};

/// Why a load can't be sent as it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is none that requests can be sent to.
    #[error("--url: {0:?} is no URL of a service: give one with http:// or https:// and a host")]
    Url(String),
    /// The method is none of HTTP's.
    #[error("--method: {0:?} is no HTTP method")]
    Method(String),
    /// A header is none of HTTP's.
    #[error("--header: {0:?} is no HTTP header: give it as \"Name: value\"")]
    Header(String),
    /// The header that names the pod is none of HTTP's.
    #[error("--pod-header: {0:?} is no name of an HTTP header")]
    PodHeader(String),
    /// The authorities can't be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// What sends the requests of a load.
#[derive(Clone, Debug)]
pub struct Client {
    client: legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    request: Arc<Template>,
}

#[derive(Debug)]
struct Template {
    uri: Uri,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
    timeout: Duration,
    pod_header: Option<HeaderName>,
    /// The host, where it is an address: whoever fails to answer is known by it.
    host: Option<IpAddr>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it was answered.
    pub outcome: Outcome,
    /// The pod that answered, by its own word.
    pub pod: Option<String>,
    /// The address at the other end of the connection, where it is known.
    pub peer: Option<IpAddr>,
    /// How long the request waited for its connection, TLS included; all the time where it got none.
    pub connecting: Duration,
}

impl Answer {
    /// What it makes of a request that was due then and took so long.
    #[must_use]
    pub fn sample(self, due: Duration, took: Duration) -> Sample {
        let Self { outcome, pod, peer, connecting } = self;
        Sample { due, took, connecting, outcome, pod, peer }
    }
}

impl Client {
    /// A client for these requests; nothing is sent yet.
    ///
    /// # Errors
    /// Where the options name no request.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let request = Template::new(options)?;
        let mut http = HttpConnector::new_with_resolver(Resolver::default());
        http.enforce_http(false);
        http.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls::config(&request.uri, options.insecure, options.authorities.as_deref())?)
            .https_or_http();
        let connector = if options.http2 {
            https.enable_http2().wrap_connector(http)
        } else {
            https.enable_http1().wrap_connector(http)
        };
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
            let asked = Instant::now();
            let mut connection = capture_connection(&mut request);
            // Over at the latest when the request is.
            let connected = async {
                let connected = connection.wait_for_connection_metadata().await.is_some();
                connected.then(|| asked.elapsed())
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
            Answer { connecting: connected.unwrap_or_else(|| asked.elapsed()), ..answer }
        }
    }
}

impl Template {
    fn new(options: &Options) -> Result<Self, Error> {
        let no_url = || Error::Url(options.url.clone());
        let uri: Uri = options.url.parse().map_err(|_| no_url())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(no_url)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(no_url());
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        let mut headers = HeaderMap::new();
        for (name, value) in &options.headers {
            let no_header = || Error::Header(format!("{name}: {value}"));
            let name = HeaderName::try_from(name).map_err(|_| no_header())?;
            headers.append(name, HeaderValue::try_from(value).map_err(|_| no_header())?);
        }
        // Told so, the server closes first, and keeps what TCP remembers of a connection: a client that opens
        // hundreds a second would run out of ports.
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

/// What an error comes from: the innermost that is known.
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
        // An error inside of an io::Error is not its source.
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
