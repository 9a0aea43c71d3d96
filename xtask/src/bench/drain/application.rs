//! The application behind a way.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::commands::{Adieu, POLICY};
use super::kubectl::{Kubectl, NAMESPACE};
use super::ways::Plane;
use crate::progress::Step;
use crate::{image, interrupt};

/// The node port of proxies, as in their manifests.
const PROXY_PORT: u64 = 30080;
/// The limit for old pods to be gone, and for the way to be open.
const LIMIT: Duration = Duration::from_mins(4);
const POLL: Duration = Duration::from_millis(500);

/// The application, which knows nothing of termination.
pub struct Application<'a> {
    adieu: &'a Adieu<'a>,
    kubectl: Kubectl<'a>,
    plane: Plane,
}

impl<'a> Application<'a> {
    /// The application behind `plane`, which may not be deployed yet.
    pub fn new(adieu: &'a Adieu<'a>, plane: Plane) -> Self {
        Self { adieu, kubectl: Kubectl::new(adieu.target, NAMESPACE), plane }
    }

    /// Deploys it, from scratch, and waits until requests reach it and adieu has found its exposures.
    pub fn deploy(&self) -> Result<()> {
        self.remove()?;
        let web = image::app(self.adieu.target.workspace(), "web")?;
        self.adieu.target.load_image(&web.archive)?;
        self.kubectl.run(&["create", "namespace", NAMESPACE])?;
        if let Some((kind, class)) = self.plane.class() {
            let file = if kind == "GatewayClass" { "gateway.yaml" } else { "ingress.yaml" };
            self.kubectl.apply(file, &[("CLASS", class.as_str())])?;
        }
        let image = web.reference();
        let values = [("TYPE", self.plane.service_type()), ("IMAGE", image.as_str())];
        self.kubectl.apply("application.yaml", &values)?;
        self.kubectl.wait_for_rollout("web")?;
        self.wait_until_open()?;
        // The Deployment may have been admitted before adieu had seen what leads to it.
        self.restart()
    }

    /// Removes it, and the result of its calibration, if they exist.
    pub fn remove(&self) -> Result<()> {
        self.kubectl.run(&["delete", "clustergracefulpolicy", POLICY, "--ignore-not-found", "--wait"])?;
        self.kubectl.delete_namespace()
    }

    /// Restarts it, so that its pods get the drain that adieu chooses now.
    pub fn restart(&self) -> Result<()> {
        self.kubectl.run(&["rollout", "restart", "deployment/web"])?;
        self.settle()
    }

    /// Waits until all replicas are ready, and no old pod is left.
    pub fn settle(&self) -> Result<()> {
        self.kubectl.wait_for_rollout("web")?;
        wait("old pods to be gone", || {
            let replicas = self.kubectl.get(&["deployment", "web"])?["spec"]["replicas"].clone();
            let pods = self.kubectl.get(&["pods", "--selector=app=web"])?;
            let count = pods["items"].as_array().map_or(0, Vec::len);
            ensure!(replicas == count, "{count} pods instead of {replicas}");
            Ok(())
        })
    }

    /// The seconds for which its pods drain.
    pub fn drain(&self) -> Result<u64> {
        let deployment = self.kubectl.get(&["deployment", "web"])?;
        drain_of(&deployment)
    }

    /// Where requests reach it.
    pub fn url(&self) -> Result<String> {
        let nodes = self.kubectl.get(&["nodes"])?;
        let addresses = nodes["items"][0]["status"]["addresses"].as_array().cloned().unwrap_or_default();
        let address = addresses.iter().find(|address| address["type"] == "InternalIP");
        let ip =
            address.and_then(|address| address["address"].as_str()).context("a node without an address")?;
        let port = if self.plane.class().is_some() {
            PROXY_PORT
        } else {
            let service = self.kubectl.get(&["service", "web"])?;
            service["spec"]["ports"][0]["nodePort"].as_u64().context("a Service without a node port")?
        };
        Ok(format!("http://{ip}:{port}/"))
    }

    fn wait_until_open(&self) -> Result<()> {
        let url = self.url()?;
        wait("requests to be answered", || self.adieu.probe(&url))
    }
}

/// The drain in a Deployment's template.
fn drain_of(deployment: &Value) -> Result<u64> {
    let hook = &deployment["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"];
    match hook["sleep"]["seconds"].as_u64() {
        Some(seconds) => Ok(seconds),
        None => bail!("adieu has not injected a drain: the preStop hook is {hook}"),
    }
}

/// Polls `ask` until it succeeds.
fn wait(what: &str, ask: impl Fn() -> Result<()>) -> Result<()> {
    let step = Step::start(format!("waiting for {what}"));
    let started = Instant::now();
    while let Err(error) = ask() {
        interrupt::check()?;
        if started.elapsed() > LIMIT {
            return Err(error).with_context(|| format!("waited {} s for {what}", LIMIT.as_secs()));
        }
        step.waiting();
        sleep(POLL);
    }
    step.done();
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_drain_is_that_of_the_hook() {
        let deployment = |lifecycle: Value| json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "lifecycle": lifecycle}]}}}});
        let drain = drain_of(&deployment(json!({"preStop": {"sleep": {"seconds": 10}}})));
        assert_eq!(drain.ok(), Some(10));
        for other in [json!(null), json!({"preStop": {"exec": {"command": ["sleep", "10"]}}})] {
            assert!(drain_of(&deployment(other.clone())).is_err(), "{other}");
        }
    }
}
