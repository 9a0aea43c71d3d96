//! Starts a cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use super::cluster_state::{self, ClusterState};
use super::layout::{Cluster, Node};
use super::pki::Pki;
use super::ready::Prober;
use super::spec::Request;
use super::status::hint;
use super::{cgroup, components, configs, containerd, down, files, lock, netns, network, supervisor};
use crate::progress::{Step, print_line};
use crate::{debian, image, interrupt, toolchain};

/// The limit, far more than a slow machine needs.
const LIMIT: Duration = Duration::from_mins(2);

/// Builds missing programs and starts the cluster, or adds nodes until it has the given number. If it has them, it
/// does nothing.
pub fn up(cluster: &Cluster, nodes: Option<u8>) -> Result<()> {
    let name = cluster.name();
    let lock = lock::take(cluster)?;
    let there = match cluster_state::cluster_state(cluster)? {
        ClusterState::Running => cluster.nodes().len(),
        ClusterState::Absent | ClusterState::Debris => 0,
        ClusterState::Broken(why) => {
            bail!("the cluster {name} is broken: {why}\nremove it first: {}", hint(cluster, "down"))
        }
    };
    let wanted = nodes.map_or(there.max(1), usize::from);
    if wanted < there {
        bail!(
            "the cluster {name} has {there} nodes already; for fewer, remove it: {}",
            hint(cluster, "down")
        );
    }
    if wanted == there {
        print_line(&format!("the cluster {name} runs already; see: {}", hint(cluster, "status")));
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
        // The remains of a killed start, or of a crashed machine.
        down::tear_down(cluster)?;
    }
    if let Err(error) = start(cluster, &fresh, &pause) {
        print_line(&format!("the cluster {name} did not start; removing it"));
        let asked_for = error.chain().any(<dyn std::error::Error>::is::<interrupt::Interrupted>);
        let kept = if asked_for { None } else { keep_logs(cluster, &fresh) };
        let removed = if there == 0 { down::tear_down(cluster) } else { remove_nodes(cluster, &fresh) };
        removed.context("cannot remove it")?;
        return Err(match kept {
            Some(logs) => error.context(format!(
                "cannot start the cluster {name} (its logs are kept in {})",
                logs.display()
            )),
            None => error,
        });
    }
    drop(lock);
    print_line(&format!("the cluster {name} is up; see: {}", hint(cluster, "status")));
    Ok(())
}

/// Starts these nodes, of a new or of a running cluster.
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
    start_components(cluster, fresh, pause)?;
    fresh.iter().try_for_each(|node| files::write(&node.ready_file(), ""))
}

/// Starts the components, each once its dependencies are ready.
fn start_components(cluster: &Cluster, fresh: &[Node], pause: &Path) -> Result<()> {
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
        containerd::import_image(cluster.workspace(), &step, &node.containerd_socket(), pause)?;
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

/// Removes nodes that couldn't be added, including their Node objects.
fn remove_nodes(cluster: &Cluster, fresh: &[Node]) -> Result<()> {
    down::remove(fresh)?;
    Prober::on(cluster, &cluster.first_node(), |prober| fresh.iter().try_for_each(|node| prober.forget(node)))
}

fn begin(node: &Node, names: &[&str]) -> Result<()> {
    names.iter().try_for_each(|name| supervisor::request(&node.folder(), Request::Start, name))
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

/// Moves the logs out of the folder before it is removed.
fn keep_logs(cluster: &Cluster, nodes: &[Node]) -> Option<PathBuf> {
    let kept = cluster.kept_logs();
    let _ = fs::remove_dir_all(&kept);
    fs::create_dir_all(&kept).ok()?;
    for node in nodes.iter().filter(|node| node.folder().exists()) {
        fs::rename(node.folder().join("log"), kept.join(node.name())).ok()?;
    }
    Some(kept)
}
