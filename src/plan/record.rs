//! The record: what was injected into a template, what was there before, and the settings it was made
//! from. It lies in the template's annotations, so that it travels with revisions and pods, and is all
//! that is needed to take the injection back.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{Settings, Source};
use crate::api::annotations::INJECTED;

/// What was injected into one pod template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Who opted the workload in.
    pub opted_in_by: Source,
    /// The settings it was made from.
    pub settings: Settings,
    /// `terminationGracePeriodSeconds`, where it was raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<Field>,
    /// `topologySpreadConstraints`, where one was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Field>,
    /// By container name, what it was given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, ContainerRecord>,
    /// What the annotations were that now hold the record.
    #[serde(default, skip_serializing_if = "Parent::is_object")]
    pub annotations: Parent,
    /// What the metadata was that now holds the annotations.
    #[serde(default, skip_serializing_if = "Parent::is_object")]
    pub metadata: Parent,
}

/// What one container was given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRecord {
    /// `lifecycle.preStop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<Field>,
    /// What the `lifecycle` was that now holds the preStop.
    #[serde(default, skip_serializing_if = "Parent::is_object")]
    pub lifecycle: Parent,
    /// `readinessProbe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Field>,
}

/// One injected value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// What was put in.
    pub injected: Value,
    /// What was there: nothing, `null`, or a value.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "even_null")]
    pub before: Option<Value>,
}

/// What stood in the place of an object that had to be there to hold an injected value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parent {
    /// Nothing.
    Absent,
    /// `null`.
    Null,
    /// An object, empty or not.
    #[default]
    Object,
}

impl Record {
    /// A record of nothing yet.
    pub(super) fn new(opted_in_by: Source, settings: Settings) -> Self {
        Self {
            opted_in_by,
            settings,
            grace_period: None,
            spread: None,
            containers: BTreeMap::new(),
            annotations: Parent::Object,
            metadata: Parent::Object,
        }
    }

    /// Drops the containers that were given nothing.
    pub(super) fn forget_untouched(&mut self) {
        self.containers.retain(|_, given| given.pre_stop.is_some() || given.readiness_probe.is_some());
    }

    /// Whether nothing was injected, so that there is nothing to record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grace_period.is_none() && self.spread.is_none() && self.containers.is_empty()
    }

    /// Whether `other` records the same values, whatever settings either was made from.
    #[must_use]
    pub fn same_values(&self, other: &Self) -> bool {
        self.grace_period == other.grace_period
            && self.spread == other.spread
            && self.containers == other.containers
    }
}

impl Parent {
    /// `serde` asks by reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_object(&self) -> bool {
        *self == Self::Object
    }

    /// The object under `key`, made where there is none, and what stood there before. `None` where
    /// something stands there that is no object: that is left alone.
    pub(super) fn open<'a>(
        holder: &'a mut Map<String, Value>,
        key: &str,
    ) -> Option<(Self, &'a mut Map<String, Value>)> {
        let before = match holder.get(key) {
            None => Self::Absent,
            Some(Value::Null) => Self::Null,
            Some(Value::Object(_)) => Self::Object,
            Some(_) => return None,
        };
        let slot = holder.entry(key).or_insert(Value::Null);
        if slot.is_null() {
            *slot = Value::Object(Map::new());
        }
        slot.as_object_mut().map(|object| (before, object))
    }

    /// Undoes [`Parent::open`] where the object is empty again.
    fn close(self, holder: &mut Map<String, Value>, key: &str) {
        if holder.get(key).and_then(Value::as_object).is_some_and(Map::is_empty) {
            match self {
                Self::Absent => drop(holder.remove(key)),
                Self::Null => drop(holder.insert(key.to_owned(), Value::Null)),
                Self::Object => {}
            }
        }
    }
}

/// Puts a value in, and says what was there.
pub(super) fn put(holder: &mut Map<String, Value>, key: &str, value: Value) -> Field {
    let before = holder.insert(key.to_owned(), value.clone());
    Field { injected: value, before }
}

/// The text of the record that a template carries.
pub(super) fn text(template: &Value) -> Option<&str> {
    template.get("metadata")?.get("annotations")?.get(INJECTED)?.as_str()
}

/// The record that a template carries; `None` where it has none or one that can't be read.
pub(super) fn read(template: &Value) -> Option<Record> {
    serde_json::from_str(text(template)?).ok()
}

/// Takes back what `record` says was injected, and the record itself. A value that is neither the
/// injected one nor the one from before is the user's, and stays.
pub(super) fn revert(template: &mut Value, record: &Record) {
    let Some(template) = template.as_object_mut() else { return };
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(INJECTED);
        }
        record.annotations.close(metadata, "annotations");
    }
    record.metadata.close(template, "metadata");

    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if let Some(grace_period) = &record.grace_period {
        restore(spec, "terminationGracePeriodSeconds", grace_period);
    }
    if let Some(spread) = &record.spread {
        restore(spec, "topologySpreadConstraints", spread);
    }
    for container in spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(container) = container.as_object_mut() else { continue };
        let name = container.get("name").and_then(Value::as_str);
        if let Some(given) = name.and_then(|name| record.containers.get(name)) {
            revert_container(container, given);
        }
    }
}

fn revert_container(container: &mut Map<String, Value>, given: &ContainerRecord) {
    if let Some(probe) = &given.readiness_probe {
        restore(container, "readinessProbe", probe);
    }
    if let Some(pre_stop) = &given.pre_stop {
        if let Some(lifecycle) = container.get_mut("lifecycle").and_then(Value::as_object_mut) {
            restore(lifecycle, "preStop", pre_stop);
            drop_second_handler(lifecycle, &pre_stop.injected);
        }
        given.lifecycle.close(container, "lifecycle");
    }
}

fn restore(holder: &mut Map<String, Value>, key: &str, field: &Field) {
    if holder.get(key) == Some(&field.injected) {
        match &field.before {
            Some(before) => drop(holder.insert(key.to_owned(), before.clone())),
            None => drop(holder.remove(key)),
        }
    }
}

/// A user's handler merged over the injected one makes two, which the API server refuses: the user's
/// stays.
fn drop_second_handler(lifecycle: &mut Map<String, Value>, injected: &Value) {
    let handlers = lifecycle.get_mut("preStop").and_then(Value::as_object_mut).filter(|h| h.len() > 1);
    if let (Some(handlers), Some(injected)) = (handlers, injected.as_object()) {
        handlers.retain(|key, value| injected.get(key) != Some(value));
    }
}

/// Reads a field that is there, also when it is `null`.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
