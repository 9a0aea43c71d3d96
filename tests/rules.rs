//! Every test that docs/rules.md, docs/decisions.md and the invariants in ARCHITECTURE.md name exists, so that none of
//! them loses its test unnoticed, and so does every file that ARCHITECTURE.md names. Every command of docs/adopting.md
//! has a test.

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

/// Those of the functions that don't exist.
fn missing<'a>(root: &Path, named: BTreeSet<&'a str>) -> Vec<&'a str> {
    let mut code = String::new();
    for folder in ["crates", "src", "tests", "xtask/src"] {
        sources(&root.join(folder), &mut code);
    }
    named.into_iter().filter(|name| !code.contains(&format!("fn {name}("))).collect()
}

#[test]
fn every_test_that_the_rules_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = fs::read_to_string(root.join("docs/rules.md")).unwrap();
    let named: BTreeSet<&str> = rules
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|')?.rsplit_once('|'))
        .flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2))
        .collect();
    assert!(named.len() > 50, "cannot parse the table: {named:?}");
    let missing = missing(root, named);
    assert!(missing.is_empty(), "docs/rules.md names tests that do not exist: {missing:?}");
}

/// The tests that the lines with this start name. Lints have shorter names, and commands have spaces.
fn named_in_lines<'a>(text: &'a str, start: &str) -> BTreeSet<&'a str> {
    let is_test = |name: &&str| name.matches('_').count() > 2 && !name.contains(['/', ' ']);
    text.lines()
        .filter(|line| line.starts_with(start))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(is_test)
        .collect()
}

#[test]
fn every_test_that_an_invariant_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let named = named_in_lines(&text, "*Architecture Invariant:*");
    assert!(named.len() > 30, "cannot find the tests: {named:?}");
    let missing = missing(root, named);
    assert!(missing.is_empty(), "ARCHITECTURE.md names tests that do not exist: {missing:?}");
}

#[test]
fn every_test_that_a_decision_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/decisions.md")).unwrap();
    let named = named_in_lines(&text, "- **Check.**");
    assert!(named.len() > 10, "cannot find the tests: {named:?}");
    let missing = missing(root, named);
    assert!(missing.is_empty(), "docs/decisions.md names tests that do not exist: {missing:?}");
}

#[test]
fn every_command_of_the_adoption_guide_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/adopting.md")).unwrap();
    let blocks = guide.split("```console\n").skip(1).filter_map(|block| block.split("```").next());
    let commands = blocks.flat_map(str::lines).map(|line| line.split(" #").next().unwrap().trim());
    let commands: BTreeSet<&str> = commands.filter(|command| !command.is_empty()).collect();
    let rows: Vec<(&str, &str)> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix("` |")?.split_once("` | `"))
        .collect();
    let tested: BTreeSet<&str> = rows.iter().map(|(command, _)| *command).collect();
    assert_eq!(commands, tested, "docs/adopting.md: its table has a row for each command");
    let missing = missing(root, rows.iter().map(|(_, test)| *test).collect());
    assert!(missing.is_empty(), "docs/adopting.md names tests that do not exist: {missing:?}");
}

#[test]
fn every_file_that_the_architecture_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let folders = ["src/", "crates/", "xtask/", "tests/", "charts/", "docs/"];
    let named: BTreeSet<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| folders.iter().any(|folder| name.starts_with(folder)))
        .collect();
    assert!(named.len() > 50, "cannot find the files: {named:?}");
    let missing: Vec<_> = named.into_iter().filter(|name| !root.join(name).exists()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names files that do not exist: {missing:?}");
}
