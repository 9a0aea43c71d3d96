//! Processes, identified by more than their ids, which are reused.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process in the machine's process namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// When it started, in ticks since boot. No two processes have the same id and start.
    started: u64,
}

impl Process {
    /// The process that has this id now.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let started = start_time(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pid, started })
    }

    /// Whether it is alive. A zombie isn't.
    pub fn is_alive(&self) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.pid)) else { return false };
        start_time(&stat) == Some(self.started) && !matches!(field(&stat, 0), Some("Z" | "X"))
    }

    /// Kills it. The first process of a process namespace takes all others with it.
    pub fn kill(&self) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot kill process {}", self.pid)),
        }
    }

    /// The process that has the id `inner` in the process namespace of this one.
    pub fn inside(&self, inner: i32) -> Option<Self> {
        let namespace = fs::read_link(format!("/proc/{}/ns/pid", self.pid)).ok()?;
        pids()
            .find(|pid| {
                fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|other| other == namespace)
                    && namespace_pids(*pid).last() == Some(&inner)
            })
            .and_then(|pid| Self::of(pid).ok())
    }

    /// Its command line.
    pub fn command_line(&self) -> Vec<String> {
        let words = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }
}

/// The first processes of process namespaces in the network namespace mounted at
/// `netns`. Killing them ends all processes in it, even if the recorded state is lost.
pub fn first_processes_in(netns: &Path) -> Vec<Process> {
    let Ok(namespace) = fs::metadata(netns) else { return Vec::new() };
    pids()
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|other| (other.dev(), other.ino()) == (namespace.dev(), namespace.ino()))
        })
        .filter(|pid| matches!(namespace_pids(*pid).as_slice(), [_, .., 1]))
        .filter_map(|pid| Process::of(pid).ok())
        .collect()
}

/// Processes with `text` in one of their arguments.
pub fn called_with(text: &str) -> Vec<Process> {
    let all = pids().filter_map(|pid| Process::of(pid).ok());
    all.filter(|process| process.is_alive() && process.command_line().iter().any(|word| word.contains(text)))
        .collect()
}

/// Processes in or below the cgroup `name`.
pub fn in_cgroup(name: &str) -> Vec<Process> {
    let inside = |pid: &i32| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        // Each line ends with a path, after two colons.
        groups.lines().any(|line| line.split('/').nth(1) == Some(name))
    };
    pids().filter(inside).filter_map(|pid| Process::of(pid).ok()).filter(Process::is_alive).collect()
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The ids of a process, from the outermost namespace to its own.
fn namespace_pids(pid: i32) -> Vec<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn start_time(stat: &str) -> Option<u64> {
    field(stat, 19)?.parse().ok()
}

/// A field of /proc/PID/stat, counted from the one after the name, which may
/// itself contain blanks and parentheses.
fn field(stat: &str, index: usize) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_may_have_parentheses() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 123456 0 0";
        assert_eq!(start_time(stat), Some(123_456));
        assert_eq!(field(stat, 0), Some("S"));
    }

    #[test]
    fn this_process_is_alive_and_another_of_its_id_is_not() {
        let this = Process::of(i32::try_from(std::process::id()).unwrap_or_default());
        assert!(this.as_ref().is_ok_and(Process::is_alive));
        assert!(this.is_ok_and(|this| !Process { started: this.started + 1, ..this }.is_alive()));
    }
}
