//! An upgrade to a build with other built-in defaults.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::image::{self, Build};
use crate::install::{self, Options};
use crate::target::Target;
use crate::workspace::Workspace;

const NAMESPACE: &str = "adieu-upgrade";
const POLICY: &str = "all";
/// The cargo features of the build with other defaults.
const OTHER: &[&str] = &["other-defaults"];
/// The default drains of the builds, in seconds.
const BEFORE: i64 = 10;
const AFTER: i64 = 20;

const CRD: &str = "gracefulpolicies.adieu.dev";
/// The parts that are removed from it.
const COLUMNS: &str = "/spec/versions/0/additionalPrinterColumns";
/// The key of the CA certificates.
const BUNDLE: &str = "ca.crt";

/// Builds the program with other defaults, which [`check`] would build.
pub fn build_other(workspace: &Workspace) -> Result<()> {
    image::build_adieu(workspace, &Build { features: OTHER, ..Build::host()? }).map(drop)
}

/// Checks that an upgrade rolls out nothing, and that the next change of a template injects the new defaults. Half of
/// the Deployments are opted in by annotation, half by a policy. The certificates stay, and the CRDs are updated with
/// the chart. Returns a summary.
pub fn check(target: &Target, deployments: usize) -> Result<String> {
    let outcome = upgrade(target, deployments);
    let removed = target.with_client(|client| async move {
        let removed = Api::<Namespace>::all(client).delete(NAMESPACE, &DeleteParams::default()).await;
        removed.map(drop).context("cannot remove the namespace of the Deployments")
    });
    outcome.and_then(|found| removed.map(|()| found))
}

fn upgrade(target: &Target, deployments: usize) -> Result<String> {
    target.with_client(|client| create(client, deployments))?;
    install::wait(target, "every Deployment to be injected", |client| all_have(client, BEFORE))?;
    let before = target.with_client(generations)?;
    let certificates = target.with_client(certificates)?;
    let columns = target.with_client(replace_columns)?;
    let other = image::adieu(target.workspace(), OTHER)?;
    install::install_build(target, &other, &Options::default())?;
    // A terminating replica leads while it drains.
    install::wait(target, "the replicas from before to be gone", |client| {
        only(client, other.image.reference())
    })?;
    // The new leader has evaluated all of them once it injects one more Deployment that only a policy selects.
    target.with_client(|client| async move { create_deployment(&client, deployments).await })?;
    install::wait(target, "the policy to be applied", |client| has(client, deployments, AFTER))?;
    stays(&certificates, &target.with_client(self::certificates)?)?;
    let back = target.with_client(self::columns)?;
    ensure!(back == columns, "the upgrade leaves the CRD {CRD} with the columns {back:?}");
    let after = target.with_client(generations)?;
    for (name, generation) in &before {
        if after.get(name) != Some(generation) {
            bail!("the upgrade rolled {name}: generation {generation} became {:?}", after.get(name));
        }
    }
    target.with_client(touch_all)?;
    install::wait(target, "the next change of each template to be injected", |client| {
        all_have(client, AFTER)
    })?;
    Ok(format!(
        "0 rollouts, no new CA; the next change of each template injected the drain of {AFTER} s instead \
         of {BEFORE} s"
    ))
}

fn deployments(client: &Client) -> Api<Deployment> {
    Api::namespaced(client.clone(), NAMESPACE)
}

fn policies(client: &Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("adieu.dev", "v1alpha1", "GracefulPolicy");
    let resource = ApiResource::from_gvk_with_plural(&kind, "gracefulpolicies");
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

async fn create(client: Client, deployments: usize) -> Result<()> {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    let policy = json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy", "metadata": {"name": POLICY},
        "spec": {"selector": {"matchLabels": {"by": "policy"}}, "rollout": {"maxConcurrent": 10}},
    });
    policies(&client).create(&PostParams::default(), &serde_json::from_value(policy)?).await?;
    for index in 0..deployments {
        create_deployment(&client, index).await?;
    }
    Ok(())
}

async fn create_deployment(client: &Client, index: usize) -> Result<()> {
    let (by, annotations) = if index.is_multiple_of(2) {
        ("policy", json!({}))
    } else {
        ("annotation", json!({"adieu.dev/graceful": "true"}))
    };
    let labels = json!({"app": format!("web-{index}"), "by": by});
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": format!("web-{index}"), "annotations": annotations},
        "spec": {
            // Only the templates matter: no pods start.
            "paused": true,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": "localhost/none"}]},
            },
        },
    }))?;
    deployments(client).create(&PostParams::default(), &deployment).await?;
    Ok(())
}

/// It is an error unless all have this drain, and are rolled out.
async fn all_have(client: Client, drain: i64) -> Result<()> {
    let all = deployments(&client).list(&ListParams::default()).await?;
    all.iter().try_for_each(|deployment| drains(deployment, drain))
}

/// The same for one of them.
async fn has(client: Client, index: usize, drain: i64) -> Result<()> {
    drains(&deployments(&client).get(&format!("web-{index}")).await?, drain)
}

fn drains(deployment: &Deployment, drain: i64) -> Result<()> {
    let object = serde_json::to_value(deployment)?;
    let hook = &object["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"];
    let observed = install::is_observed(deployment);
    ensure!(
        hook["sleep"]["seconds"] == drain && observed,
        "{} has the preStop hook {hook}, rolled out: {observed}",
        deployment.name_any()
    );
    Ok(())
}

/// It is an error while a pod of adieu has another image.
async fn only(client: Client, image: String) -> Result<()> {
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/instance={}", install::RELEASE));
    for pod in Api::<Pod>::namespaced(client, install::NAMESPACE).list(&ours).await? {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        ensure!(
            containers.clone().all(|container| container.image.as_ref() == Some(&image)),
            "{} runs another image than {image}",
            pod.name_any()
        );
    }
    Ok(())
}

async fn certificates(client: Client) -> Result<Secret> {
    let name = format!("{}-certificates", install::RELEASE);
    let secret = Api::<Secret>::namespaced(client, install::NAMESPACE).get(&name).await;
    secret.with_context(|| format!("cannot read the Secret {name}"))
}

/// Checks that there is no new CA. One may be removed, and another become the signer, because earlier tests rotate
/// them.
fn stays(before: &Secret, after: &Secret) -> Result<()> {
    let (before, after) = (bundle_cas(before), bundle_cas(after));
    ensure!(!after.is_empty() && after.is_subset(&before), "the upgrade created another CA");
    Ok(())
}

/// The CA certificates, PEM.
fn bundle_cas(secret: &Secret) -> BTreeSet<String> {
    let bundle = secret.data.as_ref().and_then(|data| data.get(BUNDLE));
    let text = bundle.map(|bundle| String::from_utf8_lossy(&bundle.0).into_owned()).unwrap_or_default();
    let blocks = text.split_inclusive("-----END CERTIFICATE-----").map(str::trim);
    blocks.filter(|block| !block.is_empty()).map(str::to_owned).collect()
}

/// The columns of a policy in `kubectl get`.
async fn columns(client: Client) -> Result<Option<serde_json::Value>> {
    let crd = Api::<CustomResourceDefinition>::all(client).get(CRD).await?;
    Ok(serde_json::to_value(crd)?.pointer(COLUMNS).cloned())
}

/// Replaces the CRD's columns, as in an earlier chart. Returns the previous ones.
async fn replace_columns(client: Client) -> Result<Option<serde_json::Value>> {
    let before = columns(client.clone()).await?;
    ensure!(before.is_some(), "the CRD {CRD} has no columns");
    let remove = serde_json::from_value(json!([{"op": "remove", "path": COLUMNS}]))?;
    let patch = Patch::Json::<()>(remove);
    Api::<CustomResourceDefinition>::all(client).patch(CRD, &PatchParams::default(), &patch).await?;
    Ok(before)
}

/// The generation changes with every change of a Deployment's spec.
async fn generations(client: Client) -> Result<BTreeMap<String, i64>> {
    let all = deployments(&client).list(&ListParams::default()).await?;
    Ok(all.into_iter().map(|one| (one.name_any(), one.metadata.generation.unwrap_or_default())).collect())
}

async fn touch_all(client: Client) -> Result<()> {
    let touched = json!({"spec": {"template": {"metadata": {"annotations": {"release": "next"}}}}});
    for name in generations(client.clone()).await?.keys() {
        deployments(&client).patch(name, &PatchParams::default(), &Patch::Merge(&touched)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn a_new_ca_is_an_error() {
        let secret = |bundle_cas: &[&str]| {
            let end = "-----END CERTIFICATE-----\n";
            let bundle: String = bundle_cas.iter().flat_map(|ca| [*ca, end]).collect();
            let data = [(BUNDLE.to_owned(), ByteString(bundle.into_bytes()))];
            Secret { data: Some(data.into()), ..Secret::default() }
        };
        let before = secret(&["new", "old"]);
        for kept in [&["new", "old"][..], &["old", "new"], &["new"]] {
            stays(&before, &secret(kept)).unwrap();
        }
        for other in [&["newer", "new", "old"][..], &["newer"], &[]] {
            assert!(stays(&before, &secret(other)).is_err(), "{other:?}");
        }
    }
}
