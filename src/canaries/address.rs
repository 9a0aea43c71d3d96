//! Where the requests of a way are sent.

use std::{
    net::{IpAddr, Ipv6Addr},
    pin::pin,
    time::Duration,
};

use futures::StreamExt as _;
use http::Uri;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::ListParams, core::DynamicObject};
use serde_json::Value;
use tokio::time::timeout;

use super::way::Way;
use crate::disruption::{Error, object_states};

/// The time within which a load balancer, an Ingress or a Gateway must get its address.
const LIMIT: Duration = Duration::from_mins(5);

/// A way that can be measured.
#[derive(Clone, Debug)]
pub struct Target {
    /// The way.
    pub way: Way,
    /// The name of its drain profile.
    pub exposure: String,
    /// Where its requests are sent, without a `/` at the end.
    pub url: String,
}

/// The host name of a URL; `None` if it is an address.
pub(super) fn host_name(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?;
    let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    (!is_address).then(|| host.to_owned())
}

/// The URL of an address. An IPv6 address gets brackets.
pub(super) fn url(address: &str, port: u16) -> String {
    let brackets = address.parse::<Ipv6Addr>().is_ok();
    let host = if brackets { format!("[{address}]") } else { address.to_owned() };
    if port == 80 { format!("http://{host}") } else { format!("http://{host}:{port}") }
}

/// The address of a node by which its ports are reached.
pub(super) async fn of_node(client: &Client) -> Result<String, Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = nodes.list(&ListParams::default()).await.map_err(Error::api("list the nodes"))?;
    let mut addresses = nodes.items.into_iter().filter_map(|node| node.status?.addresses).flatten();
    let internal = addresses.find(|address| address.type_ == "InternalIP");
    let none = || Error::Impossible("no node has an InternalIP: use --url NodePort=URL".to_owned());
    internal.map(|internal| internal.address).ok_or_else(none)
}

/// Waits until an object has the address of its load balancer or proxy in its status.
pub(super) async fn awaited(api: Api<DynamicObject>, name: &str, way: &Way) -> Result<String, Error> {
    let find = async {
        let mut states = pin!(object_states(api, name));
        while let Some(object) = states.next().await {
            if let Some(address) = object.as_ref().and_then(|object| of_status(&object.data["status"])) {
                return Some(address);
            }
        }
        None
    };
    let found = timeout(LIMIT, find).await.ok().flatten();
    found.ok_or_else(|| {
        Error::Incomplete(format!(
            "{way}: {name} has no address in its status after {} s: check its controller, or use --url {way}=URL",
            LIMIT.as_secs()
        ))
    })
}

/// The address in the status of a Service, an Ingress or a Gateway.
fn of_status(status: &Value) -> Option<String> {
    let ingress = &status["loadBalancer"]["ingress"][0];
    let values = [&ingress["ip"], &ingress["hostname"], &status["addresses"][0]["value"]];
    values.into_iter().find_map(Value::as_str).filter(|address| !address.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_is_read_from_the_status() {
        for (status, expected) in [
            (json!({}), None),
            (json!({"loadBalancer": {}}), None),
            (json!({"loadBalancer": {"ingress": []}}), None),
            (json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}), Some("192.0.2.1")),
            (json!({"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}}), Some("lb.example.com")),
            (json!({"addresses": [{"type": "IPAddress", "value": "192.0.2.2"}]}), Some("192.0.2.2")),
        ] {
            assert_eq!(of_status(&status).as_deref(), expected, "{status}");
        }
    }

    #[test]
    fn a_url_has_brackets_and_a_port_where_needed() {
        for (address, port, expected) in [
            ("192.0.2.1", 80, "http://192.0.2.1"),
            ("192.0.2.1", 30_080, "http://192.0.2.1:30080"),
            ("2001:db8::1", 80, "http://[2001:db8::1]"),
            ("lb.example.com", 8000, "http://lb.example.com:8000"),
        ] {
            assert_eq!(url(address, port), expected);
        }
    }

    #[test]
    fn rules_have_the_host_of_a_url_unless_it_is_an_address() {
        for (url, expected) in [
            ("https://shop.example.com/", Some("shop.example.com")),
            ("http://192.0.2.1:8080", None),
            ("http://[2001:db8::1]/", None),
            ("/path", None),
        ] {
            assert_eq!(host_name(url).as_deref(), expected, "{url}");
        }
    }
}
