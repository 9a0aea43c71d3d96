//! The kinds of objects that lead requests to Services.

use crate::data_planes::{DataPlane, ENVOY_PROXY, TRAEFIK_PROXY};

/// A kind of object that is read, and where its fields are.
#[derive(Debug, PartialEq)]
pub struct Kind {
    /// Its API group.
    pub group: &'static str,
    /// Its name.
    pub kind: &'static str,
    /// Its resource with the group, as its `CustomResourceDefinition` is named: `httproutes.gateway.networking.k8s.io`.
    pub resource: &'static str,
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
    /// The path of the namespaces whose proxies see it.
    pub(crate) export: &'static str,
}

/// What an object of a kind does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    /// It leads to Services, through the controller of its class.
    Ingress,
    /// It leads to Services, through its Gateways.
    Route,
    /// It leads to Services, through this proxy.
    Proxied(&'static DataPlane),
    /// It registers the pods or nodes of a Service as targets of a load balancer of AWS.
    Binding,
    /// Routes lead to it as to a Service, and it leads to Services.
    Intermediate,
    /// It sets up a load balancer for the Services that it refers to.
    Settings,
    /// Routes are attached to it.
    Gateway,
    /// It allows routes of other namespaces to lead to Services of its own.
    Grant,
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
    resource: "",
    role: Role::Settings,
    backends: &[],
    parents: "",
    class: "",
    targets: "",
    delay: "",
    export: "",
};

const fn route(kind: &'static str, resource: &'static str) -> Kind {
    Kind {
        group: "gateway.networking.k8s.io",
        kind,
        resource,
        role: Role::Route,
        backends: &["spec.rules[].backendRefs[]"],
        parents: "spec.parentRefs[]",
        ..NONE
    }
}

const fn ingress_route(group: &'static str, kind: &'static str, resource: &'static str) -> Kind {
    Kind {
        group,
        kind,
        resource,
        role: Role::Proxied(&TRAEFIK_PROXY),
        backends: &["spec.routes[].services[]"],
        ..NONE
    }
}

const fn traefik_service(group: &'static str, resource: &'static str) -> Kind {
    Kind {
        group,
        kind: "TraefikService",
        resource,
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
        resource: "ingresses.networking.k8s.io",
        role: Role::Ingress,
        backends: &["spec.defaultBackend.service", "spec.rules[].http.paths[].backend.service"],
        class: "spec.ingressClassName",
        ..NONE
    },
    Kind {
        group: "networking.k8s.io",
        kind: "IngressClass",
        resource: "ingressclasses.networking.k8s.io",
        role: Role::IngressClass,
        backends: &["spec.parameters"],
        class: "spec.controller",
        ..NONE
    },
    route("HTTPRoute", "httproutes.gateway.networking.k8s.io"),
    route("GRPCRoute", "grpcroutes.gateway.networking.k8s.io"),
    route("TLSRoute", "tlsroutes.gateway.networking.k8s.io"),
    route("TCPRoute", "tcproutes.gateway.networking.k8s.io"),
    route("UDPRoute", "udproutes.gateway.networking.k8s.io"),
    Kind {
        group: "gateway.networking.k8s.io",
        kind: "Gateway",
        resource: "gateways.gateway.networking.k8s.io",
        role: Role::Gateway,
        class: "spec.gatewayClassName",
        ..NONE
    },
    Kind {
        group: "gateway.networking.k8s.io",
        kind: "GatewayClass",
        resource: "gatewayclasses.gateway.networking.k8s.io",
        role: Role::GatewayClass,
        class: "spec.controllerName",
        ..NONE
    },
    Kind {
        group: "gateway.networking.k8s.io",
        kind: "ReferenceGrant",
        resource: "referencegrants.gateway.networking.k8s.io",
        role: Role::Grant,
        backends: &["spec.to[]"],
        parents: "spec.from[]",
        ..NONE
    },
    Kind {
        group: "networking.istio.io",
        kind: "VirtualService",
        resource: "virtualservices.networking.istio.io",
        role: Role::Proxied(&ENVOY_PROXY),
        backends: &[
            "spec.http[].route[].destination.host",
            "spec.tls[].route[].destination.host",
            "spec.tcp[].route[].destination.host",
        ],
        export: "spec.exportTo[]",
        ..NONE
    },
    Kind {
        group: "projectcontour.io",
        kind: "HTTPProxy",
        resource: "httpproxies.projectcontour.io",
        role: Role::Proxied(&ENVOY_PROXY),
        backends: &["spec.routes[].services[]", "spec.tcpproxy.services[]"],
        ..NONE
    },
    ingress_route("traefik.io", "IngressRoute", "ingressroutes.traefik.io"),
    ingress_route("traefik.io", "IngressRouteTCP", "ingressroutetcps.traefik.io"),
    ingress_route("traefik.io", "IngressRouteUDP", "ingressrouteudps.traefik.io"),
    traefik_service("traefik.io", "traefikservices.traefik.io"),
    ingress_route("traefik.containo.us", "IngressRoute", "ingressroutes.traefik.containo.us"),
    ingress_route("traefik.containo.us", "IngressRouteTCP", "ingressroutetcps.traefik.containo.us"),
    ingress_route("traefik.containo.us", "IngressRouteUDP", "ingressrouteudps.traefik.containo.us"),
    traefik_service("traefik.containo.us", "traefikservices.traefik.containo.us"),
    Kind {
        group: "elbv2.k8s.aws",
        kind: "TargetGroupBinding",
        resource: "targetgroupbindings.elbv2.k8s.aws",
        role: Role::Binding,
        backends: &["spec.serviceRef"],
        class: "spec.targetGroupProtocol",
        targets: "spec.targetType",
        ..NONE
    },
    Kind {
        group: "elbv2.k8s.aws",
        kind: "IngressClassParams",
        resource: "ingressclassparams.elbv2.k8s.aws",
        role: Role::ClassParameters,
        targets: "spec.targetType",
        ..NONE
    },
    Kind {
        group: "gateway.k8s.aws",
        kind: "TargetGroupConfiguration",
        resource: "targetgroupconfigurations.gateway.k8s.aws",
        backends: &["spec.targetReference"],
        targets: "spec.defaultConfiguration.targetType",
        delay: "spec.defaultConfiguration.targetGroupAttributes[]",
        ..NONE
    },
    Kind {
        group: "cloud.google.com",
        kind: "BackendConfig",
        resource: "backendconfigs.cloud.google.com",
        delay: "spec.connectionDraining.drainingTimeoutSec",
        ..NONE
    },
    Kind {
        group: "networking.gke.io",
        kind: "GCPBackendPolicy",
        resource: "gcpbackendpolicies.networking.gke.io",
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

    /// Whether its objects lead to Services of any namespace unless the Service restricts it, as in a mesh of Istio.
    #[must_use]
    pub fn leads_anywhere(&self) -> bool {
        !self.export.is_empty()
    }

    /// Whether references of its objects to other namespaces may count: in a mesh, or if a `ReferenceGrant` allows them. A
    /// class has no namespace. The controllers of all other kinds don't follow such references, or only if they are
    /// started with an option (`allowCrossNamespace` of Traefik), and no tenant sets up another's load balancer.
    pub(crate) fn leads_outside(&self) -> bool {
        self.leads_anywhere() || matches!(self.role, Role::Route | Role::IngressClass)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_resource_of_its_group() {
        let resources: BTreeSet<_> = KINDS.iter().map(|kind| kind.resource).collect();
        assert_eq!(resources.len(), KINDS.len());
        for Kind { group, kind, resource, .. } in KINDS {
            let (name, of_group) = resource.split_once('.').unwrap();
            assert_eq!(of_group, *group, "{resource}");
            let stem = kind.to_lowercase();
            let stem = stem.strip_suffix('y').unwrap_or(&stem);
            assert!(name.starts_with(stem), "{resource}: {kind}");
        }
    }
}
