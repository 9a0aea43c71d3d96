//! The table of the chart's values, like helm-docs: the comments of values.yaml with the types of values.schema.json.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::markdown;
use crate::workspace::Workspace;

/// The place of the table in the chart's README.
const PLACE: &str = "values: cargo xtask generate";

/// The path of the chart's README, and its text with an up-to-date table.
pub fn readme(workspace: &Workspace) -> Result<(PathBuf, String)> {
    let chart = workspace.root().join("charts/adieu");
    let read = |name: &str| {
        let file = chart.join(name);
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    };
    let schema = serde_json::from_str(&read("values.schema.json")?).context("cannot parse the schema")?;
    let table = table(&read("values.yaml")?, &schema)?;
    let text = read("README.md")?;
    let text = markdown::replaced(&text, PLACE, &table)
        .with_context(|| format!("README.md has no place <!-- {PLACE} -->"))?;
    Ok((chart.join("README.md"), text))
}

/// One line for each value, in the order of the file. A map whose default is on its own line is one value; keys below
/// it are separate values.
fn table(values: &str, schema: &Value) -> Result<String> {
    let mut table = "| value | type | default | description |\n|---|---|---|---|\n".to_owned();
    let mut path: Vec<&str> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in values.lines() {
        let text = line.trim_start();
        if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let said = std::mem::take(&mut comment).join(" ");
        let Some((key, default)) = text.split_once(':') else {
            if !text.is_empty() {
                bail!("values.yaml: this line is neither a comment nor a key: {line}");
            }
            continue;
        };
        path.truncate((line.len() - text.len()) / 2);
        path.push(key);
        let default = default.trim();
        if default.is_empty() {
            continue;
        }
        let name = path.join(".");
        if said.is_empty() {
            bail!("values.yaml: {name} has no comment that describes it");
        }
        let default: Value =
            serde_saphyr::from_str(default).with_context(|| format!("the default of {name}"))?;
        let type_ = type_of(schema, &path).with_context(|| format!("values.schema.json: {name}"))?;
        let cells =
            [format!("`{name}`"), type_, format!("`{default}`"), said].map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(table, "| {} |", cells.join(" | "));
    }
    Ok(table)
}

/// The values that the schema allows, in words.
fn type_of(schema: &Value, path: &[&str]) -> Result<String> {
    let found = path.iter().try_fold(schema, |schema, key| schema.get("properties")?.get(key));
    let found = found.context("is missing")?;
    if let Some(allowed) = found["enum"].as_array() {
        let allowed: Vec<_> =
            allowed.iter().filter_map(Value::as_str).map(|one| format!("`{one}`")).collect();
        return Ok(allowed.join(", "));
    }
    let type_ = found["type"].as_str().context("has no type")?;
    Ok(match (found["minimum"].as_i64(), found["maximum"].as_i64()) {
        (Some(minimum), Some(maximum)) => format!("{type_}, {minimum} to {maximum}"),
        (Some(minimum), None) => format!("{type_}, at least {minimum}"),
        _ => type_.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_in_the_charts_readme_is_up_to_date() {
        let (file, generated) = readme(&Workspace::find().unwrap()).unwrap();
        let found = fs::read_to_string(&file).unwrap();
        assert!(found == generated, "{} differs: run cargo xtask generate", file.display());
    }

    #[test]
    fn every_value_has_a_line_with_its_type_default_and_comment() {
        let values = "# How many.\n# At least one.\nreplicas: 2\n\nwebhook:\n  # What | happens.\n  policy: Ignore\n  # Labels.\n  labels: {a: \"1\"}\n";
        let schema = json!({"properties": {
            "replicas": {"type": "integer", "minimum": 1},
            "webhook": {"properties": {
                "policy": {"type": "string", "enum": ["Ignore", "Fail"]}, "labels": {"type": "object"},
            }},
        }});
        let table = table(values, &schema).unwrap();
        let lines: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| `replicas` | integer, at least 1 | `2` | How many. At least one. |",
                "| `webhook.policy` | `Ignore`, `Fail` | `\"Ignore\"` | What \\| happens. |",
                "| `webhook.labels` | object | `{\"a\":\"1\"}` | Labels. |",
            ]
        );
    }

    #[test]
    fn a_value_without_a_comment_or_a_schema_is_an_error() {
        let schema = json!({"properties": {"a": {"type": "string"}}});
        for (values, complaint) in [
            ("a: x\n", "a has no comment"),
            ("# B.\nb: x\n", "values.schema.json: b: is missing"),
            ("# A.\n- a\n", "neither"),
        ] {
            let error = format!("{:#}", table(values, &schema).unwrap_err());
            assert!(error.contains(complaint), "{error}");
        }
    }
}
