//! The record: what was injected into a template, what was there before, and the settings it was made
//! from. It lies in the template's annotations, so that it travels with revisions and pods, and is all
//! that is needed to take the injection back.
//!
//! Its text is a line of JSON, and after it one for each hook of a user that was replaced:
//! `{"CONTAINER":{"exec":{"command":["/drain.sh"]}}}`. A hook may run anything, so who could write any
//! hook into a record could have it restored and run. Lines of their own, in a form that an expression in
//! the API server can make of the hook itself, let the chart's guard hold the operator's service account to
//! hooks that stood in the container.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::{Settings, Source};
use crate::api::{annotations::INJECTED, labels};

pub(super) const GRACE_PERIOD: &str = "terminationGracePeriodSeconds";
pub(super) const SPREAD: &str = "topologySpreadConstraints";
/// What the API server fills in (API defaulting).
pub(super) const DEFAULT_GRACE_PERIOD_SECONDS: i64 = 30;

/// The longest text of a record that is read, in bytes: what the API server takes of all annotations.
const TEXT_LIMIT: usize = 256 * 1024;
/// How much memory a record may take that is read, in bytes. Anybody can write one, of which a character makes a value.
/// That of 500 containers takes less.
const WEIGHT_LIMIT: usize = 2 << 20;

/// What was injected into one pod template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Who opted the workload in.
    pub opted_in_by: Source,
    /// Whether the command line made it. Then it stands for policies that the cluster may not have.
    #[serde(default, skip_serializing_if = "is_false")]
    pub rendered: bool,
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
    /// What the labels were that now hold [`labels::INJECTION`], where it was put in. It brings the pods to the
    /// webhook; one that the user set is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Parent>,
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
            rendered: false,
            settings,
            grace_period: None,
            spread: None,
            containers: BTreeMap::new(),
            labels: None,
            annotations: Parent::Object,
            metadata: Parent::Object,
        }
    }

    /// As the annotation holds it.
    pub(super) fn to_text(&self) -> Option<String> {
        let mut record = self.clone();
        let mut replaced = Vec::new();
        for (name, given) in &mut record.containers {
            let hook = given.pre_stop.as_mut();
            if let Some(before) = hook.and_then(|hook| hook.before.take_if(|before| !before.is_null())) {
                replaced.push(json!({name: before}).to_string());
            }
        }
        let record = serde_json::to_string(&record).ok()?;
        Some([vec![record], replaced].concat().join("\n"))
    }

    /// Takes what was replaced from its lines, and from nowhere else. Probes and constraints are never replaced.
    fn take_replaced(&mut self, lines: &str) {
        if let Some(spread) = &mut self.spread {
            spread.before.take_if(|before| !before.is_null() && *before != json!([]));
        }
        for given in self.containers.values_mut() {
            for field in [&mut given.pre_stop, &mut given.readiness_probe].into_iter().flatten() {
                field.before.take_if(|before| !before.is_null());
            }
        }
        for line in lines.split('\n') {
            let hooks: BTreeMap<String, Value> = serde_json::from_str(line).unwrap_or_default();
            for (name, hook) in hooks {
                if let Some(given) = self.containers.get_mut(&name).and_then(|given| given.pre_stop.as_mut())
                {
                    given.before = Some(hook);
                }
            }
        }
    }

    /// Drops the containers that were given nothing.
    pub(super) fn forget_untouched(&mut self) {
        self.containers.retain(|_, given| given.pre_stop.is_some() || given.readiness_probe.is_some());
    }

    /// Whether a field of `template` has the value from before again, as a Git sync leaves it that puts back
    /// what it knows.
    pub(super) fn is_reasserted(&self, template: &Value) -> bool {
        let back = |field: &Option<Field>, holder: &Value, key: &str| {
            let is_before = |field: &Field| {
                let now = holder.get(key);
                now != Some(&field.injected) && now == field.before.as_ref()
            };
            field.as_ref().is_some_and(is_before)
        };
        let spec = &template["spec"];
        let mut containers = spec["containers"].as_array().into_iter().flatten();
        back(&self.grace_period, spec, GRACE_PERIOD)
            || back(&self.spread, spec, SPREAD)
            || containers.any(|container| {
                let given = container["name"].as_str().and_then(|name| self.containers.get(name));
                given.is_some_and(|given| {
                    back(&given.pre_stop, &container["lifecycle"], "preStop")
                        || back(&given.readiness_probe, container, "readinessProbe")
                })
            })
    }

    /// What a person should know of a container that was renamed since: what was injected into it counts as its own.
    pub(super) fn renamed(&self, template: &Value) -> Vec<String> {
        /// If more are gone at a time, it can't be known which was renamed to what.
        const RENAMED: usize = 32;
        let containers: Vec<_> = template["spec"]["containers"].as_array().into_iter().flatten().collect();
        let present: BTreeSet<_> =
            containers.iter().filter_map(|container| container["name"].as_str()).collect();
        let gone: Vec<_> =
            self.containers.iter().filter(|(name, _)| !present.contains(name.as_str())).collect();
        let carries = |container: &Value, given: &ContainerRecord| {
            let has = |field: &Option<Field>, value: &Value| field.as_ref().map(|f| f.injected == *value);
            has(&given.pre_stop, &container["lifecycle"]["preStop"])
                .or_else(|| has(&given.readiness_probe, &container["readinessProbe"]))
                .unwrap_or(false)
        };
        let new = containers.iter().filter_map(|container| Some((container, container["name"].as_str()?)));
        let new = new.filter(|(_, name)| !self.containers.contains_key(*name));
        new.filter_map(|(container, name)| {
            let (before, _) = gone.iter().take(RENAMED).find(|(_, given)| carries(container, given))?;
            Some(format!(
                "container {name:?} carries what was injected into {before:?}, which no longer exists. It is kept as your \
                 own: to have it injected again, remove preStop and readinessProbe from the container"
            ))
        })
        .collect()
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
            && self.labels.is_some() == other.labels.is_some()
    }

    /// Puts the label in that brings the pods of a template, whose `metadata` this is, to the webhook.
    pub(super) fn label(&mut self, metadata: &mut Map<String, Value>) {
        let present = metadata.get("labels").is_some_and(|labels| labels.get(labels::INJECTION).is_some());
        if !present && let Some((before, labels)) = Parent::open(metadata, "labels") {
            labels.insert(labels::INJECTION.to_owned(), labels::ENABLED.into());
            self.labels = Some(before);
        }
    }

    /// Undoes [`Record::label`], unless the label has another value by now.
    fn unlabel(&self, metadata: &mut Map<String, Value>) {
        let Some(before) = self.labels else { return };
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut)
            && labels.get(labels::INJECTION).is_some_and(|value| value == labels::ENABLED)
        {
            labels.remove(labels::INJECTION);
        }
        before.close(metadata, "labels");
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

/// The record that a template carries; `None` where it has none or one that can't be read. Settings of a
/// version that knows more than this one are passed over: what was there before counts for more.
pub(super) fn read(template: &Value) -> Option<Record> {
    let text = text(template).filter(|text| is_readable(text))?;
    let (text, replaced) = text.split_once('\n').unwrap_or((text, ""));
    let record = serde_json::from_str(text).ok().or_else(|| {
        // Anybody can write anything here.
        let mut record: Map<String, Value> = serde_json::from_str(text).ok()?;
        record.insert("settings".into(), json!({}));
        serde_json::from_value(Value::Object(record)).ok()
    });
    let mut record: Record = record?;
    record.take_replaced(replaced);
    Some(record)
}

/// Whether a record is small enough to be read.
pub(super) fn is_readable(text: &str) -> bool {
    text.len() <= TEXT_LIMIT && weight(text) <= WEIGHT_LIMIT
}

/// About how much memory a JSON text takes as values, strings aside.
fn weight(text: &str) -> usize {
    const OBJECT: usize = 700;
    const ARRAY: usize = 150;
    const ITEM: usize = 72;
    let (mut weight, mut in_string, mut bytes) = (0, false, text.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_string => drop(bytes.next()),
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' => weight += OBJECT,
            b'[' => weight += ARRAY,
            b',' => weight += ITEM,
            _ => {}
        }
    }
    weight
}

/// Whether two templates differ in nothing but the text of their records and the label that comes with them.
pub(super) fn same_but_for_text(a: &Value, b: &Value) -> bool {
    let without = |template: &Value| {
        let record = read(template);
        let mut template = template.clone();
        if let Some(metadata) = template["metadata"].as_object_mut() {
            metadata.get_mut("annotations").and_then(Value::as_object_mut).map(|all| all.remove(INJECTED));
            record.inspect(|record| record.unlabel(metadata));
        }
        template
    };
    text(a).is_some() && text(b).is_some() && text(a) != text(b) && without(a) == without(b)
}

/// The regular containers that can be recorded by name. Of two with one name, which the API server
/// refuses, only the first counts.
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

/// Takes back what `record` says was injected, and the record itself. A value that is neither the
/// injected one nor the one from before is the user's, and stays.
pub(super) fn revert(template: &mut Value, record: &Record) {
    let Some(template) = template.as_object_mut() else { return };
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(INJECTED);
        }
        record.annotations.close(metadata, "annotations");
        record.unlabel(metadata);
    }
    record.metadata.close(template, "metadata");

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
    // The API server refuses a sleep that is longer than the grace period (KEP-4818): one that the user
    // wrote since then keeps what it relies on.
    let fits = |before: &Option<Value>| {
        let before = before.as_ref().and_then(Value::as_i64).unwrap_or(DEFAULT_GRACE_PERIOD_SECONDS);
        longest.is_none_or(|longest| longest <= before)
    };
    if let Some(grace_period) = record.grace_period.as_ref().filter(|field| fits(&field.before)) {
        restore(spec, GRACE_PERIOD, grace_period);
    }
}

/// The seconds of a native sleep that the user put in the place of the injected hook.
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
        given.lifecycle.close(container, "lifecycle");
    }
}

/// Puts back what was there, if the injected value still is; whether it was.
fn restore(holder: &mut Map<String, Value>, key: &str, field: &Field) -> bool {
    let is_injected = holder.get(key) == Some(&field.injected);
    if is_injected {
        match &field.before {
            Some(before) => drop(holder.insert(key.to_owned(), before.clone())),
            None => drop(holder.remove(key)),
        }
    }
    is_injected
}

/// A user's handler merged over the injected one makes two, which the API server refuses: the user's
/// stays, with all that is beside it, which he may have written with the values of the injected.
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

/// Constraints are merged by their topology key: a user's come beside the injected one, which then goes.
fn drop_second_constraint(spec: &mut Map<String, Value>, injected: &Value) {
    let constraints = spec.get_mut(SPREAD).and_then(Value::as_array_mut).filter(|c| c.len() > 1);
    if let (Some(constraints), Some(injected)) = (constraints, injected.as_array()) {
        constraints.retain(|constraint| !injected.contains(constraint));
    }
}

/// `serde` asks by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Reads a field that is there, also when it is `null`.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
