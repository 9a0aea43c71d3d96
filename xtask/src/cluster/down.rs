//! Taking a cluster away, whatever is left of it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use super::layout::{Cluster, Node};
use super::process::Process;
use super::status::{self, Condition};
use super::{cgroup, lock, netns};
use crate::interrupt;
use crate::progress::{Step, say};

/// The kernel takes a moment to end all of a process namespace.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stops the cluster and removes all of it. Harmless if there is none.
pub fn down(cluster: &Cluster) -> Result<()> {
    let name = cluster.name();
    let _lock = lock::take(cluster)?;
    if matches!(status::condition(cluster)?, Condition::Absent) {
        say(&format!("the cluster {name} is not up"));
        return remove_folder(&cluster.kept_logs());
    }
    if !Uid::effective().is_root() {
        bail!("only root can stop a cluster");
    }
    // Half done would be worse than a little late.
    interrupt::watch()?;
    let step = Step::start(format!("stopping the cluster {name}"));
    tear_down(cluster)?;
    remove_folder(&cluster.kept_logs())?;
    step.done();
    Ok(())
}

/// Ends every process of the cluster and removes its traces from the machine.
pub fn tear_down(cluster: &Cluster) -> Result<()> {
    // Whatever is written down: what is left may be from a start that was cut short.
    remove(&cluster.possible_nodes())?;
    remove_folder(&cluster.folder())
}

/// Ends every process of those nodes and removes their traces.
pub fn remove(nodes: &[Node]) -> Result<()> {
    let processes = status::first_processes(nodes);
    processes.iter().try_for_each(Process::kill)?;
    let started = Instant::now();
    while let Some(process) = processes.iter().find(|process| process.is_alive()) {
        if started.elapsed() > PATIENCE {
            bail!("process {} has been killed and does not end", process.pid);
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
