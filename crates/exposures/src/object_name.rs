//! The names of objects, and references to them.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;
use serde_json::Value;

/// The kind, namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectName {
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty if it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectName {
    /// The name of an object.
    #[must_use]
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Whether it is the object of this name, or one of its kind and namespace if that has none.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        *self == *other
            || other.name.is_empty() && (&self.kind, &self.namespace) == (&other.kind, &other.namespace)
    }

    /// Reads a reference: an object with `name`, and perhaps `kind` and `namespace`, or the host of a Service, such as `web` or
    /// `web.shop.svc.cluster.local`. What it omits is taken from the arguments.
    pub(crate) fn read(reference: &Value, kind: &str, namespace: &str) -> Option<Self> {
        if let Some(host) = reference.as_str() {
            let mut labels = host.split('.');
            let name = labels.next().filter(|name| !name.is_empty())?;
            // Istio completes only hosts without a dot. Others may be outside of the cluster.
            let namespace = match (labels.next(), labels.next()) {
                (None, _) => namespace,
                (Some(namespace), Some("svc")) => namespace,
                _ => return None,
            };
            return Some(Self::new(kind, namespace, name));
        }
        Self::read_kind(reference, kind, namespace).filter(|read| !read.name.is_empty())
    }

    /// Reads a reference to the objects of a kind and namespace, or to the one that it names.
    pub(crate) fn read_kind(reference: &Value, kind: &str, namespace: &str) -> Option<Self> {
        let reference = reference.as_object()?;
        let text = |key: &str| reference.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (kind, namespace) = (text("kind").unwrap_or(kind), text("namespace").unwrap_or(namespace));
        Some(Self::new(kind, namespace, text("name").unwrap_or_default()))
    }
}

impl Display for ObjectName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        if namespace.is_empty() { write!(f, "{kind} {name}") } else { write!(f, "{kind} {namespace}/{name}") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reference_without_a_name_is_to_every_object_of_its_kind_and_namespace() {
        let read = |reference| ObjectName::read_kind(&reference, "Service", "shop");
        let all = read(json!({"group": "", "kind": "Service"})).unwrap();
        let web = ObjectName::new("Service", "shop", "web");
        assert!(web.is_of(&all) && web.is_of(&web) && !all.is_of(&web));
        for other in [json!({"kind": "Secret"}), json!({"namespace": "edge"}), json!({"name": "api"})] {
            assert!(!web.is_of(&read(other.clone()).unwrap()), "{other}");
        }
        assert_eq!(read(json!("web")), None);
    }

    #[test]
    fn references_are_read_with_the_defaults_of_their_object() {
        for (reference, expected) in [
            (json!({"name": "web"}), Some("Service shop/web")),
            (json!({"name": "web", "namespace": "front", "port": 80}), Some("Service front/web")),
            (json!({"kind": "TraefikService", "name": "web"}), Some("TraefikService shop/web")),
            (json!("web"), Some("Service shop/web")),
            (json!("web.front.svc.cluster.local"), Some("Service front/web")),
            (json!("web.front"), None),
            (json!("web.front.example.com"), None),
            (json!({"name": ""}), None),
            (json!({}), None),
            (json!(""), None),
            (json!(null), None),
        ] {
            let read = ObjectName::read(&reference, "Service", "shop").map(|name| name.to_string());
            assert_eq!(read.as_deref(), expected, "{reference}");
        }
        assert_eq!(ObjectName::new("IngressClass", "", "nginx").to_string(), "IngressClass nginx");
    }
}
