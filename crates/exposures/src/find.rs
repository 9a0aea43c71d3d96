//! Finds the exposures of pods.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use adieu_core::plan::selects;
use k8s_openapi::api::core::v1::Service;

use crate::{
    backend::Backend,
    class::{of_gateway, of_ingress},
    data_planes::{Classified, DataPlane, GOOGLE_LOAD_BALANCER, NLB_OF_PODS},
    exposure::Exposure,
    kinds::Role,
    object_name::ObjectName,
    objects::Objects,
    profiles::{GOOGLE, KNATIVE},
    service::own_exposures,
    traffic_object::TrafficObject,
};

/// The label of the pods of a Knative Service, with its name.
const KNATIVE_SERVICE: &str = "serving.knative.dev/service";
/// How the profiles of load balancers of AWS begin.
const AWS: &str = "aws-";
/// How many of the Services that select the same pods count.
pub const MAX_SERVICES: usize = 100;
/// How many exposures of a Service count through objects of one namespace: no other namespace hides any of them.
const MAX_EXPOSURES: usize = 250;
/// How many Gateways of a route count. The Gateway API permits 32.
const MAX_GATEWAYS: usize = 64;

/// The pods of a workload.
#[derive(Clone, Copy, Debug)]
pub struct Pods<'a> {
    /// Their namespace.
    pub namespace: &'a str,
    /// The labels of their template.
    pub labels: &'a BTreeMap<String, String>,
}

/// The exposures of pods: of the Services of their namespace that select them, and of the objects, in any namespace, that
/// lead to these Services. A proxy's own pods have the exposures of its Service, and those behind it have its. Of objects of
/// another namespace, routes count if a `ReferenceGrant` allows them, and a `VirtualService` counts if proxies of another
/// namespace see it and the Service, as by default in a mesh. It gives no time, so what it costs is the profile of Envoy.
#[must_use]
pub fn exposures_of<'a>(
    pods: Pods<'_>,
    services: impl IntoIterator<Item = &'a Service>,
    objects: &[Arc<TrafficObject>],
) -> Vec<Exposure> {
    let objects = Objects::new(pods.namespace, objects);
    let selecting = services.into_iter().filter(|service| selects(service, pods.labels)).take(MAX_SERVICES);
    let of_services =
        selecting.flat_map(|service| exposures_of_backend(&Backend::new(pods.namespace, service, &objects)));
    let mut exposures: Vec<_> = of_services.collect();
    // Knative sends to the addresses of its pods.
    let name = pods.labels.get(KNATIVE_SERVICE);
    let service = name.map(|name| ObjectName::new("Knative Service", pods.namespace, name));
    exposures.extend(service.map(|service| Exposure::of(&KNATIVE, service)));
    exposures
}

/// The exposures of a Service, and which objects decide about them beside those of its namespace.
#[derive(Debug)]
pub struct ServiceExposures<'a> {
    /// Its exposures.
    pub exposures: Vec<Exposure>,
    /// Whether objects of any namespace may decide whose [kind leads anywhere](crate::Kind::leads_anywhere).
    pub is_exported: bool,
    backend: &'a Backend<'a>,
}

impl ServiceExposures<'_> {
    /// The other namespaces whose objects decide, because the Service's namespace allows them: those of routes and Gateways.
    #[must_use]
    pub fn deciding_namespaces(&self) -> BTreeSet<&str> {
        self.backend.deciding_namespaces(leading_to(self.backend))
    }
}

/// What `read` returns for the exposures of each of these Services of a namespace.
#[must_use]
pub fn exposures_of_each<T>(
    namespace: &str,
    services: &[&Service],
    objects: &[Arc<TrafficObject>],
    read: impl Fn(ServiceExposures<'_>) -> T,
) -> Vec<T> {
    let objects = Objects::new(namespace, objects);
    let of = |service: &&Service| {
        let backend = Backend::new(namespace, service, &objects);
        read(ServiceExposures {
            exposures: exposures_of_backend(&backend),
            is_exported: backend.is_exported(),
            backend: &backend,
        })
    };
    services.iter().map(of).collect()
}

/// The exposures of a Service.
#[must_use]
pub fn exposures_of_service(
    namespace: &str,
    service: &Service,
    objects: &[Arc<TrafficObject>],
) -> Vec<Exposure> {
    exposures_of_backend(&Backend::new(namespace, service, &Objects::new(namespace, objects)))
}

fn exposures_of_backend(backend: &Backend<'_>) -> Vec<Exposure> {
    let mut exposures = own_exposures(backend);
    let (bindings, routes): (Vec<_>, Vec<_>) =
        leading_to(backend).into_iter().partition(|object| object.kind.role == Role::Binding);
    exposures.extend(through_each(backend, routes));
    if !exposures.iter().any(|exposure| *exposure.profile == GOOGLE)
        && (backend.has_network_endpoint_groups() || backend.delay(&GOOGLE_LOAD_BALANCER, None).is_some())
    {
        exposures.push(backend.exposure(Classified::new(&GOOGLE_LOAD_BALANCER, None), None));
    }
    // A binding that a controller made for a Service, an Ingress or a Gateway is not another way.
    let is_known = exposures.iter().any(|exposure| exposure.profile.name.starts_with(AWS));
    let bindings = bindings.into_iter().filter(|binding| !(is_known && binding.is_made_by_controller));
    exposures.extend(through_each(backend, bindings));
    exposures
}

/// The objects that lead to a Service, also through others.
fn leading_to<'a>(backend: &Backend<'a>) -> Vec<&'a TrafficObject> {
    let mut targets = vec![&backend.name];
    let mut leading: Vec<&'a TrafficObject> = Vec::new();
    let mut seen = HashSet::new();
    let mut next = 0;
    while let Some(target) = targets.get(next).copied() {
        next += 1;
        for object in backend.objects.referring_to(target) {
            if !seen.insert(&object.name) {
                continue;
            }
            if object.kind.role == Role::Intermediate {
                targets.push(&object.name);
            } else {
                leading.push(object);
            }
        }
    }
    leading
}

/// The exposures of a Service through objects that lead to it, as far as they count.
fn through_each<'a>(
    backend: &Backend<'_>,
    objects: impl IntoIterator<Item = &'a TrafficObject>,
) -> Vec<Exposure> {
    let (mut exposures, mut counts) = (vec![], HashMap::new());
    for object in objects {
        let count: &mut usize = counts.entry(object.name.namespace.as_str()).or_default();
        if *count < MAX_EXPOSURES {
            let found = through(backend, object);
            *count += found.len();
            exposures.extend(found);
        }
    }
    exposures
}

/// The exposures of a Service through an object that leads to it.
fn through(backend: &Backend<'_>, object: &TrafficObject) -> Vec<Exposure> {
    let exposure = |classified| backend.exposure(classified, Some(object));
    let unclassified = |data_plane: &'static DataPlane| vec![exposure(Classified::new(data_plane, None))];
    match object.kind.role {
        Role::Ingress => vec![exposure(of_ingress(object, backend))],
        Role::Proxied(_) if !backend.is_reached_by(object) => vec![],
        Role::Proxied(data_plane) => unclassified(data_plane),
        Role::Binding => unclassified(object.data_plane.unwrap_or(&NLB_OF_PODS)),
        Role::Route if !backend.allows(object) => vec![],
        Role::Route => {
            let gateways = object.parents.iter().take(MAX_GATEWAYS);
            let gateways = gateways.map(|gateway| of_gateway(gateway, backend.objects));
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::drain::{Profiles, required_drain};

    fn service(name: &str) -> Service {
        let service = json!({"metadata": {"name": name}, "spec": {"selector": {"app": "web"}}});
        serde_json::from_value(service).unwrap()
    }

    fn object(group: &str, kind: &str, namespace: &str, name: &str, spec: &Value) -> Arc<TrafficObject> {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        Arc::new(TrafficObject::read(group, kind, namespace, &object).unwrap())
    }

    fn found(services: &[Service], objects: &[Arc<TrafficObject>]) -> Vec<Exposure> {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        exposures_of(Pods { namespace: "shop", labels: &labels }, services, objects)
    }

    #[test]
    fn objects_of_one_namespace_hide_none_of_another() {
        let to_web = json!({"http": [{"route": [{"destination": {"host": "web.shop.svc.cluster.local"}}]}]});
        let number = |number: usize| {
            object("networking.istio.io", "VirtualService", "hostile", &number.to_string(), &to_web)
        };
        let mut objects: Vec<_> = (0..2 * MAX_EXPOSURES).map(number).collect();
        let spec = json!({"ingressClassName": "nginx", "defaultBackend": {"service": {"name": "web"}}});
        objects.push(object("networking.k8s.io", "Ingress", "shop", "shop", &spec));
        let exposures = found(&[service("web")], &objects);
        assert_eq!(exposures.len(), 1 + MAX_EXPOSURES + 1);
        let drain = required_drain(&exposures, &Profiles::default()).unwrap();
        assert_eq!((drain.seconds, &*drain.exposure), (30, "Ingress shop/shop (class nginx)"));
    }

    #[test]
    fn the_gateway_of_a_route_that_leads_through_another_object_decides() {
        let to_service = json!({"weighted": {"services": [{"name": "web"}]}});
        let through =
            json!([{"backendRefs": [{"group": "traefik.io", "kind": "TraefikService", "name": "canary"}]}]);
        let parents = json!([{"name": "public", "namespace": "infra"}]);
        let spec = json!({"parentRefs": parents, "rules": through});
        let objects = [
            object("traefik.io", "TraefikService", "shop", "canary", &to_service),
            object("gateway.networking.k8s.io", "HTTPRoute", "shop", "web", &spec),
        ];
        let decide = |found: ServiceExposures<'_>| {
            found.deciding_namespaces().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(exposures_of_each("shop", &[&service("web")], &objects, decide), [["infra"]]);
    }

    #[test]
    fn many_services_behind_many_routes_have_a_limited_number_of_exposures() {
        let services: Vec<_> =
            (0..2 * MAX_SERVICES).map(|number| service(&format!("web-{number}"))).collect();
        let backends: Vec<_> =
            services.iter().map(|service| json!({"name": service.metadata.name})).collect();
        let spec = json!({"weighted": {"services": backends}});
        let mut objects = vec![object("traefik.io", "TraefikService", "shop", "0", &spec)];
        for number in 1..500 {
            let before = [json!({"kind": "TraefikService", "name": (number - 1).to_string()})];
            let name = number.to_string();
            let spec = json!({"weighted": {"services": before}});
            objects.push(object("traefik.io", "TraefikService", "shop", &name, &spec));
            let spec = json!({"routes": [{"services": before}]});
            objects.push(object("traefik.io", "IngressRoute", "shop", &name, &spec));
        }
        assert_eq!(found(&services, &objects).len(), MAX_SERVICES * (1 + MAX_EXPOSURES));
        assert_eq!(found(&services[..1], &objects[..3]).len(), 2);
    }
}
