//! The cgroups of nodes, in version 1, version 2 and hybrid mode.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Killed processes leave their cgroup a moment after they end.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Controllers that the kubelet requires (io: if there is one).
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// Creates the cgroup `name` in every hierarchy.
pub fn create(name: &str) -> Result<()> {
    let hierarchies = hierarchies()?;
    let unified_only = hierarchies.iter().all(|hierarchy| hierarchy.version == Version::Two);
    for hierarchy in &hierarchies {
        let group = hierarchy.mount.join(name);
        match hierarchy.version {
            Version::One => {
                make(&group)?;
                inherit_cpus(&hierarchy.mount, &group)?;
            }
            Version::Two if unified_only => {
                enable_controllers(&hierarchy.mount)?;
                make(&group)?;
                enable_controllers(&group)?;
            }
            // In hybrid mode it has no controllers.
            Version::Two => {}
        }
    }
    Ok(())
}

/// Removes the cgroup `name`, with those below, from every hierarchy.
pub fn remove(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.mount.join(name);
        let started = Instant::now();
        while let Err(error) = remove_tree(&group) {
            if started.elapsed() > TIMEOUT {
                return Err(error).with_context(|| format!("cannot remove the cgroup {}", group.display()));
            }
            sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// The folders of the cgroup `name`.
pub fn folders(name: &str) -> Result<Vec<PathBuf>> {
    let groups = hierarchies()?.into_iter().map(|hierarchy| hierarchy.mount.join(name));
    Ok(groups.filter(|group| group.exists()).collect())
}

#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    let found = hierarchies_in(&mounts);
    if found.is_empty() {
        bail!("no cgroup file system is mounted; the kubelet needs one, usually at /sys/fs/cgroup");
    }
    Ok(found)
}

fn hierarchies_in(mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let mut words = line.split_whitespace().skip(1);
        let (Some(mount), Some(kind)) = (words.next(), words.next()) else { continue };
        let version = match kind {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => continue,
        };
        let hierarchy = Hierarchy { mount: PathBuf::from(mount), version };
        if !found.contains(&hierarchy) {
            found.push(hierarchy);
        }
    }
    found
}

fn make(group: &Path) -> Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot create the cgroup {}", group.display()))
        }
        _ => Ok(()),
    }
}

/// A new version 1 cpuset has no processors, so no process can enter it.
fn inherit_cpus(parent: &Path, group: &Path) -> Result<()> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = group.join(name);
        if !file.exists() || fs::read_to_string(&file).is_ok_and(|value| !value.trim().is_empty()) {
            continue;
        }
        let value = fs::read_to_string(parent.join(name))
            .with_context(|| format!("cannot read {}", parent.join(name).display()))?;
        fs::write(&file, value.trim()).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn enable_controllers(group: &Path) -> Result<()> {
    let available = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    let available: Vec<&str> = available.split_whitespace().collect();
    if let Some(missing) = CONTROLLERS.iter().find(|controller| !available.contains(controller)) {
        bail!("the kubelet needs the cgroup controller {missing}, and {} does not have it", group.display());
    }
    let all: Vec<String> = available.iter().map(|controller| format!("+{controller}")).collect();
    fs::write(group.join("cgroup.subtree_control"), all.join(" ")).with_context(|| {
        format!(
            "cannot enable controllers in {} (in a container, its processes must be in a cgroup below)",
            group.display()
        )
    })
}

fn remove_tree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_distinguished() {
        let mounts = "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n";
        let one = Hierarchy { mount: "/sys/fs/cgroup/cpu".into(), version: Version::One };
        let two = Hierarchy { mount: "/sys/fs/cgroup/unified".into(), version: Version::Two };
        assert_eq!(hierarchies_in(mounts), [one, two]);
    }

    #[test]
    fn an_empty_cpuset_gets_its_parents_values() -> Result<()> {
        let parent = tempfile::tempdir()?;
        let group = parent.path().join("group");
        fs::create_dir(&group)?;
        for (name, above, below) in [("cpuset.cpus", "0-3\n", "\n"), ("cpuset.mems", "0\n", "1")] {
            fs::write(parent.path().join(name), above)?;
            fs::write(group.join(name), below)?;
        }
        inherit_cpus(parent.path(), &group)?;
        assert_eq!(fs::read_to_string(group.join("cpuset.cpus"))?, "0-3");
        assert_eq!(fs::read_to_string(group.join("cpuset.mems"))?, "1");
        Ok(())
    }

    #[test]
    fn a_hierarchy_without_cpusets_stays_unchanged() -> Result<()> {
        let parent = tempfile::tempdir()?;
        inherit_cpus(parent.path(), parent.path())
    }
}
