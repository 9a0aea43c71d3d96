//! Workloads and namespaces that the API allows. The API server accepts most of them; some have one odd value, which it
//! may reject. Several test targets include this module.
//!
//! Large strategies are boxed, because that of a whole workload doesn't fit on the stack of a test's thread.

// Not every target uses every item.
#![allow(dead_code, unused_imports)]

mod boundaries;
mod context;
mod pods;
mod probes;
mod workloads;

use std::fmt;

use adieu_core::{
    api::WorkloadKind,
    plan::{NamespaceContext, Workload},
};
use kube::core::{DynamicObject, TypeMeta};
use proptest::{prelude::*, sample::Index};
use serde_json::{Map, Value, json};

pub use boundaries::{Boundary, boundaries, largest};
pub use context::{context, instructions, odd_policies};
pub use pods::additions;

/// The value of the label `app`, which the selectors of Services, policies and the workload match.
pub const APP: &str = "web";

/// A workload in a namespace.
#[derive(Clone)]
pub struct Case {
    /// An object of `apps/v1`.
    pub workload: Value,
    /// Policies, Services, kubelets.
    pub context: NamespaceContext,
}

/// Any workload in any context.
pub fn cases() -> BoxedStrategy<Case> {
    (workloads(), context()).prop_map(|(workload, context)| Case { workload, context }).boxed()
}

/// Any workload.
pub fn workloads() -> BoxedStrategy<Value> {
    let oddity = prop_oneof![3 => Just(None), 1 => oddity().prop_map(Some)];
    (workloads::workload(), oddity)
        .prop_map(|(mut workload, oddity)| {
            if let Some(oddity) = oddity {
                oddity.apply_to(&mut workload["spec"]);
            }
            workload
        })
        .boxed()
}

impl Case {
    /// The workload as decoded by the webhook and the controller.
    pub fn object(&self) -> DynamicObject {
        object(&self.workload)
    }

    /// The workload's kind.
    pub fn kind(&self) -> WorkloadKind {
        kind(&self.workload)
    }
}

/// An object as decoded by the webhook and the controller.
pub fn object(workload: &Value) -> DynamicObject {
    let mut fields = workload.as_object().cloned().unwrap_or_default();
    let mut take = |field: &str| fields.remove(field).unwrap_or_default();
    let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
    DynamicObject {
        types: Some(TypeMeta { api_version: text(take("apiVersion")), kind: text(take("kind")) }),
        metadata: serde_json::from_value(take("metadata")).expect("its metadata is well-formed"),
        data: Value::Object(fields),
    }
}

/// A workload's kind.
pub fn kind(workload: &Value) -> WorkloadKind {
    let kind = workload["kind"].as_str().unwrap_or_default();
    WorkloadKind::from_gvk("apps", "v1", kind).expect("a generated workload is one of apps/v1")
}

/// The `containers` or `initContainers` of a pod template.
pub fn list_mut<'a>(template: &'a mut Value, list: &str) -> Option<&'a mut Vec<Value>> {
    template.get_mut("spec")?.get_mut(list)?.as_array_mut()
}

/// Whether an object is a workload.
pub fn is_workload(object: &Value) -> bool {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or_default();
    WorkloadKind::from_gvk(group, version, text("kind")).is_some()
}

/// The workload as the input of a decision.
pub fn workload(object: &DynamicObject) -> Workload<'_> {
    let kind = object.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default();
    Workload::of(WorkloadKind::from_gvk("apps", "v1", kind).expect("a workload"), object)
}

/// As JSON, so that it can be read and replayed.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NamespaceContext { policies, cluster_policies, services, exposures, native_sleep, .. } =
            &self.context;
        let policies: Vec<_> = policies.iter().map(AsRef::as_ref).collect();
        let cluster_policies: Vec<_> = cluster_policies.iter().map(AsRef::as_ref).collect();
        let services: Vec<_> = services.iter().map(AsRef::as_ref).collect();
        let all = json!({
            "workload": self.workload, "policies": policies, "clusterPolicies": cluster_policies,
            "services": services, "exposures": format!("{exposures:?}"), "nativeSleep": native_sleep,
        });
        write!(f, "{all:#}")
    }
}

/// An unexpected value in one place of an object.
#[derive(Clone, Debug)]
struct Oddity {
    place: Index,
    /// `None` removes the value.
    value: Option<Value>,
}

fn oddity() -> impl Strategy<Value = Oddity> {
    let values = vec![
        None,
        Some(Value::Null),
        Some(json!({})),
        Some(json!([])),
        Some(json!("")),
        Some(json!("text")),
        Some(json!(0)),
        Some(json!(-1)),
        Some(json!(1.5)),
        Some(json!(true)),
        Some(json!({"fieldOfTheFuture": {"kept": [null]}})),
    ];
    (any::<Index>(), prop::sample::select(values)).prop_map(|(place, value)| Oddity { place, value })
}

impl Oddity {
    fn apply_to(self, object: &mut Value) {
        let mut places = Vec::new();
        list_places(object, &mut String::new(), &mut places);
        if places.is_empty() {
            return;
        }
        let place = &places[self.place.index(places.len())];
        let Some((holder, key)) = place.rsplit_once('/') else { return };
        match (object.pointer_mut(holder), self.value) {
            (Some(Value::Object(holder)), Some(value)) => drop(holder.insert(unescaped(key), value)),
            (Some(Value::Object(holder)), None) => drop(holder.remove(&unescaped(key))),
            (Some(Value::Array(holder)), value) => {
                let index: usize = key.parse().unwrap_or_default();
                match value {
                    Some(value) => holder[index] = value,
                    None => drop(holder.remove(index)),
                }
            }
            _ => {}
        }
    }
}

/// The JSON pointers of all values except adieu's annotations: malformed ones are denied.
fn list_places(value: &Value, path: &mut String, places: &mut Vec<String>) {
    let mut descend = |key: &str, value: &Value| {
        let length = path.len();
        path.push('/');
        path.push_str(key);
        places.push(path.clone());
        list_places(value, path, places);
        path.truncate(length);
    };
    match value {
        Value::Object(fields) => {
            fields
                .iter()
                .filter(|(key, _)| !key.starts_with("adieu.dev/"))
                .for_each(|(key, value)| descend(&key.replace('~', "~0").replace('/', "~1"), value));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| descend(&index.to_string(), value));
        }
        _ => {}
    }
}

fn unescaped(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

/// Absent, `null`, or a value.
fn maybe(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![4 => Just(None), 1 => Just(Some(Value::Null)), 5 => value.prop_map(Some)]
}

/// An object of the present fields.
fn fields<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect::<Map<_, _>>().into()
}

/// Some of the objects `all`, merged. A later field replaces an earlier one.
fn some_of(all: Vec<Value>, at_most: usize) -> impl Strategy<Value = Value> {
    let at_most = at_most.min(all.len());
    prop::sample::subsequence(all, 0..=at_most).prop_map(|chosen| {
        let mut merged = json!({});
        for fields in chosen {
            merge(&mut merged, fields);
        }
        merged
    })
}

/// Adds the fields of `more` to `object`.
fn merge(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}
