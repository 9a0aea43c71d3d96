//! A row of the table: a workload, what it is in, and the expected injection.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A workload and the expected injection. Texts are parts of a manifest, in YAML.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Row {
    pub name: String,
    /// The oldest version of the kubelets.
    #[serde(default = "current")]
    pub kubelets: String,
    #[serde(default = "deployment")]
    pub kind: String,
    /// The metadata of the workload, without its name.
    #[serde(default = "opted_in")]
    metadata: String,
    /// The spec of the workload, without selector and template.
    #[serde(default)]
    spec: String,
    /// The metadata of the pod template.
    #[serde(default = "labels")]
    pod_metadata: String,
    /// The spec of the pods.
    pod: String,
    /// Policies, Services and the Namespace, in documents.
    #[serde(default)]
    pub beside: String,
    /// The template after the injection. If absent, it doesn't change.
    pub injected: Option<Injected>,
    /// Parts of the warnings, in which `…` stands for any text.
    #[serde(default)]
    pub warnings: Vec<String>,
    #[serde(default)]
    pub only_by_command_line: Vec<String>,
    #[serde(default)]
    pub only_by_webhook: Vec<String>,
}

fn current() -> String {
    "1.36".into()
}

fn deployment() -> String {
    "Deployment".into()
}

fn opted_in() -> String {
    "annotations: {adieu.dev/graceful: \"true\"}".into()
}

fn labels() -> String {
    "labels: {app: web}".into()
}

impl Row {
    /// The manifest of the workload.
    pub fn workload(&self) -> String {
        let Self { kind, metadata, spec, pod_metadata, pod, .. } = self;
        let [metadata, spec] = [metadata, spec].map(|text| indented(text, 2));
        let [pod_metadata, pod] = [pod_metadata, pod].map(|text| indented(text, 6));
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata:\n  name: web\n{metadata}spec:\n  selector: \
             {{matchLabels: {{app: web}}}}\n{spec}  template:\n    metadata:\n{pod_metadata}    spec:\n{pod}"
        )
    }
}

fn indented(text: &str, by: usize) -> String {
    let lines: Vec<_> = text.lines().map(|line| format!("{:by$}{line}\n", "")).collect();
    lines.concat()
}

/// The injected fields of a pod template. In a row, `own` stands for the user's value.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Injected {
    grace_period: Value,
    /// The preStop of each container that has one.
    #[serde(default)]
    hooks: BTreeMap<String, Value>,
    /// The action of the readiness probe of each container that has one.
    #[serde(default)]
    probes: BTreeMap<String, Value>,
}

impl Injected {
    pub fn of(template: &Value) -> Self {
        let spec = &template["spec"];
        let containers = || spec["containers"].as_array().into_iter().flatten();
        let by_name = |value: fn(&Value) -> Value| {
            let values =
                containers().map(|container| (container["name"].as_str().unwrap(), value(container)));
            values
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name.to_owned(), value))
                .collect()
        };
        Self {
            grace_period: spec.get("terminationGracePeriodSeconds").cloned().unwrap_or(json!(30)),
            hooks: by_name(|container| container["lifecycle"]["preStop"].clone()),
            probes: by_name(|container| container["readinessProbe"].as_object().map_or(Value::Null, action)),
        }
    }

    /// These values, with the user's in place of `own`.
    pub fn with_own(&self, user: &Self) -> Self {
        let filled = |values: &BTreeMap<String, Value>, own: &BTreeMap<String, Value>| {
            let fill = |(name, value): (&String, &Value)| {
                let value = if value == "own" { own[name].clone() } else { value.clone() };
                (name.clone(), value)
            };
            values.iter().map(fill).collect()
        };
        Self {
            grace_period: self.grace_period.clone(),
            hooks: filled(&self.hooks, &user.hooks),
            probes: filled(&self.probes, &user.probes),
        }
    }
}

/// A probe without its times and thresholds.
fn action(probe: &Map<String, Value>) -> Value {
    probe
        .iter()
        .filter(|(_, value)| value.is_object())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
