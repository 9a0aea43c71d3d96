//! `adieu profiles`, and the table of the profiles in docs/drains.md.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::Value;

use crate::support::succeed;

const DOCUMENT: &str = include_str!("../../docs/drains.md");

fn profiles() -> Vec<Value> {
    let json: Value = serde_json::from_str(&succeed(&["profiles", "-o", "json"], "").0).unwrap();
    json["profiles"].as_array().unwrap().clone()
}

#[test]
fn profiles_are_listed_with_seconds_and_sources() {
    let (table, stderr) = succeed(&["profiles"], "");
    assert_eq!(stderr, "");
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = table.lines().map(squeezed).collect();
    assert_eq!(lines[0], "PROFILE DRAIN MINIMUM EXPOSURE SOURCE");
    let alb = "aws-alb-ip 90 s 25 s AWS Application Load Balancer whose targets are pods \
               https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/1064";
    assert!(lines.iter().any(|line| line == alb), "{table}");
    assert_eq!(lines.len(), profiles().len() + 1);
    let fields: BTreeSet<_> = profiles()[0].as_object().unwrap().keys().cloned().collect();
    let expected = ["evidence", "exposure", "minSeconds", "name", "seconds", "source"].map(str::to_owned);
    assert_eq!(fields, expected.into());
}

#[test]
fn the_document_has_the_built_in_profiles() {
    let mut expected =
        "| Profile | Exposure | Drain | Minimum | Evidence |\n|---|---|---|---|---|\n".to_owned();
    for profile in profiles() {
        let text = |key: &str| profile[key].as_str().unwrap();
        let source = text("source");
        let source =
            if source.starts_with("https://") { format!("[source]({source})") } else { source.to_owned() };
        let (name, exposure, evidence) = (text("name"), text("exposure"), text("evidence"));
        let (drain, minimum) = (&profile["seconds"], &profile["minSeconds"]);
        writeln!(expected, "| `{name}` | {exposure} | {drain} s | {minimum} s | {evidence} ({source}) |")
            .unwrap();
    }
    let table = DOCUMENT.split("<!-- profiles -->\n").nth(1).unwrap().split("<!-- end -->").next().unwrap();
    assert_eq!(table, expected, "docs/drains.md: replace the table with\n{expected}");
}
