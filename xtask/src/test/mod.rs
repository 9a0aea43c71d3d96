//! The full test suite, from formatting to end-to-end tests on a real cluster.

mod chart;
mod cluster_programs;
mod e2e;
mod environments;
mod failure_policy;
mod file_lengths;
mod monitoring;
mod notes;
mod objects;
mod own_deployment;
mod parts;
mod rbac;
mod results;
mod scenarios;
mod uninstall;
mod upgrade;

use std::process::{self, Command};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::Args;

use crate::bench::{drain, scale};
use crate::cluster::{self, Name};
use crate::figures::BENCHMARKS;
use crate::progress::Step;
use crate::target::{External, Target};
use crate::workspace::Workspace;
use crate::{command, debian, demo, fuzz, image, install, interrupt, mutants, release, toolchain};
use notes::Notes;
use results::{TestResults, TestRun};

/// `cargo xtask test`
#[derive(Args)]
pub struct Options {
    /// The cluster to use; it is started if it doesn't run
    #[arg(long, default_value = "test", value_name = "NAME")]
    name: Name,

    #[command(flatten)]
    external: External,

    /// Run longer: more cases for the laws, fuzzing, mutants, larger numbers on the cluster, and the scenarios with
    /// the counts of their sources
    #[arg(long)]
    long: bool,

    /// Write the figures of the end-to-end tests to docs/operations.md and docs/scenarios.md, and with --long those of
    /// thousands of workloads and of drains to docs/benchmarks.md
    #[arg(long)]
    docs: bool,

    /// Run only the tests that need no cluster
    #[arg(long, conflicts_with = "only")]
    no_cluster: bool,

    /// Run only the end-to-end tests with this in their names; may be repeated
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
}

/// Cases per law; plain `cargo test` runs ten thousand.
const LONG_CASES: &str = "200000";

/// Environment variables of the end-to-end tests for a long run.
const LONG: [(&str, &str); 7] = [
    ("ADIEU_AWAY_SECONDS", "60"),
    ("ADIEU_CHAOS_DEPLOYMENTS", "300"),
    ("ADIEU_ORACLE_CASES", "20000"),
    ("ADIEU_RESTARTS", "10"),
    ("ADIEU_SCENARIOS", "full"),
    ("ADIEU_TENANT_OBJECTS", "300"),
    ("ADIEU_TERMINATION_ROUNDS", "3"),
];

/// The number of nodes, so that pods can move between them.
const NODES: u8 = 2;
/// The interval of checks whether the unit tests have ended.
const POLL: Duration = Duration::from_millis(100);

/// Runs everything, and repeats failures at the end. The last line on standard output has the counts.
pub fn run(options: &Options) -> Result<()> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    let mut results = TestResults::default();
    let outcome = everything(&workspace, options, &mut results);

    let TestResults { passed, failed, failures, summary } = results;
    // The summary last, because backtraces are long.
    for failure in failures.iter().chain(&summary) {
        println!("{failure}");
    }
    outcome?;
    println!("{passed} passed, {failed} failed");
    if failed > 0 {
        bail!("{failed} failed");
    }
    Ok(())
}

/// It is an error if the run can't continue.
fn everything(workspace: &Workspace, options: &Options, results: &mut TestResults) -> Result<()> {
    if options.only.is_empty() {
        without_a_cluster(workspace, options, results)?;
    }
    if options.no_cluster {
        return Ok(());
    }
    on_a_cluster(workspace, options, results)
}

fn without_a_cluster(workspace: &Workspace, options: &Options, results: &mut TestResults) -> Result<()> {
    thread::scope(|scope| {
        // Beside cargo, which often keeps only one core busy.
        let clients = scope.spawn(|| toolchain::build_clients(workspace));
        results.check("formatting", formatting(workspace))?;
        results.check("clippy", clippy(workspace))?;
        results.check("dependencies of the pure crates", pure_crates_have_no_client(workspace))?;
        results.check("lengths of Rust files", file_lengths::check(workspace))?;
        // Without one, its tests are skipped.
        results.check("a browser for the reports", debian::ensure_browser(workspace))?;
        beside_unit_tests(workspace, options, results, |results| {
            // They need Helm.
            clients.join().map_err(|_| anyhow!("a thread panicked"))??;
            chart_and_release(workspace, results)
        })
    })?;
    if options.long {
        results.check("fuzzing", fuzz::fuzz(workspace, fuzz::Options::default()))?;
        results.check("mutants", mutants::mutate(workspace, &mutants::Options::default()))?;
    }
    Ok(())
}

/// Runs `others` beside the unit tests, which use one core most of the time.
fn beside_unit_tests(
    workspace: &Workspace,
    options: &Options,
    results: &mut TestResults,
    others: impl FnOnce(&mut TestResults) -> Result<()>,
) -> Result<()> {
    let unit_tests = || {
        let mut tests = command::locked_cargo(workspace, "test");
        tests.args(["--workspace", "--no-fail-fast"]);
        if options.long {
            tests.env("PROPTEST_CASES", LONG_CASES);
        }
        tests
    };
    // Before others, because cargo locks its target folder during a build.
    let step = Step::start("building the unit tests");
    let built = command::run(&step, unit_tests().arg("--no-run"), &workspace.log("build-unit"));
    if built.is_err() {
        drop(step);
        results.check("building the unit tests", built)?;
        return others(results);
    }
    step.done();
    thread::scope(|scope| {
        let step = Step::start_beside("running the unit tests");
        let tests = scope.spawn(|| {
            let run = TestRun::run(workspace, "unit", step, &mut unit_tests());
            // In advance, because others use one core for much of the time. Those that need these report errors.
            let _ = release::sbom::tool(workspace);
            if options.external.kubeconfig().is_none() {
                let _ = cluster_programs::prepare(workspace);
            }
            run
        });
        let outcome = others(results);
        if !tests.is_finished() {
            let step = Step::start("waiting for the unit tests and the programs of later tests");
            while !tests.is_finished() {
                step.waiting();
                sleep(POLL);
            }
        }
        results.add(tests.join().map_err(|_| anyhow!("a thread panicked"))??);
        outcome
    })
}

/// Checks the chart, the objects that it installs, and the files of a release.
fn chart_and_release(workspace: &Workspace, results: &mut TestResults) -> Result<()> {
    results.check("chart", chart::check(workspace))?;
    results.check("the chart's objects", objects::check(workspace))?;
    results.check("the chart in other environments", environments::check(workspace))?;
    results.check("the operator's own Deployment", own_deployment::check(workspace))?;
    results.check("alerts and dashboard", monitoring::check(workspace))?;
    // After the checks of the program, because it replaces that.
    results.check("release", release::prove(workspace))?;
    // In advance, beside the build of the cluster's programs. The check of the upgrade reports errors.
    let _ = upgrade::build_other(workspace);
    Ok(())
}

fn on_a_cluster(workspace: &Workspace, options: &Options, results: &mut TestResults) -> Result<()> {
    // Before the cluster is entered, which can't download crates.
    let tests = e2e::build(workspace, &options.only)?;
    let (target, started) = Target::choose(workspace, options.name.clone(), &options.external)?;
    let outcome = measured(&target, options, &tests, results);
    if let Some(cluster) = started {
        results.check("nothing is left of a cluster that is down", parts::down_leaves_nothing(&cluster))?;
        let interrupted = parts::an_interrupted_start_leaves_nothing(workspace, &options.name);
        results.check("an interrupted start leaves nothing", interrupted)?;
        if options.only.is_empty() && outcome.is_ok() {
            let scale = scale::Options {
                name: options.name.beside("scale"),
                deployments: if options.long { scale::DEPLOYMENTS } else { 200 },
                full_size_only: false,
                by: scale::By::Annotation,
                report: None,
                // The loops don't affect the memory, which is what is checked.
                rounds: if options.long { scale::ROUNDS } else { 1 },
            };
            let docs = (options.docs && options.long && results.failed == 0).then_some(BENCHMARKS);
            results.check("thousands of pods", scale::prove(workspace, &scale, docs))?;
            if options.long {
                let drain = drain::Options {
                    name: options.name.beside("drain"),
                    ways: Vec::new(),
                    rollouts: drain::ROLLOUTS,
                    terminations: drain::TERMINATIONS,
                    report: None,
                };
                results.check("drains behind data planes", drain::prove_all(workspace, &drain, docs))?;
            }
        }
    }
    outcome
}

/// Runs the tests on the cluster, then shows their figures.
fn measured(target: &Target, options: &Options, tests: &[String], results: &mut TestResults) -> Result<()> {
    let workspace = target.workspace();
    let notes = Notes::begin(workspace)?;
    let failed = results.failed;
    let outcome = end_to_end(target, options, tests, &notes, results);
    let passed = results.failed == failed && outcome.is_ok();
    notes.show(workspace, options.docs && passed)?;
    if options.docs && !passed {
        eprintln!("The figures are not written to docs/, because tests failed.");
    }
    outcome
}

fn end_to_end(
    target: &Target,
    options: &Options,
    tests: &[String],
    notes: &Notes,
    results: &mut TestResults,
) -> Result<()> {
    let workspace = target.workspace();
    if let Some(cluster) = target.cluster() {
        results.check("a cluster that runs takes another node", cluster::up(cluster, Some(NODES)))?;
        results.check("every component restarts", parts::every_component_restarts(cluster))?;
    }
    install::install(target, &install::Options::default())?;
    results.check("helm test", install::test(target))?;
    let (web, relay) = (image::app(workspace, "web")?, image::app(workspace, "relay")?);
    target.load_image(&web.archive)?;
    target.load_image(&relay.archive)?;
    let applications = scenarios::prepare(target)?;
    let set_variables = |tests: &mut Command| {
        tests.env("ADIEU_TEST_IMAGE", web.reference()).env("ADIEU_TEST_RELAY_IMAGE", relay.reference());
        tests.envs(applications.iter().map(|(name, image)| (name, image)));
        if let Some(cluster) = target.cluster() {
            // For tests that stop components: this program, even if cargo replaces its file.
            tests.env("ADIEU_TEST_XTASK", format!("/proc/{}/exe", process::id()));
            tests.env("ADIEU_TEST_CLUSTER", cluster.name().to_string());
        }
        tests.env("ADIEU_FIGURES", notes.file());
        if options.long {
            tests.envs(LONG);
        }
    };
    e2e::run(target, tests, set_variables, results)?;
    if !options.only.is_empty() {
        return Ok(());
    }
    results.check("a rolling restart loses no request", demo::prove(target))?;
    if options.long {
        // A calibration of five canaries takes two minutes.
        results.check("a calibrated drain loses no request", drain::prove(target))?;
    }
    let deployments = if options.long { 300 } else { 20 };
    let upgrade = upgrade::check(target, deployments).and_then(|found| {
        notes.figure(
            &format!("{deployments} Deployments, and an upgrade to a build with other defaults"),
            &found,
        )
    });
    results.check("an upgrade to other defaults rolls nothing", upgrade)?;
    if let Some(cluster) = target.cluster() {
        let did = rbac::check(target, &cluster.audit_log())
            .and_then(|found| notes.figure("The operator's permissions, compared with its requests", &found));
        results.check("the operator has the permissions that it uses, and no others", did)?;
    }
    results.check("failurePolicy over upgrades", failure_policy::check(target))?;
    results.check("helm uninstall reverts every workload first", uninstall::check(target, &web))?;
    results.check("only the CRDs are left after helm uninstall", install::uninstall_leaves_nothing(target))
}

fn formatting(workspace: &Workspace) -> Result<()> {
    let step = Step::start("checking the formatting");
    let mut rust = command::cargo(workspace);
    rust.args(["fmt", "--all", "--check"]);
    command::run(&step, &mut rust, &workspace.log("fmt"))?;
    let mut go = Command::new("gofmt");
    let unformatted = command::output(go.current_dir(workspace.root()).args(["-l", "tests"]))?;
    if !unformatted.is_empty() {
        bail!("gofmt -w is due for {}", unformatted.trim());
    }
    step.done();
    Ok(())
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let step = Step::start("linting");
    let mut clippy = command::locked_cargo(workspace, "clippy");
    clippy.args(["--workspace", "--all-targets", "--", "-D", "warnings"]);
    command::run(&step, &mut clippy, &workspace.log("clippy"))?;
    // cargo-fuzz would change its lock file silently.
    let mut fuzz = command::locked_cargo(workspace, "metadata");
    fuzz.args(["--format-version=1", "--manifest-path=fuzz/Cargo.toml"]);
    command::run(&step, &mut fuzz, &workspace.log("metadata-fuzz"))?;
    step.done();
    Ok(())
}

/// The pure crates depend on no crate for network access or waiting.
fn pure_crates_have_no_client(workspace: &Workspace) -> Result<()> {
    for package in [
        "adieu-audit",
        "adieu-core",
        "adieu-exposures",
        "adieu-manifests",
        "adieu-observer",
        "adieu-recommend",
        "adieu-review",
        "adieu-scheduler",
    ] {
        let mut tree = command::locked_cargo(workspace, "tree");
        tree.args(["--package", package, "--edges=normal", "--prefix=none", "--format={lib}"]);
        let tree = command::output(&mut tree)?;
        if !tree.lines().any(|library| library == "kube_core") {
            bail!("cargo tree does not list the dependencies of {package}:\n{tree}");
        }
        for library in ["kube_client", "kube_runtime", "tokio", "hyper", "tracing"] {
            if tree.lines().any(|line| line == library) {
                bail!("{package} depends on {library}");
            }
        }
    }
    Ok(())
}
