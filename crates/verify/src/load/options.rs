//! The configuration of a load.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The configuration of a load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The URL, with http: or https:.
    pub url: String,
    /// Requests per second.
    pub rate: NonZeroU32,
    /// Whether connections are reused.
    pub keep_alive: bool,
    /// HTTP/2: by prior knowledge for http:, by ALPN for https:.
    pub http2: bool,
    /// Such as GET.
    pub method: String,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// The body of every request.
    pub data: Option<String>,
    /// The timeout for an answer, from when the request is sent.
    pub timeout: Duration,
    /// Whether certificates aren't verified.
    pub insecure: bool,
    /// CA certificates (PEM); the system's if absent, or public ones if it has none.
    pub ca_certificates: Option<String>,
    /// The limit of requests in flight.
    pub max_in_flight: NonZeroUsize,
    /// The response header that names the pod.
    pub pod_header: Option<String>,
    /// What is observed on other connections meanwhile.
    #[serde(default)]
    pub probes: Probes,
}

/// What is observed on connections that stay open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probes {
    /// The longest idle time to test before the load; absent if the keep-alive timeout isn't measured.
    pub idle_limit: Option<Duration>,
    /// Whether connections with requests are held open.
    pub hold: bool,
    /// The path of `WebSocket` connections to hold open.
    pub websocket: Option<String>,
    /// The gRPC method whose streams are held open, as `package.Service/Method`.
    pub grpc: Option<String>,
}

impl Options {
    /// 100 GET requests per second, each on a new connection.
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            rate: NonZeroU32::MIN.saturating_add(99),
            keep_alive: false,
            http2: false,
            method: "GET".to_owned(),
            headers: vec![],
            data: None,
            timeout: Duration::from_secs(10),
            insecure: false,
            ca_certificates: None,
            max_in_flight: NonZeroUsize::MIN.saturating_add(1999),
            pod_header: None,
            probes: Probes::default(),
        }
    }
}
