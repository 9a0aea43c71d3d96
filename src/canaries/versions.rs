//! The versions of what was measured.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};

use crate::{
    calibration::{CanaryTermination, LoggedArrival},
    disruption::Error,
};

/// The most addresses whose pods are looked up.
const MAX_ADDRESSES: usize = 8;

/// The version of the API server, such as `v1.36.3`.
///
/// # Errors
/// The request fails.
pub async fn kubernetes_version(client: &Client) -> Result<String, Error> {
    let version = client.apiserver_version().await;
    Ok(version.map_err(Error::api("get the version of the API server"))?.git_version)
}

/// The images of the proxies from which a way's requests came to canaries, such as `traefik:v3.6.0`: those of the pods
/// with the addresses in the logs. Empty if there are none, or without the right to list pods.
pub async fn proxy_versions(client: &Client, way: usize, terminations: &[CanaryTermination]) -> Vec<String> {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut images = BTreeSet::new();
    for address in addresses(way, terminations.iter().flat_map(|termination| &termination.log)) {
        let selected = ListParams::default().fields(&format!("status.podIP={address}"));
        let Ok(found) = pods.list(&selected).await else { break };
        images.extend(found.items.iter().filter_map(image));
    }
    images.into_iter().collect()
}

/// The addresses from which a way's requests came.
fn addresses<'a>(way: usize, arrivals: impl Iterator<Item = &'a LoggedArrival>) -> Vec<IpAddr> {
    let of_way = arrivals.filter(|arrival| arrival.stream.way == way).map(|arrival| arrival.from);
    let addresses: BTreeSet<_> = of_way.collect();
    addresses.into_iter().take(MAX_ADDRESSES).collect()
}

/// The last part of the image of a pod's first container, without a digest; `None` for pods with the address of their
/// node, which several share.
fn image(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref().filter(|spec| spec.host_network != Some(true))?;
    let image = spec.containers.first()?.image.as_deref()?;
    let image = image.split('@').next().unwrap_or(image);
    image.rsplit('/').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::calibration::{Connections, Stream};

    #[test]
    fn a_proxy_is_named_by_its_image() {
        for (image, host_network, expected) in [
            ("registry.example/ingress/traefik:v3.6.0@sha256:1234", false, Some("traefik:v3.6.0")),
            ("traefik", false, Some("traefik")),
            ("traefik", true, None),
        ] {
            let pod = json!({"metadata": {}, "spec": {
                "hostNetwork": host_network, "containers": [{"name": "proxy", "image": image}]}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!(super::image(&pod).as_deref(), expected);
        }
    }

    #[test]
    fn each_address_of_a_way_counts_once() {
        let from = |way, last| LoggedArrival {
            stream: Stream { way, connections: Connections::New },
            after_millis: 1,
            time: String::new(),
            from: [10, 0, 0, last].into(),
        };
        let arrivals = [from(0, 1), from(0, 1), from(1, 2), from(0, 3)];
        assert_eq!(addresses(0, arrivals.iter()), [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 3])]);
    }
}
