//! What the supervisor of a node is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A node, as its supervisor sees it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The name of its network namespace.
    pub netns: String,
    /// Its folder; see the functions below for what the supervisor keeps there.
    pub folder: PathBuf,
    /// Stays visible, even if it lies where the node gets an empty folder of its own.
    pub visible: PathBuf,
    /// Folders of the node (first) that stand in the place of the machine's (second).
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// `PATH` and the like; nothing else is handed on.
    pub environment: BTreeMap<String, String>,
    /// In the order in which they start.
    pub components: Vec<Component>,
}

/// One process of a node.
#[derive(Debug, Serialize, Deserialize)]
pub struct Component {
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

/// Where the supervisor reads the names of components to start.
pub fn start_fifo(folder: &Path) -> PathBuf {
    folder.join("start")
}

/// Where it says how they are.
pub fn state_file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

/// Which process it is.
pub fn init_file(folder: &Path) -> PathBuf {
    folder.join("init.json")
}

/// The log of a component, or of the supervisor itself.
pub fn log_file(folder: &Path, component: &str) -> PathBuf {
    folder.join("log").join(format!("{component}.log"))
}
