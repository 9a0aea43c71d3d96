//! Findings as SARIF 2.1.0, which code scanning services read.

use adieu_audit::{Finding, Rule};
use serde_json::{Value, json};

use super::audited::Audited;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

pub(super) fn text(audited: &Audited) -> serde_json::Result<String> {
    let rules: Vec<_> = Rule::ALL
        .iter()
        .map(|rule| json!({"id": rule.name(), "shortDescription": {"text": rule.summary()}}))
        .collect();
    let results: Vec<_> = audited.findings().map(|(finding, location)| result(finding, location)).collect();
    let driver = json!({"name": "adieu", "version": env!("CARGO_PKG_VERSION"), "rules": rules});
    let log = json!({
        "$schema": SCHEMA, "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results, "columnKind": "utf16CodeUnits"}],
    });
    Ok(serde_json::to_string_pretty(&log)? + "\n")
}

fn result(finding: &Finding, location: Option<&(String, usize)>) -> Value {
    let Finding { rule, severity, kind, namespace, name, container, path, message, remedy, .. } = finding;
    let container = container.as_ref().map(|name| format!(", container {name}")).unwrap_or_default();
    let logical =
        json!([{"fullyQualifiedName": format!("{namespace}/{kind}/{name}:{path}"), "kind": "resource"}]);
    let mut place = json!({ "logicalLocations": logical });
    if let Some((file, line)) = location {
        place["physicalLocation"] = json!({"artifactLocation": {"uri": file}, "region": {"startLine": line}});
    }
    json!({
        "ruleId": rule.name(), "ruleIndex": Rule::ALL.iter().position(|other| other == rule), "level": severity.name(),
        "message": {"text": format!("{kind} {namespace}/{name}{container}: {message}. Remedy: {remedy}.")},
        "locations": [place],
    })
}
