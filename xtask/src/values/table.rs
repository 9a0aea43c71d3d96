//! The table of the values for the chart's README.

use std::fmt::Write;

use serde_json::Value;

use super::entries::Entry;

/// One line for each value, in the order of the file.
pub fn table(entries: &[Entry<'_>]) -> String {
    let mut table = "| value | type | default | description |\n|---|---|---|---|\n".to_owned();
    for entry in entries {
        let Some(default) = &entry.default else { continue };
        let (name, default) = (format!("`{}`", entry.name()), format!("`{default}`"));
        let cells = [name, type_of(entry), default, entry.description.clone()];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(table, "| {} |", cells.join(" | "));
    }
    table
}

/// The values that the schema allows, in words.
fn type_of(entry: &Entry<'_>) -> String {
    let keyword = |name: &str| entry.schema.get(name);
    if let Some(allowed) = keyword("enum").and_then(Value::as_array) {
        let allowed: Vec<_> =
            allowed.iter().filter_map(Value::as_str).map(|one| format!("`{one}`")).collect();
        return allowed.join(", ");
    }
    if let Some(type_) = referenced(keyword("$ref")) {
        return type_.to_owned();
    }
    let type_ = entry.type_();
    if let Some(item) = keyword("items").and_then(|items| referenced(items.get("$ref"))) {
        return format!("{type_} of {item}");
    }
    let bound = |name: &str| keyword(name).and_then(Value::as_i64);
    match (bound("minimum"), bound("maximum")) {
        (Some(minimum), Some(maximum)) => format!("{type_}, {minimum} to {maximum}"),
        (Some(minimum), None) => format!("{type_}, at least {minimum}"),
        _ => type_.to_owned(),
    }
}

/// The name of the type that a `$ref` refers to.
fn referenced(reference: Option<&Value>) -> Option<&str> {
    reference?.as_str()?.rsplit('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::entries::parse;

    #[test]
    fn every_value_has_a_line_with_its_type_default_and_comment() {
        let values = r##"# How many.
# @schema {minimum: 1}
replicas: 2
# Which port.
# @schema {minimum: 1, maximum: 9}
port: 8

webhook:
  # What | happens.
  # @schema {enum: [Ignore, Fail]}
  policy: Ignore
  # Labels.
  labels: {a: "1"}
# Taints.
# @schema {items: {$ref: "#/$defs/Toleration"}}
tolerations: []
# Where.
# @schema {$ref: "#/$defs/Affinity"}
affinity: {}
"##;
        let table = table(&parse(values).unwrap());
        let lines: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| `replicas` | integer, at least 1 | `2` | How many. |",
                "| `port` | integer, 1 to 9 | `8` | Which port. |",
                "| `webhook.policy` | `Ignore`, `Fail` | `\"Ignore\"` | What \\| happens. |",
                "| `webhook.labels` | object | `{\"a\":\"1\"}` | Labels. |",
                "| `tolerations` | array of Toleration | `[]` | Taints. |",
                "| `affinity` | Affinity | `{}` | Where. |",
            ]
        );
    }
}
