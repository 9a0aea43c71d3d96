//! Starting a cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use super::layout::{Cluster, Node};
use super::pki::Pki;
use super::ready::Prober;
use super::status::{self, Condition, hint};
use super::{cgroup, components, configs, down, files, lock, netns, supervisor};
use crate::progress::{Step, say};
use crate::{debian, image, interrupt, target, toolchain};

/// Far more than it takes on a slow machine.
const LIMIT: Duration = Duration::from_mins(2);

/// Builds what is missing and starts the cluster. Harmless if it runs.
pub fn up(cluster: &Cluster) -> Result<()> {
    let name = cluster.name();
    let lock = lock::take(cluster)?;
    match status::condition(cluster)? {
        Condition::Running => {
            say(&format!("the cluster {name} runs already; see: {}", hint(cluster, "status")));
            return Ok(());
        }
        Condition::Broken(why) => {
            bail!("the cluster {name} is broken: {why}\nremove it first: {}", hint(cluster, "down"))
        }
        Condition::Absent | Condition::Debris => {}
    }
    if !Uid::effective().is_root() {
        bail!("only root can start a cluster: it makes namespaces, mounts and cgroups");
    }
    for node in cluster.nodes() {
        node.check_paths()?;
    }
    interrupt::watch()?;
    debian::ensure_packages(cluster.workspace())?;
    toolchain::build_all(cluster.workspace())?;
    let pause = image::pause(cluster.workspace())?;

    // What an earlier start left when it was killed, or a machine that went down.
    down::tear_down(cluster)?;
    if let Err(error) = start(cluster, &pause) {
        say(&format!("the cluster {name} did not start; removing what there is of it"));
        let asked_for = error.chain().any(<dyn std::error::Error>::is::<interrupt::Interrupted>);
        let kept = if asked_for { None } else { keep_logs(cluster) };
        down::tear_down(cluster).context("cannot remove what there is of it")?;
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

fn start(cluster: &Cluster, pause: &Path) -> Result<()> {
    let step = Step::start("preparing keys, network and nodes");
    files::create_folder(&cluster.folder())?;
    Pki::of(cluster).create(cluster)?;
    for node in cluster.nodes() {
        files::create_folder(&node.folder())?;
    }
    configs::write_all(cluster)?;
    for node in cluster.nodes() {
        interrupt::check()?;
        netns::create(&node.netns())?;
        netns::configure(&node)?;
        cgroup::create(&node.cgroup())?;
        supervisor::start(&components::spec(cluster, &node)?, &node.spec_file())?;
    }
    step.done();
    netns::within(&cluster.netns(), || bring_up(cluster, pause))?;
    files::write(&cluster.ready_file(), "")
}

/// Starts the components, each when what it depends on is ready.
fn bring_up(cluster: &Cluster, pause: &Path) -> Result<()> {
    let prober = Prober::new(cluster)?;
    let nodes = cluster.nodes();
    for node in &nodes {
        begin(node, &["containerd"])?;
    }
    for node in nodes.iter().filter(|node| node.has_control_plane()) {
        begin(node, &["etcd"])?;
        wait(&prober, node, &["etcd"])?;
        begin(node, &["kube-apiserver"])?;
    }
    for node in &nodes {
        wait(&prober, node, &["containerd"])?;
        let step = Step::start(format!("{}: importing the image of pod sandboxes", node.name()));
        target::import_image(cluster.workspace(), &step, &node.containerd_socket(), pause)?;
        step.done();
    }
    for node in nodes.iter().filter(|node| node.has_control_plane()) {
        wait(&prober, node, &["kube-apiserver"])?;
    }
    for node in &nodes {
        begin(node, &["kubelet", "kube-proxy"])?;
    }
    for node in nodes.iter().filter(|node| node.has_control_plane()) {
        begin(node, &["kube-controller-manager", "kube-scheduler"])?;
        wait(&prober, node, &["kube-controller-manager", "kube-scheduler"])?;
    }
    for node in &nodes {
        wait(&prober, node, &["kubelet", "kube-proxy"])?;
        let step = Step::start(format!("{}: waiting until pods can run", node.name()));
        prober.node(&step, node, LIMIT)?;
        prober.service_account(&step, LIMIT)?;
        step.done();
    }
    Ok(())
}

fn begin(node: &Node, names: &[&str]) -> Result<()> {
    names.iter().try_for_each(|name| supervisor::start_component(&node.folder(), name))
}

fn wait(prober: &Prober, node: &Node, names: &[&str]) -> Result<()> {
    for name in names {
        let step = Step::start(format!("{}: {name}", node.name()));
        prober.component(&step, node, name, LIMIT)?;
        step.done();
    }
    Ok(())
}

/// Moves the logs out of what is about to be removed.
fn keep_logs(cluster: &Cluster) -> Option<PathBuf> {
    let kept = cluster.kept_logs();
    let _ = fs::remove_dir_all(&kept);
    fs::create_dir_all(&kept).ok()?;
    for node in cluster.nodes() {
        fs::rename(node.folder().join("log"), kept.join(node.name())).ok()?;
    }
    Some(kept)
}
