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

/// What is asked of the supervisor, and of which component: a line in its FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Run it, unless it runs.
    Start,
    /// End it in order.
    Stop,
    /// End it at once.
    Kill,
}

impl Request {
    const ALL: [(Self, &str); 3] = [(Self::Start, "start"), (Self::Stop, "stop"), (Self::Kill, "kill")];

    /// The line that asks this of `component`.
    pub fn line(self, component: &str) -> String {
        let word = Self::ALL.iter().find(|(request, _)| *request == self).map_or("", |(_, word)| word);
        format!("{word} {component}\n")
    }

    /// What a line asks, and of which component.
    pub fn read(line: &str) -> Option<(Self, &str)> {
        let (word, component) = line.trim_end().split_once(' ')?;
        let (request, _) = Self::ALL.into_iter().find(|(_, other)| *other == word)?;
        Some((request, component))
    }
}

/// Where the supervisor reads requests.
pub fn fifo(folder: &Path) -> PathBuf {
    folder.join("requests")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        for (request, _) in Request::ALL {
            assert_eq!(Request::read(&request.line("kube-proxy")), Some((request, "kube-proxy")));
        }
        for nonsense in ["", "start", "begin etcd"] {
            assert_eq!(Request::read(nonsense), None, "{nonsense}");
        }
    }
}
