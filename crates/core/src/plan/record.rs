//! The record of an injection: the injected values, the values before, and the settings. It is an annotation of the
//! template, so it is part of revisions and pods, and is sufficient to revert the injection.
//!
//! Its text is a line of JSON, followed by one for each replaced hook of a user:
//! `{"CONTAINER":{"exec":{"command":["/drain.sh"]}}}`. A hook may run any program, so a client that could write any hook
//! into a record could have it restored and run. The separate lines have a form that a CEL expression can compute from
//! the hook. With them the chart's guard restricts the operator's service account to hooks that were in the container.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::{settings::Settings, source::Source, warnings::Warnings};
use crate::api::{annotations::INJECTED, labels, limits};

pub(super) const GRACE_PERIOD: &str = "terminationGracePeriodSeconds";
pub(super) const SPREAD: &str = "topologySpreadConstraints";
/// The API server's default.
pub(super) const DEFAULT_GRACE_PERIOD_SECONDS: i64 = 30;

/// The longest text of a record that is read, in bytes: the API server's limit for all annotations.
const TEXT_LIMIT: usize = 256 * 1024;
/// The memory that a record may take, in bytes. Users can write records in which each character is a value. A record of
/// 500 containers takes less.
const PARSED_SIZE_LIMIT: usize = 2 << 20;

/// Why nothing is injected if the record would not be readable.
pub(super) const TOO_LARGE: &str = "nothing is injected: the record of the injection would be too large to be read again; use fewer containers";

/// The injection into one pod template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The source that opts the workload in.
    pub opted_in_by: Source,
    /// Whether the command line made it, possibly from policies that are not in the cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rendered: bool,
    /// The settings of the injection.
    pub settings: Settings,
    /// `terminationGracePeriodSeconds`, if changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<InjectedField>,
    /// `topologySpreadConstraints`, if one was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<InjectedField>,
    /// The injected values by container name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, ContainerRecord>,
    /// The labels before [`labels::INJECTION`] was added, which routes the pods to the webhook. A label of the user is
    /// kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<ParentState>,
    /// The annotations before the record was added.
    #[serde(default, skip_serializing_if = "ParentState::is_object")]
    pub annotations: ParentState,
    /// The metadata before the annotations were added.
    #[serde(default, skip_serializing_if = "ParentState::is_object")]
    pub metadata: ParentState,
}

/// The values injected into one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRecord {
    /// `lifecycle.preStop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<InjectedField>,
    /// The `lifecycle` before the preStop was added.
    #[serde(default, skip_serializing_if = "ParentState::is_object")]
    pub lifecycle: ParentState,
    /// `readinessProbe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<InjectedField>,
}

/// One injected value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InjectedField {
    /// The injected value.
    pub injected: Value,
    /// The value before: absent, `null`, or a value.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "even_null")]
    pub before: Option<Value>,
}

/// The value before of an object that was added to hold an injected value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParentState {
    /// Absent.
    Absent,
    /// `null`.
    Null,
    /// An object, empty or not.
    #[default]
    Object,
}

impl Record {
    /// An empty record.
    pub(super) fn new(opted_in_by: Source, settings: Settings) -> Self {
        Self {
            opted_in_by,
            rendered: false,
            settings,
            grace_period: None,
            spread: None,
            containers: BTreeMap::new(),
            labels: None,
            annotations: ParentState::Object,
            metadata: ParentState::Object,
        }
    }

    /// The text of the annotation.
    pub(super) fn into_text(mut self) -> Option<String> {
        let mut replaced = String::new();
        for (name, given) in &mut self.containers {
            let hook = given.pre_stop.as_mut();
            if let Some(before) = hook.and_then(|hook| hook.before.take_if(|before| !before.is_null())) {
                replaced.push('\n');
                replaced.push_str(&json!({name: before}).to_string());
            }
        }
        Some(serde_json::to_string(&self).ok()? + &replaced)
    }

    /// Takes replaced hooks only from their lines. Probes and constraints are never replaced.
    fn restore_replaced_hooks(&mut self, lines: &str) {
        if let Some(spread) = &mut self.spread {
            spread.before.take_if(|before| !before.is_null() && *before != json!([]));
        }
        for given in self.containers.values_mut() {
            for field in [&mut given.pre_stop, &mut given.readiness_probe].into_iter().flatten() {
                field.before.take_if(|before| !before.is_null());
            }
        }
        for line in lines.split('\n').take(limits::CONTAINERS) {
            let hooks: BTreeMap<String, Value> = serde_json::from_str(line).unwrap_or_default();
            for (name, hook) in hooks {
                if let Some(given) = self.containers.get_mut(&name).and_then(|given| given.pre_stop.as_mut())
                {
                    given.before = Some(hook);
                }
            }
        }
    }

    /// Keeps only containers with injected values.
    pub(super) fn retain_injected(&mut self) {
        self.containers.retain(|_, given| given.pre_stop.is_some() || given.readiness_probe.is_some());
    }

    /// Whether a field of `template` has its value from before again, as after a Git sync.
    pub(super) fn has_previous_value(&self, template: &Value) -> bool {
        let is_restored = |field: &Option<InjectedField>, holder: &Value, key: &str| {
            let is_before = |field: &InjectedField| {
                let now = holder.get(key);
                now != Some(&field.injected) && now == field.before.as_ref()
            };
            field.as_ref().is_some_and(is_before)
        };
        let spec = &template["spec"];
        let mut containers = spec["containers"].as_array().into_iter().flatten();
        is_restored(&self.grace_period, spec, GRACE_PERIOD)
            || is_restored(&self.spread, spec, SPREAD)
            || containers.any(|container| {
                let given = container["name"].as_str().and_then(|name| self.containers.get(name));
                given.is_some_and(|given| {
                    is_restored(&given.pre_stop, &container["lifecycle"], "preStop")
                        || is_restored(&given.readiness_probe, container, "readinessProbe")
                })
            })
    }

    /// Warns of containers that were renamed since the injection, whose injected values count as the user's.
    pub(super) fn warn_renamed_containers(&self, template: &Value, warnings: &mut Warnings) {
        /// How many of the missing containers are compared with each new one.
        const MAX_COMPARED: usize = 32;
        let containers: Vec<_> = template["spec"]["containers"].as_array().into_iter().flatten().collect();
        let present: BTreeSet<_> =
            containers.iter().filter_map(|container| container["name"].as_str()).collect();
        let missing: Vec<_> =
            self.containers.iter().filter(|(name, _)| !present.contains(name.as_str())).collect();
        let carries = |container: &Value, given: &ContainerRecord| {
            let has =
                |field: &Option<InjectedField>, value: &Value| field.as_ref().map(|f| f.injected == *value);
            has(&given.pre_stop, &container["lifecycle"]["preStop"])
                .or_else(|| has(&given.readiness_probe, &container["readinessProbe"]))
                .unwrap_or(false)
        };
        let new = containers.iter().filter_map(|container| Some((container, container["name"].as_str()?)));
        let is_new =
            |name: &str| name.len() <= limits::CONTAINER_NAME_LENGTH && !self.containers.contains_key(name);
        let new = new.filter(|(_, name)| is_new(name));
        warnings.extend(new.filter_map(|(container, name)| {
            let (before, _) = missing.iter().take(MAX_COMPARED).find(|(_, given)| carries(container, given))?;
            Some(format!(
                "container {name:?} has the injection of {before:?}, which no longer exists. It is kept as your \
                 own: to inject it again, remove preStop and readinessProbe from the container"
            ))
        }));
    }

    /// Whether nothing was injected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grace_period.is_none() && self.spread.is_none() && self.containers.is_empty()
    }

    /// Whether `other` has the same injected values, apart from the settings.
    pub(super) fn same_values(&self, other: &Self) -> bool {
        self.grace_period == other.grace_period
            && self.spread == other.spread
            && self.containers == other.containers
            && self.labels.is_some() == other.labels.is_some()
    }

    /// Adds the label to the `metadata` of a template that routes its pods to the webhook.
    pub(super) fn label(&mut self, metadata: &mut Map<String, Value>) {
        let present = metadata.get("labels").is_some_and(|labels| labels.get(labels::INJECTION).is_some());
        if !present && let Some((before, labels)) = ParentState::ensure_object(metadata, "labels") {
            labels.insert(labels::INJECTION.to_owned(), labels::ENABLED.into());
            self.labels = Some(before);
        }
    }

    /// Reverts [`Record::label`], unless the label has another value now.
    pub(super) fn unlabel(&self, metadata: &mut Map<String, Value>) {
        let Some(before) = &self.labels else { return };
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut)
            && labels.get(labels::INJECTION).is_some_and(|value| value == labels::ENABLED)
        {
            labels.remove(labels::INJECTION);
        }
        before.restore(metadata, "labels");
    }
}

impl ParentState {
    fn is_object(&self) -> bool {
        *self == Self::Object
    }

    /// The object under `key`, added if absent, and its state before. `None` for a value that is not an object, which
    /// is kept.
    pub(super) fn ensure_object<'a>(
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

    /// Reverts [`ParentState::ensure_object`] if the object is empty again.
    pub(super) fn restore(&self, holder: &mut Map<String, Value>, key: &str) {
        if holder.get(key).and_then(Value::as_object).is_some_and(Map::is_empty) {
            match self {
                Self::Absent => drop(holder.remove(key)),
                Self::Null => drop(holder.insert(key.to_owned(), Value::Null)),
                Self::Object => {}
            }
        }
    }
}

/// Sets a value, and returns it with the value before.
pub(super) fn replace_field(holder: &mut Map<String, Value>, key: &str, value: Value) -> InjectedField {
    let before = holder.insert(key.to_owned(), value.clone());
    InjectedField { injected: value, before }
}

/// The text of a template's record.
pub(super) fn text(template: &Value) -> Option<&str> {
    template.get("metadata")?.get("annotations")?.get(INJECTED)?.as_str()
}

/// A template's record; `None` if it is absent or unreadable. Settings of a newer version are skipped, because the values
/// before are more important. Users can write any record, so values that no injection writes are skipped too.
pub(super) fn read(template: &Value) -> Option<Record> {
    let text = text(template).filter(|text| is_readable(text))?;
    let (text, replaced) = text.split_once('\n').unwrap_or((text, ""));
    let record = serde_json::from_str(text).ok().or_else(|| {
        // Users can write any text.
        let mut record: Map<String, Value> = serde_json::from_str(text).ok()?;
        record.insert("settings".into(), json!({}));
        serde_json::from_value(Value::Object(record)).ok()
    });
    let mut record: Record = record?;
    if !record.settings.is_bounded() {
        record.settings = Settings::default();
    }
    record.containers.retain(|name, _| name.len() <= limits::CONTAINER_NAME_LENGTH);
    record.restore_replaced_hooks(replaced);
    Some(record)
}

/// Whether a record is small enough to be read.
pub(super) fn is_readable(text: &str) -> bool {
    text.len() <= TEXT_LIMIT && parsed_size(text) <= PARSED_SIZE_LIMIT
}

/// An estimate of the memory that the values of a JSON text take, without strings.
fn parsed_size(text: &str) -> usize {
    const OBJECT: usize = 700;
    const ARRAY: usize = 150;
    const ITEM: usize = 72;
    let (mut parsed_size, mut in_string, mut bytes) = (0, false, text.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_string => drop(bytes.next()),
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' => parsed_size += OBJECT,
            b'[' => parsed_size += ARRAY,
            b',' => parsed_size += ITEM,
            _ => {}
        }
    }
    parsed_size
}

/// The regular containers by name. Of two with the same name, which the API server rejects, only the first is used.
pub(super) fn named_containers(
    spec: &mut Map<String, Value>,
) -> impl Iterator<Item = (String, &mut Map<String, Value>)> {
    let mut seen = BTreeSet::new();
    let containers = spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten();
    containers.filter_map(Value::as_object_mut).filter_map(move |container| {
        let name = container.get("name")?.as_str()?.to_owned();
        seen.insert(name.clone()).then_some((name, container))
    })
}

/// Reads a present field, including `null`.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
