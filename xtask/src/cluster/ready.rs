//! Waiting until something answers.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::Uri;
use http::uri::PathAndQuery;
use k8s_openapi::api::core::v1::{Node as NodeObject, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::runtime::Runtime;

use super::layout::{Cluster, Node};
use super::pki::Pki;
use super::{components, status};
use crate::interrupt;
use crate::progress::Step;

const POLL: Duration = Duration::from_millis(50);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How to ask something whether it is ready.
pub enum Probe {
    /// It accepts connections on this Unix socket.
    Socket(PathBuf),
    /// It answers a GET with success.
    Url(String),
}

/// Asks, from a thread inside the cluster's network namespace.
pub struct Prober<'a> {
    cluster: &'a Cluster,
    runtime: Runtime,
}

impl<'a> Prober<'a> {
    /// To be made in the namespace: its runtime's threads live where this one does.
    pub fn new(cluster: &'a Cluster) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { cluster, runtime })
    }

    /// Waits for a component, as long as it runs, at most `limit`.
    pub fn component(&self, step: &Step, node: &Node, component: &str, limit: Duration) -> Result<()> {
        let probe = components::probe(node, component);
        self.wait(step, &format!("{component} to be ready"), limit, || self.ask(&probe))
    }

    /// Waits for the Node object to be ready, and schedulable: its taint goes a moment later.
    pub fn node(&self, step: &Step, node: &Node, limit: Duration) -> Result<()> {
        self.wait(step, &format!("{} to be ready", node.name()), limit, || {
            self.runtime.block_on(async {
                let nodes: Api<NodeObject> = Api::all(self.client().await?);
                let found = nodes.get(&node.name()).await?;
                if found.spec.unwrap_or_default().taints.is_some_and(|taints| !taints.is_empty()) {
                    bail!("it has a taint");
                }
                let conditions = found.status.unwrap_or_default().conditions.unwrap_or_default();
                match conditions.into_iter().find(|condition| condition.type_ == "Ready") {
                    Some(ready) if ready.status == "True" => Ok(()),
                    Some(other) => bail!("{}", other.message.unwrap_or_default()),
                    None => bail!("it has not said yet"),
                }
            })
        })
    }

    /// Waits for the service account without which no pod can be created.
    pub fn service_account(&self, step: &Step, limit: Duration) -> Result<()> {
        self.wait(step, "the default service account", limit, || {
            self.runtime.block_on(async {
                let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, "default");
                accounts.get("default").await?;
                Ok(())
            })
        })
    }

    /// Whether something is ready now, and if not, why.
    pub fn ask(&self, probe: &Probe) -> Result<()> {
        match probe {
            Probe::Socket(path) => UnixStream::connect(path).map(drop).context("it does not listen"),
            Probe::Url(url) => self.runtime.block_on(self.get(url)),
        }
    }

    async fn get(&self, url: &str) -> Result<()> {
        let url: Uri = url.parse().with_context(|| format!("{url} is no address"))?;
        // The client puts the address of the server before every path.
        let path = url.path().to_owned();
        let mut server = url.into_parts();
        server.path_and_query = Some(PathAndQuery::from_static("/"));
        let mut config = Config::new(Uri::from_parts(server)?);
        config.root_cert_file = Some(Pki::of(self.cluster).authority());
        config.connect_timeout = Some(ANSWER_WITHIN);
        config.read_timeout = Some(ANSWER_WITHIN);
        config.default_retry = false;
        let request = http::Request::get(path).body(Vec::new())?;
        Client::try_from(config)?.request_text(request).await?;
        Ok(())
    }

    async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.cluster.kubeconfig())?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.read_timeout = Some(ANSWER_WITHIN);
        Ok(Client::try_from(config)?)
    }

    fn wait(&self, step: &Step, what: &str, limit: Duration, ask: impl Fn() -> Result<()>) -> Result<()> {
        let started = Instant::now();
        loop {
            let Err(error) = ask() else { return Ok(()) };
            interrupt::check()?;
            if let Some(crash) = status::crash(self.cluster)? {
                bail!("{crash}");
            }
            if started.elapsed() > limit {
                return Err(error).with_context(|| format!("waited {} s for {what}", limit.as_secs()));
            }
            step.waiting();
            sleep(POLL);
        }
    }
}
