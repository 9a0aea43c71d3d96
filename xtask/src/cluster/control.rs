//! Stops and starts single components of a cluster.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use super::layout::{Cluster, Node};
use super::proxy_mode::ProxyMode;
use super::ready::{self, Prober};
use super::spec::{Request, Spec};
use super::state::State;
use super::{cluster_state, configs, files, lock, status, supervisor};
use crate::debian;
use crate::progress::{Step, print_line};

/// The time until a stopping component is killed: more than an API server needs for requests in progress.
const GRACE: Duration = Duration::from_secs(20);
/// The limit for the supervisor to handle a request.
const HEARD_WITHIN: Duration = Duration::from_secs(30);
/// The limit for everything else.
const LIMIT: Duration = Duration::from_mins(2);
/// Without these the kubelet can't report the node as ready.
const OF_THE_NODE: [&str; 2] = ["containerd", "kubelet"];

/// A component, with its node if several have it: `etcd`, `kubelet/node-2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentSelector {
    component: String,
    node: Option<String>,
}

impl FromStr for ComponentSelector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (component, node) = match text.split_once('/') {
            Some((component, node)) => (component, Some(node.to_owned())),
            None => (text, None),
        };
        if component.is_empty() || node.as_ref().is_some_and(String::is_empty) {
            return Err("use COMPONENT or COMPONENT/NODE".to_owned());
        }
        Ok(Self { component: component.to_owned(), node })
    }
}

impl fmt::Display for ComponentSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.component)?;
        self.node.iter().try_for_each(|node| write!(f, "/{node}"))
    }
}

/// Stops a component until it is started again.
pub fn stop(cluster: &Cluster, selector: &ComponentSelector) -> Result<()> {
    let _lock = lock::take(cluster)?;
    end(&find(cluster, selector)?, &selector.component)
}

/// Starts a component, unless it runs, and waits until its node is ready.
pub fn start(cluster: &Cluster, selector: &ComponentSelector) -> Result<()> {
    let _lock = lock::take(cluster)?;
    begin(cluster, &find(cluster, selector)?, &selector.component)
}

/// Restarts a component.
pub fn restart(cluster: &Cluster, selector: &ComponentSelector) -> Result<()> {
    let _lock = lock::take(cluster)?;
    let node = find(cluster, selector)?;
    end(&node, &selector.component)?;
    begin(cluster, &node, &selector.component)
}

/// Sets the mode of kube-proxy on every node, and restarts it there; when it starts, it removes the rules of the other
/// mode.
pub fn set_proxy_mode(cluster: &Cluster, mode: ProxyMode) -> Result<()> {
    if configs::proxy_mode(cluster)? == mode {
        return Ok(());
    }
    if mode == ProxyMode::Nftables {
        debian::ensure_nftables(cluster.workspace())?;
    }
    // The first node last, because that is the cluster's mode.
    for node in cluster.nodes().into_iter().rev() {
        configs::write_kube_proxy(&node, mode)?;
        let selector = ComponentSelector { component: "kube-proxy".to_owned(), node: Some(node.name()) };
        restart(cluster, &selector)?;
    }
    Ok(())
}

/// The node of the component.
fn find(cluster: &Cluster, selector: &ComponentSelector) -> Result<Node> {
    if cluster_state::first_processes(&cluster.nodes()).is_empty() {
        status::require_running(cluster)?;
    }
    let mut having = Vec::new();
    let mut all = Vec::new();
    for node in cluster.nodes() {
        let spec: Spec = files::read_json(&node.spec_file())?;
        let names = spec
            .components
            .into_iter()
            .map(|component| ComponentSelector { component: component.name, node: Some(node.name()) });
        for name in names {
            let meant = name.component == selector.component
                && (selector.node.is_none() || name.node == selector.node);
            if meant {
                having.push(node.clone());
            }
            all.push(name.to_string());
        }
    }
    match having.as_slice() {
        [node] => Ok(node.clone()),
        [] => bail!("no component {selector}; the components are: {}", all.join(", ")),
        several => bail!(
            "{} nodes have a {}; name one, such as {}",
            several.len(),
            selector.component,
            all.iter().rfind(|name| name.starts_with(&format!("{selector}/"))).map_or("", String::as_str)
        ),
    }
}

fn end(node: &Node, component: &str) -> Result<()> {
    let step = Step::start(format!("{}: stopping {component}", node.name()));
    let ended = |limit| {
        ready::wait(&step, &format!("{component} to exit"), limit, || {
            let states = supervisor::states(&node.folder())?;
            let ended = matches!(states.get(component), Some(State::Stopped { .. }));
            Ok(if ended { Ok(()) } else { Err(anyhow!("it runs")) })
        })
    };
    supervisor::request(&node.folder(), Request::Stop, component)?;
    if ended(GRACE).is_err() {
        print_line(&format!("{component} does not exit; killing it"));
        supervisor::request(&node.folder(), Request::Kill, component)?;
        ended(LIMIT)?;
    }
    step.done();
    Ok(())
}

fn begin(cluster: &Cluster, node: &Node, component: &str) -> Result<()> {
    let state = || supervisor::states(&node.folder()).map(|mut states| states.remove(component));
    supervisor::request(&node.folder(), Request::Start, component)?;
    Prober::on(cluster, node, |prober| {
        let step = Step::start(format!("{}: starting {component}", node.name()));
        // Until then the recorded state is the previous one.
        ready::wait(&step, &format!("{component} to run"), HEARD_WITHIN, || match state()? {
            Some(state) if state.pid().is_none() => Ok(Err(anyhow!("{component} {state}"))),
            _ => Ok(Ok(())),
        })?;
        // Other components depend on it: without etcd, the API server isn't ready.
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
    fn a_component_is_parsed_with_or_without_its_node() {
        let selector = |component: &str, node: Option<&str>| {
            Ok(ComponentSelector { component: component.into(), node: node.map(Into::into) })
        };
        assert_eq!("etcd".parse(), selector("etcd", None));
        assert_eq!("kubelet/node-2".parse(), selector("kubelet", Some("node-2")));
        assert_eq!(
            "kubelet/node-2".parse::<ComponentSelector>().map(|selector| selector.to_string()),
            Ok("kubelet/node-2".into())
        );
        for bad in ["", "/", "etcd/", "/node-1"] {
            assert!(bad.parse::<ComponentSelector>().is_err(), "{bad}");
        }
    }
}
