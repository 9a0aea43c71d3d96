//! The controllers of Ingresses, Gateways and load balancers.

use std::collections::BTreeMap;

use crate::data_planes::{
    ALB, ALB_OF_PODS, AZURE, CLASSIC, DataPlane, ENVOY_PROXY, GOOGLE_LOAD_BALANCER, NGINX_PROXY, NLB,
    NLB_OF_PODS, OTHER_LOAD_BALANCER, TRAEFIK_PROXY,
};

/// A controller of Ingresses or Gateways.
struct Controller {
    data_plane: &'static DataPlane,
    /// The beginnings of its name in `IngressClass` and `GatewayClass` objects.
    names: &'static [&'static str],
    /// The usual names of its classes, which decide if a class doesn't exist. A suffix may follow after a dash.
    classes: &'static [&'static str],
}

static CONTROLLERS: &[Controller] = &[
    Controller {
        data_plane: &NGINX_PROXY,
        names: &["k8s.io/ingress-nginx", "nginx.org/", "gateway.nginx.org/"],
        classes: &["nginx"],
    },
    Controller { data_plane: &TRAEFIK_PROXY, names: &["traefik.io/"], classes: &["traefik"] },
    Controller {
        data_plane: &ENVOY_PROXY,
        names: &[
            "istio.io/",
            "projectcontour.io/",
            "gateway.envoyproxy.io/",
            "cilium.io/",
            "io.cilium/",
            "kgateway.dev/",
        ],
        classes: &["istio", "contour", "envoy", "eg", "cilium", "kgateway"],
    },
    Controller {
        data_plane: &ALB,
        names: &["ingress.k8s.aws/alb", "gateway.k8s.aws/alb"],
        classes: &["alb"],
    },
    Controller { data_plane: &ALB_OF_PODS, names: &["eks.amazonaws.com/alb"], classes: &[] },
    Controller { data_plane: &NLB, names: &["gateway.k8s.aws/nlb"], classes: &["nlb"] },
    Controller {
        data_plane: &GOOGLE_LOAD_BALANCER,
        names: &["networking.gke.io/gateway"],
        classes: &["gce", "gke-l7"],
    },
    Controller {
        data_plane: &AZURE,
        names: &["azure/application-gateway", "alb.networking.azure.io/"],
        classes: &["azure-application-gateway", "azure/application-gateway", "azure-alb"],
    },
];

/// The data plane of a controller by its name in a class.
pub(crate) fn by_controller(name: &str) -> Option<&'static DataPlane> {
    let is_named = |controller: &&Controller| controller.names.iter().any(|prefix| name.starts_with(prefix));
    CONTROLLERS.iter().find(is_named).map(|controller| controller.data_plane)
}

/// The data plane of a class by its usual name.
pub(crate) fn by_class(name: &str) -> Option<&'static DataPlane> {
    let is_class = |class: &str| {
        name.strip_prefix(class).is_some_and(|suffix| suffix.is_empty() || suffix.starts_with('-'))
    };
    let has_class = |controller: &&Controller| controller.classes.iter().any(|class| is_class(class));
    CONTROLLERS.iter().find(has_class).map(|controller| controller.data_plane)
}

/// What shows the controller of a Service's load balancer.
enum Sign {
    /// `spec.loadBalancerClass`.
    Class(&'static str),
    /// An annotation with this value.
    Annotation(&'static str, &'static str),
    /// An annotation whose key begins like this.
    Prefix(&'static str),
}

/// How annotations of Services for load balancers of AWS begin.
pub(crate) const AWS_LOAD_BALANCER: &str = "service.beta.kubernetes.io/aws-load-balancer-";
const AWS_TYPE: &str = "service.beta.kubernetes.io/aws-load-balancer-type";

/// The first sign decides.
static LOAD_BALANCERS: &[(Sign, &DataPlane)] = &[
    (Sign::Class("service.k8s.aws/nlb"), &NLB),
    (Sign::Class("eks.amazonaws.com/nlb"), &NLB_OF_PODS),
    (Sign::Annotation(AWS_TYPE, "nlb-ip"), &NLB_OF_PODS),
    (Sign::Annotation(AWS_TYPE, "external"), &NLB),
    (Sign::Annotation(AWS_TYPE, "nlb"), &NLB),
    (Sign::Prefix("service.beta.kubernetes.io/aws-load-balancer-nlb-target-type"), &NLB),
    (Sign::Prefix(AWS_LOAD_BALANCER), &CLASSIC),
];

/// The data plane of a Service's load balancer.
pub(crate) fn of_load_balancer(
    class: Option<&str>,
    annotations: &BTreeMap<String, String>,
) -> &'static DataPlane {
    let is_shown = |sign: &Sign| match sign {
        Sign::Class(name) => class == Some(*name),
        Sign::Annotation(key, value) => annotations.get(*key).is_some_and(|found| found == *value),
        Sign::Prefix(prefix) => annotations.keys().any(|key| key.starts_with(*prefix)),
    };
    let found = LOAD_BALANCERS.iter().find(|(sign, _)| is_shown(sign));
    found.map_or(&OTHER_LOAD_BALANCER, |(_, data_plane)| data_plane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_and_classes_are_known_by_their_usual_names() {
        for (name, profile) in [
            ("k8s.io/ingress-nginx", Some("ingress-nginx")),
            ("k8s.io/ingress-nginx-internal", Some("ingress-nginx")),
            ("nginx.org/ingress-controller", Some("ingress-nginx")),
            ("traefik.io/ingress-controller", Some("traefik")),
            ("istio.io/gateway-controller", Some("envoy")),
            ("projectcontour.io/projectcontour/contour", Some("envoy")),
            ("ingress.k8s.aws/alb", Some("aws-alb-ip")),
            ("networking.gke.io/gateway", Some("google")),
            ("azure/application-gateway", Some("azure-application-gateway")),
            ("haproxy.org/ingress-controller/haproxy", None),
        ] {
            assert_eq!(by_controller(name).map(|data_plane| data_plane.pods.name), profile, "{name}");
        }
        for (name, profile) in [
            ("nginx", Some("ingress-nginx")),
            ("nginx-internal", Some("ingress-nginx")),
            ("nginxinc", None),
            ("alb", Some("aws-alb-ip")),
            ("gce-internal", Some("google")),
            ("gke-l7-global-external-managed", Some("google")),
            ("azure/application-gateway", Some("azure-application-gateway")),
            ("egress", None),
        ] {
            assert_eq!(by_class(name).map(|data_plane| data_plane.pods.name), profile, "{name}");
        }
    }

    #[test]
    fn a_load_balancer_is_known_by_its_class_or_its_annotations() {
        let prefix = "service.beta.kubernetes.io/aws-load-balancer-";
        for (class, annotation, expected) in [
            (None, None, &OTHER_LOAD_BALANCER),
            (Some("tailscale"), None, &OTHER_LOAD_BALANCER),
            (Some("service.k8s.aws/nlb"), None, &NLB),
            (Some("eks.amazonaws.com/nlb"), None, &NLB_OF_PODS),
            (None, Some(("type", "nlb-ip")), &NLB_OF_PODS),
            (None, Some(("type", "external")), &NLB),
            (None, Some(("nlb-target-type", "ip")), &NLB),
            (None, Some(("type", "clb")), &CLASSIC),
            (None, Some(("internal", "true")), &CLASSIC),
        ] {
            let annotations = annotation.map(|(key, value)| (format!("{prefix}{key}"), value.to_owned()));
            let data_plane = of_load_balancer(class, &annotations.into_iter().collect());
            assert!(std::ptr::eq(data_plane, expected), "{class:?} {annotation:?}: {data_plane:?}");
        }
    }
}
