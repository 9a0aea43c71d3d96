//! The ways into the cluster that are measured.

use std::fmt::{self, Display, Formatter};

use adieu_exposures::exposures_of_service;
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

/// A way by which requests reach canaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A Service of type `ClusterIP`.
    ClusterIp,
    /// A Service of type `NodePort`.
    NodePort,
    /// A Service of type `LoadBalancer`.
    LoadBalancer {
        /// Its `loadBalancerClass`.
        class: Option<String>,
    },
    /// An Ingress.
    Ingress {
        /// Its class.
        class: String,
    },
    /// A Gateway with an `HTTPRoute`.
    Gateway {
        /// Its class.
        class: String,
    },
}

/// What the objects of ways have in common.
#[derive(Clone, Debug, Default)]
pub struct Exposed {
    /// The annotations of Services of type `LoadBalancer`, Ingresses and Gateways.
    pub annotations: Vec<(String, String)>,
    /// The port of the listener of Gateways.
    pub gateway_port: u16,
}

impl Way {
    /// The kinds of objects that are created for it, beside the Service of all ways.
    #[must_use]
    pub fn kinds(&self) -> &'static [&'static str] {
        match self {
            Self::ClusterIp => &[],
            Self::NodePort | Self::LoadBalancer { .. } => &["Service"],
            Self::Ingress { .. } => &["Ingress"],
            Self::Gateway { .. } => &["Gateway", "HTTPRoute"],
        }
    }

    /// Whether a proxy of HTTP is in front of the pods, so that kept connections of clients end at the proxy.
    #[must_use]
    pub fn has_proxy(&self) -> bool {
        matches!(self, Self::Ingress { .. } | Self::Gateway { .. })
    }

    /// The name of its drain profile, for the Service that was created for it if that leads to the canaries.
    pub(super) fn exposure(&self, namespace: &str, service: Option<&Value>) -> String {
        match self {
            Self::ClusterIp => "cluster-ip".to_owned(),
            Self::NodePort => "node-port".to_owned(),
            Self::LoadBalancer { .. } => {
                let service: Option<Service> =
                    service.and_then(|service| serde_json::from_value(service.clone()).ok());
                let exposures =
                    service.map(|service| exposures_of_service(namespace, &service, &[])).unwrap_or_default();
                // The first is that through kube-proxy.
                let exposure = exposures.into_iter().nth(1);
                exposure.map_or_else(
                    || "load-balancer".to_owned(),
                    |exposure| exposure.class.unwrap_or_else(|| exposure.profile.name.to_owned()),
                )
            }
            Self::Ingress { class } => format!("IngressClass/{class}"),
            Self::Gateway { class } => format!("GatewayClass/{class}"),
        }
    }
}

impl Display for Way {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterIp => f.write_str("ClusterIP"),
            Self::NodePort => f.write_str("NodePort"),
            Self::LoadBalancer { .. } => f.write_str("LoadBalancer"),
            Self::Ingress { class } => write!(f, "IngressClass/{class}"),
            Self::Gateway { class } => write!(f, "GatewayClass/{class}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_way_has_the_drain_profile_of_its_exposure() {
        let balancer = |class: Option<&str>| Way::LoadBalancer { class: class.map(str::to_owned) };
        let nlb = "service.beta.kubernetes.io/aws-load-balancer-type";
        for (way, annotations, expected) in [
            (Way::ClusterIp, json!({}), "cluster-ip"),
            (Way::NodePort, json!({}), "node-port"),
            (balancer(None), json!({}), "load-balancer"),
            (balancer(None), json!({nlb: "nlb-ip"}), "aws-nlb-ip"),
            (balancer(Some("service.k8s.aws/nlb")), json!({}), "LoadBalancerClass/service.k8s.aws/nlb"),
            (Way::Ingress { class: "nginx".to_owned() }, json!({}), "IngressClass/nginx"),
            (Way::Gateway { class: "eg".to_owned() }, json!({}), "GatewayClass/eg"),
        ] {
            let class = match &way {
                Way::LoadBalancer { class } => json!(class),
                _ => Value::Null,
            };
            let service = json!({
                "metadata": {"name": "canary", "annotations": annotations},
                "spec": {"type": "LoadBalancer", "loadBalancerClass": class, "clusterIP": "10.0.0.1"},
            });
            assert_eq!(way.exposure("shop", Some(&service)), expected, "{way}");
        }
    }
}
