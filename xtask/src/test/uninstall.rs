//! `helm uninstall` with the chart's `revertOnUninstall`: every workload is reverted before anything is removed. A
//! workload whose rollout fails keeps the release; the next uninstall resumes.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::command;
use crate::image::Image;
use crate::install::{self, Options};
use crate::target::Target;

const NAMESPACE: &str = "adieu-uninstall";
/// Deployments whose rollouts succeed.
const HEALTHY: [&str; 2] = ["a", "b"];
/// A Deployment whose rollout fails.
const BROKEN: &str = "broken";
const VALUES: [&str; 3] =
    ["revertOnUninstall.enabled=true", "revertOnUninstall.maxConcurrent=1", "revertOnUninstall.timeout=3m"];

/// Uninstalls everything except the CRDs. The Deployments run `web`.
pub fn check(target: &Target, web: &Image) -> Result<()> {
    let outcome = uninstalls(target, web);
    let removed = target.with_client(|client| async move {
        let removed = Api::<Namespace>::all(client).delete(NAMESPACE, &DeleteParams::default()).await;
        removed.map(drop).context("cannot remove the namespace of the Deployments")
    });
    outcome.and(removed)
}

fn uninstalls(target: &Target, web: &Image) -> Result<()> {
    target.with_client(|client| create(client, web.reference()))?;
    // Enabled after the installation.
    let set = VALUES.map(str::to_owned).to_vec();
    install::install(target, &Options { set, ..Options::default() })?;
    install::wait(target, "every Deployment to be injected", |client| all(client, true))?;
    install::wait(target, "the rollouts to be complete", rolled_out)?;

    // The rollout of the broken one fails, so adieu stays installed.
    let Err(error) = install::uninstall(target) else {
        bail!("an uninstall succeeds although a rollout fails")
    };
    ensure!(
        format!("{error:#}").contains("-revert failed"),
        "the uninstall fails for another reason: {error:#}"
    );
    let mut helm = target.helm();
    let status = command::output(helm.args(["status", install::RELEASE, "--namespace", install::NAMESPACE]))?;
    ensure!(status.contains("STATUS: uninstalling"), "the release is gone: {status}");
    let mut kubectl = target.kubectl();
    let job = format!("job/{}-revert", install::RELEASE);
    let log = command::output(kubectl.args(["logs", &job, "--namespace", install::NAMESPACE]))?;
    let said = format!("Deployment {NAMESPACE}/{BROKEN}: opted out, but its rollout made no progress");
    ensure!(log.contains(&said), "the log of the Job does not name the failure: {log}");
    target.with_client(|client| all(client, false)).context("after the failed uninstall")?;

    // A slow controller may create the pod after the deadline, which is progress: another rollout for the next uninstall.
    install::wait(target, "the failed rollout to be reported", stays_failed)?;
    install::uninstall(target).context("again, with nothing left to revert")?;
    // Without adieu, it doesn't conflict with an injected hook.
    target.with_client(add_hook).context("with a preStop hook of the user's own")
}

fn deployments(client: &Client) -> Api<Deployment> {
    Api::namespaced(client.clone(), NAMESPACE)
}

async fn create(client: Client, image: String) -> Result<()> {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    for name in [HEALTHY.as_slice(), &[BROKEN]].concat() {
        let (image, deadline) = if name == BROKEN { ("localhost/none", 5) } else { (image.as_str(), 60) };
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "annotations": {"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "1"},
            },
            "spec": {
                "progressDeadlineSeconds": deadline,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "web", "image": image, "imagePullPolicy": "Never"}]},
                },
            },
        }))?;
        deployments(&client).create(&PostParams::default(), &deployment).await?;
    }
    Ok(())
}

/// It is an error unless all of them are injected, or none.
async fn all(client: Client, injected: bool) -> Result<()> {
    for deployment in deployments(&client).list(&ListParams::default()).await? {
        let object = serde_json::to_value(&deployment)?;
        let template = &object["spec"]["template"];
        let carries = template["metadata"]["annotations"].get("adieu.dev/injected").is_some();
        let hook = &template["spec"]["containers"][0]["lifecycle"]["preStop"];
        let (name, grace) = (&object["metadata"]["name"], &template["spec"]["terminationGracePeriodSeconds"]);
        ensure!(
            carries == injected && hook.is_null() != injected && *grace == if injected { 36 } else { 30 },
            "{name} has the preStop hook {hook} and the grace period {grace}"
        );
    }
    Ok(())
}

/// It is an error unless the rollouts of the healthy ones are complete.
async fn rolled_out(client: Client) -> Result<()> {
    for name in HEALTHY {
        let status: Value = serde_json::to_value(deployments(&client).get(name).await?.status)?;
        let done =
            ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|count| status[count] == 1);
        ensure!(done, "{name} is not rolled out: {status}");
    }
    Ok(())
}

/// It is an error until the rollout of the broken one has created its pod, and has failed.
async fn stays_failed(client: Client) -> Result<()> {
    let deployment = deployments(&client).get(BROKEN).await?;
    let is_observed = install::is_observed(&deployment);
    let status = deployment.status.unwrap_or_default();
    let mut conditions = status.conditions.iter().flatten();
    let has_failed =
        conditions.any(|condition| condition.type_ == "Progressing" && condition.status == "False");
    ensure!(
        is_observed && status.updated_replicas == Some(1) && has_failed,
        "{BROKEN} has the status {status:?}"
    );
    Ok(())
}

async fn add_hook(client: Client) -> Result<()> {
    let hook = json!({"preStop": {"exec": {"command": ["/app", "sleep", "2"]}}});
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "lifecycle": hook}]}}}});
    for name in HEALTHY {
        deployments(&client).patch(name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
    }
    Ok(())
}
