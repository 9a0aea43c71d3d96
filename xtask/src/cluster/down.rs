//! Removes a cluster, in whatever state it is.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use super::cluster_state::{self, ClusterState};
use super::layout::{Cluster, Node};
use super::process::Process;
use super::{cgroup, lock, netns};
use crate::interrupt;
use crate::progress::{Step, print_line};

/// The kernel needs a moment to end all processes of a namespace.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Stops the cluster and removes it. Without a cluster it does nothing.
pub fn down(cluster: &Cluster) -> Result<()> {
    let name = cluster.name();
    let _lock = lock::take(cluster)?;
    if matches!(cluster_state::cluster_state(cluster)?, ClusterState::Absent) {
        print_line(&format!("the cluster {name} is not up"));
        return remove_folder(&cluster.kept_logs());
    }
    if !Uid::effective().is_root() {
        bail!("only root can stop a cluster");
    }
    // Not interruptible: a partial removal would be worse than a delay.
    interrupt::watch()?;
    let step = Step::start(format!("stopping the cluster {name}"));
    tear_down(cluster)?;
    remove_folder(&cluster.kept_logs())?;
    step.done();
    Ok(())
}

/// Ends every process of the cluster, and removes its resources from the machine.
pub fn tear_down(cluster: &Cluster) -> Result<()> {
    // Regardless of recorded state, which an interrupted start may not have written.
    remove(&cluster.possible_nodes())?;
    remove_folder(&cluster.folder())
}

/// Ends every process of these nodes, and removes their resources.
pub fn remove(nodes: &[Node]) -> Result<()> {
    let processes = cluster_state::first_processes(nodes);
    processes.iter().try_for_each(Process::kill)?;
    let started = Instant::now();
    while let Some(process) = processes.iter().find(|process| process.is_alive()) {
        if started.elapsed() > TIMEOUT {
            bail!("process {} was killed, but does not exit", process.pid);
        }
        sleep(Duration::from_millis(10));
    }
    for node in nodes {
        netns::remove(&node.netns())?;
        cgroup::remove(&node.cgroup())?;
        remove_folder(&node.folder())?;
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
