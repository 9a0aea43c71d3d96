//! The Kubernetes objects of documents, and what surrounds the workloads among them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    api::{self, ClusterGracefulPolicy, GROUP, GracefulPolicy},
    plan::{self, Kind, Surroundings},
};

/// One object: a document, or an item of a list.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Object<'a> {
    /// The way to it in its document, such as `items`, `0`.
    pub(in crate::cli) path: Vec<String>,
    pub(in crate::cli) value: &'a Value,
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
    if let (Some(of_items), Some(items)) = (kind.strip_suffix("List"), value["items"].as_array()) {
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
        found.push(Object { path: path.clone(), value, group, version, kind, namespace });
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
}

/// What is wrong with an object, by field path.
#[derive(Debug)]
pub(in crate::cli) enum Finding {
    /// The API server would refuse the policy.
    Refused(api::Violation),
    /// The object can't be read and is passed over.
    PassedOver(String),
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

    /// Takes in an object that says something about workloads.
    pub(in crate::cli) fn add(&mut self, object: &Object<'_>) -> Vec<Finding> {
        let namespace = self.namespace(object.namespace).to_owned();
        if object.group == GROUP {
            return self.add_policy(object, namespace);
        }
        if object.is("", "v1", "Service") {
            match decoded::<Service>(object.value) {
                Ok(service) => self.services.entry(namespace).or_default().push(service),
                Err(error) => return vec![Finding::PassedOver(error)],
            }
        } else if object.is("", "v1", "Namespace")
            && let Some(name) = object.value["metadata"]["name"].as_str()
        {
            self.namespaces.insert(name.into(), plan::string_map(&object.value["metadata"]["labels"]));
        }
        vec![]
    }

    fn add_policy(&mut self, object: &Object<'_>, namespace: String) -> Vec<Finding> {
        let violations = api::check_policy(object.value);
        if !violations.is_empty() {
            return violations.into_iter().map(Finding::Refused).collect();
        }
        let added = if object.kind == "ClusterGracefulPolicy" {
            decoded(object.value).map(|policy| self.cluster_policies.push(policy))
        } else {
            let policies = self.policies.entry(namespace).or_default();
            decoded(object.value).map(|policy| policies.push(policy))
        };
        added.err().map(Finding::PassedOver).into_iter().collect()
    }

    /// What surrounds the workloads of a namespace.
    pub(in crate::cli) fn around(&self, namespace: &str, native_sleep: bool) -> Surroundings {
        let (holding, _) = self.cluster_policies_by_namespace(namespace);
        Surroundings {
            policies: self.policies.get(namespace).cloned().unwrap_or_default(),
            cluster_policies: holding,
            services: self.services.get(namespace).cloned().unwrap_or_default(),
            native_sleep,
            ..Surroundings::default()
        }
    }

    /// Cluster policies of which the input can't tell whether they hold for a namespace.
    pub(in crate::cli) fn undecided(&self, namespace: &str) -> Vec<String> {
        if self.namespaces.contains_key(namespace) {
            return vec![];
        }
        let (_, others) = self.cluster_policies_by_namespace(namespace);
        let names = others.iter().map(|policy| policy.name_any());
        names.map(|name| {
            format!("ClusterGracefulPolicy {name} is for namespaces with certain labels, and counts as not for {namespace}, whose labels are not in the input: add the Namespace")
        })
        .collect()
    }

    /// The cluster policies that hold for a namespace, and the others.
    fn cluster_policies_by_namespace(
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
