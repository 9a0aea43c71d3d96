//! The specification of a node, for its supervisor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The specification of a node.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The name of its network namespace.
    pub netns: String,
    /// Its folder; the functions below name the supervisor's files in it.
    pub folder: PathBuf,
    /// A folder that stays visible, even if it is below one that the node gets an empty copy of.
    pub visible: PathBuf,
    /// Folders of the node (first) that replace the machine's (second).
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// The environment, such as `PATH`; no other variables are passed on.
    pub environment: BTreeMap<String, String>,
    /// Ordered by their start.
    pub components: Vec<Component>,
}

/// One process of a node.
#[derive(Debug, Serialize, Deserialize)]
pub struct Component {
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

/// A request to the supervisor about a component: a line in its FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start it, unless it runs.
    Start,
    /// Stop it by SIGTERM.
    Stop,
    /// Stop it by SIGKILL.
    Kill,
}

impl Request {
    const ALL: [(Self, &str); 3] = [(Self::Start, "start"), (Self::Stop, "stop"), (Self::Kill, "kill")];

    /// The line of this request about `component`.
    pub fn line(self, component: &str) -> String {
        let word = Self::ALL.iter().find(|(request, _)| *request == self).map_or("", |(_, word)| word);
        format!("{word} {component}\n")
    }

    /// The request and component of a line.
    pub fn read(line: &str) -> Option<(Self, &str)> {
        let (word, component) = line.trim_end().split_once(' ')?;
        let (request, _) = Self::ALL.into_iter().find(|(_, other)| *other == word)?;
        Some((request, component))
    }
}

/// The FIFO of requests.
pub fn fifo(folder: &Path) -> PathBuf {
    folder.join("requests")
}

/// The file with the state of components.
pub fn state_file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

/// The file with the supervisor's process.
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
    fn a_request_round_trips_as_a_line() {
        for (request, _) in Request::ALL {
            assert_eq!(Request::read(&request.line("kube-proxy")), Some((request, "kube-proxy")));
        }
        for nonsense in ["", "start", "begin etcd"] {
            assert_eq!(Request::read(nonsense), None, "{nonsense}");
        }
    }
}
