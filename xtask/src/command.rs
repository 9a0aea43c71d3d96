//! Runs programs, with their output in a log.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::interrupt;
use crate::progress::Step;
use crate::workspace::Workspace;

/// This program, even if its file has been replaced by another build.
pub const SELF_EXE: &str = "/proc/self/exe";

/// How many lines of a log an error shows.
const TAIL_LINES: usize = 20;
/// The characters that are shown of each line.
const LINE_LENGTH: usize = 400;
const POLL: Duration = Duration::from_millis(20);
/// How long a program may take to clean up after an interrupt.
const TIMEOUT: Duration = Duration::from_secs(10);

/// cargo, on this repository and its target folder.
pub fn cargo(workspace: &Workspace) -> Command {
    cargo_program(workspace, env::var_os("CARGO").unwrap_or("cargo".into()))
}

/// A subcommand of cargo that leaves Cargo.lock unchanged.
pub fn locked_cargo(workspace: &Workspace, subcommand: &str) -> Command {
    let mut command = cargo(workspace);
    command.args([subcommand, "--locked"]);
    command
}

/// Another program that runs cargo, with the same environment.
pub fn cargo_program(workspace: &Workspace, program: impl AsRef<OsStr>) -> Command {
    let mut cargo = Command::new(program);
    prepare_cargo(&mut cargo, workspace);
    cargo
}

/// Sets the folders of a command that runs cargo. Variables that `cargo run` sets are removed: build scripts that depend
/// on them would run again, with everything that depends on those.
pub fn prepare_cargo(cargo: &mut Command, workspace: &Workspace) {
    for (name, _) in env::vars_os() {
        let of_run = |name: &str| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
                || name == "CARGO_PRIMARY_PACKAGE"
        };
        if name.to_str().is_some_and(of_run) {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(workspace.root()).env("CARGO_TARGET_DIR", workspace.target());
}

/// Runs `command`, with its output in `log`. It is an error unless it succeeds. If this process is interrupted, the
/// command is stopped with its process group.
pub fn run(step: &Step, command: &mut Command, log: &Path) -> Result<()> {
    let status = run_to_end(step, command, log)?;
    if !status.success() {
        bail!("{} failed ({status}); the end of {}:\n{}", name(command), log.display(), tail(log));
    }
    Ok(())
}

/// The same, with any exit status.
pub fn run_to_end(step: &Step, command: &mut Command, log: &Path) -> Result<ExitStatus> {
    run_logged(step, command, log, None)
}

/// The same, with only standard error in `log`. Returns the exit status and standard output.
pub fn run_for_output(step: &Step, command: &mut Command, log: &Path) -> Result<(ExitStatus, String)> {
    let mut file = tempfile::tempfile().context("cannot create a temporary file")?;
    let stdout = file.try_clone().context("cannot share a temporary file")?;
    let status = run_logged(step, command, log, Some(stdout))?;
    let mut output = String::new();
    file.rewind()
        .and_then(|()| file.read_to_string(&mut output))
        .with_context(|| format!("cannot read the output of {}", name(command)))?;
    Ok((status, output))
}

/// Runs `command` to its end, with standard output in a file, or in the log as well.
fn run_logged(step: &Step, command: &mut Command, log: &Path, stdout: Option<File>) -> Result<ExitStatus> {
    let program = name(command);
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let stdout = match stdout {
        Some(file) => file,
        None => output.try_clone().context("cannot share a log")?,
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(output)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let status = loop {
        if let Some(status) = child.try_wait().with_context(|| format!("cannot wait for {program}"))? {
            break status;
        }
        if let Err(interrupted) = interrupt::check() {
            stop(&mut child);
            return Err(interrupted.into());
        }
        step.waiting();
        sleep(POLL);
    };
    // Ctrl-C can end the program before this process gets the signal.
    interrupt::check()?;
    Ok(status)
}

/// Runs `command`, and returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let program = name(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} printed something other than text"))
}

/// The last lines of a log, indented.
pub fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default();
    if end.is_empty() {
        return "    (empty)".to_owned();
    }
    end.iter().map(|line| format!("    {}", shorten(line))).collect::<Vec<_>>().join("\n")
}

/// A line of a log that fits into an error.
pub fn shorten(line: &str) -> String {
    match line.char_indices().nth(LINE_LENGTH) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// The name of a command in messages: not this program, by which it enters a network
/// namespace (see [`crate::target::Target::command`]).
fn name(command: &Command) -> String {
    let entered = command.get_args().skip_while(|word| *word != "--").nth(1);
    let program = if command.get_program() == SELF_EXE { entered } else { None };
    let program = Path::new(program.unwrap_or(command.get_program()));
    program.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Interrupts the process group that `child` leads, as Ctrl-C would, so that it
/// removes its temporary files; kills it if it doesn't end.
fn stop(child: &mut Child) {
    let Ok(id) = i32::try_from(child.id()) else { return };
    let group = Pid::from_raw(id);
    let _ = killpg(group, Signal::SIGINT);
    let started = Instant::now();
    while started.elapsed() < TIMEOUT {
        if !matches!(child.try_wait(), Ok(None)) {
            break;
        }
        sleep(POLL);
    }
    // The leader has ended or is stuck; the rest of its group is useless.
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.wait();
}
