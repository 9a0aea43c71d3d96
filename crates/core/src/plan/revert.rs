//! Reverts an injection by its record.

use serde_json::{Map, Value};

use super::record::{
    ContainerRecord, DEFAULT_GRACE_PERIOD_SECONDS, GRACE_PERIOD, InjectedField, Record, SPREAD,
    named_containers,
};
use crate::api::annotations::INJECTED;

/// Reverts the injection of `record`, and removes the record. A value that is neither the injected one nor the one before
/// is the user's, and is kept.
pub(super) fn revert(template: &mut Value, record: &Record) {
    let Some(template) = template.as_object_mut() else { return };
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(INJECTED);
        }
        record.annotations.restore(metadata, "annotations");
        record.unlabel(metadata);
    }
    record.metadata.restore(template, "metadata");

    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if let Some(spread) = &record.spread
        && !restore(spec, SPREAD, spread)
    {
        drop_second_constraint(spec, &spread.injected);
    }
    let mut longest = None;
    for (name, container) in named_containers(spec) {
        if let Some(given) = record.containers.get(&name) {
            revert_container(container, given);
            longest = longest.max(later_sleep(container, given));
        }
    }
    // The API server rejects a sleep that is longer than the grace period (KEP-4818), so a user's later sleep may need the
    // injected grace period.
    let fits = |before: &Option<Value>| {
        let before = before.as_ref().and_then(Value::as_i64).unwrap_or(DEFAULT_GRACE_PERIOD_SECONDS);
        longest.is_none_or(|longest| longest <= before)
    };
    if let Some(grace_period) = record.grace_period.as_ref().filter(|field| fits(&field.before)) {
        restore(spec, GRACE_PERIOD, grace_period);
    }
}

/// The seconds of a user's native sleep that replaced the injected hook.
fn later_sleep(container: &Map<String, Value>, given: &ContainerRecord) -> Option<i64> {
    let before = given.pre_stop.as_ref()?.before.as_ref();
    let hook = container.get("lifecycle")?.get("preStop").filter(|hook| Some(*hook) != before)?;
    hook["sleep"]["seconds"].as_i64()
}

fn revert_container(container: &mut Map<String, Value>, given: &ContainerRecord) {
    if let Some(probe) = &given.readiness_probe
        && !restore(container, "readinessProbe", probe)
    {
        drop_second_handler(container, "readinessProbe", &probe.injected);
    }
    if let Some(pre_stop) = &given.pre_stop {
        if let Some(lifecycle) = container.get_mut("lifecycle").and_then(Value::as_object_mut)
            && !restore(lifecycle, "preStop", pre_stop)
        {
            drop_second_handler(lifecycle, "preStop", &pre_stop.injected);
        }
        given.lifecycle.restore(container, "lifecycle");
    }
}

/// Restores the value before, if the present one is the injected one. False if not.
fn restore(holder: &mut Map<String, Value>, key: &str, field: &InjectedField) -> bool {
    let is_injected = holder.get(key) == Some(&field.injected);
    if is_injected {
        match &field.before {
            Some(before) => drop(holder.insert(key.to_owned(), before.clone())),
            None => drop(holder.remove(key)),
        }
    }
    is_injected
}

/// Removes the injected handler if a user's handler was merged with it: the API server rejects two. Other
/// fields are kept, because they may be the user's, even with the injected values.
fn drop_second_handler(holder: &mut Map<String, Value>, key: &str, injected: &Value) {
    let (Some(merged), Some(injected)) =
        (holder.get_mut(key).and_then(Value::as_object_mut), injected.as_object())
    else {
        return;
    };
    if HANDLERS.iter().filter(|handler| merged.get(**handler).is_some_and(|h| !h.is_null())).count() > 1 {
        merged.retain(|key, value| !HANDLERS.contains(&key.as_str()) || injected.get(key) != Some(value));
    }
}

const HANDLERS: [&str; 5] = ["exec", "grpc", "httpGet", "sleep", "tcpSocket"];

/// Removes the injected constraint if there are others: a user's constraint is merged by topology key, so both remain.
fn drop_second_constraint(spec: &mut Map<String, Value>, injected: &Value) {
    let constraints = spec.get_mut(SPREAD).and_then(Value::as_array_mut).filter(|c| c.len() > 1);
    if let (Some(constraints), Some([injected])) = (constraints, injected.as_array().map(Vec::as_slice)) {
        constraints.retain(|constraint| constraint != injected);
    }
}
