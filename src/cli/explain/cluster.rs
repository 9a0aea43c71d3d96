//! Explains a workload of a cluster.

use adieu_observer::profile_name;
use anyhow::{Context as _, bail};
use kube::{
    Api, Client, Error, Resource as _,
    api::{GetParams, Request},
    core::DynamicObject,
};
use serde::Deserialize;

use super::Explained;
use crate::{
    api::{TerminationProfile, TerminationProfileStatus},
    cli::{cluster_context::ClusterContext, live_object::LiveObject, manifests::warn, reference::Reference},
    index::workloads::resource,
    plan::Kind,
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
    let observed = observed(&client, *kind, &namespace, name).await;
    Ok(Explained {
        observed,
        ..Explained::of(*kind, &namespace, &object, &cluster.namespace_context(&namespace))
    })
}

/// What the `TerminationProfile` of a workload reports; `None` if there is none.
async fn observed(
    client: &Client,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Option<TerminationProfileStatus> {
    /// The used fields of a profile.
    #[derive(Deserialize)]
    struct Stored {
        status: Option<TerminationProfileStatus>,
    }
    let request = Request::new(TerminationProfile::url_path(&(), Some(namespace)));
    let request = request.get(&profile_name(kind, name), &GetParams::default()).ok()?;
    match client.request::<Stored>(request).await {
        Ok(found) => found.status,
        // No termination was observed, or adieu isn't installed.
        Err(Error::Api(status)) if status.code == 404 => None,
        Err(error) => {
            warn(&format!("the TerminationProfile cannot be read: {error}"));
            None
        }
    }
}
