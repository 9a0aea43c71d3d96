//! Finds the exposures of pods.

use std::{collections::BTreeMap, sync::Arc};

use adieu_core::plan::selects;
use k8s_openapi::api::core::v1::Service;

use crate::{
    backend::Backend,
    class::{of_gateway, of_ingress},
    exposure::Exposure,
    kinds::Role,
    object_name::ObjectName,
    profiles::{GOOGLE, KNATIVE},
    service::own_exposures,
    traffic_object::TrafficObject,
    ways::{Classified, GOOGLE_LOAD_BALANCER, NLB_OF_PODS, Way},
};

/// The label of the pods of a Knative Service, with its name.
const KNATIVE_SERVICE: &str = "serving.knative.dev/service";
/// How the profiles of load balancers of AWS begin.
const AWS: &str = "aws-";

/// The pods of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Pods<'a> {
    /// Their namespace.
    pub namespace: &'a str,
    /// The labels of their template.
    pub labels: &'a BTreeMap<String, String>,
}

/// The exposures of pods: of the Services of their namespace that select them, and of the objects, in any namespace, that
/// lead to these Services. A proxy's own pods have the exposures of its Service, and those behind it have its. Routes of
/// another namespace count if a `ReferenceGrant` allows them, so nobody else lengthens the drain of a namespace by a route.
#[must_use]
pub fn exposures_of<'a>(
    pods: Pods<'_>,
    services: impl IntoIterator<Item = &'a Service>,
    objects: &[Arc<TrafficObject>],
) -> Vec<Exposure> {
    let selecting = services.into_iter().filter(|service| selects(service, pods.labels));
    let of_services = selecting.flat_map(|service| exposures_of_service(pods.namespace, service, objects));
    let mut exposures: Vec<_> = of_services.collect();
    // Knative sends to the addresses of its pods.
    let name = pods.labels.get(KNATIVE_SERVICE);
    let service = name.map(|name| ObjectName::new("Knative Service", pods.namespace, name));
    exposures.extend(service.map(|service| Exposure::of(&KNATIVE, service)));
    exposures
}

/// The exposures of a Service.
#[must_use]
pub fn exposures_of_service(
    namespace: &str,
    service: &Service,
    objects: &[Arc<TrafficObject>],
) -> Vec<Exposure> {
    let backend = Backend::new(namespace, service, objects);
    let mut exposures = own_exposures(&backend);
    let leading = leading_to(&backend);
    let (bindings, routes): (Vec<_>, Vec<_>) =
        leading.into_iter().partition(|object| object.kind.role == Role::Binding);
    exposures.extend(routes.into_iter().flat_map(|route| through(&backend, route)));
    if !exposures.iter().any(|exposure| *exposure.profile == GOOGLE)
        && (backend.has_network_endpoint_groups() || backend.delay(&GOOGLE_LOAD_BALANCER, None).is_some())
    {
        exposures.push(backend.exposure(Classified::new(&GOOGLE_LOAD_BALANCER, None), None));
    }
    // A binding that a controller made for a Service, an Ingress or a Gateway is not another way.
    let is_known = exposures.iter().any(|exposure| exposure.profile.name.starts_with(AWS));
    let bindings = bindings.into_iter().filter(|binding| !(is_known && binding.is_made_by_controller));
    exposures.extend(bindings.flat_map(|binding| through(&backend, binding)));
    exposures
}

/// The objects that lead to a Service, also through others.
fn leading_to<'a>(backend: &Backend<'a>) -> Vec<&'a TrafficObject> {
    let mut targets = vec![backend.name.clone()];
    let mut leading: Vec<&TrafficObject> = Vec::new();
    let mut next = 0;
    while let Some(target) = targets.get(next).cloned() {
        next += 1;
        for object in backend.objects.iter().map(Arc::as_ref).filter(|object| object.leads_to(&target)) {
            let is_new = !leading.iter().any(|known| known.name == object.name);
            if object.kind.role == Role::Intermediate && !targets.contains(&object.name) {
                targets.push(object.name.clone());
            } else if is_new {
                leading.push(object);
            }
        }
    }
    leading
}

/// The exposures of a Service through an object that leads to it.
fn through(backend: &Backend<'_>, object: &TrafficObject) -> Vec<Exposure> {
    let exposure = |classified| backend.exposure(classified, Some(object));
    let unclassified = |way: &'static Way| vec![exposure(Classified::new(way, None))];
    match object.kind.role {
        Role::Ingress => vec![exposure(of_ingress(object, backend))],
        Role::Proxied(way) => unclassified(way),
        Role::Binding => unclassified(object.way.unwrap_or(&NLB_OF_PODS)),
        Role::Route if !backend.allows(object) => vec![],
        Role::Route => {
            let gateways = object.parents.iter().map(|gateway| of_gateway(gateway, backend.objects));
            let mut exposures: Vec<_> = gateways.map(exposure).collect();
            exposures.dedup();
            exposures
        }
        Role::Intermediate
        | Role::Settings
        | Role::Gateway
        | Role::Grant
        | Role::IngressClass
        | Role::GatewayClass
        | Role::ClassParameters => vec![],
    }
}
