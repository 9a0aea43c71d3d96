//! The time of a decision, measured by Criterion.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::figures::Figures;
use crate::progress::Step;
use crate::workspace::Workspace;
use crate::{command, interrupt};

/// Runs the benchmark, and shows its figures.
pub fn run(docs: Option<&str>) -> Result<()> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    // Results of an earlier run must not count.
    let results = workspace.target().join("criterion/plan");
    if results.exists() {
        fs::remove_dir_all(&results).with_context(|| format!("cannot remove {}", results.display()))?;
    }
    let step = Step::start("measuring the plan");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace.root()).env("CARGO_TARGET_DIR", workspace.target());
    cargo.args(["bench", "--locked", "--package", "adieu", "--bench", "plan", "--", "--noplot"]);
    command::run(&step, &mut cargo, &workspace.log("bench-plan"))?;
    step.done();

    let mut figures = Figures::new(["decision on a Deployment", "time", "decisions/s on one core"]);
    for (name, seconds) in read(&results)? {
        figures.row([name, format!("{:.1} µs", seconds * 1e6), format!("{:.0}", 1.0 / seconds)]);
    }
    figures.show(&workspace, "plan", docs)
}

/// Criterion's results of a benchmark.
#[derive(Deserialize)]
struct Benchmark {
    function_id: String,
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    /// Nanoseconds.
    point_estimate: f64,
}

/// The names of a group's benchmarks and the median seconds of each, the fastest first.
fn read(group: &Path) -> Result<Vec<(String, f64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(group).with_context(|| format!("cannot list {}", group.display()))? {
        let folder = entry?.path().join("new");
        if !folder.exists() {
            continue;
        }
        let benchmark: Benchmark = parse(&folder.join("benchmark.json"))?;
        let estimates: Estimates = parse(&folder.join("estimates.json"))?;
        found.push((benchmark.function_id, estimates.median.point_estimate / 1e9));
    }
    if found.is_empty() {
        bail!("Criterion wrote no results to {}", group.display());
    }
    found.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    Ok(found)
}

fn parse<T: for<'de> Deserialize<'de>>(file: &Path) -> Result<T> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot parse {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_sorted_by_time() {
        let group = tempfile::tempdir().unwrap();
        assert!(read(group.path()).is_err());
        for (name, nanoseconds) in [("large", 90_000.0), ("usual", 20_000.0)] {
            let folder = group.path().join(name).join("new");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("benchmark.json"), format!(r#"{{"function_id": "{name}", "title": ""}}"#))
                .unwrap();
            let estimates = format!(
                r#"{{"mean": {{}}, "median": {{"point_estimate": {nanoseconds}, "standard_error": 1}}}}"#
            );
            fs::write(folder.join("estimates.json"), estimates).unwrap();
        }
        fs::create_dir(group.path().join("report")).unwrap();
        let found = read(group.path()).unwrap();
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["usual", "large"]);
        assert!((found[0].1 - 20e-6).abs() < 1e-12);
    }
}
