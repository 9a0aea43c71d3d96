//! Fields of pod templates.

use std::collections::BTreeSet;

use adieu_core::{
    api::{annotations::INJECTED, labels::INJECTION},
    plan::Injected,
};
use serde_json::{Map, Value, json};

use crate::generate::list_mut;

pub const PRE_STOP: &str = "/lifecycle/preStop";
pub const READINESS_PROBE: &str = "/readinessProbe";
pub const POST_START: &str = "/lifecycle/postStart";
pub const GRACE_PERIOD: &str = "terminationGracePeriodSeconds";
pub const SPREAD: &str = "topologySpreadConstraints";

/// The regular containers, of any type.
pub fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    template["spec"]["containers"].as_array().into_iter().flatten()
}

pub fn container_mut(template: &mut Value, index: usize) -> Option<&mut Value> {
    list_mut(template, "containers")?.get_mut(index)
}

/// The value at `path`, unless it is `null`.
pub fn set<'a>(container: &'a Value, path: &str) -> Option<&'a Value> {
    container.pointer(path).filter(|value| !value.is_null())
}

/// In seconds; 30 if absent. `None` if it is not a number.
pub fn grace_period(template: &Value) -> Option<i64> {
    let value = &template["spec"][GRACE_PERIOD];
    if value.is_null() { Some(30) } else { value.as_i64() }
}

/// The longest sleep that the API server compares with the grace period.
pub fn longest_sleep(template: &Value) -> Option<i64> {
    let init = template["spec"]["initContainers"].as_array().into_iter().flatten();
    let all = containers(template).chain(init.filter(|container| container["restartPolicy"] == "Always"));
    all.filter_map(|container| {
        [PRE_STOP, POST_START].map(|hook| seconds_of(container, hook)).into_iter().max()?
    })
    .max()
}

pub fn seconds_of(container: &Value, hook: &str) -> Option<i64> {
    container.pointer(hook)?.pointer("/sleep/seconds")?.as_i64()
}

/// The template after a revert of `injected` that the API server accepts: if a sleep is longer than the original grace
/// period, the present one is kept.
pub fn accepted(original: &Value, injected: &Value) -> Value {
    let mut accepted = original.clone();
    if longest_sleep(original) > grace_period(original)
        && let Some(present) = injected["spec"].get(GRACE_PERIOD)
    {
        accepted["spec"][GRACE_PERIOD] = present.clone();
    }
    accepted
}

/// The number of actions of a hook or probe.
pub fn handlers(container: &Value, path: &str) -> usize {
    let fields = container.pointer(path).and_then(Value::as_object).into_iter().flatten();
    fields
        .filter(|(key, _)| ["exec", "httpGet", "tcpSocket", "grpc", "sleep"].contains(&key.as_str()))
        .count()
}

/// A template without the fields that adieu may change, and without objects that are empty then.
pub fn without_injected_fields(template: &Value) -> Value {
    let mut rest = template.clone();
    let remove = |holder: &mut Value, path: &[&str]| remove_at(holder, path);
    remove(&mut rest, &["spec", GRACE_PERIOD]);
    remove(&mut rest, &["spec", SPREAD]);
    remove(&mut rest, &["metadata", "annotations", INJECTED]);
    remove(&mut rest, &["metadata", "labels", INJECTION]);
    for container in list_mut(&mut rest, "containers").into_iter().flatten() {
        remove(container, &["lifecycle", "preStop"]);
        remove(container, &["readinessProbe"]);
    }
    rest
}

/// Removes the value at `path`, and objects that are empty then.
pub fn remove_at(holder: &mut Value, path: &[&str]) {
    let (Some(fields), Some((first, rest))) = (holder.as_object_mut(), path.split_first()) else { return };
    if let Some(value) = fields.get_mut(*first) {
        remove_at(value, rest);
        if rest.is_empty() || value.is_null() || value.as_object().is_some_and(Map::is_empty) {
            fields.remove(*first);
        }
    }
}

pub fn without_probes(template: &Value) -> Value {
    let mut template = template.clone();
    for container in list_mut(&mut template, "containers").into_iter().flatten() {
        remove_at(container, &["readinessProbe"]);
    }
    template.get_mut("spec").map(Value::take).unwrap_or_default()
}

/// The injection in a canonical order.
pub fn sorted(injected: Injected) -> (Value, BTreeSet<String>) {
    let mut template = injected.template;
    for list in ["containers", "initContainers"] {
        if let Some(list) = list_mut(&mut template, list) {
            list.sort_by_cached_key(ToString::to_string);
        }
    }
    (template, injected.warnings.into_iter().collect())
}

/// Adds containers to a list of the pod, unless its value is no list.
pub fn add(pod: &mut Value, list: &str, added: &Value) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let containers = spec.entry(list).or_insert(Value::Null);
    if containers.is_null() {
        *containers = json!([]);
    }
    if let (Some(containers), Some(added)) = (containers.as_array_mut(), added.as_array()) {
        containers.extend(added.clone());
    }
}

/// Sets or removes the value at `path`.
pub fn put(holder: &mut Value, path: &[&str], value: Option<&Value>) {
    let (Some(fields), Some((first, rest))) = (holder.as_object_mut(), path.split_first()) else { return };
    match value {
        _ if !rest.is_empty() && (value.is_some() || fields.contains_key(*first)) => {
            let next = fields.entry(*first).or_insert(Value::Null);
            if next.is_null() && value.is_some() {
                *next = json!({});
            }
            put(next, rest, value);
        }
        Some(value) if rest.is_empty() => drop(fields.insert((*first).to_owned(), value.clone())),
        _ => drop(fields.remove(*first)),
    }
}
