//! The traffic objects that decide about the exposures of the Services of a namespace, found by their names and by what they
//! refer to: to look at every object for each exposure would take too long with thousands of both.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{kinds::Role, object_name::ObjectName, traffic_object::TrafficObject};

/// Traffic objects. Of several with one name, the first counts.
#[derive(Debug, Default)]
pub(crate) struct Objects<'a> {
    referring: HashMap<&'a ObjectName, Vec<&'a TrafficObject>>,
    gateways: HashMap<&'a ObjectName, &'a TrafficObject>,
    /// The classes and their parameters by kind and name. They have no namespace.
    classes: HashMap<(&'a str, &'a str), &'a TrafficObject>,
    default_class: Option<&'a TrafficObject>,
    backend_configs: HashMap<&'a str, &'a TrafficObject>,
    /// The grants of the namespace.
    grants: Vec<&'a TrafficObject>,
}

impl<'a> Objects<'a> {
    /// The objects that matter to the Services of a namespace.
    pub(crate) fn new(namespace: &str, objects: &'a [Arc<TrafficObject>]) -> Self {
        let mut found = Self::default();
        for object in objects.iter().map(Arc::as_ref) {
            let name = &object.name;
            match object.kind.role {
                Role::Gateway => {
                    found.gateways.entry(name).or_insert(object);
                }
                Role::IngressClass | Role::GatewayClass | Role::ClassParameters => {
                    found.classes.entry((name.kind.as_str(), name.name.as_str())).or_insert(object);
                    if object.kind.role == Role::IngressClass && object.is_default {
                        found.default_class.get_or_insert(object);
                    }
                }
                Role::Grant if name.namespace == namespace => found.grants.push(object),
                Role::Grant => {}
                _ => found.add_references(namespace, object),
            }
        }
        found
    }

    /// Adds an object by those of its references that may lead to a Service of the namespace.
    fn add_references(&mut self, namespace: &str, object: &'a TrafficObject) {
        if object.kind.kind == "BackendConfig" && object.name.namespace == namespace {
            self.backend_configs.entry(object.name.name.as_str()).or_insert(object);
        }
        let may_lead = |backend: &&ObjectName| backend.namespace == namespace || backend.kind != "Service";
        for backend in object.backends.iter().filter(may_lead) {
            self.referring.entry(backend).or_default().push(object);
        }
    }

    /// The objects that lead to the object of this name, or refer to it, without classes and grants.
    pub(crate) fn referring_to(&self, name: &ObjectName) -> impl Iterator<Item = &'a TrafficObject> {
        self.referring.get(name).into_iter().flatten().copied()
    }

    /// The Gateway of this name.
    pub(crate) fn gateway(&self, name: &ObjectName) -> Option<&'a TrafficObject> {
        self.gateways.get(name).copied()
    }

    /// The class, or the parameters of one, of this kind and name.
    pub(crate) fn class(&self, kind: &str, name: &str) -> Option<&'a TrafficObject> {
        self.classes.get(&(kind, name)).copied()
    }

    /// The class of Ingresses without one.
    pub(crate) fn default_class(&self) -> Option<&'a TrafficObject> {
        self.default_class
    }

    /// The `BackendConfig` of this name.
    pub(crate) fn backend_config(&self, name: &str) -> Option<&'a TrafficObject> {
        self.backend_configs.get(name).copied()
    }

    /// The kinds and namespaces of routes that grants of the namespace allow to lead to a Service.
    pub(crate) fn granted_to(&self, service: &ObjectName) -> HashSet<(&'a str, &'a str)> {
        let of_service =
            self.grants.iter().copied().filter(|grant| grant.backends.iter().any(|to| service.is_of(to)));
        let granted = of_service.flat_map(|grant| &grant.parents);
        granted.map(|from| (from.kind.as_str(), from.namespace.as_str())).collect()
    }
}
