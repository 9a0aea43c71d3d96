//! The sample application in the cluster, managed with kubectl as a user would.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::report::Run;
use crate::progress::Step;
use crate::target::Target;
use crate::{command, image, interrupt};

/// The namespace of the application.
pub const NAMESPACE: &str = "adieu-demo";

/// The limit for any step.
const LIMIT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(100);
/// A load of 100 requests. If all are answered, kube-proxy has no deleted pod among the endpoints: with one in eight,
/// this would happen in one of a million cases.
///
/// It is sent from a pod: rejected connections of the node itself, before kube-proxy knows the Service, stay in
/// connection tracking for two minutes, and affect later connections from the same port.
const PROBE_LOAD: [&str; 7] = ["--in-cluster", "--disrupt", "none", "--rate", "100", "--duration", "1s"];

/// The exit code of `adieu verify` if requests were lost.
const LOST: i32 = 1;

/// The sample application.
pub struct Application<'a> {
    target: &'a Target,
    /// The binary of adieu.
    adieu: PathBuf,
}

impl<'a> Application<'a> {
    /// The application in `target`, which may not be deployed yet.
    pub fn new(target: &'a Target) -> Result<Self> {
        Ok(Self { target, adieu: image::adieu(target.workspace(), &[])?.program })
    }

    /// Deploys it with `image`, from scratch.
    pub fn deploy(&self, image: &str) -> Result<()> {
        self.remove()?;
        self.run_kubectl(&["create", "namespace", NAMESPACE])?;
        let source = self.target.workspace().root().join("tests/apps/web/manifests.yaml");
        let text = fs::read_to_string(&source)
            .with_context(|| format!("cannot read {}", source.display()))?
            .replace("IMAGE", image);
        let manifests = tempfile::NamedTempFile::new().context("cannot create a temporary file")?;
        fs::write(manifests.path(), text).context("cannot write a temporary file")?;
        shown("kubectl apply -f tests/apps/web/manifests.yaml");
        let mut kubectl = self.kubectl();
        command::output(kubectl.args(["apply", "-f"]).arg(manifests.path()))?;
        self.wait_for_rollout()
    }

    /// Removes it, if it exists.
    pub fn remove(&self) -> Result<()> {
        let mut kubectl = self.target.kubectl();
        kubectl.args(["delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait"]);
        let step = Step::start(format!("removing the namespace {NAMESPACE}"));
        command::run(&step, &mut kubectl, &self.target.workspace().log("kubectl-delete"))?;
        step.done();
        Ok(())
    }

    /// A node's address and the node port of `service`, once requests are answered there.
    pub fn address(&self, service: &str) -> Result<SocketAddr> {
        let nodes = self.get(&["nodes"])?;
        let addresses = nodes["items"][0]["status"]["addresses"].as_array().cloned().unwrap_or_default();
        let address = addresses.iter().find(|address| address["type"] == "InternalIP");
        let ip =
            address.and_then(|address| address["address"].as_str()).context("a node without an address")?;
        let port = self.get(&["service", service])?["spec"]["ports"][0]["nodePort"].clone();
        let port = port.as_u64().context("a Service without a node port")?;
        let address: SocketAddr = format!("{ip}:{port}").parse()?;
        self.wait_until_open(address)?;
        Ok(address)
    }

    /// The Deployment's pod template.
    pub fn template(&self) -> Result<Value> {
        Ok(self.get(&["deployment", "web"])?["spec"]["template"].take())
    }

    /// Opts it in, and waits until that rollout has finished: every pod is injected, and kube-proxy has no other
    /// endpoint. kube-proxy lags behind by up to a second, while pods without an injection have already ended; that
    /// is observed by requests to `address`.
    pub fn annotate(&self, address: SocketAddr) -> Result<()> {
        let old = self.pods()?;
        self.run_kubectl(&["annotate", "deployment/web", "adieu.dev/graceful=true"])?;
        self.wait_for_rollout()?;
        self.wait_until_gone(&old)?;
        self.wait_until_open(address)
    }

    /// Restarts it under a load of `rate` requests per second to `address`, which continues for `seconds` afterwards.
    pub fn restart_under_load(&self, address: SocketAddr, rate: u32, seconds: u32) -> Result<Run> {
        let (rate, duration) = (rate.to_string(), format!("{seconds}s"));
        shown(&format!("adieu verify deployment/web --url http://{address}/ --rate {rate}"));
        let run = self.verify(address, &["--rate", &rate, "--duration", &duration])?;
        run.restart().map(|()| run)
    }

    /// The uids of its pods.
    fn pods(&self) -> Result<BTreeSet<String>> {
        let pods = self.get(&["pods", "--selector=app=web"])?;
        let pods = pods["items"].as_array().into_iter().flatten();
        Ok(pods.filter_map(|pod| pod["metadata"]["uid"].as_str().map(str::to_owned)).collect())
    }

    /// Waits until the pods `old` are gone.
    fn wait_until_gone(&self, old: &BTreeSet<String>) -> Result<()> {
        let step = Step::start("waiting until the old pods are gone");
        wait(&step, || {
            let left = self.pods()?.intersection(old).count();
            if left > 0 {
                bail!("{left} old pods are left");
            }
            Ok(())
        })?;
        step.done();
        Ok(())
    }

    fn wait_for_rollout(&self) -> Result<()> {
        let step = Step::start("waiting for the rollout");
        let mut kubectl = self.kubectl();
        kubectl.args(["rollout", "status", "deployment/web", "--timeout", &format!("{}s", LIMIT.as_secs())]);
        command::run(&step, &mut kubectl, &self.target.workspace().log("kubectl-rollout"))?;
        step.done();
        Ok(())
    }

    /// Waits until kube-proxy forwards requests.
    fn wait_until_open(&self, address: SocketAddr) -> Result<()> {
        let step = Step::start(format!("waiting for answers at {address}"));
        wait(&step, || match self.verify(address, &PROBE_LOAD)?.lost {
            0 => Ok(()),
            lost => bail!("{lost} requests were lost"),
        })?;
        step.done();
        Ok(())
    }

    /// Runs `adieu verify`, whose progress is shown.
    fn verify(&self, address: SocketAddr, arguments: &[&str]) -> Result<Run> {
        let mut adieu = self.target.command(&self.adieu);
        adieu.args(["verify", "deployment/web", "--namespace", NAMESPACE, "--yes", "--output", "json"]);
        adieu.args(["--url", &format!("http://{address}/"), "--pod-header", "X-Pod"]).args(arguments);
        let ran = adieu.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot run adieu")?;
        interrupt::check()?;
        if !ran.status.success() && ran.status.code() != Some(LOST) {
            bail!("adieu verify failed ({})", ran.status);
        }
        serde_json::from_slice(&ran.stdout).context("adieu verify printed invalid JSON")
    }

    /// Runs kubectl, and shows the command.
    fn run_kubectl(&self, arguments: &[&str]) -> Result<()> {
        shown(&format!("kubectl {}", arguments.join(" ")));
        command::output(self.kubectl().args(arguments)).map(drop)
    }

    fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = command::output(self.kubectl().arg("get").args(arguments).args(["-o", "json"]))?;
        serde_json::from_str(&text).context("kubectl printed invalid JSON")
    }

    fn kubectl(&self) -> Command {
        let mut kubectl = self.target.kubectl();
        kubectl.args(["--namespace", NAMESPACE]);
        kubectl
    }
}

fn shown(line: &str) {
    println!("  $ {line}");
}

/// Polls `ask` until it succeeds.
fn wait(step: &Step, ask: impl Fn() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    while let Err(error) = ask() {
        interrupt::check()?;
        if started.elapsed() > LIMIT {
            return Err(error).with_context(|| format!("waited {} s", LIMIT.as_secs()));
        }
        step.waiting();
        thread::sleep(POLL);
    }
    Ok(())
}
