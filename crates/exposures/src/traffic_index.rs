//! The traffic objects of a cluster, by the objects that they refer to.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ptr,
    sync::Arc,
};

use crate::{
    kinds::{Kind, Role},
    object_name::ObjectName,
    traffic_object::TrafficObject,
};

const SERVICE: &str = "Service";
/// The kinds that routes, Ingresses, Gateways and classes refer to, beside Services.
const CLASSES: [&str; 4] = ["Gateway", "IngressClass", "GatewayClass", "IngressClassParams"];

/// How many names are followed from a changed object that isn't a Gateway or a class. One with more affects every Service of
/// its namespace instead of those that are left: to find them with every change would take too long.
const MAX_FOLLOWED: usize = 5000;

/// A Service whose exposures may have changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AffectedService {
    /// Its namespace.
    pub namespace: String,
    /// Its name; `None` stands for every Service of the namespace.
    pub name: Option<String>,
}

/// The traffic objects of a cluster. Those that lead to a Service are found without the others, and a change of an object
/// tells the Services that it affects.
#[derive(Debug, Default)]
pub struct TrafficIndex {
    /// Those of one name differ by their group.
    objects: HashMap<ObjectName, Vec<Arc<TrafficObject>>>,
    /// The names of the objects that refer to one of this name.
    referring: HashMap<ObjectName, HashSet<ObjectName>>,
}

impl TrafficIndex {
    /// Adds or replaces an object. Returns the Services that the change affects.
    pub fn insert(&mut self, object: TrafficObject) -> BTreeSet<AffectedService> {
        let (kind, name) = (object.kind, object.name.clone());
        if self.find(kind, &name).is_some_and(|known| *known == object) {
            return BTreeSet::new();
        }
        self.replace(kind, &name, Some(object))
    }

    /// Removes an object. Returns the Services that the change affects.
    pub fn remove(&mut self, kind: &'static Kind, namespace: &str, name: &str) -> BTreeSet<AffectedService> {
        self.replace(kind, &ObjectName::new(kind.kind, namespace, name), None)
    }

    /// The names of the objects of a kind.
    pub fn names(&self, kind: &'static Kind) -> impl Iterator<Item = &ObjectName> {
        let of_kind = self.objects.values().flatten().filter(move |object| ptr::eq(object.kind, kind));
        of_kind.map(|object| &object.name)
    }

    /// The namespaces with Services about which objects of these namespaces may decide: these, those whose routes have a Gateway
    /// in one of them, and those that allow routes of all these.
    #[must_use]
    pub fn decided_by<'a>(&'a self, mut namespaces: BTreeSet<&'a str>) -> BTreeSet<&'a str> {
        for role in [Role::Route, Role::Grant] {
            let of_role = self.objects.values().flatten().filter(|object| object.kind.role == role);
            let has_parent = |object: &&Arc<TrafficObject>| {
                object.parents.iter().any(|parent| namespaces.contains(parent.namespace.as_str()))
            };
            let decided = of_role.filter(has_parent).map(|object| object.name.namespace.as_str());
            let decided: Vec<_> = decided.collect();
            namespaces.extend(decided);
        }
        namespaces
    }

    /// The objects on which the exposures of these Services of a namespace depend.
    #[must_use]
    pub fn leading_to<'a>(
        &self,
        namespace: &str,
        services: impl IntoIterator<Item = &'a str>,
    ) -> Vec<Arc<TrafficObject>> {
        let services = services.into_iter().map(|name| ObjectName::new(SERVICE, namespace, name));
        let mut targets: Vec<_> = services.chain([every_service(namespace)]).collect();
        let (mut seen, mut done, mut found) = (HashSet::new(), HashSet::new(), vec![]);
        while let Some(target) = targets.pop() {
            // Thousands of routes may need the same one.
            if !done.insert(target.clone()) {
                continue;
            }
            let names = if is_class(&target) { vec![target] } else { self.referring_to(&target) };
            for name in names {
                if !seen.insert(name.clone()) {
                    continue;
                }
                for object in self.objects.get(&name).into_iter().flatten() {
                    targets.extend(self.needed_by(object));
                    found.push(object.clone());
                }
            }
        }
        found
    }

    /// The names under which the objects are found that also decide about the exposure of an object that leads to a Service.
    fn needed_by(&self, object: &TrafficObject) -> Vec<ObjectName> {
        match object.kind.role {
            Role::Intermediate => vec![object.name.clone()],
            // A parent of another kind is no Gateway.
            Role::Route => object.parents.iter().filter(|parent| is_class(parent)).cloned().collect(),
            Role::Ingress if object.class.is_none() => self.referring_to(&default_class()),
            Role::Ingress | Role::Gateway => class_of(object).into_iter().collect(),
            Role::IngressClass => object.backends.clone(),
            _ => vec![],
        }
    }

    /// The Services that the objects of a name affect, also through others.
    fn affected_by(&self, changed: &ObjectName) -> BTreeSet<AffectedService> {
        let (mut affected, mut seen, mut next) = (BTreeSet::new(), HashSet::new(), vec![changed.clone()]);
        let mut left = if is_class(changed) { usize::MAX } else { MAX_FOLLOWED };
        while let Some(name) = next.pop() {
            if left == 0 {
                affected.insert(AffectedService { namespace: changed.namespace.clone(), name: None });
                break;
            }
            left -= 1;
            if name.kind == SERVICE {
                let ObjectName { namespace, name, .. } = name;
                affected
                    .insert(AffectedService { namespace, name: Some(name).filter(|name| !name.is_empty()) });
            } else if seen.insert(name.clone()) {
                let objects = self.objects.get(&name).into_iter().flatten();
                next.extend(objects.flat_map(|object| self.depending_on(object)));
            }
        }
        affected
    }

    /// What depends on an object: the Services that it leads to, the routes of a Gateway, and the Ingresses or Gateways of a
    /// class.
    fn depending_on(&self, object: &TrafficObject) -> Vec<ObjectName> {
        match object.kind.role {
            Role::IngressClass if object.is_default => {
                let classless = ObjectName::new(&object.name.kind, "", "");
                [self.referring_to(&object.name), self.referring_to(&classless)].concat()
            }
            Role::Gateway | Role::GatewayClass | Role::IngressClass | Role::ClassParameters => {
                self.referring_to(&object.name)
            }
            _ if is_named_by_services(object) => vec![every_service(&object.name.namespace)],
            // A route that names a Gateway or a class in place of a Service doesn't affect others.
            _ => object.backends.iter().filter(|backend| !is_class(backend)).cloned().collect(),
        }
    }

    /// The names of the objects that refer to one of this name, in order.
    fn referring_to(&self, name: &ObjectName) -> Vec<ObjectName> {
        let mut names: Vec<_> = self.referring.get(name).into_iter().flatten().cloned().collect();
        names.sort_unstable();
        names
    }

    fn find(&self, kind: &Kind, name: &ObjectName) -> Option<&TrafficObject> {
        let of_name = self.objects.get(name)?;
        of_name.iter().map(Arc::as_ref).find(|object| object.kind.group == kind.group)
    }

    /// Replaces the object of a kind and name.
    fn replace(
        &mut self,
        kind: &Kind,
        name: &ObjectName,
        object: Option<TrafficObject>,
    ) -> BTreeSet<AffectedService> {
        if object.is_none() && self.find(kind, name).is_none() {
            return BTreeSet::new();
        }
        let mut affected = self.affected_by(name);
        let mut of_name = self.objects.remove(name).unwrap_or_default();
        for reference in of_name.iter().flat_map(|object| references(object)) {
            if let Some(names) = self.referring.get_mut(&reference) {
                names.remove(name);
                if names.is_empty() {
                    self.referring.remove(&reference);
                }
            }
        }
        of_name.retain(|object| object.kind.group != kind.group);
        of_name.extend(object.map(Arc::new));
        for reference in of_name.iter().flat_map(|object| references(object)) {
            self.referring.entry(reference).or_default().insert(name.clone());
        }
        if !of_name.is_empty() {
            self.objects.insert(name.clone(), of_name);
        }
        affected.extend(self.affected_by(name));
        affected
    }
}

/// Whether objects of this kind are found by their own name.
fn is_class(name: &ObjectName) -> bool {
    CLASSES.contains(&name.kind.as_str())
}

/// Stands for every Service of a namespace. No object has an empty name.
fn every_service(namespace: &str) -> ObjectName {
    ObjectName::new(SERVICE, namespace, "")
}

/// The default classes of Ingresses refer to this.
fn default_class() -> ObjectName {
    ObjectName::new("default IngressClass", "", "")
}

/// Whether Services name the object, and it doesn't name them.
fn is_named_by_services(object: &TrafficObject) -> bool {
    object.kind.role == Role::Settings && object.kind.backends.is_empty()
}

/// The class of an Ingress or a Gateway; of an Ingress without a class, one with an empty name.
fn class_of(object: &TrafficObject) -> Option<ObjectName> {
    match object.kind.role {
        Role::Ingress => {
            Some(ObjectName::new("IngressClass", "", object.class.as_deref().unwrap_or_default()))
        }
        Role::Gateway => Some(ObjectName::new("GatewayClass", "", object.class.as_deref()?)),
        _ => None,
    }
}

/// What an object refers to, or what stands for it.
fn references(object: &TrafficObject) -> Vec<ObjectName> {
    let mut references = [&object.backends[..], &object.parents[..]].concat();
    references.extend(class_of(object));
    if object.is_default && object.kind.role == Role::IngressClass {
        references.push(default_class());
    }
    if is_named_by_services(object) {
        references.push(every_service(&object.name.namespace));
    }
    references
}

#[cfg(test)]
#[path = "traffic_index_tests.rs"]
mod tests;
