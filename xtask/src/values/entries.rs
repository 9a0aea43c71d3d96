//! The entries of values.yaml.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// The start of a line of a comment that restricts a value.
const SCHEMA: &str = "@schema";

/// A value of the chart, or a map whose values are entries of their own.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Its keys, from the top of the file.
    pub path: Vec<&'a str>,
    /// `None` for a map of entries.
    pub default: Option<Value>,
    pub description: String,
    /// What the comment adds to its schema.
    pub schema: Map<String, Value>,
}

impl Entry<'_> {
    /// Its path, as Helm's `--set` takes it.
    pub fn name(&self) -> String {
        self.path.join(".")
    }

    /// The type of the default, as JSON Schema names it.
    pub fn type_(&self) -> &'static str {
        match &self.default {
            Some(Value::Null) => "null",
            Some(Value::Bool(_)) => "boolean",
            Some(Value::Number(_)) => "integer",
            Some(Value::String(_)) => "string",
            Some(Value::Array(_)) => "array",
            Some(Value::Object(_)) | None => "object",
        }
    }
}

/// The entries in the order of the file. A map whose default is on its own line is one value; keys below it
/// are separate entries.
pub fn parse(values: &str) -> Result<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    let mut path: Vec<&str> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in values.lines() {
        let text = line.trim_start();
        if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let above = std::mem::take(&mut comment);
        let Some((key, default)) = text.split_once(':') else {
            if !text.is_empty() {
                bail!("this line is neither a comment nor a key: {line}");
            }
            continue;
        };
        path.truncate((line.len() - text.len()) / 2);
        path.push(key);
        let entry = entry(path.clone(), default.trim(), &above);
        entries.push(entry.with_context(|| path.join("."))?);
    }
    Ok(entries)
}

fn entry<'a>(path: Vec<&'a str>, default: &str, comment: &[&str]) -> Result<Entry<'a>> {
    let mut schema = Map::new();
    let mut description = Vec::new();
    for line in comment {
        if let Some(keywords) = line.strip_prefix(SCHEMA) {
            let keywords: Map<String, Value> =
                serde_saphyr::from_str(keywords.trim()).with_context(|| format!("cannot parse {line}"))?;
            schema.extend(keywords);
        } else {
            description.push(*line);
        }
    }
    let default = match default {
        "" => None,
        text => Some(serde_saphyr::from_str(text).context("cannot parse the default")?),
    };
    if default.is_some() && description.is_empty() {
        bail!("has no comment that describes it");
    }
    Ok(Entry { path, default, description: description.join(" "), schema })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_has_its_path_default_description_and_schema() {
        let values = "# How many.\n# @schema {minimum: 1}\n# At least one.\nreplicas: 2\n\n\
            # Both.\nwebhook:\n  # Labels.\n  labels: {a: \"1\"}\n";
        let entries = parse(values).unwrap();
        let found: Vec<_> = entries
            .iter()
            .map(|one| json!([one.name(), one.type_(), one.default, one.description, one.schema]))
            .collect();
        assert_eq!(
            found,
            [
                json!(["replicas", "integer", 2, "How many. At least one.", {"minimum": 1}]),
                json!(["webhook", "object", null, "Both.", {}]),
                json!(["webhook.labels", "object", {"a": "1"}, "Labels.", {}]),
            ]
        );
    }

    #[test]
    fn a_value_without_a_comment_or_with_an_invalid_line_is_an_error() {
        for (values, complaint) in [
            ("a:\n  b: x\n", "a.b: has no comment"),
            ("# @schema {minimum: 1}\na: 1\n", "a: has no comment"),
            ("# A.\n# @schema [\na: x\n", "a: cannot parse @schema ["),
            ("# A.\n- a\n", "neither"),
        ] {
            let error = format!("{:#}", parse(values).unwrap_err());
            assert!(error.contains(complaint), "{error}");
        }
    }
}
