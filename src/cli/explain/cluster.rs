//! Explains a workload of a cluster.

use adieu_observer::profile_name;
use anyhow::{Context as _, bail};
use kube::{Client, Resource as _};
use serde::Deserialize;

use super::Explained;
use crate::{
    api::{TerminationProfile, TerminationProfileStatus},
    cli::{
        cluster_context::ClusterContext,
        live_object::{get, get_workload},
        manifests::warn,
        reference::Reference,
    },
    plan::Kind,
    runtime::client::client,
};

/// # Errors
/// If the workload doesn't exist, or can't be read.
pub(super) async fn explain(workload: &Reference, namespace: Option<&str>) -> anyhow::Result<Explained> {
    let client = client().await.context("cannot connect to the cluster of the kubeconfig")?;
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
    Ok(Explained {
        observed,
        ..Explained::of(*kind, namespace, &object, &cluster.namespace_context(namespace))
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
    let path = TerminationProfile::url_path(&(), Some(namespace));
    let remedy = "delete it to start again";
    // None if no termination was observed, or adieu isn't installed.
    match get::<Stored>(client, &path, &profile_name(kind, name), remedy).await {
        Ok(found) => found?.status,
        Err(error) => {
            warn(&format!("the TerminationProfile cannot be read: {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        index::list::OBJECT_LIMIT,
        runtime::test_support::{client, not_found},
    };

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
