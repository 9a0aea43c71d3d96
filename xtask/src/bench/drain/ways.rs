//! The ways in which requests reach the application, and what is in front of it.

use crate::cluster::ProxyMode;

/// The mode of kube-proxy behind everything else.
const DEFAULT_MODE: ProxyMode = ProxyMode::Iptables;
/// The port of Traefik's entry point, which Gateways must have.
const TRAEFIK_PORT: &str = "8000";

/// A way to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its name in the report.
    pub name: &'static str,
    /// What is in front of the application.
    pub plane: Plane,
    /// Whether rollouts are measured under bursts of requests, with silence between them.
    pub is_bursty: bool,
}

/// What is in front of the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// kube-proxy alone, in this mode, or in that of the cluster.
    KubeProxy(Option<ProxyMode>),
    /// Traefik, by an Ingress.
    TraefikIngress,
    /// Traefik, by a Gateway.
    TraefikGateway,
    /// Envoy under Contour, by an Ingress.
    Contour,
    /// A proxy under the controller of the tests, by an Ingress.
    Slow(SlowProxy),
}

/// A proxy that learns of changes late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowProxy {
    /// `haproxy` or `nginx`.
    pub program: &'static str,
    /// How much later it reloads its configuration.
    pub seconds: u8,
}

/// What `cargo xtask test` measures.
pub const SHORT: Way = way("kube-proxy", Plane::KubeProxy(None));

/// Every way.
pub static WAYS: [Way; 9] = [
    way("kube-proxy-iptables", Plane::KubeProxy(Some(ProxyMode::Iptables))),
    way("kube-proxy-nftables", Plane::KubeProxy(Some(ProxyMode::Nftables))),
    way("traefik-ingress", Plane::TraefikIngress),
    way("traefik-gateway", Plane::TraefikGateway),
    way("contour-envoy", Plane::Contour),
    way("haproxy-1s", slow("haproxy", 1)),
    bursty(way("haproxy-20s-bursty", slow("haproxy", 20))),
    bursty(way("nginx-5s-bursty", slow("nginx", 5))),
    way("nginx-10s", slow("nginx", 10)),
];

const fn way(name: &'static str, plane: Plane) -> Way {
    Way { name, plane, is_bursty: false }
}

const fn bursty(way: Way) -> Way {
    Way { is_bursty: true, ..way }
}

const fn slow(program: &'static str, seconds: u8) -> Plane {
    Plane::Slow(SlowProxy { program, seconds })
}

/// The way with this name.
pub fn named(name: &str) -> Result<Way, String> {
    let names = || WAYS.iter().map(|way| way.name).collect::<Vec<_>>().join(", ");
    WAYS.iter().find(|way| way.name == name).copied().ok_or_else(|| format!("use one of {}", names()))
}

impl Plane {
    /// The mode that kube-proxy must have; `None` if that of the cluster stays.
    pub fn proxy_mode(self) -> Option<ProxyMode> {
        match self {
            Self::KubeProxy(mode) => mode,
            Self::TraefikIngress | Self::TraefikGateway | Self::Contour | Self::Slow(_) => Some(DEFAULT_MODE),
        }
    }

    /// The name of its `IngressClass` or `GatewayClass`, and of the drain profile that is calibrated for it; `None` if
    /// only the Service leads to the application.
    pub fn class(self) -> Option<(&'static str, String)> {
        match self {
            Self::KubeProxy(_) => None,
            Self::TraefikIngress => Some(("IngressClass", "traefik".to_owned())),
            Self::TraefikGateway => Some(("GatewayClass", "traefik".to_owned())),
            Self::Contour => Some(("IngressClass", "contour".to_owned())),
            Self::Slow(proxy) => Some(("IngressClass", format!("slow-{}", proxy.program))),
        }
    }

    /// The type of the application's Service.
    pub fn service_type(self) -> &'static str {
        if self.class().is_some() { "ClusterIP" } else { "NodePort" }
    }

    /// The arguments by which `adieu calibrate` measures every exposure of the application. `url` leads to the proxy.
    pub fn calibrated(self, url: &str) -> Vec<String> {
        let Some((kind, class)) = self.class() else {
            return ["--service", "ClusterIP,NodePort"].map(str::to_owned).to_vec();
        };
        let option = if kind == "GatewayClass" { "--gateway-class" } else { "--ingress-class" };
        let url = format!("{kind}/{class}={}/", url.trim_end_matches('/'));
        let mut arguments =
            ["--service", "ClusterIP", option, &class, "--url", &url].map(str::to_owned).to_vec();
        if self == Self::TraefikGateway {
            arguments.extend(["--gateway-port", TRAEFIK_PORT].map(str::to_owned));
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_found_by_their_names() {
        for way in &WAYS {
            assert_eq!(named(way.name), Ok(*way));
        }
        assert!(named("ipvs").is_err_and(|error| error.contains("kube-proxy-nftables, traefik-ingress")));
    }

    #[test]
    fn every_exposure_of_the_application_is_calibrated() {
        for (name, service, rest) in [
            ("kube-proxy-nftables", "ClusterIP,NodePort", ""),
            ("contour-envoy", "ClusterIP", "--ingress-class contour --url IngressClass/contour=http://n:1/"),
            (
                "traefik-gateway",
                "ClusterIP",
                "--gateway-class traefik --url GatewayClass/traefik=http://n:1/ --gateway-port 8000",
            ),
            (
                "nginx-10s",
                "ClusterIP",
                "--ingress-class slow-nginx --url IngressClass/slow-nginx=http://n:1/",
            ),
        ] {
            let plane = named(name).unwrap().plane;
            let arguments = plane.calibrated("http://n:1/");
            assert_eq!(arguments[..2], ["--service", service], "{name}");
            assert_eq!(arguments[2..].join(" "), rest, "{name}");
            assert_eq!(plane.service_type() == "NodePort", plane.class().is_none(), "{name}");
        }
    }
}
