//! Mutation testing: whether the tests of the core catch changes of its code.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Deserialize;

use crate::progress::{Step, print_line};
use crate::workspace::Workspace;
use crate::{command, interrupt, tools};

const CARGO_MUTANTS: &str = "27.1.0";

/// The mutated code: pure code, whose tests need no cluster.
const CORE: [Part; 2] = [
    Part {
        package: "adieu-core",
        folders: &["crates/core/src"],
        tests: &["crates/core/tests/laws", "crates/core/tests/boundaries.rs"],
    },
    Part { package: "adieu-scheduler", folders: &["crates/scheduler/src"], tests: &[] },
];
/// The minimal share of viable mutants that tests must catch.
const CAUGHT: f64 = 0.98;
/// Cases of each property for each mutant; plain `cargo test` runs ten thousand.
const CASES: &str = "500";
/// Exit codes of cargo-mutants after all mutants ran: all caught, some missed, some timed out.
const COMPLETE: [i32; 3] = [0, 2, 3];

/// Modules of a package.
struct Part {
    package: &'static str,
    folders: &'static [&'static str],
    /// Tests of the package that run in addition to its unit tests.
    tests: &'static [&'static str],
}

/// `cargo xtask mutants`
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Run only the mutants of this package
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(CORE.map(|part| part.package)))]
    package: Option<String>,

    /// Run only the Nth of M parts of the mutants, such as 1/20; each part takes mutants of every file
    #[arg(long, value_name = "N/M")]
    sample: Option<Sample>,
}

/// One of several parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    /// From 1.
    number: u32,
    of: u32,
}

impl FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once('/').and_then(|(number, of)| number.parse().ok().zip(of.parse().ok()));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err("a sample is N/M, such as 1/20, with N from 1 to M".into()),
        }
    }
}

impl Sample {
    /// The argument for cargo-mutants, which counts from 0.
    fn shard(self) -> String {
        format!("{}/{}", self.number - 1, self.of)
    }
}

/// Runs the mutants. It is an error if tests catch too few of them.
pub fn run(options: &Options) -> Result<()> {
    interrupt::watch()?;
    mutate(&Workspace::find()?, options)
}

/// The same, if interrupts are already watched.
pub fn mutate(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut counts = MutantCounts::default();
    let is_selected = |part: &&Part| options.package.as_deref().is_none_or(|name| name == part.package);
    for part in CORE.iter().filter(is_selected) {
        counts.add(part.mutate(workspace, options)?);
    }
    for name in &counts.missed {
        println!("not caught: {name}");
    }
    println!("{counts}");
    counts.verdict()
}

impl Part {
    fn mutate(&self, workspace: &Workspace, options: &Options) -> Result<Outcomes> {
        let program = tools::install(workspace, "cargo-mutants", CARGO_MUTANTS)?;
        let target = workspace.target().join("mutants");
        let output = target.join(self.package);
        // Results of an earlier run must not count.
        if output.exists() {
            fs::remove_dir_all(&output).with_context(|| format!("cannot remove {}", output.display()))?;
        }
        fs::create_dir_all(&output).with_context(|| format!("cannot create {}", output.display()))?;
        let sample = options.sample.map_or("all", |_| "some");
        let step = Step::start(format!("running {sample} mutants of {}", self.folders.join(", ")));
        let mut mutants = command::cargo_program(workspace, program);
        // Dependencies are compiled once, for all mutants and for the next time.
        mutants.env("CARGO_TARGET_DIR", target.join("target")).env("PROPTEST_CASES", CASES);
        mutants.args(["mutants", "--colors=never", "--annotations=none", "--package", self.package]);
        mutants.arg("--output").arg(&output);
        mutants.args(self.folders.iter().map(|folder| format!("--file={folder}/**/*.rs")));
        // Other tests of the package aren't built.
        mutants.arg("--cargo-arg=--lib");
        for test in self.tests {
            let name = Path::new(test).file_stem().unwrap_or_default().to_string_lossy();
            mutants.arg(format!("--cargo-arg=--test={name}"));
        }
        if let Some(sample) = options.sample {
            mutants.args(["--sharding=round-robin", "--shard", &sample.shard()]);
        }
        let log = workspace.log(&format!("mutants-{}", self.package));
        let status = command::run_to_end(&step, &mut mutants, &log)?;
        if !status.code().is_some_and(|code| COMPLETE.contains(&code)) {
            bail!("cargo-mutants failed ({status}); the end of {}:\n{}", log.display(), command::tail(&log));
        }
        step.done();
        print_line(&format!("the diff and the log of each mutant are in {}", output.display()));
        Outcomes::read(&output.join("mutants.out/outcomes.json"))
    }
}

/// The report of cargo-mutants.
#[derive(Debug, Deserialize)]
struct Outcomes {
    outcomes: Vec<Outcome>,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    scenario: Scenario,
    summary: Summary,
}

#[derive(Debug, Deserialize)]
enum Scenario {
    /// The unchanged code.
    Baseline,
    Mutant {
        name: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Summary {
    Success,
    CaughtMutant,
    MissedMutant,
    /// It doesn't compile.
    Unviable,
    Failure,
    Timeout,
}

impl Outcomes {
    fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("cannot parse {}", file.display()))
    }
}

/// The outcomes of the mutants.
#[derive(Debug, Default)]
struct MutantCounts {
    caught: u32,
    timed_out: u32,
    unviable: u32,
    /// Their names.
    missed: Vec<String>,
}

impl MutantCounts {
    fn add(&mut self, Outcomes { outcomes }: Outcomes) {
        for Outcome { scenario, summary } in outcomes {
            let Scenario::Mutant { name } = scenario else { continue };
            match summary {
                Summary::CaughtMutant => self.caught += 1,
                // Tests that don't end count as caught.
                Summary::Timeout => self.timed_out += 1,
                Summary::Unviable => self.unviable += 1,
                Summary::MissedMutant | Summary::Success | Summary::Failure => self.missed.push(name),
            }
        }
    }

    fn viable(&self) -> usize {
        self.noticed() + self.missed.len()
    }

    fn noticed(&self) -> usize {
        (self.caught + self.timed_out) as usize
    }

    #[allow(clippy::cast_precision_loss, reason = "some thousands")]
    fn share(&self) -> f64 {
        self.noticed() as f64 / self.viable() as f64
    }

    fn verdict(&self) -> Result<()> {
        ensure!(self.viable() > 0, "no mutant compiles: the run is invalid");
        ensure!(
            self.share() >= CAUGHT,
            "tests catch {:.1} % of the mutants, at least {} % are required: add tests, or list a mutant that \
             changes nothing in .cargo/mutants.toml, with the reason",
            self.share() * 100.0,
            CAUGHT * 100.0
        );
        Ok(())
    }
}

impl Display for MutantCounts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (noticed, viable, Self { timed_out, unviable, .. }) = (self.noticed(), self.viable(), self);
        write!(f, "{noticed} of {viable} viable mutants are caught ({:.1} %)", self.share() * 100.0)?;
        write!(f, ", {timed_out} of them by a timeout; not viable: {unviable}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn counts(caught: usize, missed: usize) -> MutantCounts {
        let mutant = |summary: &str| json!({"scenario": {"Mutant": {"name": "src/a.rs:1:2: replace f", "genre": "FnValue"}}, "summary": summary});
        let mut outcomes = vec![json!({"scenario": "Baseline", "summary": "Success", "phase_results": []})];
        outcomes.extend(vec![mutant("CaughtMutant"); caught]);
        outcomes.extend(vec![mutant("MissedMutant"); missed]);
        outcomes.extend([mutant("Unviable"), mutant("Timeout")]);
        let mut counts = MutantCounts::default();
        counts.add(serde_json::from_value(json!({"outcomes": outcomes, "total_mutants": 9})).unwrap());
        counts
    }

    #[test]
    fn the_share_is_of_the_mutants_that_compile() {
        let all = counts(48, 1);
        assert_eq!(
            (all.viable(), all.unviable, all.missed.as_slice()),
            (50, 1, &["src/a.rs:1:2: replace f".into()][..])
        );
        assert_eq!(
            all.to_string(),
            "49 of 50 viable mutants are caught (98.0 %), 1 of them by a timeout; not viable: 1"
        );
        assert!(all.verdict().is_ok());
        assert!(counts(47, 2).verdict().unwrap_err().to_string().contains("96.0 %"));
        assert!(MutantCounts::default().verdict().is_err());
    }

    #[test]
    fn samples_are_counted_from_one() {
        assert_eq!("1/20".parse::<Sample>().map(Sample::shard), Ok("0/20".into()));
        assert_eq!("20/20".parse::<Sample>().map(Sample::shard), Ok("19/20".into()));
        for wrong in ["0/20", "21/20", "1/0", "1", "a/b", ""] {
            assert!(wrong.parse::<Sample>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_mutant_that_does_not_count_has_a_reason() {
        let text = include_str!("../../.cargo/mutants.toml");
        let (_, list) = text.split_once("exclude_re = [").unwrap();
        let (list, _) = list.rsplit_once(']').unwrap();
        let mut before = "";
        for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let is_reason = |line: &str| line.starts_with("# ") && line.len() > 10;
            assert!(is_reason(line) || is_reason(before), "{line}: write the reason in the line above");
            before = line;
        }
    }

    #[test]
    fn mutated_folders_and_their_tests_exist() {
        let workspace = Workspace::find().unwrap();
        for Part { package, folders, tests } in CORE {
            for path in folders.iter().chain(tests) {
                assert!(workspace.root().join(path).exists(), "{package}: {path}");
            }
        }
    }
}
