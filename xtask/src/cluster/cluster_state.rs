//! The state of a cluster: its processes and recorded state.

use anyhow::{Result, bail};

use super::layout::{Cluster, Node};
use super::process::{self, Process};
use super::spec::{self, Spec};
use super::{files, netns, supervisor};
use crate::command;

/// The state of a cluster.
pub enum ClusterState {
    /// It doesn't exist.
    Absent,
    /// No processes, but other resources.
    Debris,
    /// It runs, and has been ready.
    Running,
    /// Anything else, with a description.
    Broken(String),
}

/// The state of this cluster.
pub fn cluster_state(cluster: &Cluster) -> Result<ClusterState> {
    let possible = cluster.possible_nodes();
    let processes = first_processes(&possible);
    if processes.is_empty() {
        let leftovers =
            cluster.folder().exists() || possible.iter().any(|node| netns::path(&node.netns()).exists());
        return Ok(if leftovers { ClusterState::Debris } else { ClusterState::Absent });
    }
    let ours = cluster.folder();
    for process in &processes {
        let line = process.command_line();
        if line.get(1).is_some_and(|word| word == "node-init")
            && let Some(spec) = line.get(2)
            && !spec.starts_with(&format!("{}/", ours.display()))
        {
            bail!(
                "a cluster named {} runs from another target folder ({spec}); use another --name",
                cluster.name()
            );
        }
    }
    if let Some(crash) = crash(cluster)? {
        return Ok(ClusterState::Broken(crash));
    }
    for node in cluster.nodes() {
        if !node.ready_file().exists() {
            let why = format!("{} was never ready: its start was interrupted", node.name());
            return Ok(ClusterState::Broken(why));
        }
        let states = supervisor::states(&node.folder())?;
        let spec: Spec = files::read_json(&node.spec_file())?;
        for component in spec.components {
            if !states.contains_key(&component.name) {
                return Ok(ClusterState::Broken(format!(
                    "{} on {} does not run",
                    component.name,
                    node.name()
                )));
            }
        }
    }
    Ok(ClusterState::Running)
}

/// The first processes of nodes that are alive, recorded or found.
pub fn first_processes(nodes: &[Node]) -> Vec<Process> {
    let mut all: Vec<Process> = nodes.iter().filter_map(recorded).collect();
    for node in nodes {
        all.extend(process::first_processes_in(&netns::path(&node.netns())));
    }
    all.retain(Process::is_alive);
    all.sort_by_key(|process| process.pid);
    all.dedup();
    all
}

/// How many of its nodes have processes.
pub fn running_nodes(cluster: &Cluster) -> usize {
    first_processes(&cluster.nodes()).len()
}

/// The component that has ended, if any, with the end of its log.
pub fn crash(cluster: &Cluster) -> Result<Option<String>> {
    for node in cluster.nodes() {
        let Some(process) = recorded(&node) else { continue };
        let mut ended: Vec<(String, String)> = supervisor::states(&node.folder())?
            .into_iter()
            .filter(|(_, state)| state.is_crash())
            .map(|(name, state)| (name, state.to_string()))
            .collect();
        if !process.is_alive() {
            ended.push(("supervisor".into(), "exited, and so did the node".into()));
        }
        if ended.is_empty() {
            continue;
        }
        let described: Vec<String> = ended
            .into_iter()
            .map(|(name, state)| {
                let log = spec::log_file(&node.folder(), &name);
                format!(
                    "{name} on {} {state}; the last lines of {}:\n{}",
                    node.name(),
                    log.display(),
                    command::tail(&log)
                )
            })
            .collect();
        return Ok(Some(described.join("\n")));
    }
    Ok(None)
}

/// The recorded first process of a node.
pub fn recorded(node: &Node) -> Option<Process> {
    files::read_json(&spec::init_file(&node.folder())).ok()
}
