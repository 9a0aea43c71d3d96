//! Explains a workload of a cluster.

use std::sync::Arc;

use adieu_observer::profile_name;
use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::{
    Api, Client, Error, Resource as _, ResourceExt as _,
    api::{GetParams, Request},
    core::DynamicObject,
};
use serde::Deserialize;

use super::Explained;
use crate::{
    api::{TerminationProfile, TerminationProfileStatus, labels},
    cli::{live_object::LiveObject, manifests::warn, policies::Policies, reference::Reference},
    index::{
        list::{Selectors, for_each},
        workloads::resource,
    },
    kube_version::KubeVersion,
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
    let (policies, warnings) = Policies::read(&client, Some(&namespace)).await;
    for warning in warnings {
        warn(&warning);
    }
    let mut context = policies.namespace_context(&namespace);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    match namespaces.get_metadata_opt(&namespace).await {
        Ok(found) => {
            let labels = found.map(|namespace| namespace.labels().clone()).unwrap_or_default();
            context.injection_enabled = labels::is_enabled(&labels);
        }
        Err(error) => {
            warn(&format!("the namespace cannot be read, and may lack the label for pods: {error}"));
        }
    }
    let services = Service::url_path(&(), Some(&namespace));
    let listed = for_each(&client, &services, Selectors::default(), |text| {
        context.services.extend(serde_json::from_slice::<Service>(text).ok().map(Arc::new));
    });
    if let Err(error) = listed.await {
        warn(&format!("Services cannot be listed, so readiness probes may differ: {error}"));
    }
    if let Ok(server) = client.apiserver_version().await {
        let version =
            format!("{}.{}", server.major, server.minor.trim_end_matches('+')).parse::<KubeVersion>();
        context.native_sleep = version.map_or(true, KubeVersion::has_native_sleep);
    }
    let observed = observed(&client, *kind, &namespace, name).await;
    Ok(Explained { observed, ..Explained::of(*kind, &namespace, &object, &context) })
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
