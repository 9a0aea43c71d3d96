//! Packages of the distribution that a cluster needs.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use crate::command;
use crate::progress::Step;
use crate::workspace::Workspace;

/// The programs, and the packages that contain them.
const PROGRAMS: [(&str, &str); 7] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ethtool", "ethtool"),
    ("socat", "socat"),
    ("buildah", "buildah"),
];

/// The same for sample applications.
const APPLICATIONS: [(&str, &str); 5] = [
    ("redis-server", "redis-server"),
    ("mvn", "maven"),
    ("jlink", "default-jdk-headless"),
    ("nginx", "nginx"),
    ("node", "nodejs"),
];

/// The same for proxies in front of applications.
const PROXIES: [(&str, &str); 3] = [("haproxy", "haproxy"), ("nginx", "nginx"), ("pip3", "python3-pip")];

/// Folders of the network plugins: Debian's, and the usual one.
const PLUGINS: [&str; 4] = ["host-local", "loopback", "portmap", "ptp"];
const PLUGIN_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];
const PLUGIN_PACKAGE: &str = "containernetworking-plugins";

/// Folders that may be missing in `PATH` after `su`.
const SYSTEM_FOLDERS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// While this script exits with 101, packages start no service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Held while packages are installed, because apt-get can't run twice at a time. True once their lists are up to date.
static HAS_LISTS: Mutex<bool> = Mutex::new(false);

/// Installs the missing packages of a cluster, or names them.
pub fn ensure_packages(workspace: &Workspace) -> Result<()> {
    ensure(workspace, missing_packages)
}

/// Installs the tools for images, which are sufficient for an external cluster.
pub fn ensure_buildah(workspace: &Workspace) -> Result<()> {
    ensure_program(workspace, "buildah", "buildah")
}

/// Installs the tool that counts instructions.
pub fn ensure_valgrind(workspace: &Workspace) -> Result<()> {
    ensure_program(workspace, "valgrind", "valgrind")
}

/// Installs the tool that checks alerts and queries.
pub fn ensure_promtool(workspace: &Workspace) -> Result<()> {
    ensure_program(workspace, "promtool", "prometheus")
}

/// Installs a browser, in which tests open reports. They know these names of its program.
pub fn ensure_browser(workspace: &Workspace) -> Result<()> {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    ensure(workspace, || {
        if names.iter().all(|name| program(name).is_none()) { vec!["chromium"] } else { vec![] }
    })
}

/// Installs the tool of kube-proxy's nftables mode.
pub fn ensure_nftables(workspace: &Workspace) -> Result<()> {
    ensure_program(workspace, "nft", "nftables")
}

/// Installs the packages for sample applications.
pub fn ensure_applications(workspace: &Workspace) -> Result<()> {
    ensure(workspace, || lacking(&APPLICATIONS))
}

/// Installs the packages for proxies.
pub fn ensure_proxies(workspace: &Workspace) -> Result<()> {
    ensure(workspace, || lacking(&PROXIES))
}

/// Installs a C cross compiler with its linker.
pub fn ensure_compiler(workspace: &Workspace, name: &str, packages: &[&'static str]) -> Result<()> {
    ensure(workspace, || if program(name).is_none() { packages.to_vec() } else { Vec::new() })
}

/// Installs a program by its package.
fn ensure_program(workspace: &Workspace, name: &str, package: &'static str) -> Result<()> {
    ensure(workspace, || if program(name).is_none() { vec![package] } else { Vec::new() })
}

fn ensure(workspace: &Workspace, look: impl Fn() -> Vec<&'static str>) -> Result<()> {
    let mut has_lists = HAS_LISTS.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = look();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !Path::new("/etc/debian_version").exists() || program("apt-get").is_none() {
        bail!("these are missing, by the names of their Debian packages: {list}; please install them");
    }
    if !Uid::effective().is_root() {
        bail!("packages are missing; please run: sudo apt-get install --no-install-recommends {list}");
    }
    let step = Step::start(format!("installing {list}"));
    let _policy = NoServices::declare()?;
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    if !*has_lists {
        command::run(&step, &mut apt(&["update"]), &workspace.log("apt-update"))?;
        *has_lists = true;
    }
    let mut install = apt(&["install", "--yes", "--no-install-recommends"]);
    command::run(&step, install.args(&missing), &workspace.log("apt-install"))?;
    step.done();
    let still = look();
    if !still.is_empty() {
        bail!("{} installed, but their programs are still missing", still.join(" "));
    }
    Ok(())
}

/// The folder of the network plugins.
pub fn plugin_folder() -> Result<PathBuf> {
    PLUGIN_FOLDERS
        .iter()
        .map(PathBuf::from)
        .find(|folder| PLUGINS.iter().all(|plugin| folder.join(plugin).exists()))
        .with_context(|| format!("no network plugins in {}", PLUGIN_FOLDERS.join(" or ")))
}

/// The path of a program.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(env::split_paths(SYSTEM_FOLDERS))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The `PATH` of programs in a cluster: `first`, then the system's.
pub fn search_path(first: &Path) -> String {
    format!("{}:{SYSTEM_FOLDERS}", first.display())
}

fn missing_packages() -> Vec<&'static str> {
    let mut missing = lacking(&PROGRAMS);
    if plugin_folder().is_err() {
        missing.push(PLUGIN_PACKAGE);
    }
    missing
}

fn lacking(programs: &[(&str, &'static str)]) -> Vec<&'static str> {
    programs.iter().filter(|(name, _)| program(name).is_none()).map(|(_, package)| *package).collect()
}

/// Keeps packages from starting their services while it lives: a cluster starts its own containerd.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn declare() -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY);
        let ours = match file {
            Ok(mut file) => {
                file.write_all(b"#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
                true
            }
            // The machine has its own policy.
            Err(_) if Path::new(POLICY).exists() => false,
            Err(error) => return Err(error).with_context(|| format!("cannot write {POLICY}")),
        };
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
