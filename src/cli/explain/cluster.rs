//! Explains a workload of a cluster.

use std::sync::Arc;

use adieu_exposures::NamespaceExposures;
use adieu_observer::profile_name;
use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Service;
use kube::{Client, Resource as _, core::DynamicObject};
use serde::Deserialize;

use super::Explained;
use crate::{
    api::{TerminationProfile, TerminationProfileStatus},
    cli::{
        cluster_context::ClusterContext,
        connection::connect,
        live_object::{get, get_workload},
        manifests::warn,
        print::causes,
        reference::Reference,
        traffic_objects::TrafficObjects,
    },
    plan::{Kind, pod_labels, selects},
};

/// # Errors
/// If the workload doesn't exist, or can't be read.
pub(super) async fn explain(workload: &Reference, namespace: Option<&str>) -> anyhow::Result<Explained> {
    let client = connect().await?;
    explain_in(&client, workload, namespace.unwrap_or_else(|| client.default_namespace())).await
}

async fn explain_in(client: &Client, workload: &Reference, namespace: &str) -> anyhow::Result<Explained> {
    let Reference { kind, name } = workload;
    let found = get_workload(client, *kind, namespace, name).await;
    let Some(object) = found.with_context(|| format!("cannot get {kind} {namespace}/{name}"))? else {
        bail!("{kind} {name:?} not found in namespace {namespace:?}");
    };
    let (cluster, warnings) = ClusterContext::read(client, Some(namespace)).await;
    for warning in warnings {
        warn(&warning);
    }
    let observed = observed(client, *kind, namespace, name).await;
    let context = cluster.namespace_context(namespace);
    let found = traffic_objects(client, namespace, &object, &context.services).await;
    let (completeness, objects) = (found.completeness(), Arc::<[_]>::from(found.objects));
    let context = NamespaceExposures::added_to(context, namespace, objects.clone(), completeness);
    Ok(Explained { observed, ..Explained::of(*kind, namespace, &object, &context, &objects) })
}

/// The objects that may lead requests to the Services of a workload's pods. Without such a Service there are none.
async fn traffic_objects(
    client: &Client,
    namespace: &str,
    workload: &DynamicObject,
    services: &[Arc<Service>],
) -> TrafficObjects {
    let labels = pod_labels(workload);
    if !services.iter().any(|service| selects(service, &labels)) {
        return TrafficObjects::default();
    }
    let found = TrafficObjects::read(client, Some(namespace)).await;
    found.report_skipped();
    found
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
    let path = TerminationProfile::url_path(&(), Some(namespace));
    let remedy = "delete it to start again";
    // None if no termination was observed, or adieu isn't installed.
    match get::<Stored>(client, &path, &profile_name(kind, name), remedy).await {
        Ok(found) => found?.status,
        Err(error) => {
            warn(&format!("the TerminationProfile cannot be read: {}", causes(&error.into())));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::json;

    use super::*;
    use crate::{
        index::list::OBJECT_LIMIT,
        runtime::test_support::{client, not_found},
    };

    #[tokio::test]
    async fn exposures_are_discovered_only_if_a_service_selects_the_pods() {
        for (selected, expected) in [("web", true), ("db", false)] {
            let is_discovered = Arc::new(AtomicBool::default());
            let discovered = is_discovered.clone();
            let client = client(move |_, target| {
                let path = target.split('?').next().unwrap_or_default();
                discovered.fetch_or(path == "/apis", Ordering::Relaxed);
                Some(match path.rsplit('/').next().unwrap_or_default() {
                    "web" => {
                        let pods = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web"}]}});
                        (200, json!({"metadata": {"name": "web"}, "spec": {"template": pods}}))
                    }
                    "services" => {
                        let spec = json!({"selector": {"app": selected}});
                        (200, json!({"metadata": {}, "items": [{"metadata": {"name": "web"}, "spec": spec}]}))
                    }
                    _ => (404, not_found()),
                })
            });
            let explained = explain_in(&client, &"deploy/web".parse().unwrap(), "shop").await.unwrap();
            assert_eq!(is_discovered.load(Ordering::Relaxed), expected, "{selected}");
            assert_eq!(!explained.exposures.is_empty(), expected, "{selected}");
        }
    }

    #[tokio::test]
    async fn a_workload_or_profile_over_the_limit_is_not_read() {
        let long = "x".repeat(OBJECT_LIMIT);
        let explained = async |note: &str, problem: &str| {
            let workload = json!({
                "metadata": {"name": "web", "annotations": {"note": note}},
                "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}},
            });
            let status = TerminationProfileStatus {
                problem: Some(problem.into()),
                ..TerminationProfileStatus::default()
            };
            let profile = json!({"status": status});
            let client = client(move |_, target| {
                Some(if target.contains("/deployments/web") {
                    (200, workload.clone())
                } else if target.contains("/terminationprofiles/") {
                    (200, profile.clone())
                } else {
                    (404, not_found())
                })
            });
            explain_in(&client, &"deploy/web".parse().unwrap(), "shop").await
        };
        let found = explained("", "").await.unwrap();
        assert_eq!((&*found.name, found.observed.is_some()), ("web", true));
        let error = format!("{:#}", explained(&long, "").await.err().unwrap());
        assert!(
            error.starts_with("cannot get Deployment shop/web: it takes 17 MiB as JSON, more"),
            "{error}"
        );
        assert!(explained("", &long).await.unwrap().observed.is_none());
    }
}
