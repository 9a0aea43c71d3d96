//! Every test that docs/rules.md names exists, so that no rule loses its test unnoticed.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::Path};

fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_rules_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = fs::read_to_string(root.join("docs/rules.md")).unwrap();
    let mut code = String::new();
    for folder in ["crates", "src", "tests", "xtask/src"] {
        sources(&root.join(folder), &mut code);
    }
    let named: BTreeSet<&str> = rules
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|')?.rsplit_once('|'))
        .flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2))
        .collect();
    assert!(named.len() > 50, "cannot parse the table: {named:?}");
    let missing: Vec<_> = named.into_iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "docs/rules.md names tests that don't exist: {missing:?}");
}
