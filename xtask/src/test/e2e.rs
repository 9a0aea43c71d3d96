//! Selects and runs the end-to-end tests: those in the module `concurrent` several at a time, then the others one at a
//! time.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::command;
use crate::progress::Step;
use crate::target::Target;
use crate::workspace::Workspace;

use super::results::TestResults;

/// How the names of tests begin that run beside each other.
const CONCURRENT: &str = "concurrent::";
/// How many of them run at a time: more would keep two cores busy.
const THREADS: usize = 3;
/// How the names of tests begin that end processes of pods, and connect to their addresses.
const ON_THIS_MACHINE: &str = "on_this_machine::";

/// Arguments for cargo. For the workspace, like the unit tests: otherwise dependencies would be built again.
const TESTS: [&str; 3] = ["--workspace", "--test", "e2e"];

/// A run of tests: its name, the number of threads, and the names of the tests.
type Group = (&'static str, usize, Vec<String>);

/// Builds the tests. Returns the names of those with one of `parts`, or of all if there are no parts.
pub fn build(workspace: &Workspace, parts: &[String]) -> Result<Vec<String>> {
    let step = Step::start("building the end-to-end tests");
    let mut build = command::locked_cargo(workspace, "test");
    command::run(&step, build.args(TESTS).arg("--no-run"), &workspace.log("build-e2e"))?;
    step.done();
    let mut list = command::locked_cargo(workspace, "test");
    list.args(TESTS).args(["--", "--ignored", "--list", "--format=terse"]).args(parts);
    let names = names(&command::output(&mut list)?);
    ensure!(!names.is_empty(), "no end-to-end test has {} in its name", parts.join(" or "));
    Ok(names)
}

/// Runs the tests of these names. `set_variables` sets the environment variables that they read.
pub fn run(
    target: &Target,
    names: &[String],
    set_variables: impl Fn(&mut Command),
    results: &mut TestResults,
) -> Result<()> {
    let workspace = target.workspace();
    let possible = |name: &&String| target.cluster().is_some() || !name.starts_with(ON_THIS_MACHINE);
    for (run, threads, names) in groups(names.iter().filter(possible).cloned()) {
        if names.is_empty() {
            continue;
        }
        let mut tests = target.command("cargo");
        command::prepare_cargo(&mut tests, workspace);
        set_variables(&mut tests);
        tests.args(["test", "--locked", "--offline"]).args(TESTS);
        tests.args(["--", "--ignored", "--exact", &format!("--test-threads={threads}")]).args(names);
        results.cargo_test(workspace, run, &mut tests)?;
    }
    Ok(())
}

/// The names in libtest's list.
fn names(list: &str) -> Vec<String> {
    list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

fn groups(names: impl Iterator<Item = String>) -> [Group; 2] {
    let (concurrent, others) = names.partition(|name| name.starts_with(CONCURRENT));
    [("concurrent-e2e", THREADS, concurrent), ("e2e", 1, others)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_in_concurrent_run_several_at_a_time() {
        let list =
            "audit::reads: test\nconcurrent::limits::rolls_out: test\nverify::concurrent::waits: test\n";
        let [concurrent, others] = groups(names(list).into_iter());
        assert_eq!(concurrent, ("concurrent-e2e", 3, vec!["concurrent::limits::rolls_out".to_owned()]));
        let one_at_a_time = ["audit::reads", "verify::concurrent::waits"].map(str::to_owned).to_vec();
        assert_eq!(others, ("e2e", 1, one_at_a_time));
    }
}
