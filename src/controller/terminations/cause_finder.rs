//! Finds out why a pod terminates: reads its `ReplicaSet` or node, if the caches can't tell.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use adieu_observer::{CauseEvidence, PodOwner, TerminatingPod};
use k8s_openapi::jiff::Timestamp;
use kube::{Client, Error, Resource as _, core::DynamicObject};
use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use crate::{
    index::{cached_workload::CachedWorkload, caches::Caches, list},
    keys::WorkloadKey as Key,
    plan::Kind,
    runtime::lock::lock,
};

/// The annotation of a Deployment and its ReplicaSets with the number of their revision.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// The annotation of a DaemonSet with the generation of its template, which the label of its pods repeats.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
/// How long the watch of workloads may be behind that of pods: a pod terminates milliseconds after the change of its
/// workload that is the cause, and the StatefulSet controller deletes the first pod of a rollout before it writes the new
/// revision to the status.
const WATCH_DELAY: Duration = Duration::from_secs(5);
/// How many objects are read at a time: thousands of pods may terminate together.
const CONCURRENT_READS: usize = 4;
/// How long an object that was read is used again: the pods of a ReplicaSet terminate together. The second look at a cause
/// reads it again.
const READ_TTL: Duration = WATCH_DELAY;
/// How many of them are kept.
const MAX_READ: usize = 1000;

/// Objects by their path, with the time when they were read; `None` if they can't be.
type ReadObjects = HashMap<String, (Instant, Option<ReadObject>)>;

/// Finds the evidence of causes.
#[derive(Clone)]
pub(super) struct CauseFinder {
    client: Client,
    caches: Caches,
    permits: Arc<Semaphore>,
    read: Arc<Mutex<ReadObjects>>,
}

/// The fields that are read of a ReplicaSet or a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ReadObject {
    metadata: ReadMetadata,
    spec: ReadSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ReadMetadata {
    annotations: ReadAnnotations,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ReadAnnotations {
    #[serde(rename = "deployment.kubernetes.io/revision")]
    revision: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ReadSpec {
    unschedulable: bool,
    replicas: Option<i64>,
}

impl CauseFinder {
    pub(super) fn new(client: Client, caches: Caches) -> Self {
        let permits = Arc::new(Semaphore::new(CONCURRENT_READS));
        Self { client, caches, permits, read: Arc::default() }
    }

    /// The uid of a pod whose termination just started, and the evidence of its cause. The cause of a disruption is its
    /// condition, and that of an eviction depends on the node.
    pub(super) fn search(
        &self,
        pod: &TerminatingPod,
    ) -> impl Future<Output = (String, CauseEvidence)> + Send + use<> {
        let (finder, uid) = (self.clone(), pod.uid.clone());
        let (namespace, owner, node) = (pod.namespace.clone(), pod.owner.clone(), pod.node.clone());
        let disruption = pod.disruption.clone();
        async move {
            let evidence = match (disruption.as_deref(), node) {
                (None, _) => until_explained(|| finder.of_workload(&namespace, &owner)).await,
                (Some("EvictionByEvictionAPI"), Some(node)) => finder.of_node(&node).await,
                _ => CauseEvidence::default(),
            };
            (uid, evidence)
        }
    }

    async fn of_node(&self, name: &str) -> CauseEvidence {
        let node = self.read(format!("/api/v1/nodes/{name}")).await;
        CauseEvidence {
            node_is_cordoned: node.is_some_and(|node| node.spec.unschedulable),
            ..CauseEvidence::default()
        }
    }

    async fn of_workload(&self, namespace: &str, owner: &PodOwner) -> CauseEvidence {
        let PodOwner::Workload { kind, name, revision } = owner else { return CauseEvidence::default() };
        let find = || self.caches.workloads().cached(*kind, namespace, name);
        let Some(workload) = find().filter(|workload| workload.meta().deletion_timestamp.is_none()) else {
            return CauseEvidence::default();
        };
        let is_current_revision = match (kind, revision) {
            (_, None) => None,
            (Kind::Deployment, Some(replica_set)) => {
                let path = format!("/apis/apps/v1/namespaces/{namespace}/replicasets/{replica_set}");
                let replica_set = self.read(path).await;
                // Read after the ReplicaSet, whose annotation the Deployment controller writes first.
                replica_set
                    .zip(find())
                    .and_then(|(replica_set, workload)| is_current(&replica_set, &workload))
            }
            (Kind::StatefulSet, Some(hash)) => {
                let object = workload.object();
                object.data["status"]["updateRevision"].as_str().map(|current| current == hash)
            }
            (Kind::DaemonSet, Some(generation)) => {
                annotation(&workload.object(), TEMPLATE_GENERATION).map(|current| current == generation)
            }
        };
        let key = Key { namespace: namespace.to_owned(), kind: *kind, name: name.clone() };
        let replicas = self.caches.workloads().replicas(*kind);
        let scaled_down = is_current_revision != Some(false) && replicas.explain(&key, Timestamp::now());
        CauseEvidence { workload_exists: true, is_current_revision, scaled_down, node_is_cordoned: false }
    }

    /// The object at this path; `None` if it can't be read.
    async fn read(&self, path: String) -> Option<ReadObject> {
        let _permit = self.permits.acquire().await.ok()?;
        let now = Instant::now();
        let known = lock(&self.read).get(&path).filter(|(at, _)| now - *at < READ_TTL).cloned();
        if let Some((_, found)) = known {
            return found;
        }
        let found = self.get(&path).await.unwrap_or_else(|error| {
            tracing::debug!(path, %error, "cannot read the cause of a termination");
            None
        });
        let mut read = lock(&self.read);
        if read.len() >= MAX_READ {
            read.retain(|_, (at, _)| now - *at < READ_TTL);
        }
        if read.len() < MAX_READ {
            read.insert(path, (now, found.clone()));
        }
        found
    }

    async fn get(&self, path: &str) -> Result<Option<ReadObject>, Error> {
        let (collection, name) = path.rsplit_once('/').unwrap_or_default();
        // A text over the limit is empty here.
        let decode = |text: Result<&[u8], usize>| serde_json::from_slice(text.unwrap_or_default());
        list::get(&self.client, collection, name, decode).await?.transpose().map_err(Error::SerdeError)
    }
}

/// The evidence. If nothing about the workload is a cause, it is looked up once more, after [`WATCH_DELAY`]: each look
/// may parse the workload.
async fn until_explained<F: Future<Output = CauseEvidence>>(find: impl Fn() -> F) -> CauseEvidence {
    let evidence = find().await;
    if !evidence.workload_exists || evidence.is_current_revision == Some(false) || evidence.scaled_down {
        return evidence;
    }
    sleep(WATCH_DELAY).await;
    find().await
}

/// Whether a `ReplicaSet` has the current revision of its Deployment. With strategy `Recreate` it is scaled to zero before
/// there is a newer one.
fn is_current(replica_set: &ReadObject, workload: &CachedWorkload) -> Option<bool> {
    let object = workload.object();
    let replicas = object.data["spec"]["replicas"].as_i64().unwrap_or(1);
    if replica_set.spec.replicas == Some(0) && replicas > 0 {
        return Some(false);
    }
    let of_pod = replica_set.metadata.annotations.revision.as_ref()?;
    Some(of_pod == annotation(&object, REVISION)?)
}

fn annotation<'a>(workload: &'a DynamicObject, key: &str) -> Option<&'a String> {
    workload.metadata.annotations.as_ref()?.get(key)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cause_that_is_cached_later_than_the_termination_is_found() {
        let unexplained = CauseEvidence {
            workload_exists: true,
            is_current_revision: Some(true),
            ..CauseEvidence::default()
        };
        let outdated = CauseEvidence { is_current_revision: Some(false), ..unexplained };
        let scaled_down = CauseEvidence { scaled_down: true, ..unexplained };
        for late in [outdated, scaled_down, CauseEvidence::default(), unexplained] {
            let (started, looks) = (Instant::now(), Cell::new(0));
            let found = until_explained(|| {
                looks.set(looks.get() + 1);
                let is_early = started.elapsed() < WATCH_DELAY;
                async move { if is_early { unexplained } else { late } }
            });
            assert_eq!((found.await, looks.get()), (late, 2));
            let started = Instant::now();
            assert_eq!(until_explained(|| async { outdated }).await, outdated);
            assert_eq!(started.elapsed(), Duration::ZERO, "a cause that is known is not awaited");
        }
    }
}
