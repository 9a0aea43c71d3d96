//! The state of a node's components, recorded by its supervisor.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The state of each component that was started, by name.
pub type States = BTreeMap<String, State>;

/// The state of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum State {
    /// It runs.
    Running {
        /// Its id in the node's process namespace.
        pid: i32,
        /// Seconds since 1970.
        since: u64,
    },
    /// It is being stopped.
    Stopping {
        /// Its id in the node's process namespace.
        pid: i32,
    },
    /// It was stopped.
    Stopped {
        /// Seconds since 1970.
        at: u64,
    },
    /// It exited unexpectedly.
    Exited {
        /// Such as "status 1".
        how: String,
        /// Seconds since 1970.
        at: u64,
    },
    /// It couldn't be started.
    Failed {
        /// Why.
        why: String,
    },
}

impl State {
    /// Its process, if there is one.
    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Running { pid, .. } | Self::Stopping { pid } => Some(*pid),
            _ => None,
        }
    }

    /// Whether it ended without a request.
    pub fn is_crash(&self) -> bool {
        matches!(self, Self::Exited { .. } | Self::Failed { .. })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running { since, .. } => write!(f, "running for {}", ago(*since)),
            Self::Stopping { .. } => f.write_str("stopping"),
            Self::Stopped { at } => write!(f, "stopped {} ago", ago(*at)),
            Self::Exited { how, at } => write!(f, "exited unexpectedly {} ago ({how})", ago(*at)),
            Self::Failed { why } => write!(f, "did not start: {why}"),
        }
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

fn ago(then: u64) -> String {
    let seconds = now().saturating_sub(then);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_round_trips_as_json() {
        let states = States::from([
            ("etcd".to_owned(), State::Running { pid: 7, since: 1 }),
            ("kubelet".to_owned(), State::Exited { how: "SIGKILL".into(), at: 2 }),
            ("containerd".to_owned(), State::Stopping { pid: 8 }),
            ("kube-scheduler".to_owned(), State::Stopped { at: 3 }),
            ("kube-proxy".to_owned(), State::Failed { why: "no such file".into() }),
        ]);
        let text = serde_json::to_string(&states).unwrap_or_default();
        assert_eq!(serde_json::from_str::<States>(&text).ok(), Some(states));
    }
}
