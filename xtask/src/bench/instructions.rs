//! Counts the instructions of a review with callgrind, which has hardly any noise, so that a change shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use cargo_metadata::Message;

use crate::figures::Figures;
use crate::progress::Step;
use crate::workspace::Workspace;
use crate::{command, debian, interrupt};

/// Reviews of the longer of two runs. The shorter has one, so the difference excludes the program's start.
const REVIEWS: u64 = 21;

/// Counts, and shows the figures.
pub fn run(docs: Option<&str>) -> Result<()> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    debian::ensure_valgrind(&workspace)?;
    let driver = build(&workspace)?;
    let names = command::output(&mut Command::new(&driver))?;
    let step = Step::start("counting the instructions of reviews");
    let mut figures = Figures::new(["review of a Deployment", "instructions"]);
    for name in names.lines() {
        let one = count(&workspace, &step, &driver, name, 1)?;
        let many = count(&workspace, &step, &driver, name, REVIEWS)?;
        figures.row([name.to_owned(), many.saturating_sub(one).div_ceil(REVIEWS - 1).to_string()]);
    }
    step.done();
    figures.show(&workspace, "instructions", docs)
}

/// Builds the program that reviews, with release options.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let step = Step::start("building the reviewing program");
    let log = workspace.log("build-bench-review");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace.root()).env("CARGO_TARGET_DIR", workspace.target());
    cargo.args(["bench", "--locked", "--package", "adieu", "--bench", "review", "--no-run"]);
    cargo.arg("--message-format=json-render-diagnostics");
    command::run(&step, &mut cargo, &log)?;
    step.done();
    let messages = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    Message::parse_stream(messages.as_slice())
        .filter_map(Result::ok)
        .find_map(|message| match message {
            Message::CompilerArtifact(artifact) if artifact.target.name == "review" => artifact.executable,
            _ => None,
        })
        .map(Into::into)
        .context("cargo does not report the program that it built")
}

/// The instructions of `reviews` reviews and of the program's start.
fn count(workspace: &Workspace, step: &Step, driver: &Path, name: &str, reviews: u64) -> Result<u64> {
    let word = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let profile = workspace.cache().join("callgrind").join(format!("{word}.{reviews}.out"));
    if let Some(folder) = profile.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", profile.display()));
    valgrind.arg(driver).arg(name).arg(reviews.to_string());
    command::run(step, &mut valgrind, &workspace.log("callgrind"))?;
    let text = fs::read_to_string(&profile).with_context(|| format!("cannot read {}", profile.display()))?;
    total(&text).with_context(|| format!("{} has no total", profile.display()))
}

/// The total of a callgrind profile.
fn total(profile: &str) -> Option<u64> {
    profile.lines().find_map(|line| line.strip_prefix("totals:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_profile_is_parsed() {
        let profile = "events: Ir\nsummary: 5\n\nfn=(1) main\n3 5\n\ntotals: 123456\n";
        assert_eq!(total(profile), Some(123_456));
        assert_eq!(total("events: Ir\n"), None);
    }
}
