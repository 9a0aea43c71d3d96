//! Findings as SARIF 2.1.0, which code scanning services read.

use adieu_audit::{Finding, Rule};
use serde_json::{Value, json};

use super::audited::Audited;
use crate::cli::{manifests::STANDARD_INPUT, print};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

pub(super) fn text(audited: &Audited) -> anyhow::Result<String> {
    let rules: Vec<_> = Rule::ALL
        .iter()
        .map(|rule| json!({"id": rule.name(), "shortDescription": {"text": rule.summary()}}))
        .collect();
    let results: Vec<_> = audited.findings().map(|(finding, location)| result(finding, location)).collect();
    let driver = json!({"name": "adieu", "version": env!("CARGO_PKG_VERSION"), "rules": rules});
    print::json(&json!({
        "$schema": SCHEMA, "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results, "columnKind": "utf16CodeUnits"}],
    }))
}

fn result(finding: &Finding, location: Option<&(String, usize)>) -> Value {
    let Finding { rule, severity, kind, namespace, name, container, path, message, remedy, .. } = finding;
    let container = container.as_ref().map(|name| format!(", container {name}")).unwrap_or_default();
    let logical =
        json!([{"fullyQualifiedName": format!("{namespace}/{kind}/{name}:{path}"), "kind": "resource"}]);
    let mut place = json!({ "logicalLocations": logical });
    if let Some((file, line)) = location {
        place["physicalLocation"] =
            json!({"artifactLocation": {"uri": uri(file)}, "region": {"startLine": line}});
    }
    json!({
        "ruleId": rule.name(), "ruleIndex": Rule::ALL.iter().position(|other| other == rule), "level": severity.name(),
        "message": {"text": format!("{kind} {namespace}/{name}{container}: {message}. Remedy: {remedy}.")},
        "locations": [place],
    })
}

/// The reference to a file as RFC 3986 has it: each segment with only unreserved characters, and the others encoded.
fn uri(file: &str) -> String {
    if file == STANDARD_INPUT {
        return "stdin".to_owned();
    }
    let encoded = file.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    });
    encoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_valid_references() {
        for (file, expected) in [
            (STANDARD_INPUT, "stdin"),
            ("manifests/web-1_a.yaml", "manifests/web-1_a.yaml"),
            ("/srv/my app/50%.yaml", "/srv/my%20app/50%25.yaml"),
            ("a:b#c?d.yaml", "a%3Ab%23c%3Fd.yaml"),
            ("é.yaml", "%C3%A9.yaml"),
        ] {
            assert_eq!(uri(file), expected);
        }
    }
}
