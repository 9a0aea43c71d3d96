//! The readiness probe of a policy: the fields of a probe that a policy may set.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    limits,
    numbers::{self, IntOrString},
    schema::{self, undescribed},
};

// The fields have the order of a serialized pod probe, because records contain both as text.

/// A readiness probe, by an HTTP request, a TCP connection or gRPC's health service. An exec or another host is not
/// allowed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new(
    "[has(self.httpGet), has(self.tcpSocket), has(self.grpc)].filter(x, x).size() == 1"
).message("exactly one of httpGet, tcpSocket and grpc is required"))]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// Consecutive failures after which the container is not ready. From 1 to 1000, default 3.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::PROBE_THRESHOLD))]
    pub failure_threshold: Option<i32>,
    /// A call of gRPC's health service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcProbe>,
    /// An HTTP request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpProbe>,
    /// Seconds from the start of the container to the first probe. From 0 to 3600, default 0.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = limits::PROBE_SECONDS))]
    pub initial_delay_seconds: Option<i32>,
    /// Seconds between probes. From 1 to 3600, default 10.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::PROBE_SECONDS))]
    pub period_seconds: Option<i32>,
    /// Consecutive successes after which the container is ready. From 1 to 1000, default 1.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::PROBE_THRESHOLD))]
    pub success_threshold: Option<i32>,
    /// A TCP connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpProbe>,
    /// Seconds after which a probe fails. From 1 to 3600, default 1.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::PROBE_SECONDS))]
    pub timeout_seconds: Option<i32>,
}

/// A probe by HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpProbe {
    /// Headers of the request, at most 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub http_headers: Option<Vec<HttpHeader>>,
    /// The path, such as /ready. Default /.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::PATH_LENGTH), regex(pattern = schema::PATH))]
    pub path: Option<String>,
    /// The container's port, by number or name.
    pub port: IntOrString,
    /// `HTTP`, or `HTTPS` without verification of the certificate. Default HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
}

/// How an HTTP probe connects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(transform = undescribed)]
pub enum Scheme {
    /// In plain text.
    #[default]
    Http,
    /// By TLS.
    Https,
}

/// A header of a probe's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpHeader {
    /// Its name, such as X-Probe.
    #[schemars(length(max = 128), regex(pattern = "^[-A-Za-z0-9]+$"))]
    pub name: String,
    /// Its value, of printable ASCII characters.
    #[schemars(length(max = 512), regex(pattern = schema::PRINTABLE))]
    pub value: String,
}

/// A probe by TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TcpProbe {
    /// The container's port, by number or name.
    pub port: IntOrString,
}

/// A probe by gRPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrpcProbe {
    /// The container's port, by number.
    #[serde(deserialize_with = "numbers::required")]
    pub port: i32,
    /// The service to check. Default: the whole server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = schema::PRINTABLE))]
    pub service: Option<String>,
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1;
    use serde_json::{from_value, json, to_string};

    use super::*;

    #[test]
    fn policy_probe_serializes_as_a_pod_probe() {
        let common = json!({
            "initialDelaySeconds": 1, "periodSeconds": 2, "timeoutSeconds": 3, "successThreshold": 4,
            "failureThreshold": 5,
        });
        for handler in [
            json!({"httpGet": {"path": "/ready", "port": "http", "scheme": "HTTPS", "httpHeaders": [{"value": "b", "name": "a"}]}}),
            json!({"httpGet": {"port": 80, "httpHeaders": []}}),
            json!({"tcpSocket": {"port": 80}}),
            json!({"grpc": {"service": "ready", "port": 80}}),
            json!({"grpc": {"port": 80}}),
        ] {
            let mut probe = common.clone();
            probe.as_object_mut().unwrap().extend(handler.as_object().unwrap().clone());
            for given in [handler, probe] {
                let ours: Probe = from_value(given.clone()).unwrap();
                let of_pod: v1::Probe = from_value(given).unwrap();
                assert_eq!(to_string(&ours).unwrap(), to_string(&of_pod).unwrap());
            }
        }
    }
}
