//! The proxy or load balancer of an Ingress or a Gateway, by its class.

use std::sync::Arc;

use crate::{
    backend::Backend,
    controllers::{by_class, by_controller},
    kinds::Role,
    object_name::ObjectName,
    traffic_object::TrafficObject,
    ways::{Classified, OTHER_GATEWAY, OTHER_INGRESS, Targets, Way, by_hint},
};

/// Of an Ingress. Without a class, its annotations and then those of the Service decide.
pub(crate) fn of_ingress(ingress: &TrafficObject, backend: &Backend<'_>) -> Classified {
    let default = || {
        let class =
            backend.objects.iter().find(|object| object.kind.role == Role::IngressClass && object.is_default);
        class.map(|class| class.name.name.as_str())
    };
    let class = ingress.class.as_deref().or_else(default);
    let way = match class {
        Some(class) => of_class(Role::IngressClass, class, backend.objects, &OTHER_INGRESS).or(ingress.way),
        None => ingress.way.or_else(|| by_hint(backend.annotations.keys())),
    };
    let targets = class.and_then(|class| targets_of_class(class, backend.objects));
    let class = class.map(|class| format!("IngressClass/{class}"));
    Classified { targets, ..Classified::new(way.unwrap_or(&OTHER_INGRESS), class) }
}

/// The type of targets that the parameters of an `IngressClass` set.
fn targets_of_class(name: &str, objects: &[Arc<TrafficObject>]) -> Option<Targets> {
    let class =
        objects.iter().find(|object| object.kind.role == Role::IngressClass && object.name.name == name)?;
    // Both have no namespace.
    let is_referenced = |parameters: &TrafficObject| {
        let ObjectName { kind, name, .. } = &parameters.name;
        class.backends.iter().any(|reference| reference.kind == *kind && reference.name == *name)
    };
    let mut parameters = objects.iter().filter(|object| object.kind.role == Role::ClassParameters);
    parameters.find(|object| is_referenced(object))?.targets
}

/// Of the Gateway of a route.
pub(crate) fn of_gateway(gateway: &ObjectName, objects: &[Arc<TrafficObject>]) -> Classified {
    let found = objects.iter().find(|object| object.name == *gateway);
    let class = found.and_then(|gateway| gateway.class.as_deref());
    let way = class.and_then(|class| of_class(Role::GatewayClass, class, objects, &OTHER_GATEWAY));
    Classified::new(way.unwrap_or(&OTHER_GATEWAY), class.map(|class| format!("GatewayClass/{class}")))
}

/// Of a class, by its controller, or by its usual name if it doesn't exist. `other` is that of unknown controllers.
fn of_class(
    role: Role,
    name: &str,
    objects: &[Arc<TrafficObject>],
    other: &'static Way,
) -> Option<&'static Way> {
    let class = objects.iter().find(|object| object.kind.role == role && object.name.name == name);
    let Some(class) = class else { return by_class(name) };
    Some(class.class.as_deref().and_then(by_controller).unwrap_or(other))
}
