//! The proxy or load balancer of an Ingress or a Gateway, by its class.

use crate::{
    backend::Backend,
    controllers::{by_class, by_controller},
    data_planes::{Classified, DataPlane, OTHER_GATEWAY, OTHER_INGRESS, Targets},
    kinds::Role,
    object_name::ObjectName,
    objects::Objects,
    traffic_object::TrafficObject,
};

const INGRESS_CLASS: &str = "IngressClass";
const GATEWAY_CLASS: &str = "GatewayClass";

/// Of an Ingress. Without a class, its annotations and then those of the Service decide.
pub(crate) fn of_ingress(ingress: &TrafficObject, backend: &Backend<'_>) -> Classified {
    let objects = backend.objects;
    let default = || objects.default_class().map(|class| class.name.name.as_str());
    let class = ingress.class.as_deref().or_else(default);
    let data_plane = match class {
        Some(class) => of_class(INGRESS_CLASS, class, objects, &OTHER_INGRESS).or(ingress.data_plane),
        None => ingress.data_plane.or(backend.hint),
    };
    let targets = class.and_then(|class| targets_of_class(class, objects));
    let class = class.map(|class| format!("IngressClass/{class}"));
    Classified { targets, ..Classified::new(data_plane.unwrap_or(&OTHER_INGRESS), class) }
}

/// The type of targets that the parameters of an `IngressClass` set.
fn targets_of_class(name: &str, objects: &Objects<'_>) -> Option<Targets> {
    let ObjectName { kind, name, .. } = objects.class(INGRESS_CLASS, name)?.backends.first()?;
    // Both have no namespace.
    let parameters = objects.class(kind, name).filter(|found| found.kind.role == Role::ClassParameters);
    parameters?.targets
}

/// Of the Gateway of a route.
pub(crate) fn of_gateway(gateway: &ObjectName, objects: &Objects<'_>) -> Classified {
    let class = objects.gateway(gateway).and_then(|gateway| gateway.class.as_deref());
    let data_plane = class.and_then(|class| of_class(GATEWAY_CLASS, class, objects, &OTHER_GATEWAY));
    Classified::new(data_plane.unwrap_or(&OTHER_GATEWAY), class.map(|class| format!("GatewayClass/{class}")))
}

/// Of a class, by its controller, or by its usual name if it doesn't exist. `other` is that of unknown controllers.
fn of_class(
    kind: &str,
    name: &str,
    objects: &Objects<'_>,
    other: &'static DataPlane,
) -> Option<&'static DataPlane> {
    let Some(class) = objects.class(kind, name) else { return by_class(name) };
    Some(class.class.as_deref().and_then(by_controller).unwrap_or(other))
}
