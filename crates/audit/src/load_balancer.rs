//! How long load balancers keep connections to a pod after it is deregistered, read from the objects that configure them.

use adieu_core::plan::string_map;
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

use crate::inventory::NamespaceObjects;

/// Attributes of target groups, for Services (AWS Load Balancer Controller).
const SERVICE_ATTRIBUTES: &str = "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes";
/// The kind of the targets of a Service's load balancer: pods (`ip`), or nodes (`instance`).
const SERVICE_TARGETS: &str = "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type";
/// Attributes of target groups, for Ingresses.
const INGRESS_ATTRIBUTES: &str = "alb.ingress.kubernetes.io/target-group-attributes";
/// The kind of the targets of an Ingress's load balancer.
const INGRESS_TARGETS: &str = "alb.ingress.kubernetes.io/target-type";
/// Targets that a terminating pod does not deregister: nodes.
const NODES: &str = "instance";
/// The deregistration delay among the attributes, in seconds.
const DEREGISTRATION_DELAY: &str = "deregistration_delay.timeout_seconds";
/// The deregistration delay of a target group without this attribute, in seconds (Elastic Load Balancing).
const DEFAULT_DEREGISTRATION_DELAY: i64 = 300;
/// Connection draining of a Classic Load Balancer, in seconds.
const CLASSIC_DRAINING: &str = "service.beta.kubernetes.io/aws-load-balancer-connection-draining-timeout";
/// The `BackendConfig`s of a Service's ports, as JSON (GKE).
const BACKEND_CONFIG: &str = "cloud.google.com/backend-config";

/// The time for which a load balancer keeps connections to a deregistered pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delay {
    pub(crate) seconds: i64,
    /// The object of the load balancer.
    pub(crate) of: String,
    /// The setting that gives the time.
    pub(crate) source: &'static str,
}

impl Delay {
    fn new(seconds: i64, kind: &str, object: &Value, source: &'static str) -> Self {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        Self { seconds, of: format!("{kind} {name}"), source }
    }
}

/// The longest delay of the load balancers that send to a Service, as far as objects of its namespace give it. Without any,
/// the default of a target group that the Service is bound to.
pub(crate) fn longest_delay(service: &Service, objects: &NamespaceObjects) -> Option<Delay> {
    let of_ingresses = objects.ingresses.iter().filter_map(|ingress| of_ingress(ingress, service));
    let of_configs = objects.backend_configs.iter().filter_map(|config| of_backend_config(config, service));
    let given = of_service(service).into_iter().chain(of_ingresses).chain(of_configs);
    given
        .max_by_key(|delay| delay.seconds)
        .or_else(|| objects.target_group_bindings.iter().find_map(|binding| of_binding(binding, service)))
}

fn name(service: &Service) -> &str {
    service.metadata.name.as_deref().unwrap_or_default()
}

/// The delay of a Service's load balancer, if an annotation gives it.
fn of_service(service: &Service) -> Option<Delay> {
    let annotations = service.metadata.annotations.as_ref()?;
    let delay = |source, seconds| Delay { seconds, of: format!("Service {}", name(service)), source };
    if let Some(seconds) = annotations.get(SERVICE_ATTRIBUTES).and_then(|text| deregistration_delay(text)) {
        let has_pods = annotations.get(SERVICE_TARGETS).is_none_or(|targets| targets != NODES);
        return has_pods.then(|| delay(SERVICE_ATTRIBUTES, seconds));
    }
    Some(delay(CLASSIC_DRAINING, annotations.get(CLASSIC_DRAINING)?.parse().ok()?))
}

/// The delay of the load balancer of an Ingress that sends to the Service, if an annotation gives it. The annotations of
/// the Service take precedence.
fn of_ingress(ingress: &Value, service: &Service) -> Option<Delay> {
    let mut annotations = string_map(&ingress["metadata"]["annotations"]);
    annotations.extend(service.metadata.annotations.clone().unwrap_or_default());
    let has_pods = annotations.get(INGRESS_TARGETS).is_none_or(|targets| targets != NODES);
    let seconds = deregistration_delay(annotations.get(INGRESS_ATTRIBUTES)?)?;
    let applies = has_pods && sends_to(ingress, name(service));
    applies.then(|| Delay::new(seconds, "Ingress", ingress, INGRESS_ATTRIBUTES))
}

/// The delay of a `BackendConfig` that the Service names, for one of its ports or for all.
fn of_backend_config(config: &Value, service: &Service) -> Option<Delay> {
    let annotation = service.metadata.annotations.as_ref()?.get(BACKEND_CONFIG)?;
    let named: Value = serde_json::from_str(annotation).ok()?;
    let mut names = named["ports"].as_object().into_iter().flat_map(|ports| ports.values());
    let is_named = |name: &Value| name.is_string() && *name == config["metadata"]["name"];
    let seconds = config["spec"]["connectionDraining"]["drainingTimeoutSec"].as_i64()?;
    let applies = is_named(&named["default"]) || names.any(is_named);
    applies.then(|| Delay::new(seconds, "BackendConfig", config, "connectionDraining.drainingTimeoutSec"))
}

/// The default delay of a target group to which pods of the Service are bound. Only AWS knows its own delay.
fn of_binding(binding: &Value, service: &Service) -> Option<Delay> {
    let spec = &binding["spec"];
    let applies = spec["serviceRef"]["name"] == name(service) && spec["targetType"] != NODES;
    applies.then(|| {
        let source = "the default of a target group, whose own value is unknown";
        Delay::new(DEFAULT_DEREGISTRATION_DELAY, "TargetGroupBinding", binding, source)
    })
}

/// Whether a rule or the default backend of an Ingress names the Service.
fn sends_to(ingress: &Value, service: &str) -> bool {
    let spec = &ingress["spec"];
    let names = |backend: &Value| backend["service"]["name"] == service;
    let rules = spec["rules"].as_array().into_iter().flatten();
    let paths = rules.flat_map(|rule| rule["http"]["paths"].as_array().into_iter().flatten());
    names(&spec["defaultBackend"]) || paths.into_iter().any(|path| names(&path["backend"]))
}

/// `a=b,deregistration_delay.timeout_seconds=120`.
fn deregistration_delay(attributes: &str) -> Option<i64> {
    let mut pairs = attributes.split(',').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| (key.trim() == DEREGISTRATION_DELAY).then(|| value.trim().parse().ok())?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DELAY_OF_120: &str = "preserve_client_ip.enabled=true, deregistration_delay.timeout_seconds = 120";

    /// The Service `web`.
    fn service(annotations: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "annotations": annotations}})).unwrap()
    }

    /// An Ingress that sends to this Service.
    fn ingress(service: &str, annotations: Value) -> Value {
        let path = json!({"backend": {"service": {"name": service}}});
        json!({
            "metadata": {"name": "front", "annotations": annotations},
            "spec": {"rules": [{"http": {"paths": [path]}}]},
        })
    }

    fn seconds(service: &Service, objects: &NamespaceObjects) -> Option<i64> {
        longest_delay(service, objects).map(|delay| delay.seconds)
    }

    #[test]
    fn delays_are_read_from_annotations_of_services() {
        for (annotations, expected) in [
            (json!({SERVICE_ATTRIBUTES: DELAY_OF_120}), Some(120)),
            (json!({SERVICE_ATTRIBUTES: DELAY_OF_120, SERVICE_TARGETS: "ip"}), Some(120)),
            (json!({SERVICE_ATTRIBUTES: DELAY_OF_120, SERVICE_TARGETS: "instance"}), None),
            (json!({SERVICE_ATTRIBUTES: "preserve_client_ip.enabled=true"}), None),
            (json!({INGRESS_ATTRIBUTES: DELAY_OF_120}), None),
            (json!({CLASSIC_DRAINING: "60"}), Some(60)),
            (json!({CLASSIC_DRAINING: "1m"}), None),
            (json!({}), None),
        ] {
            let found = seconds(&service(annotations.clone()), &NamespaceObjects::default());
            assert_eq!(found, expected, "{annotations}");
        }
    }

    #[test]
    fn delays_are_read_from_annotations_of_ingresses() {
        let attributes = json!({INGRESS_ATTRIBUTES: DELAY_OF_120});
        let of_nodes = json!({INGRESS_ATTRIBUTES: DELAY_OF_120, INGRESS_TARGETS: "instance"});
        let shorter = json!({INGRESS_ATTRIBUTES: "deregistration_delay.timeout_seconds=5"});
        for (on_service, ingress, expected) in [
            (json!({}), ingress("web", attributes.clone()), Some(120)),
            (json!({}), ingress("other", attributes.clone()), None),
            (json!({}), ingress("web", json!({})), None),
            (json!({}), ingress("web", of_nodes.clone()), None),
            (json!({INGRESS_TARGETS: "ip"}), ingress("web", of_nodes), Some(120)),
            (attributes.clone(), ingress("web", json!({})), Some(120)),
            (shorter, ingress("web", attributes), Some(5)),
        ] {
            let objects =
                NamespaceObjects { ingresses: vec![ingress.clone()], ..NamespaceObjects::default() };
            assert_eq!(seconds(&service(on_service.clone()), &objects), expected, "{on_service} {ingress}");
        }
    }

    #[test]
    fn delays_are_read_from_backend_configs_that_the_service_names() {
        let config = |name: &str, draining: Value| json!({"metadata": {"name": name}, "spec": {"connectionDraining": draining}});
        let objects = NamespaceObjects {
            backend_configs: vec![
                config("slow", json!({"drainingTimeoutSec": 400})),
                config("fast", json!({"drainingTimeoutSec": 60})),
                config("none", json!(null)),
            ],
            ..NamespaceObjects::default()
        };
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
            let bindings = vec![binding.clone()];
            let objects = NamespaceObjects { target_group_bindings: bindings, ..NamespaceObjects::default() };
            assert_eq!(seconds(&service(annotations.clone()), &objects), expected, "{annotations} {binding}");
        }
    }
}
