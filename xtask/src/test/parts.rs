//! Tests of the test cluster: components restart, and its removal leaves nothing.

use std::fs::File;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::{self, Cluster, Name, leftovers};
use crate::command::SELF_EXE;
use crate::interrupt;
use crate::progress::Step;
use crate::workspace::Workspace;

/// The limit for a start to create resources.
const LIMIT: Duration = Duration::from_mins(2);
/// Every component, on the second node if that has it.
const COMPONENTS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd/node-2",
    "kubelet/node-2",
    "kube-proxy/node-2",
];
/// The resources of a running cluster, as in [`leftovers`].
const TRACES: [&str; 5] = ["the folder", "the network namespace", "the mount", "the cgroup", "the process"];

/// Restarts every component, and waits for each to be ready again.
pub fn every_component_restarts(cluster: &Cluster) -> Result<()> {
    for component in COMPONENTS {
        interrupt::check()?;
        let which = component.parse().map_err(anyhow::Error::msg)?;
        cluster::restart(cluster, &which).with_context(|| format!("cannot restart {component}"))?;
    }
    cluster::require_running(cluster)
}

/// Removes the cluster, and checks that no resource is left.
pub fn down_leaves_nothing(cluster: &Cluster) -> Result<()> {
    let before = leftovers(cluster);
    cluster::down(cluster)?;
    let before = before?;
    for kind in TRACES {
        if !before.iter().any(|trace| trace.starts_with(kind)) {
            bail!("{kind} was not found while the cluster ran, so the check is invalid");
        }
    }
    nothing_is_left(cluster)
}

/// Kills and interrupts the start of a cluster named after `name`.
pub fn an_interrupted_start_leaves_nothing(workspace: &Workspace, name: &Name) -> Result<()> {
    let cluster = Cluster::new(name.beside("cut"), workspace.clone());
    let step = Step::start("interrupting starts of a cluster");
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        if let Err(error) = interrupted(&cluster, signal) {
            cluster::down(&cluster)?;
            return Err(error);
        }
        if signal == Signal::SIGKILL {
            cluster::down(&cluster)?;
        }
        nothing_is_left(&cluster).with_context(|| format!("after {signal}"))?;
    }
    step.done();
    Ok(())
}

/// Sends `signal` to a start of two nodes once both have processes.
fn interrupted(cluster: &Cluster, signal: Signal) -> Result<()> {
    let log = cluster.workspace().log("cut-short");
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut up = Command::new(SELF_EXE);
    up.args(["cluster", "--name", &cluster.name().to_string(), "up", "--nodes", "2"]);
    let mut up = up.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn()?;
    let started = Instant::now();
    let outcome = loop {
        if cluster::running_nodes(cluster) == 2 {
            break Ok(());
        }
        if let Some(status) = up.try_wait()? {
            bail!("the start exited unexpectedly ({status}); see {}", log.display());
        }
        if let Err(interrupted) = interrupt::check() {
            break Err(interrupted.into());
        }
        if started.elapsed() > LIMIT {
            break Err(anyhow::anyhow!("the start takes more than {} s", LIMIT.as_secs()));
        }
        sleep(Duration::from_millis(10));
    };
    kill(Pid::from_raw(up.id().cast_signed()), signal).context("cannot send a signal")?;
    let asked = Instant::now();
    while up.try_wait()?.is_none() {
        if asked.elapsed() > LIMIT {
            up.kill()?;
            bail!("the start took more than {} s to end after {signal}", LIMIT.as_secs());
        }
        sleep(Duration::from_millis(10));
    }
    outcome
}

fn nothing_is_left(cluster: &Cluster) -> Result<()> {
    let left = leftovers(cluster)?;
    if !left.is_empty() {
        bail!("resources are left: {}", left.join(", "));
    }
    Ok(())
}
