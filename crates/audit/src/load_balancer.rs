//! How long load balancers keep connections to a pod after it is deregistered.

use std::sync::Arc;

use adieu_exposures::{AWS_INSTANCE, Delay, Exposure, TrafficObject, exposures_of_service};
use k8s_openapi::api::core::v1::Service;

/// The deregistration delay of a target group without this attribute, in seconds (Elastic Load Balancing).
const DEFAULT_DEREGISTRATION_DELAY: i64 = 300;

/// The longest delay of the load balancers that send to a Service, as far as objects give it. Without any, the default of a
/// target group that the Service is bound to: only AWS knows its own delay.
pub(crate) fn longest_delay(
    namespace: &str,
    service: &Service,
    objects: &[Arc<TrafficObject>],
) -> Option<Delay> {
    let exposures = exposures_of_service(namespace, service, objects);
    let given = exposures.iter().filter_map(|exposure| exposure.delay.clone());
    given.max_by_key(|delay| delay.seconds).or_else(|| {
        let binding = exposures.iter().find(|exposure| binds_pods(exposure))?;
        Some(Delay {
            seconds: DEFAULT_DEREGISTRATION_DELAY,
            source: "the default of a target group, whose own value is unknown",
            object: binding.object.clone(),
        })
    })
}

/// Whether a `TargetGroupBinding` registers the pods of the Service.
fn binds_pods(exposure: &Exposure) -> bool {
    exposure.object.kind == "TargetGroupBinding" && *exposure.profile != AWS_INSTANCE
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SERVICE_ATTRIBUTES: &str = "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes";
    const SERVICE_TARGETS: &str = "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type";
    const INGRESS_ATTRIBUTES: &str = "alb.ingress.kubernetes.io/target-group-attributes";
    const INGRESS_TARGETS: &str = "alb.ingress.kubernetes.io/target-type";
    const LOAD_BALANCER_TYPE: &str = "service.beta.kubernetes.io/aws-load-balancer-type";
    const CLASSIC_DRAINING: &str = "service.beta.kubernetes.io/aws-load-balancer-connection-draining-timeout";
    const CLASSIC_ENABLED: &str = "service.beta.kubernetes.io/aws-load-balancer-connection-draining-enabled";
    const AZURE_DRAINING: &str = "appgw.ingress.kubernetes.io/connection-draining-timeout";
    const AZURE_ENABLED: &str = "appgw.ingress.kubernetes.io/connection-draining";
    const BACKEND_CONFIG: &str = "cloud.google.com/backend-config";
    const DELAY_OF_120: &str = "preserve_client_ip.enabled=true, deregistration_delay.timeout_seconds = 120";

    /// The Service `web`.
    fn service(annotations: Value) -> Service {
        let metadata = json!({"name": "web", "annotations": annotations});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"type": "LoadBalancer"}})).unwrap()
    }

    /// An Ingress that sends to this Service.
    fn ingress(service: &str, annotations: Value) -> Value {
        let path = json!({"backend": {"service": {"name": service}}});
        json!({
            "metadata": {"name": "front", "annotations": annotations},
            "spec": {"rules": [{"http": {"paths": [path]}}]},
        })
    }

    fn objects(group: &str, kind: &str, values: &[Value]) -> Vec<Arc<TrafficObject>> {
        let read = |value| TrafficObject::read(group, kind, "shop", value).unwrap();
        values.iter().map(read).map(Arc::new).collect()
    }

    fn seconds(service: &Service, objects: &[Arc<TrafficObject>]) -> Option<i64> {
        longest_delay("shop", service, objects).map(|delay| delay.seconds)
    }

    #[test]
    fn delays_are_read_from_annotations_of_services() {
        for (annotations, expected) in [
            (json!({SERVICE_ATTRIBUTES: DELAY_OF_120, SERVICE_TARGETS: "ip"}), Some(120)),
            (json!({SERVICE_ATTRIBUTES: DELAY_OF_120, LOAD_BALANCER_TYPE: "nlb-ip"}), Some(120)),
            (json!({SERVICE_ATTRIBUTES: "preserve_client_ip.enabled=true", SERVICE_TARGETS: "ip"}), None),
            (json!({INGRESS_ATTRIBUTES: DELAY_OF_120}), None),
            (json!({}), None),
        ] {
            let found = seconds(&service(annotations.clone()), &[]);
            assert_eq!(found, expected, "{annotations}");
        }
    }

    #[test]
    fn delays_of_load_balancers_whose_targets_are_nodes_are_ignored() {
        for annotations in [
            json!({SERVICE_ATTRIBUTES: DELAY_OF_120}),
            json!({SERVICE_ATTRIBUTES: DELAY_OF_120, LOAD_BALANCER_TYPE: "external"}),
            json!({SERVICE_ATTRIBUTES: DELAY_OF_120, LOAD_BALANCER_TYPE: "nlb"}),
            json!({SERVICE_ATTRIBUTES: DELAY_OF_120, SERVICE_TARGETS: "instance"}),
            json!({CLASSIC_DRAINING: "60", CLASSIC_ENABLED: "true"}),
        ] {
            let found = seconds(&service(annotations.clone()), &[]);
            assert_eq!(found, None, "{annotations}");
        }
    }

    #[test]
    fn delays_are_read_from_annotations_of_ingresses() {
        let attributes = json!({INGRESS_ATTRIBUTES: DELAY_OF_120, INGRESS_TARGETS: "ip"});
        let by_default = json!({INGRESS_ATTRIBUTES: DELAY_OF_120});
        let of_nodes = json!({INGRESS_ATTRIBUTES: DELAY_OF_120, INGRESS_TARGETS: "instance"});
        let shorter = json!({INGRESS_ATTRIBUTES: "deregistration_delay.timeout_seconds=5"});
        for (on_service, ingress, expected) in [
            (json!({}), ingress("web", attributes.clone()), Some(120)),
            (json!({}), ingress("other", attributes.clone()), None),
            (json!({}), ingress("web", json!({})), None),
            (json!({}), ingress("web", by_default), None),
            (json!({}), ingress("web", of_nodes.clone()), None),
            (json!({INGRESS_TARGETS: "ip"}), ingress("web", of_nodes), Some(120)),
            (attributes.clone(), ingress("web", json!({})), Some(120)),
            (shorter, ingress("web", attributes), Some(5)),
            (json!({}), ingress("web", json!({AZURE_DRAINING: "60", AZURE_ENABLED: "true"})), Some(60)),
            (json!({}), ingress("web", json!({AZURE_DRAINING: "60", AZURE_ENABLED: "false"})), None),
            (json!({}), ingress("web", json!({AZURE_DRAINING: "60"})), None),
        ] {
            let objects = objects("networking.k8s.io", "Ingress", std::slice::from_ref(&ingress));
            assert_eq!(seconds(&service(on_service.clone()), &objects), expected, "{on_service} {ingress}");
        }
    }

    #[test]
    fn delays_are_read_from_backend_configs_that_the_service_names() {
        let config = |name: &str, draining: Value| json!({"metadata": {"name": name}, "spec": {"connectionDraining": draining}});
        let configs = [
            config("slow", json!({"drainingTimeoutSec": 400})),
            config("fast", json!({"drainingTimeoutSec": 60})),
            config("none", json!(null)),
        ];
        let objects = objects("cloud.google.com", "BackendConfig", &configs);
        for (annotation, expected) in [
            (r#"{"default": "fast"}"#, Some(60)),
            (r#"{"ports": {"80": "fast", "grpc": "slow"}}"#, Some(400)),
            (r#"{"default": "none", "ports": {"80": "fast"}}"#, Some(60)),
            (r#"{"default": "none"}"#, None),
            (r#"{"default": "missing"}"#, None),
            ("fast", None),
        ] {
            assert_eq!(
                seconds(&service(json!({BACKEND_CONFIG: annotation})), &objects),
                expected,
                "{annotation}"
            );
        }
        assert_eq!(seconds(&service(json!({})), &objects), None);
    }

    #[test]
    fn a_bound_target_group_has_its_default_delay_unless_another_is_given() {
        let binding = |service: &str, targets: Value| json!({"metadata": {"name": "public"}, "spec": {"serviceRef": {"name": service}, "targetType": targets}});
        for (annotations, binding, expected) in [
            (json!({}), binding("web", json!("ip")), Some(300)),
            (json!({}), binding("web", json!(null)), Some(300)),
            (json!({}), binding("web", json!("instance")), None),
            (json!({}), binding("other", json!("ip")), None),
            (json!({SERVICE_ATTRIBUTES: DELAY_OF_120}), binding("web", json!("ip")), Some(120)),
        ] {
            let objects = objects("elbv2.k8s.aws", "TargetGroupBinding", std::slice::from_ref(&binding));
            assert_eq!(seconds(&service(annotations.clone()), &objects), expected, "{annotations} {binding}");
        }
    }
}
