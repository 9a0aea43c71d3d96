//! Performs a disruption, and reverts its temporary changes.

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{Api, Client, api::DeleteParams};
use tokio::{
    sync::watch,
    time::{Duration, timeout},
};

use super::{error::Error, evict::evict, kind::Disruption, node, workload::TargetWorkload};
use crate::verify::PodTimelines;

/// Disrupts a workload. Call [`Disruptor::revert`] in any case: temporary changes are recorded before they are made.
pub struct Disruptor {
    client: Client,
    workload: TargetWorkload,
    disruption: Disruption,
    timelines: watch::Receiver<PodTimelines>,
    changes: Vec<TemporaryChange>,
}

/// A temporary change.
#[derive(Clone, Debug)]
enum TemporaryChange {
    Scale { from: i32, to: i32 },
    Cordon { node: String },
}

impl Disruptor {
    /// `timelines` are those of the workload's pods.
    #[must_use]
    pub fn new(
        client: &Client,
        workload: &TargetWorkload,
        disruption: Disruption,
        timelines: watch::Receiver<PodTimelines>,
    ) -> Self {
        Self { client: client.clone(), workload: workload.clone(), disruption, timelines, changes: vec![] }
    }

    /// The disruption in words, for the confirmation.
    ///
    /// # Errors
    /// It isn't possible, or a request fails.
    pub async fn intention(&self) -> Result<String, Error> {
        let pods = self.timelines.borrow().alive().count();
        let TargetWorkload { namespace, .. } = &self.workload;
        let what = format!("{} in the namespace {namespace}", self.workload);
        Ok(match self.disruption {
            Disruption::None => format!("observe {what}"),
            Disruption::Restart => format!("restart {what}: all of its {pods} pods are replaced"),
            Disruption::ScaleDown(to) => {
                let from = self.workload.replicas().await?;
                format!("scale {what} from {from} to {} and back", to.unwrap_or(from - 1))
            }
            Disruption::DeletePod => format!("delete one of the {pods} pods of {what}"),
            Disruption::Evict => format!("evict one of the {pods} pods of {what}"),
            Disruption::DrainNode => {
                let node = node::choose(&self.client, &self.timelines.borrow().clone()).await?;
                let evicted = node::to_evict(&self.client, &node).await?;
                format!("drain the node {node}: {} pods of any workload are evicted from it", evicted.len())
            }
        })
    }

    /// Disrupts the workload, and waits until every removed pod is gone and as many as before are ready.
    ///
    /// # Errors
    /// It isn't possible, a request fails, or it isn't completed.
    pub async fn run(&mut self) -> Result<(), Error> {
        let before: Vec<String> = self.timelines.borrow().alive().map(|(uid, _)| uid.clone()).collect();
        let ready = ready(&self.timelines.borrow());
        match self.disruption {
            Disruption::None => return Ok(()),
            Disruption::Restart => {
                let generation = self.workload.restart(&Timestamp::now().to_string()).await?;
                self.workload.complete(generation).await?;
                self.wait(|timelines| timelines.are_gone(&before)).await?;
            }
            Disruption::ScaleDown(to) => self.scale_down(to, &before).await?,
            Disruption::DeletePod | Disruption::Evict => self.remove_pod().await?,
            Disruption::DrainNode => self.drain_node().await?,
        }
        self.revert_changes().await?;
        self.wait(|timelines| self::ready(timelines) >= ready).await
    }

    async fn scale_down(&mut self, to: Option<i32>, before: &[String]) -> Result<(), Error> {
        let from = self.workload.replicas().await?;
        let to = to.unwrap_or(from - 1);
        self.changes.push(TemporaryChange::Scale { from, to });
        self.workload.scale(to).await?;
        let left = usize::try_from(to).unwrap_or_default();
        self.wait(|timelines| {
            let alive: Vec<_> = timelines.alive().map(|(uid, _)| uid).collect();
            alive.len() <= left && timelines.are_gone(before.iter().filter(|uid| !alive.contains(uid)))
        })
        .await
    }

    async fn remove_pod(&self) -> Result<(), Error> {
        let (uid, name) = self.target_pod()?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.workload.namespace);
        if self.disruption == Disruption::Evict {
            evict(&pods, &name).await?;
        } else {
            let deleted = pods.delete(&name, &DeleteParams::default()).await;
            deleted.map_err(Error::api(format!("delete the pod {name}")))?;
        }
        self.wait(|timelines| timelines.are_gone([&uid])).await
    }

    async fn drain_node(&mut self) -> Result<(), Error> {
        let node = node::choose(&self.client, &self.timelines.borrow().clone()).await?;
        let evicted = node::to_evict(&self.client, &node).await?;
        if node::is_schedulable(&self.client, &node).await? {
            self.changes.push(TemporaryChange::Cordon { node: node.clone() });
            node::cordon(&self.client, &node, true).await?;
        }
        node::evict_all(&self.client, &evicted).await?;
        let evicted: Vec<_> = evicted.into_iter().filter_map(|pod| pod.metadata.uid).collect();
        self.wait(|timelines| timelines.are_gone(&evicted)).await
    }

    /// Reverts the remaining temporary changes.
    ///
    /// # Errors
    /// A request fails, or it takes longer than `limit`. The error has the command to do it manually.
    pub async fn revert(&mut self, limit: Duration) -> Result<(), Error> {
        let reverted = timeout(limit, self.revert_changes()).await;
        let too_long = || Error::Incomplete(format!("it took longer than {} s", limit.as_secs()));
        let Err(error) = reverted.unwrap_or_else(|_| Err(too_long())) else { return Ok(()) };
        Err(match self.changes.last() {
            Some(change) => change.manual_revert(&self.workload, &error),
            None => error,
        })
    }

    async fn revert_changes(&mut self) -> Result<(), Error> {
        while let Some(change) = self.changes.last() {
            match change {
                TemporaryChange::Scale { from, to } => self.restore_scale(*from, *to).await?,
                TemporaryChange::Cordon { node } => node::cordon(&self.client, node, false).await?,
            }
            self.changes.pop();
        }
        Ok(())
    }

    /// Restores the number of replicas, unless another client has changed it meanwhile.
    async fn restore_scale(&self, from: i32, to: i32) -> Result<(), Error> {
        if self.workload.replicas().await? == to { self.workload.scale(from).await } else { Ok(()) }
    }

    /// The uid and the name of a ready pod, the first by name.
    fn target_pod(&self) -> Result<(String, String), Error> {
        let timelines = self.timelines.borrow();
        let ready = timelines.alive().filter(|(_, timeline)| timeline.ready.is_some());
        let first = ready.min_by_key(|(_, timeline)| timeline.name.clone());
        first
            .map(|(uid, timeline)| (uid.clone(), timeline.name.clone()))
            .ok_or_else(|| Error::Impossible(format!("{} has no ready pod", self.workload)))
    }

    async fn wait(&self, condition: impl FnMut(&PodTimelines) -> bool) -> Result<(), Error> {
        let waited = self.timelines.clone().wait_for(condition).await.map(drop);
        waited.map_err(|_| Error::Incomplete("the watch of the pods ended".to_owned()))
    }
}

impl TemporaryChange {
    /// The error of a change that isn't reverted, with the command to revert it.
    fn manual_revert(&self, workload: &TargetWorkload, error: &Error) -> Error {
        let error = error.with_cause();
        let (what, command) = match self {
            Self::Scale { from, .. } => (
                format!("{workload} is still scaled down"),
                format!(
                    "kubectl -n {} scale {} {} --replicas={from}",
                    workload.namespace,
                    workload.kind.as_str().to_lowercase(),
                    workload.name
                ),
            ),
            Self::Cordon { node } => {
                (format!("the node {node} is still cordoned"), format!("kubectl uncordon {node}"))
            }
        };
        Error::Incomplete(format!("{what} ({error}): {command}"))
    }
}

fn ready(timelines: &PodTimelines) -> usize {
    timelines.alive().filter(|(_, timeline)| timeline.ready.is_some()).count()
}
