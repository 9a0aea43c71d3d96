//! A disruption from its beginning to its end, and back.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{DeleteParams, EvictParams},
    core::Status,
};
use tokio::{
    sync::watch,
    time::{Duration, sleep, timeout},
};

use super::{Disruption, Error, Workload, node};
use crate::verify::Lives;

/// Between two tries of an eviction that a PodDisruptionBudget doesn't allow yet; kubectl waits as long.
const EVICTION_RETRY: Duration = Duration::from_secs(5);

/// The cause of a refusal in a namespace that is being deleted (`NamespaceTerminatingCause` of the core API).
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// A workload that is made to go through a disruption. [`Trial::undo`] has to be called in the end, however
/// it went: what is undone there is noted before it is done.
pub struct Trial {
    client: Client,
    workload: Workload,
    disruption: Disruption,
    lives: watch::Receiver<Lives>,
    undo: Vec<Undo>,
}

#[derive(Clone, Debug)]
enum Undo {
    Scale { from: i32, to: i32 },
    Uncordon { node: String },
}

impl Trial {
    /// A trial of a workload whose pods are followed in `lives`.
    #[must_use]
    pub fn new(
        client: &Client,
        workload: &Workload,
        disruption: Disruption,
        lives: watch::Receiver<Lives>,
    ) -> Self {
        Self { client: client.clone(), workload: workload.clone(), disruption, lives, undo: vec![] }
    }

    /// What will be done, in a sentence for who is asked whether it may be.
    ///
    /// # Errors
    /// Where it can't be done.
    pub async fn intention(&self) -> Result<String, Error> {
        let pods = self.lives.borrow().alive().count();
        let Workload { namespace, .. } = &self.workload;
        let what = format!("{} in the namespace {namespace}", self.workload);
        Ok(match self.disruption {
            Disruption::None => format!("watch {what}"),
            Disruption::Restart => format!("restart {what}: all of its {pods} pods are replaced"),
            Disruption::ScaleDown(to) => {
                let from = self.workload.replicas().await?;
                format!("scale {what} from {from} to {} and back", to.unwrap_or(from - 1))
            }
            Disruption::DeletePod => format!("delete one of the {pods} pods of {what}"),
            Disruption::Evict => format!("evict one of the {pods} pods of {what}"),
            Disruption::DrainNode => {
                let node = node::choose(&self.client, &self.lives.borrow().clone()).await?;
                let evicted = node::to_evict(&self.client, &node).await?;
                format!("drain the node {node}: {} pods of any workload are evicted from it", evicted.len())
            }
        })
    }

    /// Does it, and returns once every pod that it removed is gone and as many as before are ready.
    ///
    /// # Errors
    /// Where it can't be done, or doesn't come to its end.
    pub async fn run(&mut self) -> Result<(), Error> {
        let before: Vec<String> = self.lives.borrow().alive().map(|(uid, _)| uid.clone()).collect();
        let ready = ready(&self.lives.borrow());
        match self.disruption {
            Disruption::None => return Ok(()),
            Disruption::Restart => {
                let generation = self.workload.restart(&Timestamp::now().to_string()).await?;
                self.workload.complete(generation).await?;
                self.wait(|lives| lives.are_gone(&before)).await?;
            }
            Disruption::ScaleDown(to) => {
                let from = self.workload.replicas().await?;
                let to = to.unwrap_or(from - 1);
                self.undo.push(Undo::Scale { from, to });
                self.workload.scale(to).await?;
                let left = usize::try_from(to).unwrap_or_default();
                self.wait(|lives| {
                    let alive: Vec<_> = lives.alive().map(|(uid, _)| uid).collect();
                    alive.len() <= left && lives.are_gone(before.iter().filter(|uid| !alive.contains(uid)))
                })
                .await?;
            }
            Disruption::DeletePod | Disruption::Evict => {
                let (uid, name) = self.victim()?;
                let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.workload.namespace);
                if self.disruption == Disruption::Evict {
                    evict(&pods, &name).await?;
                } else {
                    let deleted = pods.delete(&name, &DeleteParams::default()).await;
                    deleted.map_err(Error::api(format!("deleting the pod {name}")))?;
                }
                self.wait(|lives| lives.are_gone([&uid])).await?;
            }
            Disruption::DrainNode => {
                let node = node::choose(&self.client, &self.lives.borrow().clone()).await?;
                let evicted = node::to_evict(&self.client, &node).await?;
                if node::is_schedulable(&self.client, &node).await? {
                    self.undo.push(Undo::Uncordon { node: node.clone() });
                    node::cordon(&self.client, &node, true).await?;
                }
                node::evict_all(&self.client, &evicted).await?;
                let evicted: Vec<_> = evicted.into_iter().filter_map(|pod| pod.metadata.uid).collect();
                self.wait(|lives| lives.are_gone(&evicted)).await?;
            }
        }
        self.put_back().await?;
        self.wait(|lives| self::ready(lives) >= ready).await
    }

    /// Undoes what is not undone yet.
    ///
    /// # Errors
    /// Where that fails, or takes longer than `limit`: it then says how to do it by hand.
    pub async fn undo(&mut self, limit: Duration) -> Result<(), Error> {
        let undone = timeout(limit, self.put_back()).await;
        let too_long = || Error::Incomplete(format!("it took longer than {} s", limit.as_secs()));
        let Err(error) = undone.unwrap_or_else(|_| Err(too_long())) else { return Ok(()) };
        Err(match self.undo.last() {
            Some(undo) => undo.by_hand(&self.workload, error),
            None => error,
        })
    }

    async fn put_back(&mut self) -> Result<(), Error> {
        while let Some(undo) = self.undo.last() {
            match undo {
                Undo::Scale { from, to } => self.scale_back(*from, *to).await?,
                Undo::Uncordon { node } => node::cordon(&self.client, node, false).await?,
            }
            self.undo.pop();
        }
        Ok(())
    }

    /// Not where somebody else has scaled it meanwhile.
    async fn scale_back(&self, from: i32, to: i32) -> Result<(), Error> {
        if self.workload.replicas().await? == to { self.workload.scale(from).await } else { Ok(()) }
    }

    /// The uid and the name of a pod that is ready, the first by name.
    fn victim(&self) -> Result<(String, String), Error> {
        let lives = self.lives.borrow();
        let ready = lives.alive().filter(|(_, life)| life.ready.is_some());
        let first = ready.min_by_key(|(_, life)| life.name.clone());
        first
            .map(|(uid, life)| (uid.clone(), life.name.clone()))
            .ok_or_else(|| Error::Impossible(format!("{} has no pod that is ready", self.workload)))
    }

    async fn wait(&self, condition: impl FnMut(&Lives) -> bool) -> Result<(), Error> {
        let waited = self.lives.clone().wait_for(condition).await.map(drop);
        waited.map_err(|_| Error::Incomplete("the pods are not followed any more".to_owned()))
    }
}

impl Undo {
    fn by_hand(&self, workload: &Workload, error: Error) -> Error {
        let error = anyhow::Error::from(error);
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
            Self::Uncordon { node } => {
                (format!("the node {node} is still cordoned"), format!("kubectl uncordon {node}"))
            }
        };
        Error::Incomplete(format!("{what} ({error:#}): {command}"))
    }
}

fn ready(lives: &Lives) -> usize {
    lives.alive().filter(|(_, life)| life.ready.is_some()).count()
}

/// Evicts a pod, as soon as its PodDisruptionBudget allows.
pub(super) async fn evict(pods: &Api<Pod>, name: &str) -> Result<(), Error> {
    loop {
        match pods.evict(name, &EvictParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 429 => sleep(EVICTION_RETRY).await,
            // Gone already, as it should be, or about to go.
            Err(kube::Error::Api(status)) if status.code == 404 || goes_with_its_namespace(&status) => {
                return Ok(());
            }
            outcome => return outcome.map(drop).map_err(Error::api(format!("evicting the pod {name}"))),
        }
    }
}

/// Whether an eviction was refused because the namespace, and with it every pod in it, is being deleted.
fn goes_with_its_namespace(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 403 && causes.into_iter().any(|cause| cause.reason == NAMESPACE_TERMINATING)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_eviction_from_a_namespace_on_its_way_out_is_told_from_one_that_is_not_allowed() {
        let refused = |causes: serde_json::Value| -> Status {
            serde_json::from_value(json!({"code": 403, "reason": "Forbidden", "details": {"causes": causes}}))
                .unwrap()
        };
        let going =
            json!([{"reason": "NamespaceTerminating", "field": "metadata.namespace", "message": "going"}]);
        assert!(goes_with_its_namespace(&refused(going)));
        assert!(!goes_with_its_namespace(&refused(json!([]))));
    }
}
