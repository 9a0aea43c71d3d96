//! Draining a node, as `kubectl drain` does.

use std::{collections::BTreeMap, future::ready, pin::pin};

use futures::{StreamExt as _, future::try_join_all};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    core::ApiResource,
    runtime::{conditions, wait::Condition as _},
};
use serde_json::json;

use super::{error::Error, evict::evict, load_job, object_watch, slim::SlimPod};
use crate::{
    index::list::{Selectors, for_each},
    owners::controller_of,
    verify::PodTimelines,
};

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
    let others = format!("metadata.name!={chosen},spec.unschedulable=false");
    let others = nodes.list_metadata(&ListParams::default().fields(&others).limit(1)).await;
    if others.map_err(Error::api("list the nodes"))?.items.is_empty() {
        return Err(Error::Impossible(format!(
            "{chosen} is the only schedulable node: evicted pods would stay pending"
        )));
    }
    Ok(chosen.to_owned())
}

/// The pods that a node drain evicts, with their metadata only: all except those of DaemonSets, mirror pods and the load.
pub(super) async fn to_evict(client: &Client, node: &str) -> Result<Vec<Pod>, Error> {
    let on_node = format!("spec.nodeName={node}");
    let selectors = Selectors { fields: Some(&on_node), ..Selectors::default() };
    let mut listed: Vec<Result<Pod, serde_json::Error>> = vec![];
    let add = |text: &[u8]| listed.push(serde_json::from_slice::<SlimPod>(text).map(Into::into));
    let read = for_each(client, &Pod::url_path(&(), None), selectors, add).await;
    read.map_err(Error::api(format!("list the pods on {node}")))?;
    let listed = listed.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| {
        Error::Impossible(format!("a pod on {node} is too large or cannot be decoded: {error}"))
    })?;
    let evicted: Vec<_> = listed.into_iter().filter(is_evicted).collect();
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
        let namespace = pod.namespace().unwrap_or_default();
        evict(&Api::namespaced(client.clone(), &namespace), &name).await?;
        let resource = ApiResource::erase::<Pod>(&());
        let api: Api<SlimPod> = Api::namespaced_with(client.clone(), &namespace, &resource);
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
    use crate::{
        index::list::OBJECT_LIMIT,
        runtime::test_support::{client, flaky},
    };

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

    /// The pods to evict from a node with these pods.
    async fn evicted(pods: Value) -> Result<Vec<String>, Error> {
        let client = client(move |_, target| {
            assert!(target.contains("fieldSelector=spec.nodeName%3Dnode-1"), "{target}");
            Some((200, json!({"metadata": {}, "items": pods})))
        });
        let evicted = to_evict(&client, "node-1").await?;
        Ok(evicted.iter().map(|pod| format!("{}/{}", pod.namespace().unwrap(), pod.name_any())).collect())
    }

    #[tokio::test]
    async fn a_node_with_a_pod_that_cannot_be_read_or_created_again_is_not_drained() {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "o", "uid": "u", "controller": true}]);
        let pod = |name: &str, owners: &Value| json!({"metadata": {"name": name, "namespace": "shop", "ownerReferences": owners}});
        assert_eq!(evicted(json!([pod("web", &owner)])).await.unwrap(), ["shop/web"]);
        let error = evicted(json!([pod("web", &owner), pod("alone", &json!([]))])).await.unwrap_err();
        assert!(error.to_string().contains("would not be created again: shop/alone"), "{error}");
        let large = "x".repeat(OBJECT_LIMIT);
        let error = evicted(json!([pod("web", &owner), pod(&large, &owner)])).await.unwrap_err();
        assert!(error.to_string().starts_with("a pod on node-1 is too large"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_an_evicted_pod_survives_watch_errors() {
        let evicted = pod(json!({"name": "web-1", "namespace": "shop", "uid": "1"}));
        evict_all(&flaky(json!([])), &[evicted]).await.unwrap();
    }
}
