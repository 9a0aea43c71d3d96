//! The nodes, and the Deployments with their pods.

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

use super::place::{BARE_NAMESPACE, FIELD, NAMESPACES, NODES, Place, bare, node, place};
use super::{kwok, rest};
use crate::interrupt;
use crate::progress::Step;

/// Pods of each Deployment.
pub const PODS_EACH: i32 = 10;
/// Deployments for the bare loops, at most.
const BARE: u32 = 1000;
/// Requests at a time. Of the numbers tried this lets the API server be busiest on two cores.
pub const AT_A_TIME: usize = 16;
/// In whose name the bare loops send their patches.
const MANAGER: &str = "bench";
/// For the pods of thousands of Deployments.
const LIMIT: Duration = Duration::from_mins(30);
/// For the nodes.
const NODES_WITHIN: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_secs(3);

/// What stands in the cluster.
pub struct Field {
    client: Client,
    /// Deployments that nobody opts in: the bare loops patch them.
    bare: u32,
}

/// Who patches Deployments in a loop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// Somebody whom neither the webhook nor the guard concerns.
    Anybody,
    /// The operator's service account: its writes are guarded.
    Operator,
}

/// A loop that sends what adieu sends.
pub struct Bare {
    pub sender: Sender,
    pub client: Client,
}

/// What a loop did, and in how long.
#[derive(Clone, Copy, Debug)]
pub struct Loop {
    pub deployments: u32,
    pub took: Duration,
}

impl Loop {
    /// Deployments a second.
    pub fn rate(&self) -> f64 {
        f64::from(self.deployments) / self.took.as_secs_f64()
    }
}

impl Field {
    /// With no more Deployments for the bare loops than there will be for adieu.
    pub fn new(client: Client, deployments: u32) -> Self {
        Self { client, bare: deployments.min(BARE) }
    }

    pub async fn add_nodes(&self) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let (annotation, value) = kwok::NODE;
        let many = json!({"cpu": "1000", "memory": "1Ti", "pods": "10000"});
        for number in 0..NODES {
            let name = node(number);
            let object = json!({
                "metadata": {
                    "name": name, "annotations": {annotation: value},
                    "labels": {"kubernetes.io/hostname": name},
                },
                // Nobody is scheduled here: the pods come with their node's name.
                "spec": {"taints": [{"key": annotation, "value": value, "effect": "NoSchedule"}]},
                "status": {"capacity": many, "allocatable": many},
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
            ensure!(started.elapsed() < NODES_WITHIN, "the nodes don't become ready: see the log of kwok");
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Adds the Deployments for the bare loops.
    pub async fn add_bare(&self) -> Result<()> {
        self.namespace(BARE_NAMESPACE).await?;
        self.create((0..self.bare).map(bare).collect()).await
    }

    /// Adds Deployments until there are `size`.
    pub async fn grow(&self, size: u32) -> Result<()> {
        let there = self
            .deployments()
            .list_metadata(&ListParams::default().labels(&format!("{FIELD}=adieu")))
            .await?;
        let there = u32::try_from(there.items.len())?;
        if there == 0 {
            for number in 0..NAMESPACES {
                self.namespace(&format!("field-{number}")).await?;
            }
        }
        self.create((there..size).map(place).collect()).await
    }

    /// Creates Deployments, and waits for their pods.
    pub async fn create(&self, places: Vec<Place>) -> Result<()> {
        let count = places.len();
        let step = Step::start(format!("creating {count} Deployments of {PODS_EACH} pods each"));
        stream::iter(places)
            .map(|place| async move {
                let api: Api<Deployment> = Api::namespaced(self.client.clone(), &place.namespace);
                api.create(&PostParams::default(), &serde_json::from_value(place.deployment())?).await?;
                interrupt::check().map_err(Error::from)
            })
            .buffer_unordered(AT_A_TIME)
            .try_collect::<()>()
            .await?;
        self.until_available(&step).await?;
        step.done();
        Ok(())
    }

    /// Returns once their controller has seen every change of a Deployment, and nothing else is busy: what is timed
    /// after that has the machine for itself. The controller writes a few statuses a second only.
    pub async fn until_at_rest(&self) -> Result<()> {
        let step = Step::start("waiting until every change is observed");
        let observed = |deployment: &Deployment| {
            let status = deployment.status.as_ref().and_then(|status| status.observed_generation);
            status >= deployment.metadata.generation
        };
        self.until(&step, "are not observed by their controller", observed).await?;
        step.done();
        rest::reached().await
    }

    /// Returns once every Deployment has all of its pods.
    async fn until_available(&self, step: &Step) -> Result<()> {
        let available = |deployment: &Deployment| {
            deployment.status.as_ref().and_then(|status| status.available_replicas) == Some(PODS_EACH)
        };
        self.until(step, "have not got their pods", available).await
    }

    /// Returns once every Deployment is so; `lacking` says of others what they aren't.
    async fn until(&self, step: &Step, lacking: &str, is_so: impl Fn(&Deployment) -> bool) -> Result<()> {
        let started = Instant::now();
        loop {
            interrupt::check()?;
            step.waiting();
            let all = self.deployments().list(&ListParams::default().labels(FIELD).match_any()).await?;
            let waiting = all.items.iter().filter(|deployment| !is_so(deployment)).count();
            if waiting == 0 {
                return Ok(());
            }
            ensure!(started.elapsed() < LIMIT, "{waiting} Deployments {lacking}");
            sleep(POLL).await;
        }
    }

    /// What people do while adieu is away: they opt in the first `size` Deployments, or set their drain. And they
    /// pause them, so that what is timed is adieu and not kube-controller-manager, which would replace every pod
    /// meanwhile.
    pub async fn ask(&self, size: u32, drain: &str) -> Result<()> {
        let step = Step::start(format!("annotating {size} Deployments while adieu is away"));
        let annotations = json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": drain});
        let patch = json!({"metadata": {"annotations": annotations}, "spec": {"paused": true}});
        self.each((0..size).map(place).collect(), |api, name| {
            let patch = &patch;
            async move { api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await }
        })
        .await?;
        step.done();
        Ok(())
    }

    /// What adieu makes of a template, as a patch of one that it hasn't seen: the operations on a Deployment.
    async fn patch_of_adieu(&self, drain: &str, sender: Sender) -> Result<JsonPatch> {
        let Place { namespace, name, .. } = place(0);
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        let mut evaluated = serde_json::to_value(api.get(&name).await?)?;
        let bare = bare(0);
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &bare.namespace);
        let mut plain = serde_json::to_value(api.get(&bare.name).await?)?;
        let [before, after] = [&mut plain, &mut evaluated].map(|object| object["spec"]["template"].take());
        // Its own key calls for its webhook, and is guarded, unless it is the operator that sends it.
        let key = if sender == Sender::Operator { "adieu.dev/" } else { "bench.adieu.dev/" };
        let after = after
            .to_string()
            .replace("adieu.dev/", key)
            .replace(&format!("\"app\":\"{name}\""), &format!("\"app\":\"{}\"", bare.name));
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

    /// Sends to each of the Deployments that nobody opted in what adieu sends: the template, and a patch that
    /// takes the entry of who sent it out of managedFields.
    pub async fn bare(&self, Bare { sender, client }: &Bare, drain: &str) -> Result<Loop> {
        let patch = &self.patch_of_adieu(drain, *sender).await?;
        let whose = if *sender == Sender::Operator { ", as the operator" } else { "" };
        let step = Step::start(format!("patching {} Deployments in a bare loop{whose}", self.bare));
        let places = || (0..self.bare).map(bare).collect::<Vec<_>>();
        let paused = json!({"spec": {"paused": true}});
        self.each(places(), |api, name| {
            let paused = &paused;
            async move { api.patch(&name, &PatchParams::default(), &Patch::Merge(paused)).await }
        })
        .await?;
        let plain = self.template_of(&bare(0)).await?;
        self.until_at_rest().await?;
        let started = Instant::now();
        self.each_as(client, places(), |api, name| async move {
            let ours = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let mut written = api.patch(&name, &ours, &Patch::<()>::Json(patch.clone())).await?;
            while let Some(give_up) = give_up(&written) {
                match api.patch(&name, &ours, &Patch::<()>::Json(give_up)).await {
                    // A controller wrote its status in between.
                    Err(kube::Error::Api(status)) if status.code == 422 => written = api.get(&name).await?,
                    outcome => return outcome,
                }
            }
            Ok(written)
        })
        .await?;
        let took = started.elapsed();
        // As they were, for the next time.
        let back = json!([{"op": "replace", "path": "/spec/template", "value": plain}]);
        let back: JsonPatch = serde_json::from_value(back)?;
        self.each(places(), |api, name| {
            let mut back = back.clone();
            if let Some(PatchOperation::Replace(replace)) = back.0.first_mut() {
                replace.value["metadata"]["labels"]["app"] = name.clone().into();
            }
            async move { api.patch(&name, &PatchParams::default(), &Patch::<()>::Json(back)).await }
        })
        .await?;
        step.done();
        Ok(Loop { deployments: self.bare, took })
    }

    async fn template_of(&self, place: &Place) -> Result<Value> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &place.namespace);
        Ok(serde_json::to_value(api.get(&place.name).await?)?["spec"]["template"].take())
    }

    /// Does something to each, a few at a time.
    pub async fn each<F: Future<Output = kube::Result<Deployment>>>(
        &self,
        places: Vec<Place>,
        act: impl Fn(Api<Deployment>, String) -> F,
    ) -> Result<()> {
        self.each_as(&self.client, places, act).await
    }

    async fn each_as<F: Future<Output = kube::Result<Deployment>>>(
        &self,
        client: &Client,
        places: Vec<Place>,
        act: impl Fn(Api<Deployment>, String) -> F,
    ) -> Result<()> {
        stream::iter(places)
            .map(|place| {
                let acted = act(Api::namespaced(client.clone(), &place.namespace), place.name.clone());
                async move {
                    acted
                        .await
                        .with_context(|| format!("cannot patch {}/{}", place.namespace, place.name))?;
                    interrupt::check().map_err(Error::from)
                }
            })
            .buffer_unordered(AT_A_TIME)
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

/// Takes the bare loop's entry out of managedFields, if there is one.
fn give_up(written: &Deployment) -> Option<JsonPatch> {
    let mut entries = written.managed_fields().iter();
    let index = entries.position(|entry| entry.manager.as_deref() == Some(MANAGER))?;
    let path = PointerBuf::from_tokens(["metadata", "managedFields", &index.to_string()]);
    let manager = path.with_trailing_token("manager");
    Some(JsonPatch(vec![
        PatchOperation::Test(TestOperation { path: manager, value: MANAGER.into() }),
        PatchOperation::Remove(RemoveOperation { path }),
    ]))
}
