//! Namespaces of 20 Deployments, with the policies that opt them in, and Services.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::leader::Leader;
use crate::bench::scale::deployments::{DeploymentKey, PODS_EACH, key_in_namespace};
use crate::bench::scale::fleet::{CONCURRENCY, Fleet};
use crate::bench::scale::operator::Operator;
use crate::interrupt;
use crate::progress::Step;

/// Deployments per namespace.
const IN_NAMESPACE: u32 = 20;
/// Cluster policies that select namespaces by their label.
const GROUPS: u32 = 20;
/// How many of five Deployments have a Service.
const SERVICES_OF_FIVE: u32 = 2;
/// The namespace label that the cluster policies select.
const GROUP: &str = "bench-group";
/// The cluster policy without a selector, which sets the drain of every workload.
pub const DEFAULTS: &str = "bench-defaults";
/// The annotation of that policy that is written without a change of its spec.
const WRITTEN: &str = "bench-written";
/// Concurrent rollouts, the chart's limit for the whole cluster.
const SLOTS: u32 = 10;
/// The limit for the statuses after the rollouts.
const LIMIT: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_secs(1);

/// How a change of the policy is applied to running workloads.
#[derive(Clone, Copy, Debug)]
pub enum RolloutMode {
    /// By rollouts.
    Running,
    /// With the next update of each workload.
    NextUpdate,
}

/// The objects in the cluster.
pub struct PolicyFleet {
    pub client: Client,
    pub fleet: Fleet,
}

/// The number of Deployments, from which the others follow.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub deployments: u32,
}

impl Size {
    pub fn pods(self) -> u32 {
        self.deployments * PODS_EACH.unsigned_abs()
    }

    pub fn namespaces(self) -> u32 {
        self.deployments.div_ceil(IN_NAMESPACE)
    }

    pub fn services(self) -> u32 {
        let deployments = 0..self.deployments;
        u32::try_from(deployments.filter(|number| has_service(*number)).count()).unwrap_or(u32::MAX)
    }

    /// The policies of namespaces, of groups of namespaces, and the one for all.
    pub fn policies(self) -> u32 {
        self.namespaces() + GROUPS + 1
    }
}

/// The cluster policies, or the policies of all namespaces.
pub fn policies(client: &Client, cluster_scoped: bool) -> Api<DynamicObject> {
    let (kind, plural) = if cluster_scoped {
        ("ClusterGracefulPolicy", "clustergracefulpolicies")
    } else {
        ("GracefulPolicy", "gracefulpolicies")
    };
    Api::all_with(client.clone(), &resource(kind, plural))
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("adieu.dev", "v1alpha1", kind), plural)
}

/// Namespaces are filled one after another, so that growing moves no Deployment.
fn deployment_key(number: u32) -> DeploymentKey {
    key_in_namespace(namespace(number / IN_NAMESPACE), number)
}

fn namespace(number: u32) -> String {
    format!("team-{number}")
}

fn group(number: u32) -> String {
    format!("group-{}", number % GROUPS)
}

fn has_service(deployment: u32) -> bool {
    deployment % 5 < SERVICES_OF_FIVE
}

impl PolicyFleet {
    pub fn new(client: Client) -> Self {
        Self { fleet: Fleet::new(client.clone(), 0), client }
    }

    /// Adds the nodes, and the cluster policies.
    pub async fn set_up(&self) -> Result<()> {
        self.fleet.add_nodes().await?;
        let api = policies(&self.client, true);
        for number in 0..GROUPS {
            let spec = json!({
                "namespaceSelector": {"matchLabels": {GROUP: group(number)}},
                "selector": {}, "marginSeconds": 6,
            });
            create(&api, policy(&group(number), "ClusterGracefulPolicy", spec)).await?;
        }
        let spec = json!({"drainSeconds": 5, "rollout": {"maxConcurrent": SLOTS}});
        create(&api, policy(DEFAULTS, "ClusterGracefulPolicy", spec)).await
    }

    /// Adds Deployments until there are `size`, with their namespaces, policies and Services. Once they have their
    /// pods they are paused, so that their rollouts are complete immediately and no pod is replaced.
    pub async fn grow(&self, before: Size, size: Size) -> Result<()> {
        let added = before.deployments..size.deployments;
        let namespaces = before.namespaces()..size.namespaces();
        let step =
            Step::start(format!("creating {} namespaces with policies and Services", namespaces.len()));
        each(namespaces, |number| self.add_namespace(number)).await?;
        each(added.clone().filter(|number| has_service(*number)), |number| self.add_service(number)).await?;
        step.done();
        let keys: Vec<_> = added.map(deployment_key).collect();
        self.fleet.create(keys.clone()).await?;
        let paused = &Patch::Merge(json!({"spec": {"paused": true}}));
        let pause = async |api: Api<Deployment>, name: String| {
            api.patch(&name, &PatchParams::default(), paused).await
        };
        self.fleet.each(keys, pause).await
    }

    async fn add_namespace(&self, number: u32) -> Result<()> {
        let name = namespace(number);
        let object = json!({"metadata": {"name": name, "labels": {GROUP: group(number)}}});
        create(&Api::<Namespace>::all(self.client.clone()), object).await?;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &name, &resource("GracefulPolicy", "gracefulpolicies"));
        let spec = json!({"selector": {}, "shutdownTimeoutSeconds": 20});
        create(&api, policy("team", "GracefulPolicy", spec)).await
    }

    async fn add_service(&self, number: u32) -> Result<()> {
        let DeploymentKey { namespace, name, .. } = deployment_key(number);
        let object = json!({
            // Hidden from kube-proxy: tens of thousands of rules would keep the machine busy.
            "metadata": {"name": name, "labels": {"service.kubernetes.io/service-proxy-name": "none"}},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
        });
        create(&Api::<Service>::namespaced(self.client.clone(), &namespace), object).await
    }

    /// Changes the policy for all. Returns its generation.
    pub async fn change_defaults(&self, drain: i64, mode: RolloutMode) -> Result<i64> {
        let mode = match mode {
            RolloutMode::Running => "Progressive",
            RolloutMode::NextUpdate => "NextUpdate",
        };
        let patch = json!({"spec": {"drainSeconds": drain, "rollout": {"mode": mode}}});
        let api = policies(&self.client, true);
        let changed = api.patch(DEFAULTS, &PatchParams::default(), &Patch::Merge(patch)).await;
        let changed = changed.with_context(|| format!("cannot change the cluster policy {DEFAULTS}"))?;
        changed.metadata.generation.context("a policy without a generation")
    }

    /// Writes the policy for all without a change of its spec, so that adieu evaluates no workload.
    pub async fn annotate_defaults(&self, number: u32) -> Result<()> {
        let patch = json!({"metadata": {"annotations": {WRITTEN: number.to_string()}}});
        let api = policies(&self.client, true);
        let written = api.patch(DEFAULTS, &PatchParams::default(), &Patch::Merge(patch)).await;
        written.map(drop).with_context(|| format!("cannot annotate the cluster policy {DEFAULTS}"))
    }

    /// Writes to a policy's status that all of its workloads are pending (`waits`), or none.
    pub async fn write_status(&self, policy: &DynamicObject, waits: bool) -> Result<()> {
        let (client, name) = (self.client.clone(), policy.name_any());
        let api: Api<DynamicObject> = match policy.namespace() {
            Some(namespace) => {
                Api::namespaced_with(client, &namespace, &resource("GracefulPolicy", "gracefulpolicies"))
            }
            None => policies(&client, true),
        };
        let patch = json!({"status": {"workloads": {"pending": expected_pending(policy, waits)}}});
        let written = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
        written.map(drop).with_context(|| format!("cannot write the status of the policy {name}"))
    }

    /// Waits until the status of every policy is current and counts no pending workload.
    pub async fn until_status_current(&self) -> Result<()> {
        let step = Step::start("waiting until every policy's status counts all workloads");
        let started = Instant::now();
        loop {
            interrupt::check()?;
            step.waiting();
            let mut unsettled = Vec::new();
            for cluster_scoped in [true, false] {
                let all = policies(&self.client, cluster_scoped).list(&ListParams::default()).await?;
                let others = all.iter().filter(|policy| !(is_observed(policy) && is_reported(policy, false)));
                unsettled.extend(others.map(ResourceExt::name_any));
            }
            let Some(first) = unsettled.first() else { break };
            let count = unsettled.len();
            ensure!(started.elapsed() < LIMIT, "{count} policies have pending workloads, such as {first}");
            sleep(POLL).await;
        }
        step.done();
        Ok(())
    }

    /// Waits until the machine is idle, and adieu writes nothing and reconciles no workload.
    pub async fn settle(&self, operator: &Operator, leader: &Leader) -> Result<()> {
        self.fleet.until_idle().await?;
        operator.until_idle().await?;
        leader.until_idle().await
    }

    /// The dry-run request of the load: an opted-in Deployment in a namespace with policies.
    pub fn opted_in() -> Result<(String, Vec<u8>)> {
        let deployment_key = key_in_namespace(namespace(0), u32::MAX);
        let mut deployment = deployment_key.deployment();
        deployment["metadata"]["annotations"] = json!({"adieu.dev/graceful": "true"});
        Ok((deployment_key.namespace, serde_json::to_vec(&deployment)?))
    }

    /// The Deployment with this number, modulo their count.
    pub fn deployment(number: u32, size: Size) -> (String, String) {
        let DeploymentKey { namespace, name, .. } = deployment_key(number % size.deployments);
        (namespace, name)
    }
}

/// Whether a policy's status is current.
pub fn is_observed(policy: &DynamicObject) -> bool {
    observed_generation(policy) >= policy.metadata.generation
}

/// The generation that a policy's status is of.
pub fn observed_generation(policy: &DynamicObject) -> Option<i64> {
    policy.data["status"]["observedGeneration"].as_i64()
}

/// How many workloads a policy's status counts.
pub fn matched(policy: &DynamicObject) -> i64 {
    policy.data["status"]["workloads"]["matched"].as_i64().unwrap_or(0)
}

/// Whether a policy's status counts all of its workloads as pending (`waits`), or none.
pub fn is_reported(policy: &DynamicObject, waits: bool) -> bool {
    let pending = policy.data["status"]["workloads"]["pending"].as_i64();
    pending == Some(expected_pending(policy, waits))
}

/// The number of pending workloads if all are pending (`waits`), or none.
fn expected_pending(policy: &DynamicObject, waits: bool) -> i64 {
    if waits { matched(policy) } else { 0 }
}

fn policy(name: &str, kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "adieu.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let created = api.create(&PostParams::default(), &serde_json::from_value(object)?).await;
    created.map(drop).with_context(|| format!("cannot create {name}"))
}

/// Runs `act` for each number, some at a time.
async fn each<F: Future<Output = Result<()>>>(
    numbers: impl Iterator<Item = u32>,
    act: impl Fn(u32) -> F,
) -> Result<()> {
    let acts = stream::iter(numbers).map(|number| {
        let acted = act(number);
        async move {
            interrupt::check()?;
            acted.await
        }
    });
    acts.buffer_unordered(CONCURRENCY).try_collect().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_thousand_deployments_are_in_250_namespaces_with_2000_services() {
        let size = Size { deployments: 5000 };
        assert_eq!((size.namespaces(), size.services(), size.policies()), (250, 2000, 271));
        assert_eq!(Size { deployments: 50 }.namespaces(), 3);
        let in_group = |group: &str| (0..250).filter(|number| super::group(*number) == group).count();
        assert_eq!(["group-0", "group-9", "group-10", "group-19"].map(in_group), [13, 13, 12, 12]);
    }

    #[test]
    fn growing_moves_no_deployment() {
        assert_eq!(deployment_key(2499).namespace, "team-124");
        assert_eq!(deployment_key(2500).namespace, "team-125");
        assert_eq!(
            PolicyFleet::deployment(5003, Size { deployments: 5000 }),
            ("team-0".into(), "web-3".into())
        );
    }

    #[test]
    fn a_status_counts_pending_workloads() {
        let policy = |matched: i64, pending: i64| {
            let status =
                json!({"observedGeneration": 2, "workloads": {"matched": matched, "pending": pending}});
            let object = json!({"metadata": {"name": "a", "generation": 2}, "status": status});
            serde_json::from_value::<DynamicObject>(object).unwrap()
        };
        assert!(is_reported(&policy(20, 20), true) && !is_reported(&policy(20, 19), true));
        assert!(is_reported(&policy(20, 0), false) && !is_reported(&policy(20, 20), false));
        assert!(is_observed(&policy(20, 0)));
        let fresh: DynamicObject = serde_json::from_value(json!({"metadata": {"generation": 1}})).unwrap();
        assert!(!is_reported(&fresh, false) && !is_observed(&fresh));
    }
}
