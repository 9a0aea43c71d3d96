//! The object that results when a manifest is applied to a cluster.

use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

use adieu_core::{api::annotations::GRACEFUL, plan::string_map};

/// The annotation in which `kubectl apply` keeps the manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The maximum length of a list whose items are compared with each other.
const MAX_IDENTIFIED: usize = 1000;

/// The live object once the manifest is applied to it, as `kubectl apply` and the API server do: values that the manifest
/// doesn't have stay, unless the last applied manifest had them. The values that the API server added to `live` also stay,
/// so that an unchanged manifest results in an unchanged object.
///
/// With server-side apply it is not known what the last manifest had, except for the annotation [`GRACEFUL`].
#[must_use]
pub fn applied(manifest: &Value, live: &DynamicObject) -> DynamicObject {
    let last = last_applied(live);
    let mut object = live.clone();
    let none = json!({});
    let metadata = &mut object.metadata;
    for (key, map) in [("annotations", &mut metadata.annotations), ("labels", &mut metadata.labels)] {
        let new = Some(&manifest["metadata"][key]).filter(|new| new.is_object()).unwrap_or(&none);
        let mut merged = json!(map.take().unwrap_or_default());
        merge(&mut merged, new, &last["metadata"][key], key);
        *map = Some(string_map(&merged)).filter(|merged| !merged.is_empty());
    }
    if let Some(spec) = object.data.get_mut("spec").filter(|_| manifest["spec"].is_object()) {
        merge(spec, &manifest["spec"], &last["spec"], "spec");
    }
    object
}

/// The last applied manifest, as far as it is known.
fn last_applied(live: &DynamicObject) -> Value {
    let text = live.metadata.annotations.as_ref().and_then(|annotations| annotations.get(LAST_APPLIED));
    if let Some(last) = text.and_then(|text| serde_json::from_str(text).ok()) {
        return last;
    }
    let mut entries = live.metadata.managed_fields.iter().flatten();
    let opts_in = entries.any(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0["f:metadata"]["f:annotations"]);
        let key = format!("f:{GRACEFUL}");
        entry.operation.as_deref() == Some("Apply") && fields.is_some_and(|fields| !fields[key].is_null())
    });
    if opts_in { json!({"metadata": {"annotations": {GRACEFUL: "true"}}}) } else { Value::Null }
}

/// Applies `new` to `live`. `field` is the name of the field, for lists whose items are merged, and for quantities.
fn merge(live: &mut Value, new: &Value, last: &Value, field: &str) {
    match (live, new) {
        (Value::Object(live), Value::Object(new)) => merge_objects(live, new, last, field),
        (Value::Array(live), Value::Array(new)) => merge_lists(live, new, last, field),
        (live, new) => {
            if !is_same(live, new, field) {
                *live = new.clone();
            }
        }
    }
}

fn merge_objects(live: &mut Map<String, Value>, new: &Map<String, Value>, last: &Value, field: &str) {
    live.retain(|key, _| new.contains_key(key) || last.get(key).is_none());
    for (key, value) in new {
        if value.is_null() {
            // Absent and null are the same.
            live.retain(|present, value| present != key || value.is_null());
            continue;
        }
        let field = if is_quantity(field) { field } else { key };
        match live.get_mut(key) {
            Some(present) => merge(present, value, &last[key], field),
            None if is_omitted(key, value) => {}
            None => drop(live.insert(key.clone(), value.clone())),
        }
    }
}

fn merge_lists(live: &mut Vec<Value>, new: &[Value], last: &Value, field: &str) {
    let Some(key) = identity(field).filter(|key| are_identified(live, key) && are_identified(new, key))
    else {
        return replace_list(live, new, field);
    };
    let last = last.as_array().map(Vec::as_slice).unwrap_or_default();
    let position = |items: &[Value], id: &Value| items.iter().position(|item| item[key] == *id);
    live.retain(|item| position(new, &item[key]).is_some() || position(last, &item[key]).is_none());
    for item in new {
        match position(live, &item[key]) {
            Some(at) => {
                let last = position(last, &item[key]).map_or(&Value::Null, |at| &last[at]);
                merge(&mut live[at], item, last, "");
            }
            None => live.push(item.clone()),
        }
    }
}

/// Replaces a list as a whole, and keeps what the API server added to its items.
fn replace_list(live: &mut Vec<Value>, new: &[Value], field: &str) {
    if live.len() != new.len() {
        *live = new.to_vec();
        return;
    }
    for (live, new) in live.iter_mut().zip(new) {
        merge(live, new, &Value::Null, field);
    }
}

/// Whether the field `key` identifies each item of a list.
fn are_identified(items: &[Value], key: &str) -> bool {
    let is_new = |(at, item): (usize, &Value)| items[..at].iter().all(|other| other[key] != item[key]);
    items.len() <= MAX_IDENTIFIED
        && items.iter().all(|item| !item[key].is_null())
        && items.iter().enumerate().all(is_new)
}

/// The field that identifies the items of a list of a pod (`patchMergeKey` in k8s.io/api/core/v1). Other lists are replaced
/// as a whole.
fn identity(list: &str) -> Option<&'static str> {
    match list {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => Some("name"),
        "ports" => Some("containerPort"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "hostAliases" => Some("ip"),
        "topologySpreadConstraints" => Some("topologyKey"),
        _ => None,
    }
}

/// Whether the API server omits a field with this value.
fn is_omitted(field: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(is_set) => {
            !is_set
                && ["hostIPC", "hostNetwork", "hostPID", "readOnly", "stdin", "stdinOnce", "tty"]
                    .contains(&field)
        }
        Value::Number(number) => {
            number.as_i64() == Some(0) && ["hostPort", "initialDelaySeconds"].contains(&field)
        }
        Value::Null => true,
    }
}

/// Whether a field has quantities, such as `500m`, or is one.
fn is_quantity(field: &str) -> bool {
    ["divisor", "limits", "overhead", "requests", "sizeLimit"].contains(&field)
}

/// Whether two values are the same for the API server, which has its own form of numbers and quantities.
fn is_same(live: &Value, new: &Value, field: &str) -> bool {
    let are_comparable = live.is_number() && new.is_number() || is_quantity(field);
    let numbers = quantity(live).zip(quantity(new)).filter(|_| are_comparable);
    live == new || numbers.is_some_and(|(a, b)| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()))
}

/// The value of a quantity.
fn quantity(value: &Value) -> Option<f64> {
    let Value::String(text) = value else { return value.as_f64() };
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let kibi = 1024_f64;
    let factor = match &text[digits.len()..] {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => kibi,
        "Mi" => kibi.powi(2),
        "Gi" => kibi.powi(3),
        "Ti" => kibi.powi(4),
        "Pi" => kibi.powi(5),
        "Ei" => kibi.powi(6),
        _ => return None,
    };
    digits.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
