//! The Kubernetes objects of documents, and what surrounds the workloads among them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::document::Place;
use crate::{
    api::{self, ClusterGracefulPolicy, GROUP, GracefulPolicy},
    plan::{self, Kind, NamespaceContext},
};

/// One object: a document, or an item of a list.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Object<'a> {
    /// The way to it in its document, such as `items`, `0`.
    pub(in crate::cli) path: Vec<String>,
    pub(in crate::cli) value: &'a Value,
    api_version: &'a str,
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    /// Its namespace, if it names one.
    pub(in crate::cli) namespace: Option<&'a str>,
}

impl Object<'_> {
    /// The kind of workload it is, if it is one.
    pub(in crate::cli) fn workload(&self) -> Option<Kind> {
        Kind::from_gvk(self.group, self.version, self.kind)
    }

    /// Kind and name, for people.
    pub(in crate::cli) fn title(&self) -> String {
        let metadata = &self.value["metadata"];
        let name = ["name", "generateName"].iter().find_map(|key| metadata[*key].as_str());
        format!("{} {}", self.kind, name.unwrap_or("without a name"))
    }

    pub(in crate::cli) fn api_version(&self) -> &str {
        self.api_version
    }

    pub(in crate::cli) fn kind(&self) -> &str {
        self.kind
    }

    pub(in crate::cli) fn is_policy(&self) -> bool {
        self.group == GROUP
    }

    /// Whether another object's controller made it, as a ReplicaSet is made from a Deployment.
    pub(in crate::cli) fn is_controlled(&self) -> bool {
        let owners = self.value["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        owners.into_iter().any(|owner| owner["controller"] == true)
    }

    /// Its value with kind and API version, which the item of a typed list may lack.
    fn typed(&self) -> Value {
        let mut value = self.value.clone();
        if let Some(map) = value.as_object_mut() {
            map.insert("kind".into(), self.kind.into());
            map.insert("apiVersion".into(), self.api_version.into());
        }
        value
    }

    fn name(&self) -> Option<&str> {
        self.value["metadata"]["name"].as_str()
    }

    fn is(&self, group: &str, version: &str, kind: &str) -> bool {
        (self.group, self.version, self.kind) == (group, version, kind)
    }
}

/// The objects of a document; the items of lists, also of typed ones such as a `DeploymentList`, whose
/// items need not say their kind.
pub(in crate::cli) fn objects(document: &Value) -> Vec<Object<'_>> {
    let mut found = Vec::new();
    collect(document, &mut Vec::new(), ("", ""), &mut found);
    found
}

fn collect<'a>(
    value: &'a Value,
    path: &mut Vec<String>,
    (of_list, version_of_list): (&'a str, &'a str),
    found: &mut Vec<Object<'a>>,
) {
    let text = |key: &str| value[key].as_str().filter(|text| !text.is_empty());
    let kind = text("kind").unwrap_or(of_list);
    let api_version = text("apiVersion").unwrap_or(version_of_list);
    let own = api_version.split_once('/').is_some_and(|(group, _)| group == GROUP);
    let items = match &value["items"] {
        Value::Array(items) => Some(items.as_slice()),
        // A list of nothing. Another group may have a kind that is called so.
        Value::Null if kind == "List" || own => Some(&[][..]),
        _ => None,
    };
    if let (Some(of_items), Some(items)) = (kind.strip_suffix("List"), items) {
        path.push("items".into());
        for (index, item) in items.iter().enumerate() {
            path.push(index.to_string());
            collect(item, path, (of_items, api_version), found);
            path.pop();
        }
        path.pop();
    } else if !kind.is_empty() {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let namespace = value["metadata"]["namespace"].as_str().filter(|text| !text.is_empty());
        found.push(Object { path: path.clone(), value, api_version, group, version, kind, namespace });
    }
}

/// The policies, Services and namespaces of all documents, whatever their order.
#[derive(Debug, Default)]
pub(in crate::cli) struct World {
    /// Where objects are that name no namespace.
    default_namespace: String,
    policies: BTreeMap<String, Vec<Arc<GracefulPolicy>>>,
    cluster_policies: Vec<Arc<ClusterGracefulPolicy>>,
    services: BTreeMap<String, Vec<Arc<Service>>>,
    namespaces: HashMap<String, BTreeMap<String, String>>,
    /// Where policies stand, by kind, namespace and name.
    places: HashMap<(String, String, String), Place>,
}

/// What is wrong with an object, by field path.
#[derive(Debug)]
pub(in crate::cli) enum Finding {
    /// The API server would refuse the policy.
    Refused(api::Violation),
    /// The object can't be read and is passed over.
    PassedOver(String),
    /// The input has the object already, with other values. The last one counts, as with `kubectl apply`.
    Redefined,
}

impl World {
    /// A world without objects.
    pub(in crate::cli) fn new(default_namespace: &str) -> Self {
        Self { default_namespace: default_namespace.into(), ..Self::default() }
    }

    /// The namespace that is meant where an object names this one or none.
    pub(in crate::cli) fn namespace<'a>(&'a self, named: Option<&'a str>) -> &'a str {
        named.unwrap_or(&self.default_namespace)
    }

    /// Takes in an object that says something about workloads. It stands at `place`.
    pub(in crate::cli) fn add(&mut self, object: &Object<'_>, place: &Place) -> Vec<Finding> {
        let namespace = self.namespace(object.namespace).to_owned();
        if object.is_policy() {
            return self.add_policy(object, namespace, place);
        }
        let mut redefined = false;
        if object.is("", "v1", "Service") {
            match decoded::<Service>(object.value) {
                Ok(service) => {
                    let services = self.services.entry(namespace).or_default();
                    redefined = put(services, service, |a, b| a.spec == b.spec);
                }
                Err(error) => return vec![Finding::PassedOver(error)],
            }
        } else if object.is("", "v1", "Namespace")
            && let Some(name) = object.name()
        {
            let labels = plan::string_map(&object.value["metadata"]["labels"]);
            let before = self.namespaces.insert(name.into(), labels.clone());
            redefined = before.is_some_and(|before| before != labels);
        }
        redefined.then_some(Finding::Redefined).into_iter().collect()
    }

    fn add_policy(&mut self, object: &Object<'_>, namespace: String, place: &Place) -> Vec<Finding> {
        let typed = object.typed();
        let violations = api::check_policy(&typed);
        if !violations.is_empty() {
            return violations.into_iter().map(Finding::Refused).collect();
        }
        let (cluster, policy) = (object.kind == "ClusterGracefulPolicy", &api::as_stored(&typed));
        if let Some(name) = object.name() {
            let of = if cluster { String::new() } else { namespace.clone() };
            self.places.insert((object.kind.into(), of, name.into()), place.clone());
        }
        let redefined = if cluster {
            decoded(policy).map(|policy| put(&mut self.cluster_policies, policy, |a, b| a.spec == b.spec))
        } else {
            let policies = self.policies.entry(namespace).or_default();
            decoded(policy).map(|policy| put(policies, policy, |a, b| a.spec == b.spec))
        };
        match redefined {
            Ok(redefined) => redefined.then_some(Finding::Redefined).into_iter().collect(),
            Err(error) => vec![Finding::PassedOver(error)],
        }
    }

    /// The policies, each with its namespace.
    pub(super) fn policies(&self) -> impl Iterator<Item = (&str, &GracefulPolicy)> {
        self.policies.iter().flat_map(|(namespace, of)| of.iter().map(|policy| (&**namespace, &**policy)))
    }

    pub(super) fn cluster_policies(&self) -> impl Iterator<Item = &ClusterGracefulPolicy> {
        self.cluster_policies.iter().map(AsRef::as_ref)
    }

    /// Where a policy stands; `None` where it has no name.
    pub(super) fn place(&self, kind: &str, namespace: &str, name: &str) -> Option<&Place> {
        self.places.get(&(kind.to_owned(), namespace.to_owned(), name.to_owned()))
    }

    /// What surrounds the workloads of a namespace.
    pub(in crate::cli) fn around(&self, namespace: &str, native_sleep: bool) -> NamespaceContext {
        let (holding, _) = self.cluster_policies_by_namespace(namespace);
        NamespaceContext {
            policies: self.policies.get(namespace).cloned().unwrap_or_default(),
            cluster_policies: holding,
            services: self.services.get(namespace).cloned().unwrap_or_default(),
            native_sleep,
            ..NamespaceContext::default()
        }
    }

    /// The names of the cluster policies of which the input can't tell whether they hold for a namespace.
    pub(in crate::cli) fn undecided(&self, namespace: &str) -> Vec<String> {
        if self.namespaces.contains_key(namespace) {
            return vec![];
        }
        let (_, others) = self.cluster_policies_by_namespace(namespace);
        others.iter().map(|policy| policy.name_any()).collect()
    }

    /// The cluster policies that hold for a namespace, and the others.
    pub(super) fn cluster_policies_by_namespace(
        &self,
        namespace: &str,
    ) -> (Vec<Arc<ClusterGracefulPolicy>>, Vec<Arc<ClusterGracefulPolicy>>) {
        // The API server gives every namespace this label.
        let mut labels = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())]);
        labels.extend(self.namespaces.get(namespace).cloned().unwrap_or_default());
        self.cluster_policies.iter().cloned().partition(|policy| {
            let selector = policy.spec.namespace_selector.as_ref();
            selector.is_none_or(|selector| plan::matches(selector, &labels))
        })
    }
}

/// Adds an object, in the place of one with its name. Whether that one was another.
fn put<T: kube::Resource>(objects: &mut Vec<Arc<T>>, new: Arc<T>, same: fn(&T, &T) -> bool) -> bool {
    let name = new.meta().name.as_ref();
    if let Some(old) = objects.iter_mut().find(|old| name.is_some() && old.meta().name.as_ref() == name) {
        let redefined = !same(old, &new);
        *old = new;
        return redefined;
    }
    objects.push(new);
    false
}

fn decoded<T: DeserializeOwned>(value: &Value) -> Result<Arc<T>, String> {
    T::deserialize(value).map(Arc::new).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_items_of_lists_are_objects() {
        let list = json!({"kind": "List", "apiVersion": "v1", "items": [
            {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "a", "namespace": "shop"}},
            {"kind": "DeploymentList", "apiVersion": "apps/v1", "items": [{"metadata": {"name": "b"}}]},
            {"no": "kind"},
            {"kind": "Deployment", "apiVersion": "extensions/v1beta1"},
        ]});
        let found: Vec<_> = objects(&list)
            .into_iter()
            .map(|o| (o.path.join("."), o.title(), o.namespace, o.workload()))
            .collect();
        let deployment = Some(Kind::Deployment);
        let row =
            |path: &str, title: &str, namespace, kind| (path.to_owned(), title.to_owned(), namespace, kind);
        assert_eq!(
            found,
            [
                row("items.0", "Deployment a", Some("shop"), deployment),
                row("items.1.items.0", "Deployment b", None, deployment),
                row("items.3", "Deployment without a name", None, None),
            ]
        );
        assert!(objects(&json!("text")).is_empty());
        assert!(objects(&json!({"values": 1})).is_empty());
    }
}
