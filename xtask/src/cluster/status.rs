//! The status of a cluster, as a table and as JSON.

use std::io::{Write, stdout};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::cluster_state::{ClusterState, cluster_state, first_processes, recorded};
use super::layout::{Cluster, Node};
use super::ready::Prober;
use super::spec::{self, Spec};
use super::{components, files, lock, supervisor};
use crate::toolchain;

/// It is an error unless the cluster runs.
pub fn require_running(cluster: &Cluster) -> Result<()> {
    let name = cluster.name();
    match cluster_state(cluster)? {
        ClusterState::Running => Ok(()),
        ClusterState::Absent | ClusterState::Debris => {
            // The process with the lock is starting or removing it.
            lock::take(cluster)?;
            bail!("the cluster {name} is not up; start it with: {}", hint(cluster, "up"))
        }
        ClusterState::Broken(why) => {
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

/// The command for this cluster.
pub fn hint(cluster: &Cluster, command: &str) -> String {
    let name = cluster.name().to_string();
    if name == "default" {
        format!("cargo xtask cluster {command}")
    } else {
        format!("cargo xtask cluster --name {name} {command}")
    }
}

/// Prints one JSON object with paths and addresses. It is an error unless the cluster runs.
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

/// Prints a table of components, and how to use the cluster. It is an error unless the cluster runs, after the table
/// if there is anything to show.
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

/// The components of a node, probed from inside it.
fn rows(prober: &Prober, node: &Node) -> Result<Vec<[String; 6]>> {
    let first = recorded(node);
    let states = supervisor::states(&node.folder())?;
    let spec: Spec = files::read_json(&node.spec_file())?;
    let mut rows = Vec::new();
    for component in spec.components {
        let Some(state) = states.get(&component.name) else { continue };
        let process = state.pid().and_then(|pid| first.as_ref()?.inside(pid));
        let health = match prober.probe_now(&components::probe(node, &component.name)) {
            Ok(()) => "ready".to_owned(),
            // The reason is in the previous column.
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
