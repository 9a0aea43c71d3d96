//! The JSON Schema of the values. It rejects keys that it doesn't list, down to the fields of Kubernetes.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::entries::Entry;
use super::kubernetes;

pub fn schema(entries: &[Entry<'_>]) -> Result<Value> {
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart adieu",
        "$defs": kubernetes::definitions(),
        "type": "object",
        "additionalProperties": false,
        "properties": {},
    });
    for entry in entries {
        let Some((key, above)) = entry.path.split_last() else { continue };
        let schema = of(entry).with_context(|| entry.name())?;
        let map = above.iter().fold(&mut root, |map, key| &mut map["properties"][*key]);
        map["properties"][*key] = schema;
    }
    Ok(root)
}

/// The schema of one entry, without the entries below it.
fn of(entry: &Entry<'_>) -> Result<Value> {
    let given = |keyword: &str| entry.schema.contains_key(keyword);
    let mut schema = json!({"type": entry.type_()});
    if entry.default.is_none() {
        schema["additionalProperties"] = json!(false);
        schema["properties"] = json!({});
    } else {
        schema["description"] = json!(entry.description);
        match entry.type_() {
            // Such as labels and annotations.
            "object" if !given("$ref") => schema["additionalProperties"] = json!({"type": "string"}),
            "array" => ensure!(given("items"), "is an array: add the line # @schema {{items: …}}"),
            "null" => bail!("has no default"),
            _ => {}
        }
    }
    if let Some(fields) = schema.as_object_mut() {
        fields.extend(entry.schema.clone());
    }
    Ok(schema)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::entries::parse;

    /// The schemas of the values in this text.
    fn properties(values: &str) -> Result<Value> {
        Ok(schema(&parse(values)?)?["properties"].take())
    }

    #[test]
    fn a_schema_has_the_type_of_the_default_and_what_the_comment_adds() {
        let string = json!({"type": "string"});
        for (values, expected) in [
            ("# D.\na: true\n", json!({"type": "boolean", "description": "D."})),
            (
                "# D.\n# @schema {minimum: 1}\na: 1\n",
                json!({"type": "integer", "description": "D.", "minimum": 1}),
            ),
            (
                "# D.\na: {b: c}\n",
                json!({"type": "object", "description": "D.", "additionalProperties": string}),
            ),
            (
                "# D.\n# @schema {items: {type: string}}\na: []\n",
                json!({"type": "array", "description": "D.", "items": string}),
            ),
            (
                "# D.\n# @schema {$ref: \"#/$defs/Affinity\"}\na: {}\n",
                json!({"type": "object", "description": "D.", "$ref": "#/$defs/Affinity"}),
            ),
            (
                "a:\n  # D.\n  b: x\n",
                json!({"type": "object", "additionalProperties": false, "properties": {
                    "b": {"type": "string", "description": "D."},
                }}),
            ),
            (
                "# @schema {additionalProperties: true}\na:\n",
                json!({"type": "object", "additionalProperties": true, "properties": {}}),
            ),
        ] {
            assert_eq!(properties(values).unwrap()["a"], expected, "{values}");
        }
    }

    #[test]
    fn a_value_of_any_content_is_an_error() {
        for (values, complaint) in
            [("# D.\na: []\n", "a: is an array"), ("# D.\na: null\n", "a: has no default")]
        {
            let error = format!("{:#}", properties(values).unwrap_err());
            assert!(error.contains(complaint), "{error}");
        }
    }
}
