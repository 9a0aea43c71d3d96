//! Explains a workload of a cluster.

use anyhow::{Context as _, bail};
use kube::{Api, core::DynamicObject};

use super::Explained;
use crate::{
    cli::{cluster_context::ClusterContext, live_object::LiveObject, manifests::warn, reference::Reference},
    index::workloads::resource,
    runtime::client::client,
};

/// # Errors
/// If the workload doesn't exist, or can't be read.
pub(super) async fn explain(workload: &Reference, namespace: Option<&str>) -> anyhow::Result<Explained> {
    let client = client().await.context("cannot connect to the cluster of the kubeconfig")?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace()).to_owned();
    let Reference { kind, name } = workload;
    let api: Api<LiveObject> = Api::namespaced_with(client.clone(), &namespace, &resource(*kind));
    let found = api.get_opt(name).await.with_context(|| format!("cannot get {kind} {namespace}/{name}"))?;
    let Some(object) = found.map(DynamicObject::from) else {
        bail!("{kind} {name:?} not found in namespace {namespace:?}");
    };
    let (cluster, warnings) = ClusterContext::read(&client, Some(&namespace)).await;
    for warning in warnings {
        warn(&warning);
    }
    Ok(Explained::of(*kind, &namespace, &object, &cluster.namespace_context(&namespace)))
}
