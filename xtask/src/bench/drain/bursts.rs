//! Bursts of requests, with silence between them.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::commands::Requests;
use crate::target::Target;

/// A load of bursts, which ends when this is dropped.
pub struct Bursts(Child);

impl Bursts {
    /// Starts sending them to `url`. `program` is tests/apps/burst.
    pub fn start(target: &Target, program: &Path, url: &str) -> Result<Self> {
        let log = target.workspace().log("drain-bursts");
        let log = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut bursts = target.command(program);
        bursts.arg(url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        Ok(Self(bursts.spawn().context("cannot run burst")?))
    }

    /// Ends them, and waits for the last responses.
    pub fn end(mut self) -> Result<Requests> {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).context("cannot stop burst")?;
        let mut counts = String::new();
        let stdout = self.0.stdout.as_mut().context("burst has no output")?;
        stdout.read_to_string(&mut counts).context("cannot read the output of burst")?;
        serde_json::from_str(&counts).context("burst printed no counts")
    }
}

impl Drop for Bursts {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
