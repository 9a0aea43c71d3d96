//! Waits until components are ready.

use std::os::unix::net::UnixStream;
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
use super::probe::Probe;
use super::{cluster_state, components, netns};
use crate::interrupt;
use crate::progress::Step;

const POLL: Duration = Duration::from_millis(50);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The taint of `kubectl cordon` and `drain`.
const CORDONED: &str = "node.kubernetes.io/unschedulable";

/// Probes from a thread inside the network namespace of a node, because many components listen on 127.0.0.1.
pub struct Prober<'a> {
    cluster: &'a Cluster,
    runtime: Runtime,
}

impl<'a> Prober<'a> {
    /// Does `work` with probes from inside `node`.
    pub fn on<T: Send>(
        cluster: &'a Cluster,
        node: &Node,
        work: impl FnOnce(&Self) -> Result<T> + Send,
    ) -> Result<T> {
        netns::within(&node.netns(), || {
            // Created in the namespace, so that its threads are in it as well.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            work(&Self { cluster, runtime })
        })
    }

    /// Waits for a component while it runs, at most `limit`.
    pub fn component(&self, step: &Step, node: &Node, component: &str, limit: Duration) -> Result<()> {
        let probe = components::probe(node, component);
        self.wait(step, &format!("{component} to be ready"), limit, || self.probe_now(&probe))
    }

    /// Waits for the Node object to be ready, and schedulable unless it is cordoned: its taints are removed a moment
    /// later.
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
                    None => bail!("it has not reported yet"),
                }
            })
        })
    }

    /// Removes the Node object of a node that couldn't be added.
    pub fn forget(&self, node: &Node) -> Result<()> {
        self.runtime.block_on(async {
            let nodes: Api<NodeObject> = Api::all(self.client().await?);
            match nodes.delete(&node.name(), &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                outcome => outcome.map(drop).with_context(|| format!("cannot remove {}", node.name())),
            }
        })
    }

    /// Waits for the default service account, without which no pod can be created.
    pub fn service_account(&self, step: &Step, limit: Duration) -> Result<()> {
        self.wait(step, "the default service account", limit, || {
            self.runtime.block_on(async {
                let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, "default");
                accounts.get("default").await?;
                Ok(())
            })
        })
    }

    /// Checks readiness. The error is the reason.
    pub fn probe_now(&self, probe: &Probe) -> Result<()> {
        match probe {
            Probe::Socket(path) => UnixStream::connect(path).map(drop).context("it does not listen"),
            Probe::Url(url) => self.runtime.block_on(self.get(url)),
        }
    }

    async fn get(&self, url: &str) -> Result<()> {
        let url: Uri = url.parse().with_context(|| format!("{url} is not an address"))?;
        // The client prefixes every path with the server's address.
        let path = url.path().to_owned();
        let mut server = url.into_parts();
        server.path_and_query = Some(PathAndQuery::from_static("/"));
        let mut config = Config::new(Uri::from_parts(server)?);
        config.root_cert_file = Some(Pki::of(self.cluster).ca());
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

    fn wait(
        &self,
        step: &Step,
        what: &str,
        limit: Duration,
        probe_now: impl Fn() -> Result<()>,
    ) -> Result<()> {
        wait(step, what, limit, || match probe_now() {
            Ok(()) => Ok(Ok(())),
            Err(error) => match cluster_state::crash(self.cluster)? {
                Some(crash) => bail!("{crash}"),
                None => Ok(Err(error)),
            },
        })
    }
}

/// Polls `probe_now` until it succeeds, retrying inner errors. Outer errors end it.
pub fn wait(
    step: &Step,
    what: &str,
    limit: Duration,
    probe_now: impl Fn() -> Result<Result<()>>,
) -> Result<()> {
    let started = Instant::now();
    while let Err(error) = probe_now()? {
        interrupt::check()?;
        if started.elapsed() > limit {
            return Err(error).with_context(|| format!("waited {} s for {what}", limit.as_secs()));
        }
        step.waiting();
        sleep(POLL);
    }
    Ok(())
}
