//! The kinds of objects that lead requests to Services.

use crate::ways::{ENVOY_PROXY, TRAEFIK_PROXY, Way};

/// A kind of object that is read, and where its fields are.
#[derive(Debug, PartialEq)]
pub struct Kind {
    /// Its API group.
    pub group: &'static str,
    /// Its name.
    pub kind: &'static str,
    pub(crate) role: Role,
    /// The paths of references to Services, or of a class to its parameters.
    pub(crate) backends: &'static [&'static str],
    /// The path of references to Gateways.
    pub(crate) parents: &'static str,
    /// The path of its class, or of the controller of a class.
    pub(crate) class: &'static str,
    /// The path of the type of targets.
    pub(crate) targets: &'static str,
    /// The path of a delay.
    pub(crate) delay: &'static str,
}

/// What an object of a kind does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    /// It leads to Services, through the controller of its class.
    Ingress,
    /// It leads to Services, through its Gateways.
    Route,
    /// It leads to Services, through this proxy.
    Proxied(&'static Way),
    /// It registers the pods or nodes of a Service as targets of a load balancer of AWS.
    Binding,
    /// Routes lead to it as to a Service, and it leads to Services.
    Intermediate,
    /// It sets up a load balancer for the Services that it refers to.
    Settings,
    /// Routes are attached to it.
    Gateway,
    /// The class of Ingresses.
    IngressClass,
    /// The class of Gateways.
    GatewayClass,
    /// The parameters of a class of Ingresses, which take precedence over annotations.
    ClassParameters,
}

/// No fields of interest.
const NONE: Kind = Kind {
    group: "",
    kind: "",
    role: Role::Settings,
    backends: &[],
    parents: "",
    class: "",
    targets: "",
    delay: "",
};

const fn route(kind: &'static str) -> Kind {
    Kind {
        group: "gateway.networking.k8s.io",
        kind,
        role: Role::Route,
        backends: &["spec.rules[].backendRefs[]"],
        parents: "spec.parentRefs[]",
        ..NONE
    }
}

const fn ingress_route(group: &'static str, kind: &'static str) -> Kind {
    Kind { group, kind, role: Role::Proxied(&TRAEFIK_PROXY), backends: &["spec.routes[].services[]"], ..NONE }
}

const fn traefik_service(group: &'static str) -> Kind {
    Kind {
        group,
        kind: "TraefikService",
        role: Role::Intermediate,
        backends: &["spec.weighted.services[]", "spec.mirroring", "spec.mirroring.mirrors[]"],
        ..NONE
    }
}

/// Every kind that is read, in any version. A kind that a cluster doesn't have isn't needed.
pub static KINDS: &[Kind] = &[
    Kind {
        group: "networking.k8s.io",
        kind: "Ingress",
        role: Role::Ingress,
        backends: &["spec.defaultBackend.service", "spec.rules[].http.paths[].backend.service"],
        class: "spec.ingressClassName",
        ..NONE
    },
    Kind {
        group: "networking.k8s.io",
        kind: "IngressClass",
        role: Role::IngressClass,
        backends: &["spec.parameters"],
        class: "spec.controller",
        ..NONE
    },
    route("HTTPRoute"),
    route("GRPCRoute"),
    route("TLSRoute"),
    route("TCPRoute"),
    route("UDPRoute"),
    Kind {
        group: "gateway.networking.k8s.io",
        kind: "Gateway",
        role: Role::Gateway,
        class: "spec.gatewayClassName",
        ..NONE
    },
    Kind {
        group: "gateway.networking.k8s.io",
        kind: "GatewayClass",
        role: Role::GatewayClass,
        class: "spec.controllerName",
        ..NONE
    },
    Kind {
        group: "networking.istio.io",
        kind: "VirtualService",
        role: Role::Proxied(&ENVOY_PROXY),
        backends: &[
            "spec.http[].route[].destination.host",
            "spec.tls[].route[].destination.host",
            "spec.tcp[].route[].destination.host",
        ],
        ..NONE
    },
    Kind {
        group: "projectcontour.io",
        kind: "HTTPProxy",
        role: Role::Proxied(&ENVOY_PROXY),
        backends: &["spec.routes[].services[]", "spec.tcpproxy.services[]"],
        ..NONE
    },
    ingress_route("traefik.io", "IngressRoute"),
    ingress_route("traefik.io", "IngressRouteTCP"),
    ingress_route("traefik.io", "IngressRouteUDP"),
    traefik_service("traefik.io"),
    ingress_route("traefik.containo.us", "IngressRoute"),
    ingress_route("traefik.containo.us", "IngressRouteTCP"),
    ingress_route("traefik.containo.us", "IngressRouteUDP"),
    traefik_service("traefik.containo.us"),
    Kind {
        group: "elbv2.k8s.aws",
        kind: "TargetGroupBinding",
        role: Role::Binding,
        backends: &["spec.serviceRef"],
        class: "spec.targetGroupProtocol",
        targets: "spec.targetType",
        ..NONE
    },
    Kind {
        group: "elbv2.k8s.aws",
        kind: "IngressClassParams",
        role: Role::ClassParameters,
        targets: "spec.targetType",
        ..NONE
    },
    Kind {
        group: "gateway.k8s.aws",
        kind: "TargetGroupConfiguration",
        backends: &["spec.targetReference"],
        targets: "spec.defaultConfiguration.targetType",
        delay: "spec.defaultConfiguration.targetGroupAttributes[]",
        ..NONE
    },
    Kind {
        group: "cloud.google.com",
        kind: "BackendConfig",
        delay: "spec.connectionDraining.drainingTimeoutSec",
        ..NONE
    },
    Kind {
        group: "networking.gke.io",
        kind: "GCPBackendPolicy",
        backends: &["spec.targetRef"],
        delay: "spec.default.connectionDraining.drainingTimeoutSec",
        ..NONE
    },
];

impl Kind {
    /// The kind of this name in a group; `None` if it isn't read.
    #[must_use]
    pub fn find(group: &str, kind: &str) -> Option<&'static Self> {
        KINDS.iter().find(|known| known.group == group && known.kind == kind)
    }
}
