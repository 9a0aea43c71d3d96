//! Stopping and starting single components of a cluster, to see how others take it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use super::layout::{Cluster, Node};
use super::ready::{self, Prober};
use super::spec::{Request, Spec};
use super::state::State;
use super::{files, lock, status, supervisor};
use crate::progress::{Step, say};

/// Until a component that was asked to end is killed: more than an API server takes for what is under way.
const GRACE: Duration = Duration::from_secs(20);
/// Until the supervisor has done what it was asked.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// For all else.
const LIMIT: Duration = Duration::from_mins(2);
/// Without these the kubelet cannot say that the node is ready.
const OF_THE_NODE: [&str; 2] = ["containerd", "kubelet"];

/// A component, and where more than one node has it, its node: `etcd`, `kubelet/node-2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Which {
    component: String,
    node: Option<String>,
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (component, node) = match text.split_once('/') {
            Some((component, node)) => (component, Some(node.to_owned())),
            None => (text, None),
        };
        if component.is_empty() || node.as_ref().is_some_and(String::is_empty) {
            return Err("a component is given as COMPONENT or COMPONENT/NODE".to_owned());
        }
        Ok(Self { component: component.to_owned(), node })
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.component)?;
        self.node.iter().try_for_each(|node| write!(f, "/{node}"))
    }
}

/// Ends a component. It stays so until somebody starts it.
pub fn stop(cluster: &Cluster, which: &Which) -> Result<()> {
    let _lock = lock::take(cluster)?;
    end(&find(cluster, which)?, &which.component)
}

/// Runs a component, unless it runs, and waits until its node is as it should be.
pub fn start(cluster: &Cluster, which: &Which) -> Result<()> {
    let _lock = lock::take(cluster)?;
    begin(cluster, &find(cluster, which)?, &which.component)
}

/// Ends a component and runs it again.
pub fn restart(cluster: &Cluster, which: &Which) -> Result<()> {
    let _lock = lock::take(cluster)?;
    let node = find(cluster, which)?;
    end(&node, &which.component)?;
    begin(cluster, &node, &which.component)
}

/// The node that is meant.
fn find(cluster: &Cluster, which: &Which) -> Result<Node> {
    if status::first_processes(&cluster.nodes()).is_empty() {
        status::require_running(cluster)?;
    }
    let mut having = Vec::new();
    let mut all = Vec::new();
    for node in cluster.nodes() {
        let spec: Spec = files::read_json(&node.spec_file())?;
        let names = spec
            .components
            .into_iter()
            .map(|component| Which { component: component.name, node: Some(node.name()) });
        for name in names {
            let meant =
                name.component == which.component && (which.node.is_none() || name.node == which.node);
            if meant {
                having.push(node.clone());
            }
            all.push(name.to_string());
        }
    }
    match having.as_slice() {
        [node] => Ok(node.clone()),
        [] => bail!("there is no {which}; there are: {}", all.join(", ")),
        several => bail!(
            "{} nodes have a {}; say which, such as {}",
            several.len(),
            which.component,
            all.iter().rfind(|name| name.starts_with(&format!("{which}/"))).map_or("", String::as_str)
        ),
    }
}

fn end(node: &Node, component: &str) -> Result<()> {
    let step = Step::start(format!("{}: stopping {component}", node.name()));
    let ended = |limit| {
        ready::wait(&step, &format!("{component} to end"), limit, || {
            let states = supervisor::states(&node.folder())?;
            let ended = matches!(states.get(component), Some(State::Stopped { .. }));
            Ok(if ended { Ok(()) } else { Err(anyhow!("it runs")) })
        })
    };
    supervisor::ask(&node.folder(), Request::Stop, component)?;
    if ended(GRACE).is_err() {
        say(&format!("{component} does not end; killing it"));
        supervisor::ask(&node.folder(), Request::Kill, component)?;
        ended(LIMIT)?;
    }
    step.done();
    Ok(())
}

fn begin(cluster: &Cluster, node: &Node, component: &str) -> Result<()> {
    let state = || supervisor::states(&node.folder()).map(|mut states| states.remove(component));
    supervisor::ask(&node.folder(), Request::Start, component)?;
    Prober::on(cluster, node, |prober| {
        let step = Step::start(format!("{}: starting {component}", node.name()));
        // What is written down until then is how it was before.
        ready::wait(&step, &format!("{component} to run"), HEARD_WITHIN, || match state()? {
            Some(state) if state.pid().is_none() => Ok(Err(anyhow!("{component} {state}"))),
            _ => Ok(Ok(())),
        })?;
        // Others on the node stand on it: without etcd, the API server is not ready.
        for (name, state) in supervisor::states(&node.folder())? {
            if state.pid().is_some() {
                prober.component(&step, node, &name, LIMIT)?;
            }
        }
        if OF_THE_NODE.contains(&component) {
            prober.node(&step, node, LIMIT)?;
        }
        step.done();
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_given_with_or_without_its_node() {
        let which = |component: &str, node: Option<&str>| {
            Ok(Which { component: component.into(), node: node.map(Into::into) })
        };
        assert_eq!("etcd".parse(), which("etcd", None));
        assert_eq!("kubelet/node-2".parse(), which("kubelet", Some("node-2")));
        assert_eq!(
            "kubelet/node-2".parse::<Which>().map(|which| which.to_string()),
            Ok("kubelet/node-2".into())
        );
        for bad in ["", "/", "etcd/", "/node-1"] {
            assert!(bad.parse::<Which>().is_err(), "{bad}");
        }
    }
}
