//! How long load balancers keep connections to a pod after it is deregistered, read from the objects that configure them.

use adieu_core::plan::string_map;
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

/// Attributes of target groups, for Services (AWS Load Balancer Controller).
const SERVICE_ATTRIBUTES: &str = "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes";
/// The same, for Ingresses.
const INGRESS_ATTRIBUTES: &str = "alb.ingress.kubernetes.io/target-group-attributes";
/// The deregistration delay among the attributes, in seconds.
const DEREGISTRATION_DELAY: &str = "deregistration_delay.timeout_seconds";
/// Connection draining of a Classic Load Balancer, in seconds.
const CLASSIC_DRAINING: &str = "service.beta.kubernetes.io/aws-load-balancer-connection-draining-timeout";

/// A time that an annotation gives a load balancer, and that annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delay {
    pub(crate) seconds: i64,
    pub(crate) annotation: &'static str,
}

/// The delay of a Service's load balancer, if an annotation gives it.
pub(crate) fn of_service(service: &Service) -> Option<Delay> {
    let annotations = service.metadata.annotations.as_ref()?;
    let attribute = annotations.get(SERVICE_ATTRIBUTES).and_then(|text| deregistration_delay(text));
    let classic = annotations.get(CLASSIC_DRAINING).and_then(|text| text.parse().ok());
    let delay = |annotation| move |seconds| Delay { seconds, annotation };
    attribute.map(delay(SERVICE_ATTRIBUTES)).or(classic.map(delay(CLASSIC_DRAINING)))
}

/// The delay of an Ingress's load balancer, if an annotation gives it.
pub(crate) fn of_ingress(ingress: &Value) -> Option<Delay> {
    let annotations = string_map(&ingress["metadata"]["annotations"]);
    let seconds = deregistration_delay(annotations.get(INGRESS_ATTRIBUTES)?)?;
    Some(Delay { seconds, annotation: INGRESS_ATTRIBUTES })
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

    #[test]
    fn delays_are_read_from_annotations() {
        let service = |key: &str, value: &str| -> Option<i64> {
            let service = json!({"metadata": {"annotations": {key: value}}});
            of_service(&serde_json::from_value(service).unwrap()).map(|delay| delay.seconds)
        };
        let both = "preserve_client_ip.enabled=true, deregistration_delay.timeout_seconds = 120";
        assert_eq!(service(SERVICE_ATTRIBUTES, both), Some(120));
        assert_eq!(service(SERVICE_ATTRIBUTES, "preserve_client_ip.enabled=true"), None);
        assert_eq!(service(CLASSIC_DRAINING, "60"), Some(60));
        assert_eq!(service(CLASSIC_DRAINING, "1m"), None);
        let ingress = json!({"metadata": {"annotations": {INGRESS_ATTRIBUTES: both}}});
        assert_eq!(of_ingress(&ingress), Some(Delay { seconds: 120, annotation: INGRESS_ATTRIBUTES }));
        assert_eq!(of_ingress(&json!({})), None);
    }
}
