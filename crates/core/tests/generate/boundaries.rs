//! Policies and profiles with one field at a bound of its schema, just inside, just outside, or far beyond.

use regex::Regex;
use serde_json::{Map, Value, json};

/// A policy or profile with one field at or beyond a bound.
#[derive(Clone, Debug)]
pub struct Boundary {
    /// Such as `spec.rollout.maxConcurrent = 1001`.
    pub name: String,
    /// The whole object.
    pub policy: Value,
    /// Whether the field belongs to the status, which is written separately.
    pub of_status: bool,
    /// Whether the policy is valid, if only the bounds decide.
    pub valid: Option<bool>,
}

/// Every field of every kind, each at and beyond its bounds.
pub fn boundaries() -> Vec<Boundary> {
    let of_kind = |(kind, schema): &(String, Value)| Fields { kind, found: vec![] }.all(schema);
    schemas(|_| true).iter().flat_map(of_kind).collect()
}

/// The largest policy of each kind that its schema allows.
pub fn largest() -> Vec<Value> {
    let largest = |(kind, schema): (String, Value)| {
        let mut policy = base(&kind);
        for part in ["spec", "status"] {
            policy[part] = fullest(&schema["properties"][part], part);
            for selector in ["selector", "namespaceSelector"] {
                // All expressions share one number of values.
                let expressions = policy.pointer_mut(&format!("/{part}/{selector}/matchExpressions"));
                for expression in expressions.and_then(Value::as_array_mut).into_iter().flatten().skip(1) {
                    expression["operator"] = json!("DoesNotExist");
                    expression.as_object_mut().unwrap().remove("values");
                }
            }
        }
        let spec = &mut policy["spec"];
        spec["shutdownTimeoutSeconds"] = json!(86_400 - 3600 - 3600);
        spec["preStop"]["method"] = json!("HTTPGet");
        spec["readinessProbe"]["mode"] = json!("Auto");
        // Of the three, the request is the largest.
        let probe = spec["readinessProbe"]["probe"].as_object_mut().unwrap();
        probe.retain(|field, _| field != "tcpSocket" && field != "grpc");
        policy
    };
    schemas(is_policy).into_iter().map(largest).collect()
}

/// Users write policies, and adieu alone writes the others.
fn is_policy(kind: &str) -> bool {
    kind.ends_with("Policy")
}

/// Some of the kinds, with their schemas.
fn schemas(is_included: impl Fn(&str) -> bool) -> Vec<(String, Value)> {
    let crds = adieu_core::api::crds();
    let schema = |crd: &Value| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    let crds = crds.iter().map(|crd| serde_json::to_value(crd).unwrap());
    let of_kinds = crds.map(|crd| (crd["spec"]["names"]["kind"].as_str().unwrap().to_owned(), schema(&crd)));
    of_kinds.filter(|(kind, _)| is_included(kind)).collect()
}

fn base(kind: &str) -> Value {
    let spec = if is_policy(kind) { json!({}) } else { json!({"kind": "Deployment", "name": "web"}) };
    json!({"apiVersion": "adieu.dev/v1alpha1", "kind": kind, "metadata": {"name": "p"}, "spec": spec})
}

/// A step of a path.
#[derive(Clone, Debug)]
enum Step {
    Property(String),
    /// Into the only item of a list.
    Item,
    /// Into the only entry of a map.
    Entry,
}

struct Fields<'a> {
    kind: &'a str,
    found: Vec<Boundary>,
}

impl Fields<'_> {
    fn all(mut self, schema: &Value) -> Vec<Boundary> {
        for part in ["spec", "status"] {
            self.walk(schema, &schema["properties"][part], &[Step::Property(part.into())]);
        }
        self.found
    }

    fn walk(&mut self, root: &Value, schema: &Value, path: &[Step]) {
        for (value, valid) in values(schema) {
            let mut policy = base(self.kind);
            set(&mut policy, root, path, &value);
            let text = value.to_string();
            let shown: String = text.chars().take(40).collect();
            let name = format!("{} {} = {shown} ({} bytes)", self.kind, display(path), text.len());
            let of_status = matches!(&path[0], Step::Property(part) if part == "status");
            self.found.push(Boundary { name, policy, of_status, valid });
        }
        let properties = schema["properties"].as_object().into_iter().flatten();
        for (name, property) in properties.filter(|(name, _)| !is_excluded(schema, name)) {
            self.walk(root, property, &[path, &[Step::Property(name.clone())]].concat());
        }
        for (step, inner) in [(Step::Item, &schema["items"]), (Step::Entry, &schema["additionalProperties"])]
        {
            if inner.is_object() {
                self.walk(root, inner, &[path, &[step]].concat());
            }
        }
    }
}

/// Whether a rule rejects every value of a field.
fn is_excluded(schema: &Value, field: &str) -> bool {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.into_iter().any(|rule| rule["rule"] == format!("!has(self.{field})"))
}

fn display(path: &[Step]) -> String {
    let text = |step: &Step| match step {
        Step::Property(name) => format!(".{name}"),
        Step::Item | Step::Entry => "[]".into(),
    };
    path.iter().map(text).collect::<String>().trim_start_matches('.').to_owned()
}

/// Sets the value at `path`, with the fields that are required around it.
fn set(at: &mut Value, schema: &Value, path: &[Step], value: &Value) {
    let Some((step, rest)) = path.split_first() else {
        at.clone_from(value);
        return;
    };
    match step {
        Step::Property(name) => {
            if !at.is_object() {
                *at = least(schema, name);
            }
            set(&mut at[name], &schema["properties"][name], rest, value);
            complete(at, schema, name);
        }
        Step::Item => {
            let mut item = least(&schema["items"], "");
            set(&mut item, &schema["items"], rest, value);
            *at = json!([item]);
        }
        Step::Entry => {
            let mut entry = Value::Null;
            set(&mut entry, &schema["additionalProperties"], rest, value);
            *at = json!({"key": entry});
        }
    }
}

/// Sets the fields that rules require together with `field`.
fn complete(object: &mut Value, schema: &Value, field: &str) {
    let has = |field: &str| schema["properties"].get(field).is_some();
    match field {
        "drainSeconds" | "shutdownTimeoutSeconds" | "marginSeconds" if has("maxGracePeriodSeconds") => {
            object["maxGracePeriodSeconds"] = json!(86_400);
        }
        "preStop" if object["preStop"].get("httpGet").is_some() => {
            object["preStop"]["method"] = json!("HTTPGet");
        }
        "values" => object["operator"] = json!("In"),
        "failureThreshold"
        | "initialDelaySeconds"
        | "periodSeconds"
        | "successThreshold"
        | "timeoutSeconds" => {
            object["tcpSocket"] = json!({"port": 80});
        }
        _ => {}
    }
}

/// The smallest value of a schema: only required fields.
fn least(schema: &Value, name: &str) -> Value {
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let property = |name: &str| (name.to_owned(), least(&schema["properties"][name], name));
            Value::Object(required.map(property).collect::<Map<_, _>>())
        }
        Some("array") => json!([]),
        Some("integer") => json!(number(&schema["minimum"]).unwrap_or(0)),
        // The operator of a selector without values.
        Some("string") if name == "operator" => json!("Exists"),
        Some("string") if schema["enum"].is_array() => schema["enum"][0].clone(),
        Some("string") => json!((1..64).find_map(|length| text(schema, length)).unwrap()),
        _ => json!(1),
    }
}

/// The largest value of a schema, and of those the longest.
fn fullest(schema: &Value, name: &str) -> Value {
    let count = |key: &str| number(&schema[key]).unwrap_or_else(|| unreachable!("{name}: {key}"));
    match schema["type"].as_str() {
        Some("object") if schema["additionalProperties"].is_object() => {
            let value = fullest(&schema["additionalProperties"], name);
            (0..count("maxProperties")).map(|n| (long_key(n), value.clone())).collect::<Map<_, _>>().into()
        }
        Some("object") => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties
                .filter(|(name, _)| !is_excluded(schema, name))
                .map(|(name, property)| (name.clone(), fullest(property, name)))
                .collect::<Map<_, _>>()
                .into()
        }
        Some("array") => {
            let item = fullest(&schema["items"], name);
            (0..count("maxItems")).map(|n| distinct(&item, &schema["items"], n)).collect()
        }
        Some("integer") => json!(count("maximum")),
        Some("string") if name == "operator" => json!("NotIn"),
        Some("string") if schema["enum"].is_array() => {
            let values = schema["enum"].as_array().unwrap();
            values.iter().max_by_key(|value| value.as_str().map(str::len)).unwrap().clone()
        }
        _ => {
            let longest = count("maxLength");
            json!(
                (1..=longest)
                    .rev()
                    .find_map(|length| text(schema, usize::try_from(length).unwrap()))
                    .unwrap()
            )
        }
    }
}

/// A similar, distinct item.
fn distinct(item: &Value, schema: &Value, n: i64) -> Value {
    let mut item = item.clone();
    let set = |text: &mut Value, digits: String| {
        let old = text.as_str().unwrap_or_default();
        let at = old.len().saturating_sub(digits.len());
        *text = json!(format!("{}{digits}", &old[..at]));
    };
    if let Some(values) = schema["enum"].as_array() {
        return values[usize::try_from(n).unwrap() % values.len()].clone();
    }
    match &mut item {
        Value::Object(fields) if fields.contains_key("type") => {
            let letter = char::from(b'a' + u8::try_from(n).unwrap() % 26);
            set(&mut fields["type"], letter.to_string());
        }
        Value::Object(fields) if fields.contains_key("exposure") => {
            set(&mut fields["exposure"], format!("{n:02}"));
        }
        Value::String(_) => set(&mut item, format!("{n:02}")),
        _ => {}
    }
    item
}

/// The tested values of a field, and whether they are valid, if only the bounds decide.
fn values(schema: &Value) -> Vec<(Value, Option<bool>)> {
    if schema["x-kubernetes-int-or-string"] == true {
        return [numbers(schema), texts(schema)].concat();
    }
    let mut values = match schema["type"].as_str() {
        Some("integer") => numbers(schema),
        Some("string") => texts(schema),
        Some("array") => lists(schema),
        Some("object") if schema["additionalProperties"].is_object() => maps(schema),
        _ => vec![],
    };
    let others =
        [json!("5"), json!(5), json!([]), json!({}), json!([null]), json!({"key": null}), json!(null)];
    let of_another_type = |value: &Value| match schema["type"].as_str() {
        Some("integer") => value.is_string(),
        Some("string") => value.is_number(),
        _ => value.is_string() || value.is_number(),
    };
    values.extend(others.map(|value| (value.clone(), of_another_type(&value).then_some(false))));
    values.push((json!(true), Some(false)));
    values
}

fn numbers(schema: &Value) -> Vec<(Value, Option<bool>)> {
    let [minimum, maximum] = ["minimum", "maximum"]
        .map(|bound| number(&schema[bound]).unwrap_or_else(|| unreachable!("{schema}")));
    let near = [-1, 0, 1].into_iter().flat_map(|by| [minimum + by, maximum + by]);
    let far = [-1, 0, 1, 1 << 31, (1 << 31) - 1, -(1 << 31) - 1, 1 << 53, (1 << 53) + 1, i64::MAX, i64::MIN];
    let integers = near.chain(far).map(|n| (json!(n), Some((minimum..=maximum).contains(&n))));
    let fractions = [1.5, -0.5, 1e300, 9_007_199_254_740_992.0].map(|n| (json!(n), Some(false)));
    // The API server accepts them as integers for some fields only.
    let whole = [5.0, 1e3, -0.0, 1e15].map(|n| (json!(n), None));
    integers.chain(fractions).chain(whole).chain([(json!(u64::MAX), Some(false))]).collect()
}

fn texts(schema: &Value) -> Vec<(Value, Option<bool>)> {
    if let Some(values) = schema["enum"].as_array() {
        // Methods, modes and operators depend on other fields.
        let allowed = values.iter().map(|value| (value.clone(), None));
        return allowed.chain(["", "X"].map(|value| (json!(value), Some(false)))).collect();
    }
    let longest =
        usize::try_from(number(&schema["maxLength"]).unwrap_or_else(|| unreachable!("{schema}"))).unwrap();
    let inside = [1, 2, longest - 1, longest].map(|length| (text(schema, length), Some(true)));
    let outside = [longest + 1, 2 * longest, 40_000].map(|length| {
        let fitting = text(schema, length).unwrap_or_else(|| "a".repeat(length));
        (Some(fitting), Some(false))
    });
    let odd =
        ["", " ", "a b", "é", "a\n", "\u{0}", "80", "-", "a/b/c", "/"].map(|odd| (Some(odd.into()), None));
    let wide = ["é", "漢", "🦀"].into_iter().flat_map(|letter| {
        [longest, longest + 1]
            .map(|length| (Some(letter.repeat(length)), (length > longest).then_some(false)))
    });
    let all = inside.into_iter().chain(outside).chain(odd).chain(wide);
    all.filter_map(|(text, valid)| Some((json!(text?), valid))).collect()
}

fn lists(schema: &Value) -> Vec<(Value, Option<bool>)> {
    let longest = number(&schema["maxItems"]).unwrap_or_else(|| unreachable!("{schema}"));
    let item = least(&schema["items"], "");
    // Enums have few values.
    let few = schema["items"]["enum"].is_array();
    let of = |length: i64| -> Value {
        (0..length).map(|n| distinct(&padded(&item), &schema["items"], n)).collect()
    };
    let lengths = [1, longest - 1, longest, longest + 1, 10 * longest];
    let tried = lengths.map(|length| (of(length), (!few || length > longest).then_some(length <= longest)));
    tried.into_iter().chain([(json!([item, item]), None)]).collect()
}

/// A text with space for a number.
fn padded(item: &Value) -> Value {
    match item.as_str() {
        Some(text) if text.len() < 3 => json!("aaa"),
        _ => item.clone(),
    }
}

fn maps(schema: &Value) -> Vec<(Value, Option<bool>)> {
    let most = number(&schema["maxProperties"]).unwrap_or_else(|| unreachable!("{schema}"));
    let entry = least(&schema["additionalProperties"], "");
    let of = |keys: Vec<String>| -> Value {
        keys.into_iter().map(|key| (key, entry.clone())).collect::<Map<_, _>>().into()
    };
    let numbered = |count: i64| (0..count).map(|n| format!("key-{n}")).collect::<Vec<_>>();
    let counts =
        [1, most - 1, most, most + 1, 100 * most].map(|count| (of(numbered(count)), Some(count <= most)));
    let keys = [
        (long_key(0), Some(true)),
        (format!("{}a", long_key(0)), Some(false)),
        ("a".repeat(200_000), Some(false)),
        (String::new(), Some(false)),
        ("é".repeat(317), Some(false)),
        ("a b".into(), Some(false)),
    ];
    let keys = keys.map(|(key, valid)| (of(vec![key]), valid));
    counts.into_iter().chain(keys).chain([(of(numbered(0)), None)]).collect()
}

/// The longest key of a label.
fn long_key(n: i64) -> String {
    format!("{}/{n}{}", "a".repeat(253), "b".repeat(62))
}

/// A text of `length` characters that matches the schema's pattern.
fn text(schema: &Value, length: usize) -> Option<String> {
    let pattern = schema["pattern"].as_str().map(|pattern| Regex::new(pattern).unwrap());
    let padded =
        |start: &str, fill: &str| format!("{start}{}", fill.repeat(length.saturating_sub(start.len())));
    // First with a character that JSON escapes, to get the largest text.
    let candidates = [
        padded("", "\""),
        padded("/", "\""),
        padded("", "a"),
        padded(&format!("{}/", "a".repeat(253)), "b"),
        "100%"[4 - length.clamp(1, 4)..].to_owned(),
    ];
    let constants = ["9%", "Auto", "2026-01-31T12:00:00Z"].map(str::to_owned);
    let fits = |text: &String| {
        text.chars().count() == length && pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
    };
    candidates.into_iter().chain(constants).find(fits)
}

/// A bound of the schema.
fn number(bound: &Value) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation)]
    bound.as_f64().map(|bound| bound as i64)
}
