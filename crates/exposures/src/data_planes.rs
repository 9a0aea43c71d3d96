//! Proxies and load balancers: their profiles, and the annotations and objects that set them up.

use crate::{
    delay::Form,
    profiles::{
        AWS_ALB_IP, AWS_INSTANCE, AWS_NLB_IP, AZURE_APPLICATION_GATEWAY, BuiltInProfile, ENVOY, GATEWAY,
        GOOGLE, INGRESS, INGRESS_NGINX, LOAD_BALANCER, TRAEFIK,
    },
};

/// A data plane: a kind of proxy or load balancer.
#[derive(Debug, PartialEq)]
pub(crate) struct DataPlane {
    /// The profile if its targets are pods.
    pub(crate) pods: &'static BuiltInProfile,
    /// The profile if its targets are the nodes.
    pub(crate) nodes: &'static BuiltInProfile,
    /// The targets if nothing else is given.
    pub(crate) targets: Targets,
    /// The annotation with the type of its targets, of a Service or of the object that leads to the Service.
    pub(crate) target_type: Option<&'static str>,
    /// The annotations with a delay, of the same objects.
    pub(crate) delays: &'static [(&'static str, Form)],
    /// The kinds of objects that set it up for a Service.
    pub(crate) settings: &'static [&'static str],
    /// The beginnings of annotations that only it reads. They decide if an Ingress has no class.
    pub(crate) hints: &'static [&'static str],
}

impl DataPlane {
    /// Whether an annotation with this key shows it.
    pub(crate) fn has_hint(&self, key: &str) -> bool {
        self.hints.iter().any(|hint| key.starts_with(*hint))
    }

    /// Whether it reads the annotation with this key from an object that leads to a Service.
    pub(crate) fn reads(&self, key: &str) -> bool {
        let reads = |(read, form): &(&str, Form)| *read == key || form.enabled_by() == Some(key);
        self.target_type == Some(key) || self.delays.iter().any(reads)
    }
}

/// What receives the requests of a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Targets {
    Pods,
    Nodes,
}

impl Targets {
    /// Reads the type of targets.
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "ip" => Some(Self::Pods),
            "instance" => Some(Self::Nodes),
            _ => None,
        }
    }
}

/// A proxy or load balancer, as the class of an Ingress or a Gateway gives it.
#[derive(Clone, Debug)]
pub(crate) struct Classified {
    pub(crate) data_plane: &'static DataPlane,
    /// The class by which it is known, such as `IngressClass/nginx`.
    pub(crate) class: Option<String>,
    /// The type of targets that the class sets, whatever else is given.
    pub(crate) targets: Option<Targets>,
}

impl Classified {
    pub(crate) fn new(data_plane: &'static DataPlane, class: Option<String>) -> Self {
        Self { data_plane, class, targets: None }
    }
}

/// A proxy in the cluster, which sends to pods.
const fn proxy(profile: &'static BuiltInProfile, hints: &'static [&'static str]) -> DataPlane {
    DataPlane {
        pods: profile,
        nodes: profile,
        targets: Targets::Pods,
        target_type: None,
        delays: &[],
        settings: &[],
        hints,
    }
}

pub(crate) static NGINX_PROXY: DataPlane =
    proxy(&INGRESS_NGINX, &["nginx.ingress.kubernetes.io/", "nginx.org/"]);
pub(crate) static ENVOY_PROXY: DataPlane = proxy(&ENVOY, &["projectcontour.io/", "ingress.cilium.io/"]);
pub(crate) static TRAEFIK_PROXY: DataPlane = proxy(&TRAEFIK, &["traefik.ingress.kubernetes.io/"]);
pub(crate) static OTHER_INGRESS: DataPlane = proxy(&INGRESS, &[]);
pub(crate) static OTHER_GATEWAY: DataPlane = proxy(&GATEWAY, &[]);

/// The annotation of an Ingress with the attributes of its Application Load Balancer.
pub(crate) const LOAD_BALANCER_ATTRIBUTES: &str = "alb.ingress.kubernetes.io/load-balancer-attributes";

/// An Application Load Balancer.
const fn application(targets: Targets) -> DataPlane {
    DataPlane {
        pods: &AWS_ALB_IP,
        nodes: &AWS_INSTANCE,
        targets,
        target_type: Some("alb.ingress.kubernetes.io/target-type"),
        delays: &[("alb.ingress.kubernetes.io/target-group-attributes", Form::Attributes)],
        settings: &["TargetGroupConfiguration"],
        hints: &["alb.ingress.kubernetes.io/"],
    }
}

/// A Network Load Balancer.
const fn network(targets: Targets) -> DataPlane {
    DataPlane {
        pods: &AWS_NLB_IP,
        nodes: &AWS_INSTANCE,
        targets,
        target_type: Some("service.beta.kubernetes.io/aws-load-balancer-nlb-target-type"),
        delays: &[("service.beta.kubernetes.io/aws-load-balancer-target-group-attributes", Form::Attributes)],
        settings: &["TargetGroupConfiguration"],
        hints: &[],
    }
}

/// Of the AWS Load Balancer Controller, whose targets are the nodes by default. Its flag `--default-target-type` may set
/// another default.
pub(crate) static ALB: DataPlane = application(Targets::Nodes);
/// Whose targets are pods by default: of EKS Auto Mode, or of a target group that exists.
pub(crate) static ALB_OF_PODS: DataPlane = application(Targets::Pods);
/// Of the AWS Load Balancer Controller, or of the cloud controller manager. Its targets are the nodes by default.
pub(crate) static NLB: DataPlane = network(Targets::Nodes);
/// Whose targets are pods by default: of EKS Auto Mode, of the type `nlb-ip`, or of a target group that exists.
pub(crate) static NLB_OF_PODS: DataPlane = network(Targets::Pods);

/// A Classic Load Balancer. Its targets are always the nodes, so its draining timeout has no effect on pods.
pub(crate) static CLASSIC: DataPlane = DataPlane {
    pods: &AWS_INSTANCE,
    nodes: &AWS_INSTANCE,
    targets: Targets::Nodes,
    target_type: None,
    delays: &[],
    settings: &[],
    hints: &[],
};

/// The annotation of a Service with its `BackendConfig`s, as JSON.
pub(crate) const BACKEND_CONFIG: &str = "cloud.google.com/backend-config";
/// The annotation of a Service with its network endpoint groups, as JSON.
pub(crate) const NETWORK_ENDPOINT_GROUPS: &str = "cloud.google.com/neg";

pub(crate) static GOOGLE_LOAD_BALANCER: DataPlane = DataPlane {
    pods: &GOOGLE,
    nodes: &GOOGLE,
    targets: Targets::Pods,
    target_type: None,
    delays: &[],
    settings: &["BackendConfig", "GCPBackendPolicy"],
    hints: &["ingress.gcp.kubernetes.io/", "networking.gke.io/", BACKEND_CONFIG, NETWORK_ENDPOINT_GROUPS],
};

pub(crate) static AZURE: DataPlane = DataPlane {
    pods: &AZURE_APPLICATION_GATEWAY,
    nodes: &AZURE_APPLICATION_GATEWAY,
    targets: Targets::Pods,
    target_type: None,
    delays: &[(
        "appgw.ingress.kubernetes.io/connection-draining-timeout",
        Form::Seconds { enabled_by: "appgw.ingress.kubernetes.io/connection-draining" },
    )],
    settings: &[],
    hints: &["appgw.ingress.kubernetes.io/"],
};

/// Of any other cloud: as far as known, all send to the nodes.
pub(crate) static OTHER_LOAD_BALANCER: DataPlane = DataPlane {
    pods: &LOAD_BALANCER,
    nodes: &LOAD_BALANCER,
    targets: Targets::Nodes,
    target_type: None,
    delays: &[],
    settings: &[],
    hints: &[],
};

/// The data planes that annotations of an Ingress, or of its Service, show.
pub(crate) static BY_HINT: &[&DataPlane] =
    &[&ALB, &AZURE, &GOOGLE_LOAD_BALANCER, &NGINX_PROXY, &TRAEFIK_PROXY, &ENVOY_PROXY];

/// The data plane that annotations with these keys show.
pub(crate) fn by_hint<'k>(keys: impl Iterator<Item = &'k String> + Clone) -> Option<&'static DataPlane> {
    BY_HINT.iter().copied().find(|data_plane| keys.clone().any(|key| data_plane.has_hint(key)))
}
