//! The built-in drain profiles.

use serde::Serialize;

/// The time for which CoreDNS lets clients keep an address, in seconds: `ttl 30` of kubeadm's Corefile.
pub const CLUSTER_DNS_TTL: i64 = 30;

/// The drain that pods need behind one kind of exposure.
#[derive(Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuiltInProfile {
    /// Its name.
    pub name: &'static str,
    /// The exposure.
    pub exposure: &'static str,
    /// The drain in seconds, if no object gives a delay.
    pub seconds: i64,
    /// The shortest drain in seconds, however short the delay is that an object gives.
    pub min_seconds: i64,
    /// What is known.
    pub evidence: &'static str,
    /// Where it is from.
    pub source: &'static str,
}

/// Defines each profile, and [`BUILT_IN`] with all of them.
macro_rules! profiles {
    ($($constant:ident { $name:literal, $exposure:literal, $seconds:expr, min $min:expr, $evidence:literal, $source:literal })*) => {
        $(#[doc = concat!("The profile `", $name, "`.")]
        pub static $constant: BuiltInProfile = BuiltInProfile {
            name: $name,
            exposure: $exposure,
            seconds: $seconds,
            min_seconds: $min,
            evidence: $evidence,
            source: $source,
        };)*

        /// Every built-in profile.
        pub static BUILT_IN: &[&BuiltInProfile] = &[$(&$constant),*];
    };
}

profiles! {
    CLUSTER_IP {
        "cluster-ip", "Service, through kube-proxy",
        10, min 10,
        "3 to 5 s are usual, 1.1 s was measured on one node, and 10 s are the advice of Spring Boot",
        "https://github.com/kubernetes/kubernetes/issues/43576"
    }
    NODE_PORT {
        "node-port", "Service of type NodePort",
        10, min 10,
        "kube-proxy, as with cluster-ip",
        "https://github.com/kubernetes/kubernetes/issues/43576"
    }
    LOAD_BALANCER {
        "load-balancer", "Service of type LoadBalancer, whose targets are the nodes",
        30, min 10,
        "the kube-proxies of all nodes, which take 10 to 30 s with 100 nodes and more",
        "https://github.com/kubernetes/kubernetes/issues/43576"
    }
    TRAFFIC_POLICY_LOCAL {
        "external-traffic-policy-local", "Service with externalTrafficPolicy: Local, whose targets are the nodes",
        40, min 10,
        "health checks find out that a node has no pod left: 24 s on Google Cloud, 30 s on AWS, and then 10 s",
        "https://github.com/jcmoraisjr/haproxy-ingress/issues/1028"
    }
    HEADLESS {
        "headless", "headless Service",
        CLUSTER_DNS_TTL + 5, min 10,
        "clients keep addresses for the TTL of cluster DNS, which is 30 s in clusters of kubeadm",
        "https://github.com/kubernetes/kubernetes/blob/v1.36.3/cmd/kubeadm/app/phases/addons/dns/manifests.go"
    }
    AWS_NLB_IP {
        "aws-nlb-ip", "AWS Network Load Balancer whose targets are pods",
        300, min 120,
        "270 to 300 s were needed, and at least 120 s with any deregistration delay (aws-load-balancer-controller#2366)",
        "https://github.com/kubernetes/ingress-nginx/issues/11891"
    }
    AWS_ALB_IP {
        "aws-alb-ip", "AWS Application Load Balancer whose targets are pods",
        90, min 25,
        "60 to 90 s are usual, and 25 s were needed at least",
        "https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/1064"
    }
    AWS_INSTANCE {
        "aws-instance", "load balancer of AWS whose targets are the nodes",
        70, min 70,
        "requests were lost with 40 s, and none with 70 s",
        "https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/2106"
    }
    GOOGLE {
        "google", "load balancer of Google Cloud whose targets are pods (NEG)",
        60, min 40,
        "40 to 60 s are needed",
        "https://cloud.google.com/knowledge/kb/502-503-errors-on-external-http-s-load-balancer-000006416"
    }
    AZURE_APPLICATION_GATEWAY {
        "azure-application-gateway", "Application Gateway of Azure",
        90, min 90,
        "its documentation asks for 90 s, with a draining timeout of 30 s",
        "https://azure.github.io/application-gateway-kubernetes-ingress/how-tos/minimize-downtime-during-deployments/"
    }
    INGRESS_NGINX {
        "ingress-nginx", "Ingress or Gateway of NGINX",
        30, min 10,
        "it may take 15 to 30 s to notice that a pod terminates",
        "https://github.com/kubernetes/kubernetes/issues/20473"
    }
    ENVOY {
        "envoy", "Istio, Contour, Envoy Gateway, Cilium, or another proxy based on Envoy",
        15, min 10,
        "10 to 15 s are needed",
        "https://github.com/istio/istio/issues/34855"
    }
    TRAEFIK {
        "traefik", "Traefik",
        10, min 10,
        "it gathers changes for 2 s",
        "measured with Traefik 3.6.0 on two nodes: the last request came 1.5 s after the deletion"
    }
    KNATIVE {
        "knative", "Knative Service",
        30, min 10,
        "its queue-proxy waits for 30 s until it stops",
        "https://github.com/knative/serving/blob/main/pkg/queue/sharedmain/main.go"
    }
    INGRESS {
        "ingress", "Ingress of another controller",
        30, min 10,
        "as ingress-nginx",
        "https://github.com/kubernetes/kubernetes/issues/20473"
    }
    GATEWAY {
        "gateway", "Gateway of another controller",
        30, min 10,
        "as ingress-nginx",
        "https://github.com/kubernetes/kubernetes/issues/20473"
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use adieu_core::api::{DrainProfile, limits};

    use super::*;

    #[test]
    fn built_in_profiles_are_complete_and_in_bounds() {
        let names: BTreeSet<_> = BUILT_IN.iter().map(|profile| profile.name).collect();
        assert_eq!(names.len(), BUILT_IN.len());
        for BuiltInProfile { name, exposure, seconds, min_seconds, evidence, source } in BUILT_IN {
            assert!(
                (10..=limits::DRAIN_SECONDS).contains(seconds) && (10..=*seconds).contains(min_seconds),
                "{name}"
            );
            assert!(!exposure.is_empty() && !evidence.is_empty(), "{name}");
            assert!(source.starts_with("https://") || source.starts_with("measured "), "{name}: {source}");
            let profile = serde_json::json!({"exposure": name, "seconds": seconds});
            assert!(serde_json::from_value::<DrainProfile>(profile).is_ok(), "{name}");
        }
    }
}
