//! Starting a cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use super::layout::{Cluster, Node};
use super::pki::Pki;
use super::ready::Prober;
use super::spec::Request;
use super::status::{self, Condition, hint};
use super::{cgroup, components, configs, down, files, lock, netns, network, supervisor};
use crate::progress::{Step, say};
use crate::{debian, image, interrupt, target, toolchain};

/// Far more than it takes on a slow machine.
const LIMIT: Duration = Duration::from_mins(2);

/// Builds what is missing and starts the cluster, or adds to it what it lacks of so many nodes. Harmless if
/// it has them.
pub fn up(cluster: &Cluster, nodes: Option<u8>) -> Result<()> {
    let name = cluster.name();
    let lock = lock::take(cluster)?;
    let there = match status::condition(cluster)? {
        Condition::Running => cluster.nodes().len(),
        Condition::Absent | Condition::Debris => 0,
        Condition::Broken(why) => {
            bail!("the cluster {name} is broken: {why}\nremove it first: {}", hint(cluster, "down"))
        }
    };
    let wanted = nodes.map_or(there.max(1), usize::from);
    if wanted < there {
        bail!("the cluster {name} has {there} nodes already; to have fewer: {}", hint(cluster, "down"));
    }
    if wanted == there {
        say(&format!("the cluster {name} runs already; see: {}", hint(cluster, "status")));
        return Ok(());
    }
    if !Uid::effective().is_root() {
        bail!("only root can start a cluster: it makes namespaces, mounts and cgroups");
    }
    let fresh: Vec<Node> = cluster.possible_nodes().into_iter().take(wanted).skip(there).collect();
    fresh.iter().try_for_each(Node::check_paths)?;
    interrupt::watch()?;
    debian::ensure_packages(cluster.workspace())?;
    toolchain::build_all(cluster.workspace())?;
    let pause = image::pause(cluster.workspace())?;

    if there == 0 {
        // What an earlier start left when it was killed, or a machine that went down.
        down::tear_down(cluster)?;
    }
    if let Err(error) = start(cluster, &fresh, &pause) {
        say(&format!("the cluster {name} did not start as asked for; removing what there is of it"));
        let asked_for = error.chain().any(<dyn std::error::Error>::is::<interrupt::Interrupted>);
        let kept = if asked_for { None } else { keep_logs(cluster, &fresh) };
        let removed = if there == 0 { down::tear_down(cluster) } else { take_back(cluster, &fresh) };
        removed.context("cannot remove what there is of it")?;
        return Err(match kept {
            Some(logs) => error.context(format!(
                "cannot start the cluster {name} (its logs are kept in {})",
                logs.display()
            )),
            None => error,
        });
    }
    drop(lock);
    say(&format!("the cluster {name} is up; see: {}", hint(cluster, "status")));
    Ok(())
}

/// Starts those nodes: all there will be, or more for a cluster that runs.
fn start(cluster: &Cluster, fresh: &[Node], pause: &Path) -> Result<()> {
    let step = Step::start("preparing keys, network and nodes");
    files::create_folder(&cluster.folder())?;
    if fresh.iter().any(Node::has_control_plane) {
        Pki::of(cluster).create(cluster)?;
    }
    for node in fresh {
        interrupt::check()?;
        files::create_folder(&node.folder())?;
        configs::write(cluster, node)?;
        netns::create(&node.netns())?;
        network::configure(cluster, node)?;
        cgroup::create(&node.cgroup())?;
        supervisor::start(&components::spec(cluster, node)?, &node.spec_file())?;
    }
    step.done();
    bring_up(cluster, fresh, pause)?;
    fresh.iter().try_for_each(|node| files::write(&node.ready_file(), ""))
}

/// Starts the components, each when what it depends on is ready.
fn bring_up(cluster: &Cluster, fresh: &[Node], pause: &Path) -> Result<()> {
    let control_plane = || fresh.iter().filter(|node| node.has_control_plane());
    for node in fresh {
        begin(node, &["containerd"])?;
    }
    for node in control_plane() {
        begin(node, &["etcd"])?;
        wait(cluster, node, &["etcd"])?;
        begin(node, &["kube-apiserver"])?;
    }
    for node in fresh {
        wait(cluster, node, &["containerd"])?;
        let step = Step::start(format!("{}: importing the image of pod sandboxes", node.name()));
        target::import_image(cluster.workspace(), &step, &node.containerd_socket(), pause)?;
        step.done();
    }
    for node in control_plane() {
        wait(cluster, node, &["kube-apiserver"])?;
    }
    for node in fresh {
        begin(node, &["kubelet", "kube-proxy"])?;
    }
    for node in control_plane() {
        begin(node, &["kube-controller-manager", "kube-scheduler"])?;
        wait(cluster, node, &["kube-controller-manager", "kube-scheduler"])?;
    }
    for node in fresh {
        wait(cluster, node, &["kubelet", "kube-proxy"])?;
        Prober::on(cluster, node, |prober| {
            let step = Step::start(format!("{}: waiting until pods can run", node.name()));
            prober.node(&step, node, LIMIT)?;
            prober.service_account(&step, LIMIT)?;
            step.done();
            Ok(())
        })?;
    }
    Ok(())
}

/// Removes nodes that could not be added, from the cluster as well.
fn take_back(cluster: &Cluster, fresh: &[Node]) -> Result<()> {
    down::remove(fresh)?;
    Prober::on(cluster, &cluster.first_node(), |prober| fresh.iter().try_for_each(|node| prober.forget(node)))
}

fn begin(node: &Node, names: &[&str]) -> Result<()> {
    names.iter().try_for_each(|name| supervisor::ask(&node.folder(), Request::Start, name))
}

fn wait(cluster: &Cluster, node: &Node, names: &[&str]) -> Result<()> {
    Prober::on(cluster, node, |prober| {
        for name in names {
            let step = Step::start(format!("{}: {name}", node.name()));
            prober.component(&step, node, name, LIMIT)?;
            step.done();
        }
        Ok(())
    })
}

/// Moves the logs out of what is about to be removed.
fn keep_logs(cluster: &Cluster, nodes: &[Node]) -> Option<PathBuf> {
    let kept = cluster.kept_logs();
    let _ = fs::remove_dir_all(&kept);
    fs::create_dir_all(&kept).ok()?;
    for node in nodes.iter().filter(|node| node.folder().exists()) {
        fs::rename(node.folder().join("log"), kept.join(node.name())).ok()?;
    }
    Some(kept)
}
