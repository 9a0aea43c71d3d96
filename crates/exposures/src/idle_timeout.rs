//! How long load balancers and proxies keep idle connections to pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;

use crate::{
    data_planes::LOAD_BALANCER_ATTRIBUTES,
    exposure::Exposure,
    find::{Pods, exposures_of},
    object_name::ObjectName,
    profiles::{AWS_ALB_IP, AWS_INSTANCE, BuiltInProfile, GOOGLE, INGRESS_NGINX, TRAEFIK},
    traffic_object::TrafficObject,
};

/// How long a load balancer or proxy keeps idle connections to pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleTimeout {
    /// The object that leads to the pods.
    pub object: ObjectName,
    /// The time in seconds.
    pub seconds: i64,
    /// Where it is from: an annotation, or a link.
    pub source: String,
}

/// The idle timeout among the attributes of an Application Load Balancer.
const ATTRIBUTE: &str = "idle_timeout.timeout_seconds";
/// The annotation of a Service with the idle timeout of its Classic Load Balancer, in seconds.
const CLASSIC: &str = "service.beta.kubernetes.io/aws-load-balancer-connection-idle-timeout";
/// The kinds of objects that lead to an Application Load Balancer, and never to a Network Load Balancer.
const APPLICATION_KINDS: [&str; 3] = ["Ingress", "HTTPRoute", "GRPCRoute"];

/// The idle timeouts by default, in seconds, with their sources.
static DEFAULTS: &[(&BuiltInProfile, i64, &str)] = &[
    (
        &AWS_ALB_IP,
        60,
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html",
    ),
    (&GOOGLE, 600, "https://cloud.google.com/load-balancing/docs/https"),
    (
        &INGRESS_NGINX,
        60,
        "https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/configmap/#upstream-keepalive-timeout",
    ),
    (&TRAEFIK, 90, "https://doc.traefik.io/traefik/routing/services/#forwardingtimeoutsidleconntimeout"),
];

/// The idle timeouts of the load balancers and proxies in front of pods, as far as they are known.
#[must_use]
pub fn idle_timeouts_of(
    pods: Pods<'_>,
    services: &[Service],
    objects: &[Arc<TrafficObject>],
) -> Vec<IdleTimeout> {
    let exposures = exposures_of(pods, services, objects);
    let mut found: Vec<_> =
        exposures.iter().filter_map(|exposure| idle_timeout(exposure, services, objects)).collect();
    found.dedup();
    found
}

fn idle_timeout(
    exposure: &Exposure,
    services: &[Service],
    objects: &[Arc<TrafficObject>],
) -> Option<IdleTimeout> {
    let Exposure { profile, object, .. } = exposure;
    let timeout = |seconds, source: String| IdleTimeout { object: object.clone(), seconds, source };
    if object.kind == "Service" && **profile == AWS_INSTANCE {
        let is_named = |service: &&Service| service.metadata.name.as_deref() == Some(object.name.as_str());
        let text = services.iter().find(is_named)?.metadata.annotations.as_ref()?.get(CLASSIC)?;
        return Some(timeout(text.trim().parse().ok()?, format!("{CLASSIC} of {object}")));
    }
    let is_application = **profile == AWS_INSTANCE && APPLICATION_KINDS.contains(&object.kind.as_str());
    let profile = if is_application { &AWS_ALB_IP } else { *profile };
    if *profile == AWS_ALB_IP {
        let leading = objects.iter().find(|leading| leading.name == *object);
        let attributes = leading.and_then(|leading| leading.annotation(LOAD_BALANCER_ATTRIBUTES));
        if let Some(seconds) = attributes.and_then(attribute) {
            return Some(timeout(seconds, format!("{LOAD_BALANCER_ATTRIBUTES} of {object}")));
        }
    }
    let (_, seconds, source) = DEFAULTS.iter().find(|(known, _, _)| **known == *profile)?;
    Some(timeout(*seconds, format!("the default: {source}")))
}

/// The idle timeout among attributes such as `a=b,idle_timeout.timeout_seconds=120`.
fn attribute(text: &str) -> Option<i64> {
    let mut pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| key.trim() == ATTRIBUTE)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn service(annotations: Value, kind: &str) -> Service {
        let spec = json!({"type": kind, "clusterIP": "10.0.0.1", "selector": {"app": "web"}});
        let metadata = json!({"name": "web", "namespace": "shop", "annotations": annotations});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn ingress(class: &str, annotations: Value) -> Arc<TrafficObject> {
        let object = json!({
            "metadata": {"name": "shop", "annotations": annotations},
            "spec": {"ingressClassName": class, "defaultBackend": {"service": {"name": "web"}}},
        });
        Arc::new(TrafficObject::read("networking.k8s.io", "Ingress", "shop", &object).unwrap())
    }

    #[test]
    fn idle_timeouts_are_read_from_annotations_or_are_the_known_defaults() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let attributes = |text: &str| json!({LOAD_BALANCER_ATTRIBUTES: text});
        for (service, objects, expected) in [
            (service(json!({}), "ClusterIP"), vec![], None),
            (
                service(json!({}), "NodePort"),
                vec![ingress("alb", json!({}))],
                Some((60, "Ingress shop/shop", "the default: https://docs.aws.amazon.com/")),
            ),
            (
                service(json!({}), "NodePort"),
                vec![ingress("alb", attributes("a=b, idle_timeout.timeout_seconds=120"))],
                Some((120, "Ingress shop/shop", "load-balancer-attributes of Ingress shop/shop")),
            ),
            (
                service(json!({}), "ClusterIP"),
                vec![ingress("nginx", attributes("idle_timeout.timeout_seconds=120"))],
                Some((60, "Ingress shop/shop", "upstream-keepalive-timeout")),
            ),
            (
                service(json!({}), "ClusterIP"),
                vec![ingress("traefik", json!({}))],
                Some((90, "Ingress shop/shop", "doc.traefik.io")),
            ),
            (
                service(json!({}), "ClusterIP"),
                vec![ingress("gce", json!({}))],
                Some((600, "Ingress shop/shop", "cloud.google.com")),
            ),
            (service(json!({}), "ClusterIP"), vec![ingress("haproxy", json!({}))], None),
            (
                service(json!({CLASSIC: "30"}), "LoadBalancer"),
                vec![],
                Some((30, "Service shop/web", "connection-idle-timeout of Service shop/web")),
            ),
        ] {
            let pods = Pods { namespace: "shop", labels: &labels };
            let found = idle_timeouts_of(pods, &[service], &objects);
            let Some((seconds, object, source)) = expected else {
                assert!(found.is_empty(), "{found:?}");
                continue;
            };
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].seconds, found[0].object.to_string().as_str()), (seconds, object));
            assert!(found[0].source.contains(source), "{}", found[0].source);
        }
    }
}
