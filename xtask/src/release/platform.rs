//! The platforms of a release, and their build requirements.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::image::Build;
use crate::progress::Step;
use crate::workspace::Workspace;
use crate::{command, debian};

/// Linux on one architecture.
#[derive(Clone, Copy, Debug)]
pub struct Platform {
    /// Its name in images and for krew.
    pub arch: &'static str,
    /// Its Rust target.
    target: &'static str,
    /// Its C cross compiler and linker, with their Debian packages.
    compiler: &'static str,
    packages: [&'static str; 2],
}

/// All platforms.
pub const PLATFORMS: [Platform; 2] = [
    Platform {
        arch: "amd64",
        target: "x86_64-unknown-linux-gnu",
        compiler: "x86_64-linux-gnu-gcc",
        packages: ["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"],
    },
    Platform {
        arch: "arm64",
        target: "aarch64-unknown-linux-gnu",
        compiler: "aarch64-linux-gnu-gcc",
        packages: ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    },
];

impl Platform {
    /// The platform of this machine.
    pub fn host() -> Result<&'static Self> {
        let build = Build::host()?;
        let host = PLATFORMS.iter().find(|platform| platform.target == build.target);
        host.with_context(|| format!("there are no releases for {}", build.target))
    }

    /// The build options for it.
    pub fn build(&self) -> Result<Build> {
        let host = Build::host()?;
        let compiler = (host.target != self.target).then_some(self.compiler);
        Ok(Build { target: self.target.into(), compiler, features: &[] })
    }

    /// Installs missing requirements. The error names those that can't be installed.
    pub fn ensure(&self, workspace: &Workspace) -> Result<()> {
        if self.build()?.compiler.is_none() {
            return Ok(());
        }
        debian::ensure_compiler(workspace, self.compiler, &self.packages)?;
        if self.has_standard_library(workspace)? {
            return Ok(());
        }
        let step = Step::start(format!("adding the Rust target {}", self.target));
        let mut rustup = Command::new("rustup");
        rustup.current_dir(workspace.root()).args(["target", "add", self.target]);
        command::run(&step, &mut rustup, &workspace.log("rustup"))
            .with_context(|| format!("needs the Rust target {} (rustup target add {0})", self.target))?;
        step.done();
        if !self.has_standard_library(workspace)? {
            bail!("rustup added the Rust target {}, but rustc does not find it", self.target);
        }
        Ok(())
    }

    fn has_standard_library(&self, workspace: &Workspace) -> Result<bool> {
        let mut rustc = Command::new("rustc");
        rustc.current_dir(workspace.root()).args(["--print", "target-libdir", "--target", self.target]);
        Ok(Path::new(command::output(&mut rustc)?.trim()).is_dir())
    }
}
