//! Objects that lead requests to Services, without the fields that aren't used.

use std::{collections::BTreeMap, sync::Arc};

use adieu_core::{plan::string_map, text::truncate_bytes};
use serde_json::Value;

use crate::{
    data_planes::{ALB_OF_PODS, BY_HINT, DataPlane, LOAD_BALANCER_ATTRIBUTES, NLB_OF_PODS, Targets, by_hint},
    delay,
    kinds::{Kind, Role},
    object_name::ObjectName,
    path,
    visibility::Visibility,
};

/// The annotation with the class of an Ingress that has no `ingressClassName`.
const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";
/// The annotation of the `IngressClass` of Ingresses without a class.
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";
/// The ends of the label with which the AWS Load Balancer Controller marks its own `TargetGroupBinding` objects.
const MADE_BY_CONTROLLER: &str = ".k8s.aws/stack-name";
/// The label of `TargetGroupBinding` objects for Ingresses.
const MADE_FOR_INGRESS: &str = "ingress.k8s.aws/stack-name";
/// The kinds of parents with which a route is for a mesh (GAMMA): requests reach the pods as without it.
const MESH_PARENTS: [&str; 2] = ["Service", "ServiceEntry"];
/// The maximum length of a class in bytes, as of other names: an annotation may have any. Each exposure has a copy.
const MAX_CLASS: usize = 253;
/// References of an object, as far as they are read.
const MAX_REFERENCES: usize = 1000;
/// The approximate memory of a reference in bytes, with its entries in an index, beside three copies of its text.
const REFERENCE_SIZE: usize = 700;

/// An object of one of the [`KINDS`](crate::KINDS): where it leads to, and through what.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficObject {
    pub(crate) kind: &'static Kind,
    pub(crate) name: ObjectName,
    /// Its class, or the controller of a class.
    pub(crate) class: Option<String>,
    /// Whether it is the class of Ingresses without one.
    pub(crate) is_default: bool,
    /// The Services that it leads to, or refers to. One without a name stands for every Service of its namespace.
    pub(crate) backends: Vec<ObjectName>,
    /// The Gateways that it is attached to. Of a grant, the kinds and namespaces of the routes that it allows.
    pub(crate) parents: Vec<ObjectName>,
    /// The proxy or load balancer that its annotations or labels show.
    pub(crate) data_plane: Option<&'static DataPlane>,
    /// Whether the controller of an Ingress or a Service made it.
    pub(crate) is_made_by_controller: bool,
    pub(crate) targets: Option<Targets>,
    /// Its delay in seconds.
    pub(crate) delay: Option<i64>,
    /// The namespaces whose proxies see it.
    pub(crate) visibility: Visibility,
    /// The annotations that a load balancer reads.
    annotations: BTreeMap<String, String>,
}

impl TrafficObject {
    /// Reads an object, whose namespace may be missing in its metadata; `None` if its kind isn't one of the
    /// [`KINDS`](crate::KINDS), or if it has no name.
    #[must_use]
    pub fn read(group: &str, kind: &str, namespace: &str, object: &Value) -> Option<Self> {
        let kind = Kind::find(group, kind)?;
        let name = ObjectName::new(kind.kind, namespace, path::text(object, "metadata.name")?);
        let annotations = string_map(&object["metadata"]["annotations"]);
        let labels = string_map(&object["metadata"]["labels"]);
        let references = |path: &str, kind: &str| {
            let found = path::values(object, path).into_iter().take(MAX_REFERENCES);
            found.filter_map(|value| ObjectName::read(value, kind, namespace)).collect::<Vec<_>>()
        };
        // The references of a grant need no name.
        let kinds = |path: &str, kind: &str| {
            let found = path::values(object, path).into_iter().take(MAX_REFERENCES);
            found.filter_map(|value| ObjectName::read_kind(value, kind, namespace)).collect::<Vec<_>>()
        };
        let is_grant = kind.role == Role::Grant;
        let read = |path: &str, kind: &str| if is_grant { kinds(path, kind) } else { references(path, kind) };
        let mut backends: Vec<_> =
            kind.backends.iter().copied().flat_map(|path| read(path, "Service")).collect();
        if !kind.leads_outside() {
            backends.retain(|backend| backend.namespace == namespace);
        }
        backends.sort_unstable();
        backends.dedup();
        let mut parents = read(kind.parents, "Gateway");
        parents.retain(|parent| !MESH_PARENTS.contains(&parent.kind.as_str()));
        let class = path::text(object, kind.class).map(str::to_owned);
        let mut named_class = annotations.get(INGRESS_CLASS).cloned().or_else(|| class.clone());
        if let Some(class) = &mut named_class {
            truncate_bytes(class, MAX_CLASS);
        }
        let data_plane = match kind.role {
            Role::Ingress => by_hint(annotations.keys()),
            Role::Binding => Some(of_binding(class.as_deref(), &labels)),
            _ => None,
        };
        let export = path::values(object, kind.export).into_iter().take(MAX_REFERENCES);
        Some(Self {
            kind,
            name,
            class: named_class,
            is_default: annotations.get(DEFAULT_CLASS).is_some_and(|value| value == "true"),
            backends,
            parents,
            data_plane,
            is_made_by_controller: labels.keys().any(|key| key.ends_with(MADE_BY_CONTROLLER)),
            targets: path::text(object, kind.targets).and_then(Targets::read),
            delay: path::values(object, kind.delay).into_iter().find_map(delay::of_field),
            visibility: Visibility::read(export.filter_map(Value::as_str), namespace),
            annotations: annotations.into_iter().filter(|(key, _)| is_read(key)).collect(),
        })
    }

    /// The objects of manifests, and those of a cluster that they don't replace.
    #[must_use]
    pub fn merged(cluster: &[Arc<Self>], manifests: &[Arc<Self>]) -> Arc<[Arc<Self>]> {
        let is_replaced = |object: &Self| {
            manifests.iter().any(|new| new.name == object.name && new.kind.group == object.kind.group)
        };
        let kept = cluster.iter().filter(|object| !is_replaced(object));
        manifests.iter().chain(kept).cloned().collect()
    }

    /// The value of an annotation that a load balancer reads.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    /// The approximate memory that it takes in an index, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let of_name = |ObjectName { kind, namespace, name }: &ObjectName| {
            REFERENCE_SIZE + 3 * (kind.len() + namespace.len() + name.len())
        };
        let names = self.backends.iter().chain(&self.parents).chain([&self.name]);
        let annotations =
            self.annotations.iter().map(|(key, value)| REFERENCE_SIZE + key.len() + value.len());
        let class = self.class.as_ref().map_or(0, |class| REFERENCE_SIZE + 3 * class.len());
        names.map(of_name).chain(annotations).sum::<usize>() + class + self.visibility.size()
    }
}

/// Whether a load balancer reads the annotation with this key.
fn is_read(key: &str) -> bool {
    key == LOAD_BALANCER_ATTRIBUTES || BY_HINT.iter().any(|data_plane| data_plane.reads(key))
}

/// The load balancer of a `TargetGroupBinding`. If it is unknown, the one that needs longer.
fn of_binding(protocol: Option<&str>, labels: &BTreeMap<String, String>) -> &'static DataPlane {
    let is_application = matches!(protocol, Some("HTTP" | "HTTPS")) || labels.contains_key(MADE_FOR_INGRESS);
    if is_application { &ALB_OF_PODS } else { &NLB_OF_PODS }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::KINDS;

    #[test]
    fn a_class_has_a_maximum_length() {
        for (length, expected) in [(5, 5), (MAX_CLASS, MAX_CLASS), (200_000, MAX_CLASS)] {
            let annotations = json!({INGRESS_CLASS: "x".repeat(length)});
            let ingress = json!({"metadata": {"name": "web", "annotations": annotations}});
            let ingress = TrafficObject::read("networking.k8s.io", "Ingress", "shop", &ingress).unwrap();
            assert_eq!(ingress.class.map(|class| class.len()), Some(expected), "{length}");
        }
    }

    /// An object with this value at a path.
    fn object_with(path: &str, value: Value) -> Value {
        let add = |value: Value, step: &str| match step.strip_suffix("[]") {
            Some(key) => json!({key: [value]}),
            None => json!({step: value}),
        };
        let mut object = path.rsplit('.').fold(value, add);
        object["metadata"] = json!({"name": "slow"});
        object
    }

    #[test]
    fn only_routes_and_virtual_services_lead_to_another_namespace() {
        let mut leading = vec![];
        for kind in KINDS.iter().filter(|kind| kind.role != Role::IngressClass) {
            for path in kind.backends {
                let reference = if path.rsplit('.').next() == Some("host") {
                    json!("web.shop.svc.cluster.local")
                } else {
                    json!({"kind": "Service", "name": "web", "namespace": "shop"})
                };
                let object = object_with(path, reference);
                let backends = |namespace: &str| {
                    TrafficObject::read(kind.group, kind.kind, namespace, &object).unwrap().backends
                };
                let web = [ObjectName::new("Service", "shop", "web")];
                assert_eq!(backends("shop"), web, "{path} of {}", kind.resource);
                if !backends("hostile").is_empty() {
                    leading.push(kind.kind);
                }
            }
        }
        leading.dedup();
        assert_eq!(leading, ["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "VirtualService"]);
    }

    #[test]
    fn objects_of_manifests_replace_those_of_the_cluster() {
        let ingress = |name: &str, class: &str| {
            let object = json!({"metadata": {"name": name}, "spec": {"ingressClassName": class}});
            Arc::new(TrafficObject::read("networking.k8s.io", "Ingress", "shop", &object).unwrap())
        };
        let cluster = [ingress("web", "nginx"), ingress("api", "nginx")];
        let merged = TrafficObject::merged(&cluster, &[ingress("web", "alb"), ingress("new", "alb")]);
        let found = merged.iter().map(|object| (&*object.name.name, object.class.as_deref()));
        let found: Vec<_> = found.collect();
        assert_eq!(found, [("web", Some("alb")), ("new", Some("alb")), ("api", Some("nginx"))]);
    }
}
