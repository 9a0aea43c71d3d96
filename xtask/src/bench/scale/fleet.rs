//! The cluster's nodes, and the Deployments with their pods.

use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use json_patch::{Patch as JsonPatch, PatchOperation, RemoveOperation, TestOperation, jsonptr::PointerBuf};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::deployments::{
    DeploymentKey, FLEET, NAMESPACES, NODES, PLAIN_NAMESPACE, PODS_EACH, key, node, plain_key,
};
use super::{idle, kwok};
use crate::install::is_observed;
use crate::interrupt;
use crate::progress::Step;

/// The most Deployments that the loops patch.
const PLAIN: u32 = 1000;
/// Concurrent requests. Of the numbers tried, this one keeps the API server busiest on two cores.
pub const CONCURRENCY: usize = 16;
/// The field manager of the loops.
const FIELD_MANAGER: &str = "bench";
/// The limit for the pods of thousands of Deployments.
const LIMIT: Duration = Duration::from_mins(30);
/// The limit for the nodes.
const NODES_LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_secs(3);

/// The nodes and Deployments in the cluster.
pub struct Fleet {
    client: Client,
    /// The number of Deployments that are never opted in, and that the loops patch.
    plain: u32,
}

/// The identity that patches Deployments in a loop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// An administrator, which neither the webhook nor the guard applies to.
    Administrator,
    /// The operator's service account, whose writes the guard checks.
    Operator,
}

/// A loop that sends the same patches as adieu.
pub struct PatchLoop {
    pub identity: Identity,
    pub client: Client,
}

/// The result of a loop.
#[derive(Clone, Copy, Debug)]
pub struct LoopResult {
    pub deployments: u32,
    pub took: Duration,
}

impl LoopResult {
    /// Deployments per second.
    pub fn rate(&self) -> f64 {
        f64::from(self.deployments) / self.took.as_secs_f64()
    }
}

impl Fleet {
    /// The loops get at most as many Deployments as adieu.
    pub fn new(client: Client, deployments: u32) -> Self {
        Self { client, plain: deployments.min(PLAIN) }
    }

    pub async fn add_nodes(&self) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let (annotation, value) = kwok::NODE;
        let capacity = json!({"cpu": "1000", "memory": "1Ti", "pods": "10000"});
        for number in 0..NODES {
            let name = node(number);
            let object = json!({
                "metadata": {
                    "name": name, "annotations": {annotation: value},
                    "labels": {"kubernetes.io/hostname": name},
                },
                // The scheduler assigns no pods: their nodeName is set.
                "spec": {"taints": [{"key": annotation, "value": value, "effect": "NoSchedule"}]},
                "status": {"capacity": capacity, "allocatable": capacity},
            });
            nodes.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        }
        let started = Instant::now();
        let is_ready = |node: &Node| {
            let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        while !nodes.list(&ListParams::default()).await?.iter().all(is_ready) {
            interrupt::check()?;
            ensure!(started.elapsed() < NODES_LIMIT, "the nodes do not become ready: see the log of kwok");
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Adds the Deployments for the loops.
    pub async fn add_plain(&self) -> Result<()> {
        self.namespace(PLAIN_NAMESPACE).await?;
        self.create((0..self.plain).map(plain_key).collect()).await
    }

    /// Adds Deployments until there are `size`.
    pub async fn grow(&self, size: u32) -> Result<()> {
        let there = self
            .deployments()
            .list_metadata(&ListParams::default().labels(&format!("{FLEET}=adieu")))
            .await?;
        let there = u32::try_from(there.items.len())?;
        if there == 0 {
            for number in 0..NAMESPACES {
                self.namespace(&format!("fleet-{number}")).await?;
            }
        }
        self.create((there..size).map(key).collect()).await
    }

    /// Creates Deployments, and waits for their pods.
    pub async fn create(&self, keys: Vec<DeploymentKey>) -> Result<()> {
        let count = keys.len();
        let step = Step::start(format!("creating {count} Deployments of {PODS_EACH} pods each"));
        stream::iter(keys)
            .map(|key| async move {
                let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
                api.create(&PostParams::default(), &serde_json::from_value(key.deployment())?).await?;
                interrupt::check().map_err(Error::from)
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        self.until_available(&step).await?;
        step.done();
        Ok(())
    }

    /// Waits until the Deployment controller has observed every change, and the machine is idle, so that a measurement
    /// has the machine to itself. The controller writes only a few statuses per second.
    pub async fn until_idle(&self) -> Result<()> {
        let step = Step::start("waiting until every change is observed");
        self.until(&step, "are not observed by their controller", is_observed).await?;
        step.done();
        idle::wait_until_idle().await
    }

    /// Waits until every Deployment has all of its pods.
    async fn until_available(&self, step: &Step) -> Result<()> {
        let available = |deployment: &Deployment| {
            deployment.status.as_ref().and_then(|status| status.available_replicas) == Some(PODS_EACH)
        };
        self.until(step, "do not have all of their pods", available).await
    }

    /// Waits until the condition holds for every Deployment; `lacking` describes the others in an error.
    async fn until(&self, step: &Step, lacking: &str, condition: impl Fn(&Deployment) -> bool) -> Result<()> {
        let started = Instant::now();
        loop {
            interrupt::check()?;
            step.waiting();
            let asked = Instant::now();
            let all = self.deployments().list(&ListParams::default().labels(FLEET).match_any()).await?;
            // A list of thousands takes long. Asked again immediately, it would delay what it waits for.
            let pause = POLL.max(5 * asked.elapsed());
            let waiting = all.items.iter().filter(|deployment| !condition(deployment)).count();
            if waiting == 0 {
                return Ok(());
            }
            ensure!(started.elapsed() < LIMIT, "{waiting} Deployments {lacking}");
            sleep(pause).await;
        }
    }

    /// Opts in the first `size` Deployments, or changes their drain, while adieu is scaled to zero. It also pauses
    /// them, because kube-controller-manager would otherwise replace every pod during the measurement.
    pub async fn annotate(&self, size: u32, drain: &str) -> Result<()> {
        let step = Step::start(format!("annotating {size} Deployments while adieu is scaled to zero"));
        let annotations = json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": drain});
        let patch = json!({"metadata": {"annotations": annotations}, "spec": {"paused": true}});
        self.each((0..size).map(key).collect(), |api, name| {
            let patch = &patch;
            async move { api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await }
        })
        .await?;
        step.done();
        Ok(())
    }

    /// The patch that adieu would apply to a Deployment of the loops.
    async fn patch_of_adieu(&self, drain: &str, identity: Identity) -> Result<JsonPatch> {
        let DeploymentKey { namespace, name, .. } = key(0);
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        let mut evaluated = serde_json::to_value(api.get(&name).await?)?;
        let plain_key = plain_key(0);
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &plain_key.namespace);
        let mut plain = serde_json::to_value(api.get(&plain_key.name).await?)?;
        let [before, after] = [&mut plain, &mut evaluated].map(|object| object["spec"]["template"].take());
        // adieu's keys would invoke its webhook and the guard, except for the operator.
        let key = if identity == Identity::Operator { "adieu.dev/" } else { "bench.adieu.dev/" };
        let after = after
            .to_string()
            .replace("adieu.dev/", key)
            .replace(&format!("\"app\":\"{name}\""), &format!("\"app\":\"{}\"", plain_key.name));
        let mut patch = json_patch::diff(&before, &serde_json::from_str(&after)?);
        ensure!(
            after.contains(&format!("{{\"seconds\":{drain}}}")),
            "adieu has not injected {name}: {after}"
        );
        let root = PointerBuf::from_tokens(["spec", "template"]);
        for operation in &mut patch.0 {
            let path = match operation {
                PatchOperation::Add(add) => &mut add.path,
                PatchOperation::Replace(replace) => &mut replace.path,
                PatchOperation::Remove(remove) => &mut remove.path,
                other => bail!("a difference between templates has {other}"),
            };
            *path = root.concat(path);
        }
        Ok(patch)
    }

    /// Sends the same patches as adieu to each Deployment of the loops: the template, and the removal of the field
    /// manager from managedFields.
    pub async fn run_loop(
        &self,
        PatchLoop { identity, client }: &PatchLoop,
        drain: &str,
    ) -> Result<LoopResult> {
        let patch = &self.patch_of_adieu(drain, *identity).await?;
        let suffix = if *identity == Identity::Operator { ", as the operator" } else { "" };
        let step = Step::start(format!("patching {} Deployments in a loop{suffix}", self.plain));
        let keys = || (0..self.plain).map(plain_key).collect::<Vec<_>>();
        let paused = json!({"spec": {"paused": true}});
        self.each(keys(), |api, name| {
            let paused = &paused;
            async move { api.patch(&name, &PatchParams::default(), &Patch::Merge(paused)).await }
        })
        .await?;
        let plain = self.template_of(&plain_key(0)).await?;
        self.until_idle().await?;
        let started = Instant::now();
        self.each_as(client, keys(), |api, name| async move {
            let ours =
                PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            let mut written = api.patch(&name, &ours, &Patch::<()>::Json(patch.clone())).await?;
            while let Some(drop_managed_fields) = drop_managed_fields(&written) {
                match api.patch(&name, &ours, &Patch::<()>::Json(drop_managed_fields)).await {
                    // The controller has written the status in between.
                    Err(kube::Error::Api(status)) if status.code == 422 => written = api.get(&name).await?,
                    outcome => return outcome,
                }
            }
            Ok(written)
        })
        .await?;
        let took = started.elapsed();
        // Restores the templates for the next round.
        let restore = json!([{"op": "replace", "path": "/spec/template", "value": plain}]);
        let restore: JsonPatch = serde_json::from_value(restore)?;
        self.each(keys(), |api, name| {
            let mut restore = restore.clone();
            if let Some(PatchOperation::Replace(replace)) = restore.0.first_mut() {
                replace.value["metadata"]["labels"]["app"] = name.clone().into();
            }
            async move { api.patch(&name, &PatchParams::default(), &Patch::<()>::Json(restore)).await }
        })
        .await?;
        step.done();
        Ok(LoopResult { deployments: self.plain, took })
    }

    async fn template_of(&self, key: &DeploymentKey) -> Result<Value> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        Ok(serde_json::to_value(api.get(&key.name).await?)?["spec"]["template"].take())
    }

    /// Applies `act` to each Deployment, some at a time.
    pub async fn each<F: Future<Output = kube::Result<Deployment>>>(
        &self,
        keys: Vec<DeploymentKey>,
        act: impl Fn(Api<Deployment>, String) -> F,
    ) -> Result<()> {
        self.each_as(&self.client, keys, act).await
    }

    async fn each_as<F: Future<Output = kube::Result<Deployment>>>(
        &self,
        client: &Client,
        keys: Vec<DeploymentKey>,
        act: impl Fn(Api<Deployment>, String) -> F,
    ) -> Result<()> {
        stream::iter(keys)
            .map(|key| {
                let acted = act(Api::namespaced(client.clone(), &key.namespace), key.name.clone());
                async move {
                    acted.await.with_context(|| format!("cannot patch {}/{}", key.namespace, key.name))?;
                    interrupt::check().map_err(Error::from)
                }
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::all(self.client.clone())
    }

    async fn namespace(&self, name: &str) -> Result<()> {
        let namespace = Namespace {
            metadata: kube::core::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
            ..Namespace::default()
        };
        Api::<Namespace>::all(self.client.clone()).create(&PostParams::default(), &namespace).await?;
        Ok(())
    }
}

/// The patch that removes the loop's entry from managedFields, if there is one.
fn drop_managed_fields(written: &Deployment) -> Option<JsonPatch> {
    let mut entries = written.managed_fields().iter();
    let index = entries.position(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER))?;
    let path = PointerBuf::from_tokens(["metadata", "managedFields", &index.to_string()]);
    let manager = path.with_trailing_token("manager");
    Some(JsonPatch(vec![
        PatchOperation::Test(TestOperation { path: manager, value: FIELD_MANAGER.into() }),
        PatchOperation::Remove(RemoveOperation { path }),
    ]))
}
