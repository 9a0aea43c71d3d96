//! The resources of a cluster on this machine, regardless of recorded state.

use std::fs;

use anyhow::{Context, Result};

use super::layout::Cluster;
use super::{cgroup, netns, process};

/// Describes its folder, network namespaces, mounts, cgroups and processes. Empty once it is removed.
pub fn leftovers(cluster: &Cluster) -> Result<Vec<String>> {
    let folder = cluster.folder();
    let mut found = Vec::new();
    if folder.exists() {
        found.push(format!("the folder {}", folder.display()));
    }
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    let folder = format!("{}/", folder.display());
    for node in cluster.possible_nodes() {
        let netns = netns::path(&node.netns());
        if netns.exists() {
            found.push(format!("the network namespace {}", node.netns()));
        }
        let netns = netns.display().to_string();
        let mount = |line: &&str| line.split(' ').nth(1).is_some_and(|target| target == netns);
        found.extend(mounts.lines().filter(mount).map(|line| format!("the mount {line}")));
        let groups = cgroup::folders(&node.cgroup())?;
        found.extend(groups.iter().map(|group| format!("the cgroup {}", group.display())));
        let inside = process::in_cgroup(&node.cgroup());
        found.extend(inside.iter().map(|process| format!("the process {}", process.pid)));
    }
    let mentioned = |line: &&str| line.contains(&folder);
    found.extend(mounts.lines().filter(mentioned).map(|line| format!("the mount {line}")));
    let called = process::called_with(&folder);
    found.extend(called.iter().map(|process| format!("the process {}", process.pid)));
    Ok(found)
}
