//! Subcommands of cargo that are built from crates.io, into the target folder.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::command;
use crate::progress::Step;
use crate::workspace::Workspace;

/// Held while a program is built: several parts of the test suite need the same ones at the same time.
static BUILDING: Mutex<()> = Mutex::new(());

/// The program `name` of the crate with that name, at exactly this version. It is built unless it exists.
pub fn install(workspace: &Workspace, name: &str, version: &str) -> Result<PathBuf> {
    let root = workspace.target().join("tools");
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    // cargo's list of installed crates.
    let installed = fs::read_to_string(root.join(".crates.toml")).unwrap_or_default();
    if !is_installed(&installed, name, version) {
        let step = Step::start(format!("building {name} (some minutes the first time)"));
        let mut install = command::cargo(workspace);
        // They run for seconds, and a release build of them takes minutes.
        install.args(["install", name, "--debug", "--version", version, "--locked", "--root"]).arg(&root);
        install.env("CARGO_PROFILE_DEV_DEBUG", "false");
        command::run(&step, &mut install, &workspace.log(&format!("install-{name}")))?;
        step.done();
    }
    Ok(root.join("bin").join(name))
}

/// Lines are `"NAME VERSION (SOURCE)" = [PROGRAMS]`.
fn is_installed(crates: &str, name: &str, version: &str) -> bool {
    crates.lines().any(|line| line.starts_with(&format!("\"{name} {version} (")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_not_the_one_that_is_asked_for() {
        let crates = "[v1]\n\"cargo-fuzz 0.13.2 (registry+https://github.com/rust-lang/crates.io-index)\" = [\"cargo-fuzz\"]\n";
        assert!(is_installed(crates, "cargo-fuzz", "0.13.2"));
        assert!(!is_installed(crates, "cargo-fuzz", "0.13.20"));
        assert!(!is_installed(crates, "cargo-mutants", "0.13.2"));
        assert!(!is_installed("", "cargo-fuzz", "0.13.2"));
    }
}
