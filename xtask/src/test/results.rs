//! The results of the test suite, and the runs of cargo's tests that are a part of them.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::progress::{Step, print_line};
use crate::workspace::Workspace;
use crate::{command, interrupt};

/// How many lines of a panic's message the summary has, and how many characters.
const MESSAGE_LINES: usize = 4;
const MESSAGE_LENGTH: usize = 1000;

/// The passed and failed tests.
#[derive(Debug, Default)]
pub struct TestResults {
    pub passed: u32,
    pub failed: u32,
    /// Details of the failures, in lines.
    pub failures: Vec<String>,
    /// A line for each failure, with its reason.
    pub summary: Vec<String>,
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
                self.fail(what, &format!("{error:#}"), "");
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
                self.fail(&format!("{name} tests"), reason, &output);
            }
        }
        for line in output.lines().filter(|line| line.starts_with("test result:")) {
            println!("{line}");
        }
    }

    /// Reports a failure, and keeps it for the end, with the details of failed tests in `output`.
    fn fail(&mut self, what: &str, reason: &str, output: &str) {
        let failure = format!("✗ {what}: {reason}");
        print_line(&failure);
        self.failures.push(failure);
        self.failures.extend(failures(output).map(str::to_owned));
        let of_tests = failed_tests(output);
        if of_tests.is_empty() {
            let lines: Vec<_> = reason.lines().collect();
            self.summary.push(format!("failed: {what}: {}", message(&lines)));
        }
        self.summary.extend(of_tests);
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

/// A line for each failed test: its name, and its first panic.
fn failed_tests(text: &str) -> Vec<String> {
    let lines: Vec<_> = failures(text).collect();
    let named = lines.iter().enumerate().filter_map(|(at, line)| {
        Some((line.strip_prefix("---- ")?.strip_suffix(" stdout ----")?, lines.get(at + 1..)?))
    });
    let failed = named.map(|(name, rest)| {
        let is_next = |line: &&str| line.starts_with("---- ") || *line == "failures:";
        let end = rest.iter().position(is_next).unwrap_or(rest.len());
        format!("failed: {name}: {}", panic(rest.get(..end).unwrap_or_default()))
    });
    failed.collect()
}

/// The message of the first panic in a test's output, and its place; the beginning of the output if there is none.
fn panic(output: &[&str]) -> String {
    let panics = output.iter().enumerate();
    let mut panics = panics.filter_map(|(at, line)| Some((at, line.split_once(" panicked at ")?.1)));
    match panics.next() {
        Some((at, place)) => {
            let said = message(output.get(at + 1..).unwrap_or_default());
            format!("{said} ({})", place.trim_end_matches(':'))
        }
        None => message(output),
    }
}

/// The first lines of a message, without a backtrace, in one line.
fn message(lines: &[&str]) -> String {
    let is_end =
        |line: &str| line == "stack backtrace:" || line.starts_with("note: run with `RUST_BACKTRACE");
    let said = lines.iter().map(|line| line.trim()).take_while(|line| !is_end(line));
    let said: Vec<_> = said.filter(|line| !line.is_empty()).take(MESSAGE_LINES).collect();
    said.join(" ").chars().take(MESSAGE_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_the_first_panic_of_each_failed_test_without_its_backtrace() {
        let text = "test a ... FAILED\n\nfailures:\n\n---- shop::a stdout ----\na pod\n\n\
            thread 'shop::a' (7) panicked at tests/e2e/shop.rs:3:5:\nassertion `left == right` failed: pods\n  \
            left: 1\n right: 2\nstack backtrace:\n   0: __rustc::rust_begin_unwind\n             at /rustc/x.rs:1:2\n\
            note: Some details are omitted\n\nthread 'shop::a' (7) panicked at tests/e2e/main.rs:1:1:\nagain\n\n\
            ---- shop::b stdout ----\n\nthread 'shop::b' (8) panicked at tests/e2e/support.rs:9:9:\nwaited 120 s\n\
            note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n\n\
            ---- shop::c stdout ----\nError: no pod\n\n\nfailures:\n    shop::a\n    shop::b\n    shop::c\n\n\
            test result: FAILED. 1 passed; 3 failed\n";
        let expected = [
            "failed: shop::a: assertion `left == right` failed: pods left: 1 right: 2 (tests/e2e/shop.rs:3:5)",
            "failed: shop::b: waited 120 s (tests/e2e/support.rs:9:9)",
            "failed: shop::c: Error: no pod",
        ];
        assert_eq!(failed_tests(text), expected);
        let mut results = TestResults::default();
        results.fail("e2e tests", "cargo failed", text);
        results.fail("chart", "helm failed\nno values", "");
        assert_eq!(results.summary.get(..3).unwrap(), expected);
        assert_eq!(results.summary.get(3..).unwrap(), ["failed: chart: helm failed no values"]);
    }

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
