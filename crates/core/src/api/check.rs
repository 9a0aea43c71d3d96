//! Validation of policies without an API server.
//!
//! The result is the same as that of the API server. Types, bounds and unknown fields are checked here, CEL rules by
//! `kube_cel`.

use std::{fmt, sync::LazyLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use regex::Regex;
use serde_json::{Value, json};

use super::{annotations::is_object_name, crds, group::GROUP, numbers::whole};

/// A reason for which the API server rejects a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// The path of the field, such as `spec`, `kinds`, `1`.
    pub path: Vec<String>,
    /// Its value; `None` if absent.
    pub value: Option<Value>,
    /// The rule.
    pub rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.path.iter().enumerate() {
            match step.parse::<usize>() {
                Ok(index) => write!(f, "[{index}]")?,
                Err(_) if depth == 0 => f.write_str(step)?,
                Err(_) => write!(f, ".{step}")?,
            }
        }
        match &self.value {
            Some(Value::Object(_) | Value::Array(_)) => write!(f, ": Invalid value: {}", self.rule),
            Some(value) => write!(f, ": Invalid value: {value}: {}", self.rule),
            None => write!(f, ": Required value: {}", self.rule),
        }
    }
}

/// Validates an object of the group `adieu.dev` as the API server does, with strict fields. The status is skipped, because
/// the API server ignores it in writes of the spec.
#[must_use]
pub fn check_policy(policy: &Value) -> Vec<Violation> {
    let schema = match schema_of(policy) {
        Ok(schema) => schema,
        Err(violation) => return vec![violation],
    };
    let mut found = Vec::new();
    check_name(policy, &mut found);
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    for (key, value) in policy.as_object().into_iter().flatten() {
        if !known.contains(&key.as_str()) {
            found.push(violation(&[key], Some(value), "unknown field".into()));
        }
    }
    match (policy.get("spec"), part(schema, "spec")) {
        (Some(spec), Some(schema)) => {
            let mut validation = Validation { path: vec!["spec".into()], found };
            validation.check(spec, schema);
            found = validation.found;
        }
        (None, Some(_)) => found.push(violation(&["spec"], None, "the settings of the policy".into())),
        (_, None) => {}
    }
    // Like the API server, evaluate rules only for values of the right types.
    if found.is_empty() { check_rules(policy, schema) } else { found }
}

/// Validates the status of a policy as the API server does for a write of the status. For the tests of several crates:
/// they hold what the controller writes, and what the API server accepts, against the schema.
#[must_use]
pub fn check_status(policy: &Value) -> Vec<Violation> {
    let schema = match schema_of(policy) {
        Ok(schema) => schema,
        Err(violation) => return vec![violation],
    };
    let status = policy.get("status").filter(|status| !status.is_null());
    let (Some(status), Some(schema)) = (status, part(schema, "status")) else { return vec![] };
    let mut validation = Validation { path: vec!["status".into()], found: vec![] };
    validation.check(status, schema);
    validation.found
}

/// A valid policy as the API server stores it on creation: without a status, without null fields, and with `5` for
/// `5.0`.
#[must_use]
pub fn as_stored(policy: &Value) -> Value {
    let mut policy = with_integers(without_nulls(policy));
    if let Some(fields) = policy.as_object_mut() {
        fields.remove("status");
    }
    policy
}

/// The schema of a policy's kind and version.
fn schema_of(policy: &Value) -> Result<&'static JSONSchemaProps, Violation> {
    static CRDS: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(crds);
    let crds = &*CRDS;
    let kind = policy["kind"].as_str().unwrap_or_default();
    let Some(crd) = crds.iter().find(|crd| crd.spec.names.kind == kind) else {
        let kinds: Vec<_> = crds.iter().map(|crd| crd.spec.names.kind.as_str()).collect();
        return Err(violation(&["kind"], policy.get("kind"), format!("must be {}", kinds.join(" or "))));
    };
    let api_version = policy["apiVersion"].as_str().unwrap_or_default();
    let version = crd.spec.versions.iter().find(|known| format!("{GROUP}/{}", known.name) == api_version);
    let schema = version.and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    schema.ok_or_else(|| {
        let versions: Vec<_> =
            crd.spec.versions.iter().map(|known| format!("{GROUP}/{}", known.name)).collect();
        let rule = format!("must be {}", versions.join(" or "));
        violation(&["apiVersion"], policy.get("apiVersion"), rule)
    })
}

fn part<'a>(schema: &'a JSONSchemaProps, name: &str) -> Option<&'a JSONSchemaProps> {
    schema.properties.as_ref()?.get(name)
}

/// The API server treats a null field as an absent one.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let given = map.iter().filter(|(_, value)| !value.is_null());
            given.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        value => value.clone(),
    }
}

fn with_integers(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, with_integers(value))).collect(),
        Value::Array(items) => items.into_iter().map(with_integers).collect(),
        Value::Number(number) if number.is_f64() => {
            number.as_f64().and_then(whole).map_or(Value::Number(number), Value::from)
        }
        value => value,
    }
}

fn violation(path: &[&str], value: Option<&Value>, rule: String) -> Violation {
    Violation { path: path.iter().map(|step| (*step).to_owned()).collect(), value: value.cloned(), rule }
}

fn check_name(policy: &Value, found: &mut Vec<Violation>) {
    let metadata = &policy["metadata"];
    let name = metadata.get("name");
    match name.and_then(Value::as_str) {
        Some(name) if is_object_name(name) => {}
        None if name.is_none() && metadata["generateName"].is_string() => {}
        _ => found.push(violation(
            &["metadata", "name"],
            name,
            "must be lower case letters, digits, '-' and '.', at most 253 characters, for example \"checkout\"".into(),
        )),
    }
}

/// Evaluates the CEL rules.
fn check_rules(policy: &Value, schema: &JSONSchemaProps) -> Vec<Violation> {
    let spec_only = json!({"spec": without_nulls(&policy["spec"])});
    let outcome = kube_cel::Validator::new().validate(&json!(schema), &spec_only, None);
    let errors = outcome.err().map(kube_cel::ValidationErrors::into_vec).unwrap_or_default();
    let violations = errors.into_iter().map(|error| {
        let path: Vec<String> = error
            .field_path
            .split(['.', '[', ']'])
            .filter(|step| !step.is_empty())
            .map(str::to_owned)
            .collect();
        let value = path.iter().try_fold(&spec_only, |value, step| match step.parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(step),
        });
        Violation { value: value.cloned(), path, rule: error.message }
    });
    violations.collect()
}

/// Validates a value with its schema, recursively.
struct Validation {
    path: Vec<String>,
    found: Vec<Violation>,
}

impl Validation {
    fn check(&mut self, value: &Value, schema: &JSONSchemaProps) {
        if let Some(rule) = wrong_type(value, schema) {
            return self.reject(value, rule);
        }
        if let Some(allowed) = &schema.enum_
            && !allowed.iter().any(|allowed| allowed.0 == *value)
        {
            let allowed: Vec<_> = allowed.iter().map(|allowed| allowed.0.to_string()).collect();
            return self.reject(value, format!("must be one of {}", allowed.join(", ")));
        }
        match value {
            Value::Object(map) => self.check_object(value, map, schema),
            Value::Array(items) => self.check_array(value, items, schema),
            Value::String(text) => self.check_string(value, text, schema),
            Value::Number(_) => self.check_number(value, schema),
            Value::Bool(_) | Value::Null => {}
        }
    }

    fn check_object(
        &mut self,
        value: &Value,
        map: &serde_json::Map<String, Value>,
        schema: &JSONSchemaProps,
    ) {
        // Null counts as absent, except for an unknown field.
        let given = |key: &str| map.get(key).is_some_and(|value| !value.is_null());
        for key in schema.required.iter().flatten().filter(|key| !given(key)) {
            self.path.push(key.clone());
            self.found.push(Violation { path: self.path.clone(), value: None, rule: "is required".into() });
            self.path.pop();
        }
        let entries = map.values().filter(|value| !value.is_null()).count();
        if let Some(most) = schema.max_properties.filter(|most| over(entries, *most)) {
            self.reject(value, format!("must have at most {most} entries"));
        }
        for (key, value) in map {
            let known = schema.properties.as_ref().and_then(|properties| properties.get(key));
            let of_map = match &schema.additional_properties {
                Some(JSONSchemaPropsOrBool::Schema(schema)) => Some(schema.as_ref()),
                _ => None,
            };
            self.path.push(key.clone());
            match known.or(of_map) {
                Some(_) if value.is_null() => {}
                Some(_) if is_read_by_a_rule(key, schema) && value.is_f64() => {
                    self.reject(value, "must be an integer, without a decimal point or an exponent".into());
                }
                Some(schema) => self.check(value, schema),
                None => self.reject(value, "unknown field: check its spelling and place".into()),
            }
            self.path.pop();
        }
    }

    fn check_array(&mut self, value: &Value, items: &[Value], schema: &JSONSchemaProps) {
        if let Some(least) = schema.min_items.filter(|least| under(items.len(), *least)) {
            self.reject(value, format!("must have at least {least} items"));
        }
        if let Some(most) = schema.max_items.filter(|most| over(items.len(), *most)) {
            self.reject(value, format!("must have at most {most} items"));
        }
        let set = schema.x_kubernetes_list_type.as_deref() == Some("set");
        let keys = schema.x_kubernetes_list_map_keys.as_deref().unwrap_or_default();
        let same = |a: &Value, b: &Value| keys.iter().all(|key| a.get(key) == b.get(key));
        for (index, item) in items.iter().enumerate() {
            self.path.push(index.to_string());
            let before = &items[..index];
            if set && before.contains(item) {
                self.reject(item, "must not be repeated".into());
            }
            if !keys.is_empty() && before.iter().any(|other| same(item, other)) {
                self.reject(item, format!("must not have the {} of another", keys.join(" and ")));
            }
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                self.check(item, schema);
            }
            self.path.pop();
        }
    }

    fn check_string(&mut self, value: &Value, text: &str, schema: &JSONSchemaProps) {
        let length = text.chars().count();
        if let Some(least) = schema.min_length.filter(|least| under(length, *least)) {
            return self.reject(value, format!("must have at least {least} characters"));
        }
        if let Some(most) = schema.max_length.filter(|most| over(length, *most)) {
            return self.reject(value, format!("must have at most {most} characters"));
        }
        if let Some(pattern) = &schema.pattern
            && !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
        {
            let number =
                if schema.x_kubernetes_int_or_string == Some(true) { ", or be an integer" } else { "" };
            self.reject(value, format!("must match {pattern}{number}"));
        }
    }

    fn check_number(&mut self, value: &Value, schema: &JSONSchemaProps) {
        let number = value.as_f64().unwrap_or_default();
        let int32 = schema.format.as_deref() == Some("int32");
        let minimum = schema.minimum.or(int32.then_some(i32::MIN.into()));
        let maximum = schema.maximum.or(int32.then_some(i32::MAX.into()));
        if let Some(minimum) = minimum.filter(|minimum| number < *minimum) {
            self.reject(value, format!("must be at least {minimum}"));
        }
        if let Some(maximum) = maximum.filter(|maximum| number > *maximum) {
            self.reject(value, format!("must be at most {maximum}"));
        }
    }

    fn reject(&mut self, value: &Value, rule: String) {
        self.found.push(Violation { path: self.path.clone(), value: Some(value.clone()), rule });
    }
}

fn wrong_type(value: &Value, schema: &JSONSchemaProps) -> Option<String> {
    if schema.x_kubernetes_int_or_string == Some(true) {
        let right = value.is_string() || is_integer(value);
        return (!right).then(|| "must be an integer or a string".into());
    }
    let wanted = schema.type_.as_deref()?;
    let right = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => is_integer(value),
        "number" => value.is_number(),
        _ => true,
    };
    let article = if wanted.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
    (!right).then(|| format!("must be {article} {wanted}"))
}

/// An integer for the API server, which includes `5.0` (`IsFloat64AJSONInteger`).
fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_f64() && value.as_f64().and_then(whole).is_some()
}

/// Whether a CEL rule reads this field of an object. Such a rule fails for a number with a decimal point, even `5.0`
/// (`UnstructuredToVal`).
fn is_read_by_a_rule(field: &str, schema: &JSONSchemaProps) -> bool {
    let read = format!("self.{field}");
    let is_whole = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_alphanumeric());
    let reads = |rule: &str| rule.split(&read).skip(1).any(is_whole);
    schema.x_kubernetes_validations.iter().flatten().any(|rule| reads(&rule.rule))
}

fn over(length: usize, most: i64) -> bool {
    i64::try_from(length).is_ok_and(|length| length > most)
}

fn under(length: usize, least: i64) -> bool {
    i64::try_from(length).is_ok_and(|length| length < least)
}

#[cfg(test)]
#[path = "cluster_policy_tests.rs"]
mod cluster_policy_tests;
#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
