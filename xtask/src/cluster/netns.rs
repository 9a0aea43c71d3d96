//! Network namespaces of the cluster, without external network.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::files;

/// The folder of namespaces of `ip netns`.
const FOLDER: &str = "/run/netns";

/// The file of a namespace.
pub fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Creates a namespace that `ip netns` lists.
pub fn create(name: &str) -> Result<()> {
    let file = path(name);
    files::create_folder(Path::new(FOLDER))?;
    File::options()
        .write(true)
        .create_new(true)
        .open(&file)
        .with_context(|| format!("cannot create {}", file.display()))?;
    // Only this thread enters the new namespace.
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("cannot create a network namespace")?;
        mount(Some("/proc/thread-self/ns/net"), &file, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("cannot mount {}", file.display()))
    })
}

/// Removes a namespace, if it exists.
pub fn remove(name: &str) -> Result<()> {
    let file = path(name);
    loop {
        match umount2(&file, MntFlags::MNT_DETACH) {
            // `ip netns add` mounts the folder onto itself, so there can be two mounts.
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(error) => return Err(error).with_context(|| format!("cannot unmount {}", file.display())),
        }
    }
    if file.exists() {
        // Copies of the mount in other mount namespaces are removed with the file.
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    // Only if nothing else is in there.
    let _ = fs::remove_dir(FOLDER);
    Ok(())
}

/// Moves the calling thread, and the threads and processes that it starts, into a namespace.
pub fn enter(name: &str) -> Result<()> {
    let file = path(name);
    let namespace = File::open(&file).with_context(|| format!("cannot open {}", file.display()))?;
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter the network namespace {name}"))
}

/// Does `work` on a thread in a namespace.
pub fn within<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_a_thread(|| {
        enter(name)?;
        work()
    })
}

/// Replaces this process by a program in a namespace.
pub fn exec(name: &str, command: &[String]) -> Result<()> {
    let Some((program, arguments)) = command.split_first() else { bail!("no program given") };
    enter(name)?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("cannot run {program}"))
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join()).map_err(|_| anyhow!("a thread panicked"))?
}
