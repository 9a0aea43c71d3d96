//! Where this repository and cargo's target folder are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::MetadataCommand;

/// The folders that the commands work in, absolute.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Asks cargo, which knows of `CARGO_TARGET_DIR` and of its configuration files.
    pub fn find() -> Result<Self> {
        let mut command = MetadataCommand::new();
        command.no_deps();
        // Set by `cargo run`; without it, the current folder must lie in the repository.
        if let Some(folder) = env::var_os("CARGO_MANIFEST_DIR") {
            command.manifest_path(Path::new(&folder).join("Cargo.toml"));
        }
        let metadata = command.exec().context("cannot ask cargo for the target folder")?;
        let target = metadata.target_directory.into_std_path_buf();
        Ok(Self {
            root: metadata.workspace_root.into_std_path_buf(),
            // A relative `CARGO_TARGET_DIR` leaves dots in it, and paths of sockets must be short.
            target: target.canonicalize().unwrap_or(target),
        })
    }

    /// The repository.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// cargo's target folder.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The Go modules that the test cluster is built from.
    pub fn modules(&self) -> PathBuf {
        self.root.join("tests/cluster")
    }

    /// The directory of the parts that are built once and used by every cluster.
    pub fn cache(&self) -> PathBuf {
        self.target.join("cluster")
    }

    /// The programs of a cluster, kubectl and Helm.
    pub fn bin(&self) -> PathBuf {
        self.cache().join("bin")
    }

    /// Logs, such as those of builds.
    pub fn log(&self, name: &str) -> PathBuf {
        self.cache().join("log").join(format!("{name}.log"))
    }

    /// The state of the clusters, a folder for each.
    pub fn clusters(&self) -> PathBuf {
        self.target.join("clusters")
    }
}

#[cfg(test)]
impl Workspace {
    /// Folders that a test names.
    pub fn at(root: PathBuf, target: PathBuf) -> Self {
        Self { root, target }
    }
}
