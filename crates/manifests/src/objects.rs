//! The Kubernetes objects of documents.

use serde_json::Value;

use adieu_core::{api::GROUP, owners::controller_of_value, plan::Kind};

/// One object: a document, or an item of a list.
#[derive(Clone, Debug)]
pub(super) struct Object<'a> {
    /// Its path in the document, such as `items`, `0`.
    pub(super) path: Vec<String>,
    pub(super) value: &'a Value,
    pub(super) api_version: &'a str,
    group: &'a str,
    version: &'a str,
    pub(super) kind: &'a str,
    /// Its namespace, if it has one.
    pub(super) namespace: Option<&'a str>,
}

impl Object<'_> {
    /// The kind of workload; `None` if it is another object.
    pub(super) fn workload(&self) -> Option<Kind> {
        Kind::from_gvk(self.group, self.version, self.kind)
    }

    /// Kind and name, for messages.
    pub(super) fn title(&self) -> String {
        let metadata = &self.value["metadata"];
        let name = ["name", "generateName"].iter().find_map(|key| metadata[*key].as_str());
        format!("{} {}", self.kind, name.unwrap_or("without a name"))
    }

    pub(super) fn api_version(&self) -> &str {
        self.api_version
    }

    pub(super) fn kind(&self) -> &str {
        self.kind
    }

    pub(super) fn group(&self) -> &str {
        self.group
    }

    pub(super) fn is_policy(&self) -> bool {
        self.group == GROUP
    }

    /// Whether another object controls it, as a Deployment controls a ReplicaSet.
    pub(super) fn is_controlled(&self) -> bool {
        controller_of_value(&self.value["metadata"]).is_some()
    }

    /// The value with kind and API version, which the items of a typed list may lack.
    pub(super) fn typed(&self) -> Value {
        let mut value = self.value.clone();
        if let Some(map) = value.as_object_mut() {
            map.insert("kind".into(), self.kind.into());
            map.insert("apiVersion".into(), self.api_version.into());
        }
        value
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.value["metadata"]["name"].as_str()
    }

    pub(super) fn is(&self, group: &str, version: &str, kind: &str) -> bool {
        (self.group, self.version, self.kind) == (group, version, kind)
    }
}

/// The objects of a document, including the items of lists, also of typed ones such as a `DeploymentList`, whose items
/// may lack a kind.
pub(super) fn objects(document: &Value) -> Vec<Object<'_>> {
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
        // An empty list. Another group may have a kind with such a name.
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
