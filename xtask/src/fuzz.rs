//! Fuzzing for a bounded time, from the corpus in the repository.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::progress::Step;
use crate::workspace::Workspace;
use crate::{command, interrupt, tools};

/// The fuzz targets; see fuzz/src/lib.rs.
const TARGETS: [&str; 4] = ["admission", "annotations", "manifests", "service"];
const CARGO_FUZZ: &str = "0.13.2";

/// `cargo xtask fuzz`
#[derive(Args, Clone, Copy, Debug)]
pub struct Options {
    /// How long each target is fuzzed, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { seconds: 60 }
    }
}

/// Fuzzes every target. A failing input is reported, and kept under the target folder.
pub fn run(options: Options) -> Result<()> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    fuzz(&workspace, options)
}

/// The same, if interrupts are already watched.
pub fn fuzz(workspace: &Workspace, options: Options) -> Result<()> {
    let program = tools::install(workspace, "cargo-fuzz", CARGO_FUZZ)?;
    let target = workspace.target().join("fuzz");
    let cargo_fuzz = |subcommand: &str, name: &str| {
        let mut fuzz = Command::new(&program);
        fuzz.current_dir(workspace.root()).env("CARGO_TARGET_DIR", &target);
        // Enables sanitizers of a stable compiler.
        fuzz.env("RUSTC_BOOTSTRAP", "1").args(["fuzz", subcommand, name]);
        fuzz
    };
    for name in TARGETS {
        interrupt::check()?;
        let step = Step::start(format!("building the fuzz target {name}"));
        command::run(&step, &mut cargo_fuzz("build", name), &workspace.log(&format!("fuzz-build-{name}")))?;
        step.done();
        // New inputs go there; the repository's corpus is only read.
        let (found, broken) = (target.join("corpus").join(name), target.join("broken").join(name));
        for folder in [&found, &broken] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let step = Step::start(format!("fuzzing {name} for {} s", options.seconds));
        let mut run = cargo_fuzz("run", name);
        run.arg(&found).arg(workspace.root().join("fuzz/corpus").join(name)).arg("--");
        run.arg(format!("-max_total_time={}", options.seconds));
        // The program's many warnings would hide the fuzzer's own lines.
        run.args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-close_fd_mask=3"]);
        run.arg(format!("-artifact_prefix={}/", broken.display()));
        command::run(&step, &mut run, &workspace.log(&format!("fuzz-{name}")))
            .with_context(|| format!("the failing input is in {}", broken.display()))?;
        step.done();
    }
    Ok(())
}
