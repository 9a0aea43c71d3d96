//! A Service as the backend of proxies and load balancers.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

use crate::{
    controllers::AWS_LOAD_BALANCER,
    data_planes::{
        BACKEND_CONFIG, BY_HINT, Classified, DataPlane, NETWORK_ENDPOINT_GROUPS, Targets, by_hint,
    },
    delay::Delay,
    exposure::Exposure,
    kinds::Role,
    object_name::ObjectName,
    objects::Objects,
    profiles::AWS_INSTANCE,
    traffic_object::TrafficObject,
    visibility::Visibility,
};

/// The annotation of a Service with the namespaces whose proxies see it (Istio).
const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// The maximum length of an annotation with a list or JSON that is read, in bytes.
const MAX_LENGTH: usize = 16 << 10;
/// How many `BackendConfig`s of a Service count.
const MAX_BACKEND_CONFIGS: usize = 100;

static NO_ANNOTATIONS: BTreeMap<String, String> = BTreeMap::new();

/// Whether the exposures of a Service depend on its annotation with this key.
#[must_use]
pub fn is_service_annotation(key: &str) -> bool {
    key == EXPORT_TO
        || key.starts_with(AWS_LOAD_BALANCER)
        || BY_HINT.iter().any(|data_plane| data_plane.reads(key) || data_plane.has_hint(key))
}

/// A Service, with the objects that refer to it.
#[derive(Debug)]
pub(crate) struct Backend<'a> {
    pub(crate) name: ObjectName,
    pub(crate) service: &'a Service,
    pub(crate) annotations: &'a BTreeMap<String, String>,
    pub(crate) objects: &'a Objects<'a>,
    /// The data plane that its annotations show.
    pub(crate) hint: Option<&'static DataPlane>,
    /// The objects that set up a load balancer for it.
    settings: Vec<&'a TrafficObject>,
    /// The bindings to it that a controller made.
    bindings: Vec<&'a TrafficObject>,
    /// The kinds and namespaces of routes of other namespaces that may lead to it.
    granted: HashSet<(&'a str, &'a str)>,
    /// The namespaces whose proxies see it.
    visibility: Visibility,
}

impl<'a> Backend<'a> {
    pub(crate) fn new(namespace: &str, service: &'a Service, objects: &'a Objects<'a>) -> Self {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let name = ObjectName::new("Service", namespace, name);
        let annotations = service.metadata.annotations.as_ref().unwrap_or(&NO_ANNOTATIONS);
        let of_role = |role: Role| objects.referring_to(&name).filter(move |object| object.kind.role == role);
        let mut settings: Vec<_> = of_role(Role::Settings).collect();
        settings.extend(backend_configs(annotations, objects));
        let bindings = of_role(Role::Binding).filter(|binding| binding.is_made_by_controller).collect();
        let granted = objects.granted_to(&name);
        let hint = by_hint(annotations.keys());
        let export = annotations.get(EXPORT_TO).filter(|text| text.len() <= MAX_LENGTH);
        let export = export.map_or("", String::as_str);
        let visibility = Visibility::read(export.split(','), namespace);
        Self { name, service, annotations, objects, hint, settings, bindings, granted, visibility }
    }

    /// The exposure of the Service through a proxy or load balancer: by `object`, or by the Service itself.
    pub(crate) fn exposure(&self, classified: Classified, object: Option<&TrafficObject>) -> Exposure {
        let Classified { data_plane, class, targets } = classified;
        let profile = match targets.or_else(|| self.targets(data_plane, object)).unwrap_or(data_plane.targets)
        {
            Targets::Pods => data_plane.pods,
            Targets::Nodes => data_plane.nodes,
        };
        // A terminating pod doesn't deregister its node.
        let delay = if *profile == AWS_INSTANCE { None } else { self.delay(data_plane, object) };
        let object = object.map_or_else(|| self.name.clone(), |object| object.name.clone());
        Exposure { profile, class, object, delay }
    }

    /// Whether a route may lead to the Service: one of its own namespace, or of one that a `ReferenceGrant` allows.
    pub(crate) fn allows(&self, route: &TrafficObject) -> bool {
        let ObjectName { kind, namespace, .. } = &route.name;
        *namespace == self.name.namespace || self.granted.contains(&(kind.as_str(), namespace.as_str()))
    }

    /// Whether proxies may lead requests to the Service by an object: one of its own namespace, or one that they see together
    /// with the Service in another namespace. Those of the Service's namespace send to it with or without the object.
    pub(crate) fn is_reached_by(&self, object: &TrafficObject) -> bool {
        let own = self.name.namespace.as_str();
        object.name.namespace == own || self.visibility.meets_outside(&object.visibility, own)
    }

    /// Whether proxies of other namespaces see the Service.
    pub(crate) fn is_exported(&self) -> bool {
        self.visibility.meets_outside(&Visibility::All, &self.name.namespace)
    }

    /// The other namespaces whose objects decide about the exposures of the Service, as far as it allows them: those of routes
    /// that may lead to it, and those of the Gateways of its routes, which are in `leading`.
    pub(crate) fn deciding_namespaces(&self, leading: Vec<&'a TrafficObject>) -> BTreeSet<&'a str> {
        let is_route = |object: &&TrafficObject| object.kind.role == Role::Route && self.allows(object);
        let routes = leading.into_iter().filter(is_route);
        let gateways = routes.flat_map(|route| &route.parents).map(|parent| parent.namespace.as_str());
        let granted = self.granted.iter().map(|(_, namespace)| *namespace);
        granted.chain(gateways).filter(|namespace| *namespace != self.name.namespace).collect()
    }

    /// The targets that objects give. The Service's own annotations take precedence.
    fn targets(&self, data_plane: &DataPlane, object: Option<&TrafficObject>) -> Option<Targets> {
        let annotated = data_plane.target_type.and_then(|key| Some(self.annotation(key, object)?.0));
        let given = annotated.and_then(Targets::read);
        let set_up = given.or_else(|| self.settings(data_plane).find_map(|settings| settings.targets));
        set_up.or_else(|| object?.targets).or_else(|| self.bound_targets(data_plane))
    }

    /// The targets that the AWS Load Balancer Controller registers for the Service in a load balancer of this kind, which
    /// shows its default.
    fn bound_targets(&self, data_plane: &DataPlane) -> Option<Targets> {
        let mut bindings = self
            .bindings
            .iter()
            .filter(|binding| binding.data_plane.is_some_and(|bound| bound.pods == data_plane.pods));
        bindings.find_map(|binding| binding.targets)
    }

    /// The delay that objects give.
    pub(crate) fn delay(&self, data_plane: &DataPlane, object: Option<&TrafficObject>) -> Option<Delay> {
        let is_true = |key: &str| self.annotation(key, object).is_some_and(|(text, _)| text == "true");
        let annotated = data_plane.delays.iter().find_map(|(key, form)| {
            let (text, object) = self.annotation(key, object)?;
            let seconds = form.read(text).filter(|_| form.enabled_by().is_none_or(is_true))?;
            Some(Delay { seconds, source: key, object: object.clone() })
        });
        let set_up = self.settings(data_plane).filter_map(|settings| Some((settings.delay?, settings)));
        annotated.or_else(|| {
            let (seconds, settings) = set_up.max_by_key(|(seconds, _)| *seconds)?;
            Some(Delay { seconds, source: settings.kind.delay, object: settings.name.clone() })
        })
    }

    /// An annotation of the Service, or else of the object that leads to it, with the object that has it.
    fn annotation<'o>(
        &'o self,
        key: &str,
        object: Option<&'o TrafficObject>,
    ) -> Option<(&'o str, &'o ObjectName)> {
        if let Some(text) = self.annotations.get(key) {
            return Some((text.as_str(), &self.name));
        }
        let object = object?;
        Some((object.annotation(key)?, &object.name))
    }

    /// The objects that set up a load balancer of this kind for the Service.
    fn settings(&self, data_plane: &DataPlane) -> impl Iterator<Item = &'a TrafficObject> {
        let settings = self.settings.iter().copied();
        settings.filter(move |object| data_plane.settings.contains(&object.kind.kind))
    }

    /// Whether a load balancer of Google sends to its pods without an Ingress or a Gateway.
    pub(crate) fn has_network_endpoint_groups(&self) -> bool {
        json(self.annotations, NETWORK_ENDPOINT_GROUPS)["exposed_ports"].is_object()
    }
}

/// The `BackendConfig`s that a Service names, for one of its ports or for all.
fn backend_configs<'a>(
    annotations: &BTreeMap<String, String>,
    objects: &'a Objects<'a>,
) -> Vec<&'a TrafficObject> {
    let named = json(annotations, BACKEND_CONFIG);
    let ports = named["ports"].as_object().into_iter().flat_map(|ports| ports.values());
    let names = [&named["default"]].into_iter().chain(ports).filter_map(Value::as_str);
    let names: BTreeSet<_> = names.take(MAX_BACKEND_CONFIGS).collect();
    names.into_iter().filter_map(|name| objects.backend_config(name)).collect()
}

/// The JSON of an annotation, `null` if it can't be read, or is too long.
fn json(annotations: &BTreeMap<String, String>, key: &str) -> Value {
    let text = annotations.get(key).filter(|text| text.len() <= MAX_LENGTH);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
