//! The results of the test suite, and the runs of cargo's tests that are a part of them.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::progress::{Step, print_line};
use crate::workspace::Workspace;
use crate::{command, interrupt};

/// The passed and failed tests.
#[derive(Debug, Default)]
pub struct TestResults {
    pub passed: u32,
    pub failed: u32,
    /// Details of the failures, in lines.
    pub failures: Vec<String>,
}

/// A run of cargo's tests that has ended.
pub struct TestRun {
    name: &'static str,
    step: Step,
    outcome: Result<()>,
    output: String,
}

impl TestRun {
    /// Runs cargo's tests. It is an error only if the user interrupts, or the log can't be read.
    pub fn run(
        workspace: &Workspace,
        name: &'static str,
        mut step: Step,
        tests: &mut Command,
    ) -> Result<Self> {
        let log = workspace.log(&format!("test-{name}"));
        let outcome = command::run(&step, tests, &log);
        step.end();
        interrupt::check()?;
        let output = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
        Ok(Self { name, step, outcome, output })
    }
}

impl TestResults {
    /// Counts one outcome. It is an error only if the user interrupts.
    pub fn check(&mut self, what: &str, outcome: Result<()>) -> Result<()> {
        interrupt::check()?;
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => {
                self.failed += 1;
                self.fail(format!("✗ {what}: {error:#}"), "");
            }
        }
        Ok(())
    }

    /// Runs cargo's tests, and counts each.
    pub fn cargo_test(
        &mut self,
        workspace: &Workspace,
        name: &'static str,
        tests: &mut Command,
    ) -> Result<()> {
        let step = Step::start(format!("running the {name} tests"));
        self.add(TestRun::run(workspace, name, step, tests)?);
        Ok(())
    }

    /// Counts each test of a run.
    pub fn add(&mut self, run: TestRun) {
        let TestRun { name, step, outcome, output } = run;
        let (passed, failed) = counts(&output);
        self.passed += passed;
        self.failed += failed;
        match outcome {
            Ok(()) => step.done(),
            Err(error) => {
                drop(step);
                print!("{output}");
                // Without a failing test, it doesn't compile or has crashed.
                self.failed += u32::from(failed == 0);
                let reason = error.to_string();
                let reason = reason.lines().next().unwrap_or_default();
                self.fail(format!("✗ {name} tests: {reason}"), &output);
            }
        }
        for line in output.lines().filter(|line| line.starts_with("test result:")) {
            println!("{line}");
        }
    }

    /// Reports a failure, and keeps it for the end, with the details of failed tests in `output`.
    fn fail(&mut self, failure: String, output: &str) {
        print_line(&failure);
        self.failures.push(failure);
        self.failures.extend(failures(output).map(str::to_owned));
    }
}

/// Sums up the lines `test result: ok. 3 passed; 0 failed; …`.
fn counts(text: &str) -> (u32, u32) {
    let count = |line: &str, what: &str| -> u32 {
        let part = line.split([';', '.']).find_map(|part| part.trim().strip_suffix(what));
        part.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
    };
    let results = text.lines().filter(|line| line.starts_with("test result:"));
    results.fold((0, 0), |(passed, failed), line| {
        (passed + count(line, "passed"), failed + count(line, "failed"))
    })
}

/// The output of failed tests, and their names: from the line `failures:` to the result.
fn failures(text: &str) -> impl Iterator<Item = &str> {
    let mut within = false;
    text.lines().filter(move |line| {
        within = (within || *line == "failures:") && !line.starts_with("test result:");
        within
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_up() {
        let text = "running 2 tests\n\
            test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
            test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0s\n";
        assert_eq!(counts(text), (13, 2));
        assert_eq!(counts("error: could not compile"), (0, 0));
    }

    #[test]
    fn only_failed_tests_are_repeated() {
        let text = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nb panicked\n\n\
            failures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed\ntest c ... ok\n\
            test result: ok. 1 passed; 0 failed\n";
        let told: Vec<_> = failures(text).filter(|line| !line.is_empty()).collect();
        assert_eq!(told, ["failures:", "---- b stdout ----", "b panicked", "failures:", "    b"]);
    }
}
