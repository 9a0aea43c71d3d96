//! Whether a cluster runs, said to people and to programs.

use std::io::{Write, stdout};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::layout::{Cluster, Node};
use super::process::{self, Process};
use super::ready::Prober;
use super::spec::{self, Spec};
use super::{components, files, lock, netns, supervisor};
use crate::{command, toolchain};

/// What is there of a cluster.
pub enum Condition {
    /// Nothing.
    Absent,
    /// Nothing that runs, but traces.
    Debris,
    /// All of it, and it was ready.
    Running,
    /// Something else, described.
    Broken(String),
}

/// What is there of this cluster.
pub fn condition(cluster: &Cluster) -> Result<Condition> {
    let possible = cluster.possible_nodes();
    let processes = first_processes(&possible);
    if processes.is_empty() {
        let traces =
            cluster.folder().exists() || possible.iter().any(|node| netns::path(&node.netns()).exists());
        return Ok(if traces { Condition::Debris } else { Condition::Absent });
    }
    let ours = cluster.folder();
    for process in &processes {
        let line = process.command_line();
        if line.get(1).is_some_and(|word| word == "node-init")
            && let Some(spec) = line.get(2)
            && !spec.starts_with(&format!("{}/", ours.display()))
        {
            bail!(
                "a cluster named {} runs from another target folder ({spec}); give this one another --name",
                cluster.name()
            );
        }
    }
    if let Some(crash) = crash(cluster)? {
        return Ok(Condition::Broken(crash));
    }
    for node in cluster.nodes() {
        if !node.ready_file().exists() {
            let why = format!("{} was never ready: its start was cut short", node.name());
            return Ok(Condition::Broken(why));
        }
        let states = supervisor::states(&node.folder())?;
        let spec: Spec = files::read_json(&node.spec_file())?;
        for component in spec.components {
            if !states.contains_key(&component.name) {
                return Ok(Condition::Broken(format!("{} on {} does not run", component.name, node.name())));
            }
        }
    }
    Ok(Condition::Running)
}

/// The first processes of nodes that are alive, as written down and as found.
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

/// The component that ended, if one has, with the end of its log.
pub fn crash(cluster: &Cluster) -> Result<Option<String>> {
    for node in cluster.nodes() {
        let Some(process) = recorded(&node) else { continue };
        let mut ended: Vec<(String, String)> = supervisor::states(&node.folder())?
            .into_iter()
            .filter(|(_, state)| state.is_crash())
            .map(|(name, state)| (name, state.to_string()))
            .collect();
        if !process.is_alive() {
            ended.push(("supervisor".into(), "is gone, and the node with it".into()));
        }
        if ended.is_empty() {
            continue;
        }
        let described: Vec<String> = ended
            .into_iter()
            .map(|(name, state)| {
                let log = spec::log_file(&node.folder(), &name);
                format!(
                    "{name} on {} {state}; the end of {}:\n{}",
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

/// An error unless the cluster runs.
pub fn require_running(cluster: &Cluster) -> Result<()> {
    let name = cluster.name();
    match condition(cluster)? {
        Condition::Running => Ok(()),
        Condition::Absent | Condition::Debris => {
            // Whoever holds the lock is starting it, or removing it.
            lock::take(cluster)?;
            bail!("the cluster {name} is not up; start it with: {}", hint(cluster, "up"))
        }
        Condition::Broken(why) => {
            if cluster.nodes().iter().any(|node| !node.ready_file().exists()) {
                lock::take(cluster)?;
            }
            bail!(
                "the cluster {name} is broken: {why}\nstart a component that ended with: {}\n\
                 remove the cluster with: {}",
                hint(cluster, "start COMPONENT/NODE"),
                hint(cluster, "down")
            )
        }
    }
}

/// What to type for this cluster.
pub fn hint(cluster: &Cluster, command: &str) -> String {
    let name = cluster.name().to_string();
    if name == "default" {
        format!("cargo xtask cluster {command}")
    } else {
        format!("cargo xtask cluster --name {name} {command}")
    }
}

/// One JSON object that says where things are; an error unless the cluster runs.
pub fn print_json(cluster: &Cluster) -> Result<()> {
    #[derive(Serialize)]
    struct Report {
        kubeconfig: String,
        netns: String,
        nodes: Vec<NodeReport>,
    }
    #[derive(Serialize)]
    struct NodeReport {
        name: String,
        ip: String,
        netns: String,
        containerd: String,
    }
    require_running(cluster)?;
    let report = Report {
        kubeconfig: cluster.kubeconfig().display().to_string(),
        netns: cluster.netns(),
        nodes: cluster
            .nodes()
            .iter()
            .map(|node| NodeReport {
                name: node.name(),
                ip: node.ip().to_string(),
                netns: node.netns(),
                containerd: node.containerd_socket().display().to_string(),
            })
            .collect(),
    };
    let text = serde_json::to_string_pretty(&report).context("cannot encode the status")?;
    writeln!(stdout(), "{text}").context("cannot print the status")
}

/// A table of what runs, and how to use it; an error unless the cluster runs, after the table where there is
/// something to see.
pub fn print_table(cluster: &Cluster) -> Result<()> {
    let outcome = require_running(cluster);
    if outcome.is_err() && first_processes(&cluster.nodes()).is_empty() {
        return outcome;
    }
    let version = toolchain::kubernetes_version(cluster.workspace())?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["NODE", "COMPONENT", "PID", "STATE", "HEALTH", "LOG"]);
    for node in cluster.nodes() {
        for row in Prober::on(cluster, &node, |prober| rows(prober, &node))? {
            table.add_row(row);
        }
    }
    let lines = [
        format!("cluster {}: Kubernetes {version}", cluster.name()),
        table.trim_fmt(),
        String::new(),
        format!("kubeconfig         {}", cluster.kubeconfig().display()),
        format!("network namespace  {}", cluster.netns()),
        format!("kubectl            {}", hint(cluster, "kubectl get pods -A")),
        format!("images             {}", hint(cluster, "load-image ARCHIVE")),
        format!("components         {}", hint(cluster, "restart COMPONENT/NODE")),
        format!("remove it          {}", hint(cluster, "down")),
    ];
    writeln!(stdout(), "{}", lines.join("\n")).context("cannot print the status")?;
    outcome
}

/// The components of a node, from inside which is asked how they are.
fn rows(prober: &Prober, node: &Node) -> Result<Vec<[String; 6]>> {
    let first = recorded(node);
    let states = supervisor::states(&node.folder())?;
    let spec: Spec = files::read_json(&node.spec_file())?;
    let mut rows = Vec::new();
    for component in spec.components {
        let Some(state) = states.get(&component.name) else { continue };
        let process = state.pid().and_then(|pid| first.as_ref()?.inside(pid));
        let health = match prober.ask(&components::probe(node, &component.name)) {
            Ok(()) => "ready".to_owned(),
            // Why it does not answer is in the column before.
            Err(_) if process.is_none() => String::new(),
            Err(error) => format!("{error:#}"),
        };
        rows.push([
            node.name(),
            component.name.clone(),
            process.map(|process| process.pid.to_string()).unwrap_or_default(),
            state.to_string(),
            health,
            spec::log_file(&node.folder(), &component.name).display().to_string(),
        ]);
    }
    Ok(rows)
}

/// The first process of a node, as written down.
fn recorded(node: &Node) -> Option<Process> {
    files::read_json(&spec::init_file(&node.folder())).ok()
}
