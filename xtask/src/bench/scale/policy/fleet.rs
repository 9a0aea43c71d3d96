//! Namespaces of 20 Deployments, the policies that opt them in, and the Services in front.

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

use crate::bench::scale::field::{AT_A_TIME, Field};
use crate::bench::scale::place::{Place, place_in};
use crate::interrupt;
use crate::progress::Step;

/// Deployments of each namespace.
const IN_NAMESPACE: u32 = 20;
/// Cluster policies that select namespaces by their label.
const GROUPS: u32 = 20;
/// Of five Deployments so many have a Service.
const SERVICES_OF_FIVE: u32 = 2;
/// The label of namespaces by which the cluster policies select.
const GROUP: &str = "bench-group";
/// The cluster policy without a selector: every workload takes its drain.
pub const DEFAULTS: &str = "bench-defaults";
/// Rollouts at a time, as the chart limits them in the whole cluster.
const SLOTS: u32 = 10;
/// Until every status tells of what was rolled out.
const LIMIT: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_secs(1);

/// How a change of the policy for all reaches running workloads.
#[derive(Clone, Copy, Debug)]
pub enum Reaches {
    /// One rollout after the other.
    Running,
    /// None: each with its next update.
    NextUpdate,
}

/// What is in the cluster.
pub struct Fleet {
    pub client: Client,
    pub field: Field,
}

/// How many of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub deployments: u32,
}

impl Size {
    pub fn namespaces(self) -> u32 {
        self.deployments.div_ceil(IN_NAMESPACE)
    }

    pub fn services(self) -> u32 {
        let deployments = 0..self.deployments;
        u32::try_from(deployments.filter(|number| has_service(*number)).count()).unwrap_or(u32::MAX)
    }

    /// Those of namespaces, those for groups of namespaces, and the one for all.
    pub fn policies(self) -> u32 {
        self.namespaces() + GROUPS + 1
    }
}

/// The cluster's policies, or those of all namespaces.
pub fn policies(client: &Client, of_cluster: bool) -> Api<DynamicObject> {
    let (kind, plural) = if of_cluster {
        ("ClusterGracefulPolicy", "clustergracefulpolicies")
    } else {
        ("GracefulPolicy", "gracefulpolicies")
    };
    Api::all_with(client.clone(), &resource(kind, plural))
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("adieu.dev", "v1alpha1", kind), plural)
}

/// Namespaces are full once the next one begins, so that growing moves no Deployment.
fn place(number: u32) -> Place {
    place_in(namespace(number / IN_NAMESPACE), number)
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

impl Fleet {
    pub fn new(client: Client) -> Self {
        Self { field: Field::new(client.clone(), 0), client }
    }

    /// Adds the nodes, and the cluster policies.
    pub async fn set_up(&self) -> Result<()> {
        self.field.add_nodes().await?;
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

    /// Adds Deployments from `before` on until there are `size`, with their namespaces, policies and Services; and
    /// pauses them once they have their pods, so that their rollouts are complete at once and no pod is replaced.
    pub async fn grow(&self, before: Size, size: Size) -> Result<()> {
        let added = before.deployments..size.deployments;
        let namespaces = before.namespaces()..size.namespaces();
        let step =
            Step::start(format!("creating {} namespaces with policies and Services", namespaces.len()));
        each(namespaces, |number| self.add_namespace(number)).await?;
        each(added.clone().filter(|number| has_service(*number)), |number| self.add_service(number)).await?;
        step.done();
        let places: Vec<_> = added.map(place).collect();
        self.field.create(places.clone()).await?;
        let paused = &Patch::Merge(json!({"spec": {"paused": true}}));
        let pause = async |api: Api<Deployment>, name: String| {
            api.patch(&name, &PatchParams::default(), paused).await
        };
        self.field.each(places, pause).await
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
        let Place { namespace, name, .. } = place(number);
        let object = json!({
            // Not kube-proxy's: ten thousands of rules would keep this machine busy.
            "metadata": {"name": name, "labels": {"service.kubernetes.io/service-proxy-name": "none"}},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]},
        });
        create(&Api::<Service>::namespaced(self.client.clone(), &namespace), object).await
    }

    /// Changes the policy for all. Returns its generation.
    pub async fn change_defaults(&self, drain: i64, reaches: Reaches) -> Result<i64> {
        let mode = match reaches {
            Reaches::Running => "Progressive",
            Reaches::NextUpdate => "NextUpdate",
        };
        let patch = json!({"spec": {"drainSeconds": drain, "rollout": {"mode": mode}}});
        let api = policies(&self.client, true);
        let changed = api.patch(DEFAULTS, &PatchParams::default(), &Patch::Merge(patch)).await;
        let changed = changed.with_context(|| format!("cannot change the cluster policy {DEFAULTS}"))?;
        changed.metadata.generation.context("a policy without a generation")
    }

    /// Returns once the status of every policy tells of its spec and of no workload that waits.
    pub async fn until_settled(&self) -> Result<()> {
        let step = Step::start("waiting until every policy's status tells of all workloads");
        let started = Instant::now();
        loop {
            interrupt::check()?;
            step.waiting();
            let mut unsettled = Vec::new();
            for of_cluster in [true, false] {
                let all = policies(&self.client, of_cluster).list(&ListParams::default()).await?;
                let others = all.iter().filter(|policy| !(is_observed(policy) && is_told(policy, false)));
                unsettled.extend(others.map(ResourceExt::name_any));
            }
            let Some(first) = unsettled.first() else { break };
            let count = unsettled.len();
            ensure!(started.elapsed() < LIMIT, "{count} policies still wait for workloads, such as {first}");
            sleep(POLL).await;
        }
        step.done();
        Ok(())
    }

    /// What the load creates by dry run: an opted-in Deployment in a namespace with policies.
    pub fn opted_in() -> Result<(String, Vec<u8>)> {
        let place = place_in(namespace(0), u32::MAX);
        let mut deployment = place.deployment();
        deployment["metadata"]["annotations"] = json!({"adieu.dev/graceful": "true"});
        Ok((place.namespace, serde_json::to_vec(&deployment)?))
    }

    /// A Deployment that is there: the first, the second and so on, and then the first again.
    pub fn deployment(number: u32, size: Size) -> (String, String) {
        let Place { namespace, name, .. } = place(number % size.deployments);
        (namespace, name)
    }
}

/// Whether a policy's status is of its current spec.
pub fn is_observed(policy: &DynamicObject) -> bool {
    policy.data["status"]["observedGeneration"].as_i64() >= policy.metadata.generation
}

/// How many workloads a policy's status counts.
pub fn matched(policy: &DynamicObject) -> i64 {
    policy.data["status"]["workloads"]["matched"].as_i64().unwrap_or(0)
}

/// Whether a policy's status tells that all of its workloads wait for an update, or that none does.
pub fn is_told(policy: &DynamicObject, waits: bool) -> bool {
    let pending = policy.data["status"]["workloads"]["pending"].as_i64();
    pending == Some(if waits { matched(policy) } else { 0 })
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

/// Does something for each number, a few at a time.
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
    acts.buffer_unordered(AT_A_TIME).try_collect().await
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
        assert_eq!(place(2499).namespace, "team-124");
        assert_eq!(place(2500).namespace, "team-125");
        assert_eq!(Fleet::deployment(5003, Size { deployments: 5000 }), ("team-0".into(), "web-3".into()));
    }

    #[test]
    fn a_status_tells_of_workloads_that_wait() {
        let policy = |matched: i64, pending: i64| {
            let status =
                json!({"observedGeneration": 2, "workloads": {"matched": matched, "pending": pending}});
            let object = json!({"metadata": {"name": "a", "generation": 2}, "status": status});
            serde_json::from_value::<DynamicObject>(object).unwrap()
        };
        assert!(is_told(&policy(20, 20), true) && !is_told(&policy(20, 19), true));
        assert!(is_told(&policy(20, 0), false) && !is_told(&policy(20, 20), false));
        assert!(is_observed(&policy(20, 0)));
        let fresh: DynamicObject = serde_json::from_value(json!({"metadata": {"generation": 1}})).unwrap();
        assert!(!is_told(&fresh, false) && !is_observed(&fresh));
    }
}
