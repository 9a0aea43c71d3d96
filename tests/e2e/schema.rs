//! Changes every property of an API object to another valid value.

use kube::Client;
use serde_json::{Map, Value, json};

/// A document of the API server's `OpenAPI` v3.
pub struct Schema(Value);

/// A step on the way to a property.
#[derive(Clone)]
enum Step {
    Property(String),
    /// Into a list.
    Item,
    /// Into a map.
    Key,
}

/// An object with one property changed.
pub struct Change {
    /// Such as `spec.template.spec.containers[].image`.
    pub path: String,
    pub object: Value,
}

impl Schema {
    pub async fn fetch(client: &Client, path: &str) -> Self {
        Self(client.request(http::Request::get(path).body(vec![]).unwrap()).await.unwrap())
    }

    /// For every property of the schema called `name`, `base` with that property changed.
    pub fn changes(&self, name: &str, base: &Value) -> Vec<Change> {
        let root = &self.0["components"]["schemas"][name];
        assert!(root.is_object(), "there is no schema {name}");
        let mut paths = Vec::new();
        self.walk(root, &mut Vec::new(), &mut Vec::new(), &mut paths);
        let changed = |steps: Vec<Step>| {
            let mut object = base.clone();
            self.change(root, &mut object, &steps);
            Change { path: display(&steps), object }
        };
        paths.into_iter().map(changed).collect()
    }

    fn walk<'a>(
        &'a self,
        of: &'a Value,
        above: &mut Vec<&'a Value>,
        at: &mut Vec<Step>,
        paths: &mut Vec<Vec<Step>>,
    ) {
        let of = self.resolve(of);
        // Some schemas, such as those of JSON schemas, contain themselves.
        if above.iter().any(|above| std::ptr::eq(*above, of)) {
            return;
        }
        above.push(of);
        for (name, property) in of["properties"].as_object().into_iter().flatten() {
            at.push(Step::Property(name.clone()));
            paths.push(at.clone());
            self.walk(property, above, at, paths);
            at.pop();
        }
        for (step, inner) in [(Step::Item, &of["items"]), (Step::Key, &of["additionalProperties"])] {
            if inner.is_object() {
                at.push(step);
                self.walk(inner, above, at, paths);
                at.pop();
            }
        }
        above.pop();
    }

    /// Changes the value at `steps`, and creates missing parents.
    fn change(&self, reference: &Value, value: &mut Value, steps: &[Step]) {
        let of = self.resolve(reference);
        let Some((step, rest)) = steps.split_first() else {
            *value = self.other(of, value, "");
            return;
        };
        match step {
            Step::Property(name) => {
                if !value.is_object() {
                    *value = self.least(reference, "");
                }
                if let Some(others) = ALTERNATIVES.iter().find(|others| others.contains(&name.as_str())) {
                    value
                        .as_object_mut()
                        .unwrap()
                        .retain(|key, _| key == name || !others.contains(&key.as_str()));
                }
                let property = &of["properties"][name];
                if rest.is_empty() {
                    let other = self.other(property, &value[name], name);
                    value[name] = other;
                } else {
                    self.change(property, &mut value[name], rest);
                }
            }
            // The first container is changed; to other lists an item is added, since many items exclude each other.
            Step::Item => {
                let first =
                    value.as_array().is_some_and(|items| items.iter().any(|item| !item["image"].is_null()));
                if !value.is_array() {
                    *value = json!([]);
                }
                let items = value.as_array_mut().unwrap();
                if !first {
                    items.insert(0, self.least(&of["items"], ""));
                }
                self.change(&of["items"], &mut items[0], rest);
            }
            Step::Key => {
                if !value.is_object() {
                    *value = json!({});
                }
                self.change(&of["additionalProperties"], &mut value[key("")], rest);
            }
        }
    }

    /// A value other than `current`.
    fn other(&self, reference: &Value, current: &Value, name: &str) -> Value {
        let of = self.resolve(reference);
        match of["type"].as_str() {
            Some("boolean") => json!(current != &json!(true)),
            Some("integer" | "number") => json!(current.as_i64().unwrap_or(0) + 1),
            Some("array") => {
                let mut items = current.as_array().cloned().unwrap_or_default();
                items.push(self.least(&of["items"], name));
                json!(items)
            }
            Some("object") if of["additionalProperties"].is_object() => {
                let mut map = current.as_object().cloned().unwrap_or_default();
                map.insert(key(name).into(), self.least(&of["additionalProperties"], name));
                json!(map)
            }
            _ => self.least(reference, name),
        }
    }

    /// The minimal value that a schema allows, with required fields only. `name` is the property's.
    fn least(&self, reference: &Value, name: &str) -> Value {
        let of = self.resolve(reference);
        match of["type"].as_str() {
            Some("object") if of["additionalProperties"].is_object() => {
                json!({key(name): self.least(&of["additionalProperties"], name)})
            }
            Some("object") => {
                let required = of["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let property = |name: &str| (name.to_owned(), self.least(&of["properties"][name], name));
                let mut least: Map<_, _> = required.map(property).collect();
                let schema = reference_of(reference).and_then(|reference| reference.rsplit('.').next());
                least.extend(needed(schema.unwrap_or_default()).as_object().cloned().unwrap_or_default());
                Value::Object(least)
            }
            Some("array") => json!([self.least(&of["items"], name)]),
            Some("boolean") => json!(true),
            Some("integer" | "number") => json!(1),
            _ if of["format"] == "int-or-string" => json!(1),
            // A quantity.
            _ if of["oneOf"].is_array() => json!("1"),
            _ if of["format"] == "date-time" => json!("2020-01-02T03:04:05Z"),
            _ if of["format"] == "byte" => json!("YQ=="),
            _ => json!(text(name)),
        }
    }

    /// The target of a reference.
    fn resolve<'a>(&'a self, of: &'a Value) -> &'a Value {
        match reference_of(of).and_then(|reference| reference.strip_prefix('#')) {
            Some(pointer) => self.0.pointer(pointer).unwrap(),
            None => of,
        }
    }
}

fn reference_of(of: &Value) -> Option<&str> {
    of["$ref"].as_str().or_else(|| of["allOf"][0]["$ref"].as_str())
}

fn display(steps: &[Step]) -> String {
    let text = |step: &Step| match step {
        Step::Property(name) => format!(".{name}"),
        Step::Item | Step::Key => "[]".into(),
    };
    steps.iter().map(text).collect::<String>().trim_start_matches('.').to_owned()
}

/// Properties that exclude each other.
const ALTERNATIVES: [&[&str]; 5] = [
    &["exec", "grpc", "httpGet", "sleep", "tcpSocket"],
    &["configMapRef", "secretRef"],
    &["configMapKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef", "secretKeyRef"],
    &["localhostProfile", "type"],
    &["value", "valueFrom"],
];

/// Requirements of the API server beyond the schema with this name.
fn needed(schema: &str) -> Value {
    match schema {
        "AppArmorProfile" | "SeccompProfile" => json!({"type": "RuntimeDefault"}),
        "AzureDiskVolumeSource" => json!({"diskURI": "https://a.blob.core.windows.net/b/c.vhd"}),
        "ConfigMapEnvSource"
        | "ConfigMapKeySelector"
        | "ConfigMapProjection"
        | "ConfigMapVolumeSource"
        | "LocalObjectReference"
        | "PodDNSConfigOption"
        | "SecretEnvSource"
        | "SecretKeySelector"
        | "SecretProjection"
        | "SecretReference" => json!({"name": "adieu-test"}),
        "Container" => json!({"image": "other"}),
        "ContainerResizePolicy" => json!({"resourceName": "cpu", "restartPolicy": "NotRequired"}),
        "DownwardAPIVolumeFile" | "EnvVarSource" => json!({"fieldRef": {"fieldPath": "metadata.name"}}),
        "EnvFromSource" => json!({"configMapRef": {"name": "adieu-test"}}),
        "EphemeralVolumeSource" => {
            json!({"volumeClaimTemplate": {"spec": needed("PersistentVolumeClaimSpec")}})
        }
        "ExecAction" => json!({"command": ["true"]}),
        "LabelSelectorRequirement" | "NodeSelectorRequirement" => {
            json!({"operator": "In", "values": ["adieu-test"]})
        }
        "LifecycleHandler" | "Probe" => json!({"tcpSocket": {"port": 1}}),
        "NodeSelectorTerm" => json!({"matchExpressions": [{"key": "adieu-test", "operator": "Exists"}]}),
        "PersistentVolumeClaimSpec" => {
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}})
        }
        "PodOS" => json!({"name": "linux"}),
        "ResourceFieldSelector" => json!({"containerName": "web"}),
        "Volume" => json!({"name": "another"}),
        _ => json!({}),
    }
}

/// A key of the map in the property with this name.
fn key(name: &str) -> &'static str {
    match name {
        "limits" | "requests" | "overhead" => "cpu",
        _ => "adieu-test",
    }
}

/// A valid value of the property with this name, if not every text is allowed.
fn text(name: &str) -> &'static str {
    match name {
        "mountPath" | "devicePath" | "workingDir" | "terminationMessagePath" => "/other",
        "imagePullPolicy" | "restartPolicy" => "Always",
        "terminationMessagePolicy" => "FallbackToLogsOnError",
        "dnsPolicy" | "procMount" => "Default",
        "preemptionPolicy" => "Never",
        "protocol" => "UDP",
        "scheme" => "HTTPS",
        "operator" => "Exists",
        "effect" => "NoSchedule",
        "podManagementPolicy" => "Parallel",
        "fsGroupChangePolicy" => "OnRootMismatch",
        "apiVersion" => "v1",
        "ip" | "nameservers" | "hostIP" => "192.0.2.1",
        "finalizers" => "example.com/adieu-test",
        "mountPropagation" | "cachingMode" => "None",
        "namespaces" => "default",
        "divisor" | "limits" | "requests" => "1",
        "accessModes" => "ReadWriteOnce",
        "add" | "drop" => "SYS_TIME",
        "fieldPath" => "metadata.name",
        "resource" => "limits.cpu",
        _ => "adieu-test",
    }
}
