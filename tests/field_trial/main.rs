//! Workloads as people write them, after public bug reports: the command line and the webhook come to the same result.
//!
//! Each row is run through `adieu inject` and, as a request that creates the workload, through the webhook.

#![allow(clippy::panic, clippy::unwrap_used)]

mod paths;
mod row;
#[allow(dead_code)] // The other functions are for tests/cli.
#[path = "../cli/support.rs"]
mod support;

use paths::{Outcome, command_line, webhook};
use row::{Injected, Row};

#[tokio::test]
async fn command_line_and_webhook_set_the_same_grace_period() {
    check(include_str!("grace_period.yaml")).await;
}

#[tokio::test]
async fn command_line_and_webhook_agree_about_users_hooks() {
    check(include_str!("hooks.yaml")).await;
}

#[tokio::test]
async fn command_line_and_webhook_agree_about_the_form_of_the_sleep() {
    check(include_str!("platforms.yaml")).await;
}

#[tokio::test]
async fn command_line_and_webhook_set_the_same_readiness_probe() {
    check(include_str!("probes.yaml")).await;
}

#[tokio::test]
async fn command_line_and_webhook_agree_about_opt_ins() {
    check(include_str!("opt_in.yaml")).await;
}

/// Runs every row of a file through both paths, and reports all differences together.
async fn check(file: &str) {
    let rows: Vec<Row> = serde_saphyr::from_str(file).unwrap_or_else(|error| panic!("{error}"));
    assert!(!rows.is_empty());
    let mut problems = Vec::new();
    for row in &rows {
        let by_path = [
            ("command line", command_line(row), &row.only_by_command_line),
            ("webhook", webhook(row).await, &row.only_by_webhook),
        ];
        for (path, outcome, only) in by_path {
            let found = template_problems(row, &outcome)
                .into_iter()
                .chain(warning_problems(row.warnings.iter().chain(only), &outcome.warnings));
            problems.extend(found.map(|problem| format!("{}, by the {path}: {problem}", row.name)));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn template_problems(row: &Row, outcome: &Outcome) -> Option<String> {
    let Outcome { before, after, .. } = outcome;
    let Some(expected) = &row.injected else {
        return (before != after).then(|| format!("the template changes to {after}"));
    };
    let (expected, found) = (expected.with_own(&Injected::of(before)), Injected::of(after));
    (expected != found).then(|| format!("expected {expected:?}, found {found:?}"))
}

/// Each expected warning is given once, in full, and there is no other.
fn warning_problems<'a>(expected: impl Iterator<Item = &'a String>, found: &[String]) -> Option<String> {
    let expected: Vec<_> = expected.collect();
    let once =
        |pattern: &&String| found.iter().filter(|warning| contains_parts(warning, pattern)).count() == 1;
    let is_cut = |warning: &String| warning.ends_with('…');
    let holds = expected.len() == found.len() && expected.iter().all(once) && !found.iter().any(is_cut);
    (!holds).then(|| format!("expected the warnings {expected:#?}, found {found:#?}"))
}

/// Whether `text` has the parts of `pattern` in their order; `…` stands for any text between two parts.
fn contains_parts(text: &str, pattern: &str) -> bool {
    let rest = pattern.split('…').try_fold(text, |rest, part| {
        let part = part.trim();
        rest.find(part).map(|start| &rest[start + part.len()..])
    });
    rest.is_some()
}
