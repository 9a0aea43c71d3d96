//! A Service as the backend of proxies and load balancers.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

use crate::{
    controllers::AWS_LOAD_BALANCER,
    delay::Delay,
    exposure::Exposure,
    kinds::Role,
    object_name::ObjectName,
    profiles::AWS_INSTANCE,
    traffic_object::TrafficObject,
    ways::{BACKEND_CONFIG, BY_HINT, Classified, NETWORK_ENDPOINT_GROUPS, Targets, Way},
};

static NO_ANNOTATIONS: BTreeMap<String, String> = BTreeMap::new();

/// Whether the exposures of a Service depend on its annotation with this key.
#[must_use]
pub fn is_service_annotation(key: &str) -> bool {
    key.starts_with(AWS_LOAD_BALANCER) || BY_HINT.iter().any(|way| way.reads(key) || way.has_hint(key))
}

/// A Service, with the objects that refer to it.
#[derive(Debug)]
pub(crate) struct Backend<'a> {
    pub(crate) name: ObjectName,
    pub(crate) service: &'a Service,
    pub(crate) annotations: &'a BTreeMap<String, String>,
    pub(crate) objects: &'a [Arc<TrafficObject>],
}

impl<'a> Backend<'a> {
    pub(crate) fn new(namespace: &str, service: &'a Service, objects: &'a [Arc<TrafficObject>]) -> Self {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        Self {
            name: ObjectName::new("Service", namespace, name),
            service,
            annotations: service.metadata.annotations.as_ref().unwrap_or(&NO_ANNOTATIONS),
            objects,
        }
    }

    /// The exposure of the Service through a proxy or load balancer: by `object`, or by the Service itself.
    pub(crate) fn exposure(&self, classified: Classified, object: Option<&TrafficObject>) -> Exposure {
        let Classified { way, class, targets } = classified;
        let profile = match targets.or_else(|| self.targets(way, object)).unwrap_or(way.targets) {
            Targets::Pods => way.pods,
            Targets::Nodes => way.nodes,
        };
        // A terminating pod doesn't deregister its node.
        let delay = if *profile == AWS_INSTANCE { None } else { self.delay(way, object) };
        let object = object.map_or_else(|| self.name.clone(), |object| object.name.clone());
        Exposure { profile, class, object, delay }
    }

    /// Whether a route may lead to the Service: one of its own namespace, or of one that a `ReferenceGrant` allows.
    pub(crate) fn allows(&self, route: &TrafficObject) -> bool {
        let grants = |object: &TrafficObject| {
            let is_granted =
                |from: &ObjectName| from.kind == route.kind.kind && from.namespace == route.name.namespace;
            object.kind.role == Role::Grant
                && object.name.namespace == self.name.namespace
                && object.parents.iter().any(is_granted)
                && object.backends.iter().any(|to| self.name.is_of(to))
        };
        route.name.namespace == self.name.namespace || self.objects.iter().any(|object| grants(object))
    }

    /// The targets that objects give. The Service's own annotations take precedence.
    fn targets(&self, way: &Way, object: Option<&TrafficObject>) -> Option<Targets> {
        let annotated = way.target_type.and_then(|key| Some(self.annotation(key, object)?.0));
        let given = annotated.and_then(Targets::read);
        let set_up = given.or_else(|| self.settings(way).find_map(|settings| settings.targets));
        set_up.or_else(|| object?.targets).or_else(|| self.bound_targets(way))
    }

    /// The targets that the AWS Load Balancer Controller registers for the Service in a load balancer of this kind, which
    /// shows its default.
    fn bound_targets(&self, way: &Way) -> Option<Targets> {
        let mut bindings = self.objects.iter().filter(|object| {
            object.kind.role == Role::Binding
                && object.is_made_by_controller
                && object.way.is_some_and(|bound| bound.pods == way.pods)
                && object.leads_to(&self.name)
        });
        bindings.find_map(|binding| binding.targets)
    }

    /// The delay that objects give.
    pub(crate) fn delay(&self, way: &Way, object: Option<&TrafficObject>) -> Option<Delay> {
        let is_true = |key: &str| self.annotation(key, object).is_some_and(|(text, _)| text == "true");
        let annotated = way.delays.iter().find_map(|(key, form)| {
            let (text, object) = self.annotation(key, object)?;
            let seconds = form.read(text).filter(|_| form.enabled_by().is_none_or(is_true))?;
            Some(Delay { seconds, source: key, object: object.clone() })
        });
        let set_up = self.settings(way).filter_map(|settings| {
            Some(Delay {
                seconds: settings.delay?,
                source: settings.kind.delay,
                object: settings.name.clone(),
            })
        });
        annotated.or_else(|| set_up.max_by_key(|delay| delay.seconds))
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

    /// The objects that set up a load balancer for the Service.
    fn settings(&self, way: &Way) -> impl Iterator<Item = &'a TrafficObject> {
        let objects = self.objects.iter().map(Arc::as_ref);
        objects.filter(move |object| {
            object.kind.role == Role::Settings
                && way.settings.contains(&object.kind.kind)
                && (object.leads_to(&self.name) || self.names_backend_config(object))
        })
    }

    /// Whether the Service names this `BackendConfig`, for one of its ports or for all.
    fn names_backend_config(&self, object: &TrafficObject) -> bool {
        let ObjectName { kind, namespace, name } = &object.name;
        if kind != "BackendConfig" || *namespace != self.name.namespace {
            return false;
        }
        let named = self.json(BACKEND_CONFIG);
        let ports = named["ports"].as_object().into_iter().flat_map(|ports| ports.values());
        ports.chain([&named["default"]]).any(|named| named == name)
    }

    /// Whether a load balancer of Google sends to its pods without an Ingress or a Gateway.
    pub(crate) fn has_network_endpoint_groups(&self) -> bool {
        self.json(NETWORK_ENDPOINT_GROUPS)["exposed_ports"].is_object()
    }

    /// The JSON of an annotation, `null` if it can't be read.
    fn json(&self, key: &str) -> Value {
        let text = self.annotations.get(key);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}
