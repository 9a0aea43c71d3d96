//! Waiting until something answers.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::Uri;
use http::uri::PathAndQuery;
use k8s_openapi::api::core::v1::{Node as NodeObject, ServiceAccount};
use kube::api::DeleteParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::runtime::Runtime;

use super::layout::{Cluster, Node};
use super::pki::Pki;
use super::{components, netns, status};
use crate::interrupt;
use crate::progress::Step;

const POLL: Duration = Duration::from_millis(50);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The taint of `kubectl cordon` and `drain`.
const CORDONED: &str = "node.kubernetes.io/unschedulable";

/// How to ask something whether it is ready.
pub enum Probe {
    /// It accepts connections on this Unix socket.
    Socket(PathBuf),
    /// It answers a GET with success.
    Url(String),
}

/// Asks, from a thread inside the network namespace of a node: much listens on 127.0.0.1.
pub struct Prober<'a> {
    cluster: &'a Cluster,
    runtime: Runtime,
}

impl<'a> Prober<'a> {
    /// Does `work` with one that asks from inside `node`.
    pub fn on<T: Send>(
        cluster: &'a Cluster,
        node: &Node,
        work: impl FnOnce(&Self) -> Result<T> + Send,
    ) -> Result<T> {
        netns::within(&node.netns(), || {
            // Made in the namespace: its threads live where this one does.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            work(&Self { cluster, runtime })
        })
    }

    /// Waits for a component, as long as it runs, at most `limit`.
    pub fn component(&self, step: &Step, node: &Node, component: &str, limit: Duration) -> Result<()> {
        let probe = components::probe(node, component);
        self.wait(step, &format!("{component} to be ready"), limit, || self.ask(&probe))
    }

    /// Waits for the Node object to be ready, and schedulable unless a person said otherwise: its taints go
    /// a moment later.
    pub fn node(&self, step: &Step, node: &Node, limit: Duration) -> Result<()> {
        self.wait(step, &format!("{} to be ready", node.name()), limit, || {
            self.runtime.block_on(async {
                let nodes: Api<NodeObject> = Api::all(self.client().await?);
                let found = nodes.get(&node.name()).await?;
                let taints = found.spec.unwrap_or_default().taints.unwrap_or_default();
                if let Some(taint) = taints.iter().find(|taint| taint.key != CORDONED) {
                    bail!("it has the taint {}", taint.key);
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

    /// Removes the Node object of a node that could not be added.
    pub fn forget(&self, node: &Node) -> Result<()> {
        self.runtime.block_on(async {
            let nodes: Api<NodeObject> = Api::all(self.client().await?);
            match nodes.delete(&node.name(), &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                outcome => outcome.map(drop).with_context(|| format!("cannot remove {}", node.name())),
            }
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
        wait(step, what, limit, || match ask() {
            Ok(()) => Ok(Ok(())),
            Err(error) => match status::crash(self.cluster)? {
                Some(crash) => bail!("{crash}"),
                None => Ok(Err(error)),
            },
        })
    }
}

/// Asks again and again until `ask` has no complaint (the inner error), or gives up (the outer).
pub fn wait(step: &Step, what: &str, limit: Duration, ask: impl Fn() -> Result<Result<()>>) -> Result<()> {
    let started = Instant::now();
    while let Err(error) = ask()? {
        interrupt::check()?;
        if started.elapsed() > limit {
            return Err(error).with_context(|| format!("waited {} s for {what}", limit.as_secs()));
        }
        step.waiting();
        sleep(POLL);
    }
    Ok(())
}
