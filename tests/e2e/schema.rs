//! Changes every property of an API object to another valid value, and tests policies at the bounds of their schema.

use adieu::api::{ClusterGracefulPolicy, GracefulPolicy, check_policy, check_status};
use futures::{StreamExt as _, stream};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::{
    figures::print_line,
    generate::{Boundary, boundaries, largest},
    support::Scene,
};

/// Concurrent requests.
const AT_ONCE: usize = 8;

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

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn the_api_server_and_the_offline_check_agree_at_every_bound() {
    let scene = Scene::new().await;
    let cluster_policies: Api<ClusterGracefulPolicy> = Api::all(scene.client.clone());
    // The status is accepted only for an existing object.
    let name = scene.namespace.as_str();
    let holder = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": name}, "spec": {},
    });
    scene.create(&holder).await;
    // It is cluster-scoped.
    let spec = json!({"namespaceSelector": {"matchLabels": {"adieu-test": "nowhere"}}});
    let holder = ClusterGracefulPolicy::new(name, serde_json::from_value(spec).unwrap());
    cluster_policies.create(&PostParams::default(), &holder).await.unwrap();

    let of_largest = largest().into_iter().map(|policy| {
        let name = format!("the largest {}", policy["kind"]);
        Boundary { name, policy, of_status: false, valid: Some(true) }
    });
    let cases: Vec<_> = boundaries().into_iter().chain(of_largest).collect();
    let (count, scene_ref) = (cases.len(), &scene);
    let judged = stream::iter(cases).map(|case| async move { (judge(scene_ref, &case).await, case.name) });
    let judged: Vec<_> = judged.buffer_unordered(AT_ONCE).collect().await;
    let accepted = judged.iter().filter(|(verdict, _)| *verdict == Ok(true)).count();
    let disagreements: Vec<_> = judged
        .into_iter()
        .filter_map(|(verdict, name)| Some(format!("{name}: {}", verdict.err()?)))
        .collect();
    print_line(&format!("{count} policies at their bounds: {accepted} accepted"));
    assert!(disagreements.is_empty(), "{}:\n{}", disagreements.len(), disagreements.join("\n"));
    assert!(accepted * 10 >= count && accepted < count);
    cluster_policies.delete(name, &DeleteParams::default()).await.unwrap();
    scene.end().await;
}

/// Whether the API server accepts a policy or status. It is an error if the offline check disagrees, or adieu can't
/// decode an accepted one.
async fn judge(scene: &Scene, case: &Boundary) -> Result<bool, String> {
    let namespaced = case.policy["kind"] == "GracefulPolicy";
    let resource = if namespaced {
        format!("/apis/adieu.dev/v1alpha1/namespaces/{}/gracefulpolicies", scene.namespace)
    } else {
        "/apis/adieu.dev/v1alpha1/clustergracefulpolicies".to_owned()
    };
    let (answer, found) = if case.of_status {
        (write_status(scene, &resource, &case.policy).await, check_status(&case.policy))
    } else {
        let request = http::Request::post(format!("{resource}?{DRY}"));
        (send(scene, request, &case.policy).await, check_policy(&case.policy))
    };
    match answer {
        Ok(stored) if found.is_empty() => {
            let read =
                if namespaced { readable::<GracefulPolicy> } else { readable::<ClusterGracefulPolicy> };
            read(stored)
                .map_err(|error| format!("accepted, but adieu cannot read it: {error}"))
                .map(|()| true)
        }
        Err(rejection) if !found.is_empty() && matches!(rejection.code, 400 | 422) => Ok(false),
        Ok(_) => Err(format!("the API server accepts it, and the offline check finds {}", found[0])),
        Err(rejection) => Err(format!(
            "the API server answers {}: {}; offline {found:?}",
            rejection.code, rejection.message
        )),
    }
}

/// Like kubectl, denies unknown fields.
const DRY: &str = "dryRun=All&fieldValidation=Strict";

/// Writes the status of the existing policy.
async fn write_status(scene: &Scene, resource: &str, policy: &Value) -> Result<Value, kube::core::Status> {
    let of_holder = format!("{resource}/{}", scene.namespace);
    loop {
        let get = http::Request::get(&of_holder).body(vec![]).unwrap();
        let mut holder: Value = scene.client.request(get).await.unwrap();
        holder["status"] = policy["status"].clone();
        let request = http::Request::put(format!("{of_holder}/status?{DRY}"));
        match send(scene, request, &holder).await {
            // The controller has written in between.
            Err(conflict) if conflict.code == 409 => {}
            answer => return answer,
        }
    }
}

async fn send(
    scene: &Scene,
    request: http::request::Builder,
    object: &Value,
) -> Result<Value, kube::core::Status> {
    let body = serde_json::to_vec(object).unwrap();
    let request = request.header("content-type", "application/json").body(body).unwrap();
    match scene.client.request(request).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err(*status),
        Err(error) => unreachable!("{error}"),
    }
}

fn readable<T: DeserializeOwned>(object: Value) -> Result<(), String> {
    serde_json::from_value::<T>(object).map(drop).map_err(|error| error.to_string())
}
