//! Draining a node, as `kubectl drain` does.

use std::{collections::BTreeMap, future::ready, pin::pin};

use futures::{StreamExt as _, future::try_join_all};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    runtime::{conditions, wait::Condition as _},
};
use serde_json::json;

use super::{error::Error, evict::evict, load_job, object_watch};
use crate::{owners::controller_of, verify::PodTimelines};

/// The annotation of mirror pods, which an eviction doesn't stop.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The node with the most pods of the workload, the first by name.
pub(super) async fn choose(client: &Client, timelines: &PodTimelines) -> Result<String, Error> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for node in timelines.alive().filter_map(|(_, timeline)| timeline.node.as_deref()) {
        *counts.entry(node).or_default() += 1;
    }
    let chosen = counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(node, _)| node);
    let chosen =
        chosen.ok_or_else(|| Error::Impossible("none of its pods is scheduled to a node".to_owned()))?;
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = nodes.list(&ListParams::default()).await.map_err(Error::api("list the nodes"))?;
    let other = |node: &&Node| {
        let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
        node.name_any() != chosen && !cordoned
    };
    if nodes.items.iter().filter(other).count() == 0 {
        return Err(Error::Impossible(format!(
            "{chosen} is the only schedulable node: evicted pods would stay pending"
        )));
    }
    Ok(chosen.to_owned())
}

/// The pods that a node drain evicts: all except those of DaemonSets, mirror pods and the load.
pub(super) async fn to_evict(client: &Client, node: &str) -> Result<Vec<Pod>, Error> {
    let pods: Api<Pod> = Api::all(client.clone());
    let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let listed = pods.list(&on_node).await.map_err(Error::api(format!("list the pods on {node}")))?;
    let evicted: Vec<_> = listed.items.into_iter().filter(is_evicted).collect();
    let orphans: Vec<_> = evicted
        .iter()
        .filter(|pod| controller_of(&pod.metadata).is_none())
        .map(|pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any()))
        .collect();
    if orphans.is_empty() {
        return Ok(evicted);
    }
    Err(Error::Impossible(format!(
        "{node} has pods without a controller, which would not be created again: {}",
        orphans.join(", ")
    )))
}

pub(super) async fn is_schedulable(client: &Client, node: &str) -> Result<bool, Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.get(node).await.map_err(Error::api(format!("get the node {node}")))?;
    Ok(node.spec.and_then(|spec| spec.unschedulable) != Some(true))
}

pub(super) async fn cordon(client: &Client, node: &str, cordoned: bool) -> Result<(), Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"spec": {"unschedulable": cordoned}}));
    let patched = nodes.patch(node, &PatchParams::default(), &patch).await;
    let verb = if cordoned { "cordon" } else { "uncordon" };
    patched.map_err(Error::api(format!("{verb} the node {node}"))).map(drop)
}

/// Evicts the pods, and waits until they are gone.
pub(super) async fn evict_all(client: &Client, pods: &[Pod]) -> Result<(), Error> {
    try_join_all(pods.iter().map(|pod| async {
        let name = pod.name_any();
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        evict(&api, &name).await?;
        let uid = pod.uid().unwrap_or_default();
        let is_gone = conditions::is_deleted(&uid);
        let changes = object_watch::states(api, &name);
        let mut gone = pin!(changes.filter(|pod| ready(is_gone.matches_object(pod.as_ref()))));
        let gone = gone.next().await.map(drop);
        gone.ok_or_else(|| Error::Incomplete(format!("the watch of the pod {name} ended")))
    }))
    .await
    .map(drop)
}

fn is_evicted(pod: &Pod) -> bool {
    let of_daemon_set = controller_of(&pod.metadata).is_some_and(|owner| owner.kind == "DaemonSet");
    !of_daemon_set && !pod.annotations().contains_key(MIRROR) && !load_job::is_load(pod)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::runtime::test_support::flaky;

    fn pod(metadata: Value) -> Pod {
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn a_drain_skips_daemon_sets_mirror_pods_and_the_load() {
        let owned = |kind: &str| json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u", "controller": true}]});
        assert!(is_evicted(&pod(owned("ReplicaSet"))));
        assert!(is_evicted(&pod(json!({}))));
        assert!(!is_evicted(&pod(owned("DaemonSet"))));
        assert!(!is_evicted(&pod(json!({"annotations": {MIRROR: "x"}}))));
        assert!(!is_evicted(&pod(json!({"labels": load_job::labels()}))));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_an_evicted_pod_survives_watch_errors() {
        let evicted = pod(json!({"name": "web-1", "namespace": "shop", "uid": "1"}));
        evict_all(&flaky(json!([])), &[evicted]).await.unwrap();
    }
}
