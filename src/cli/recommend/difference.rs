//! How the recommended policies differ from those in the cluster.

use std::{collections::BTreeMap, fmt::Write as _};

use adieu_recommend::Recommended;
use kube::core::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};

use super::fleet::Fleet;
use crate::cli::manifests::escaped;

/// A policy that differs.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Difference {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
    change: PolicyChange,
    /// The fields that differ.
    fields: Vec<FieldDifference>,
}

/// What happens to a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum PolicyChange {
    Create,
    Update,
    /// It is from an earlier recommendation, and no longer needed.
    Delete,
}

/// A field that differs.
#[derive(Debug, PartialEq, Serialize)]
struct FieldDifference {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
}

const CLUSTER: &str = "ClusterGracefulPolicy";
const NAMESPACED: &str = "GracefulPolicy";

/// The policies that differ, the cluster policy first, and then those that are to be deleted.
pub(super) fn differences(recommended: &Recommended, fleet: &Fleet) -> Vec<Difference> {
    let mut found = Vec::new();
    if let Some(policy) = &recommended.cluster_policy {
        let mut present = fleet.cluster_policies.iter();
        let present = present.find(|present| present.metadata.name == policy.metadata.name);
        let before = present.map(|present| content(&present.metadata, json!(present.spec)));
        let after = content(&policy.metadata, json!(policy.spec));
        found.extend(difference(CLUSTER, &policy.metadata, before, Some(after)));
    }
    for policy in recommended.policies.iter().map(|recommended| &recommended.policy) {
        let is_it = |metadata: &ObjectMeta| {
            (&metadata.namespace, &metadata.name) == (&policy.metadata.namespace, &policy.metadata.name)
        };
        let present = fleet.policies.iter().find(|present| is_it(&present.metadata));
        let before = present.map(|present| content(&present.metadata, json!(present.spec)));
        let after = content(&policy.metadata, json!(policy.spec));
        found.extend(difference(NAMESPACED, &policy.metadata, before, Some(after)));
    }
    for policy in fleet.cluster_policies.iter().filter(|policy| recommended.is_obsolete_in_cluster(policy)) {
        found.extend(difference(CLUSTER, &policy.metadata, Some(Value::Null), None));
    }
    for policy in fleet.policies.iter().filter(|policy| recommended.is_obsolete(policy)) {
        found.extend(difference(NAMESPACED, &policy.metadata, Some(Value::Null), None));
    }
    found
}

/// What is compared of a policy.
fn content(metadata: &ObjectMeta, spec: Value) -> Value {
    json!({"metadata": {"labels": metadata.labels.clone().unwrap_or_default()}, "spec": spec})
}

fn difference(
    kind: &'static str,
    metadata: &ObjectMeta,
    before: Option<Value>,
    after: Option<Value>,
) -> Option<Difference> {
    let change = match (&before, &after) {
        (None, _) => PolicyChange::Create,
        (Some(_), Some(_)) => PolicyChange::Update,
        (Some(_), None) => PolicyChange::Delete,
    };
    let [before, after] = [before, after].map(|value| {
        let mut fields = BTreeMap::new();
        collect(value.unwrap_or_default(), String::new(), &mut fields);
        fields
    });
    let mut paths: Vec<_> = before.keys().chain(after.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    let differing = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    let fields: Vec<_> = differing
        .map(|path| FieldDifference {
            path: path.clone(),
            before: before.get(path).cloned(),
            after: after.get(path).cloned(),
        })
        .collect();
    let is_same = change == PolicyChange::Update && fields.is_empty();
    let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone().unwrap_or_default());
    (!is_same).then_some(Difference { kind, namespace, name, change, fields })
}

/// The fields of a value by their paths. A list is one field.
fn collect(value: Value, path: String, fields: &mut BTreeMap<String, Value>) {
    match value {
        Value::Null => {}
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                collect(value, path, fields);
            }
        }
        value => {
            fields.insert(path, value);
        }
    }
}

/// The differences for people: `+` for what is added, `-` for what is removed, `~` for a policy that changes.
pub(super) fn text(differences: &[Difference]) -> String {
    let mut text = String::new();
    for Difference { kind, namespace, name, change, fields } in differences {
        let sign = match change {
            PolicyChange::Create => '+',
            PolicyChange::Update => '~',
            PolicyChange::Delete => '-',
        };
        let namespace = namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        // Writing to a String doesn't fail.
        let _ = writeln!(text, "{sign} {kind} {}", escaped(&format!("{namespace}{name}")));
        for FieldDifference { path, before, after } in fields {
            for (sign, value) in [('-', before), ('+', after)] {
                if let Some(value) = value {
                    let _ = writeln!(text, "{sign}   {}", escaped(&format!("{path}: {value}")));
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fields_that_differ_are_shown() {
        let metadata = |name: &str| ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("shop".to_owned()),
            ..ObjectMeta::default()
        };
        let of = |spec: Value| Some(content(&ObjectMeta::default(), spec));
        let web = json!({"selector": {"matchLabels": {"app": "web"}}, "drainSeconds": 10});
        let longer =
            json!({"selector": {"matchLabels": {"app": "web"}}, "drainSeconds": 30, "kinds": ["Deployment"]});
        let found: Vec<_> = [
            difference(NAMESPACED, &metadata("same"), of(web.clone()), of(web.clone())),
            difference(NAMESPACED, &metadata("new"), None, of(json!({"selector": {}}))),
            difference(NAMESPACED, &metadata("web"), of(web), of(longer)),
            difference(NAMESPACED, &metadata("old"), Some(Value::Null), None),
        ]
        .into_iter()
        .flatten()
        .collect();
        assert_eq!(
            text(&found),
            "+ GracefulPolicy shop/new\n\
             +   metadata.labels: {}\n\
             +   spec.selector: {}\n\
             ~ GracefulPolicy shop/web\n\
             -   spec.drainSeconds: 10\n\
             +   spec.drainSeconds: 30\n\
             +   spec.kinds: [\"Deployment\"]\n\
             - GracefulPolicy shop/old\n"
        );
    }
}
