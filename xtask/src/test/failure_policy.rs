//! Checks `webhook.failurePolicy`: an installation that doesn't run yet denies no request, an upgrade admits none
//! without review, and without an operator it can be switched to Ignore.

use anyhow::{Result, ensure};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::Api;
use kube::{Client, ResourceExt};

use crate::command;
use crate::install::{self, NAMESPACE, Options, RELEASE};
use crate::target::Target;

const FAIL: &str = "webhook.failurePolicy=Fail";
const IGNORE: &str = "webhook.failurePolicy=Ignore";
/// Values with which no pod starts.
const NO_IMAGE: [&str; 2] = ["image.repository=localhost/none", "image.pullPolicy=Never"];

/// Leaves adieu installed with the chart's defaults.
pub fn check(target: &Target) -> Result<()> {
    let outcome = over_upgrades(target);
    install::install(target, &Options::default()).and(outcome)
}

fn over_upgrades(target: &Target) -> Result<()> {
    install::uninstall(target)?;
    // The operator applies the chart's value until it ends.
    install::wait(target, "the operator to be gone", install::end_without_drain)?;
    for what in ["an installation whose image is missing", "its upgrade"] {
        let [repository, pull_policy] = NO_IMAGE;
        upgrade(target, &["--install", "--set", repository, "--set", pull_policy, "--set", FAIL])?;
        let failing = failing(target)?;
        ensure!(failing == 0, "{what} has {failing} failing webhooks while no replica can review");
    }
    let with = |values: &[&str]| Options {
        set: values.iter().map(|&value| value.to_owned()).collect(),
        ..Options::default()
    };
    install::install(target, &with(&[FAIL]))?;
    install::wait(target, "failurePolicy to be Fail, without a field manager", fails)?;
    install::install(target, &with(&[FAIL, "podLabels.again=yes"]))?;
    let mut helm = target.helm();
    let manifest = command::output(helm.args(["get", "manifest", RELEASE, "--namespace", NAMESPACE]))?;
    let set = manifest.matches("\n    failurePolicy: Fail").count();
    ensure!(set == 2, "an upgrade sets {set} webhooks to Fail, of the two that fail");

    let mut kubectl = target.kubectl();
    kubectl.args(["scale", "deployment", RELEASE, "--namespace", NAMESPACE, "--replicas=0"]);
    command::output(&mut kubectl)?;
    install::wait(target, "the operator to be gone", install::end_without_drain)?;
    let [repository, _] = NO_IMAGE;
    upgrade(target, &["--reuse-values", "--set", repository, "--set", IGNORE])?;
    let failing = failing(target)?;
    ensure!(failing == 0, "{failing} webhooks fail though the chart says {IGNORE} and no operator runs");
    Ok(())
}

/// Upgrades the release, without waiting.
fn upgrade(target: &Target, more: &[&str]) -> Result<()> {
    let mut helm = target.helm();
    helm.current_dir(target.workspace().root());
    helm.args(["upgrade", RELEASE, "charts/adieu", "--namespace", NAMESPACE]).args(more);
    command::output(&mut helm).map(drop)
}

/// How many webhooks have `failurePolicy: Fail`.
fn failing(target: &Target) -> Result<usize> {
    let found = target.with_client(configuration)?;
    let policies = found.webhooks.iter().flatten().map(|webhook| webhook.failure_policy.as_deref());
    Ok(policies.filter(|&policy| policy != Some("Ignore")).count())
}

async fn configuration(client: Client) -> Result<MutatingWebhookConfiguration> {
    Ok(Api::all(client).get(RELEASE).await?)
}

async fn fails(client: Client) -> Result<()> {
    let found = configuration(client).await?;
    for webhook in found.webhooks.iter().flatten() {
        let policy = if webhook.name.contains(".pods.") { "Ignore" } else { "Fail" };
        let is = webhook.failure_policy.as_deref();
        ensure!(is == Some(policy), "{} has the failurePolicy {is:?}, not {policy}", webhook.name);
    }
    let owned = found.managed_fields().iter().find(|entry| entry.manager.as_deref() == Some("adieu"));
    ensure!(owned.is_none(), "the operator owns fields of the configuration: {owned:?}");
    Ok(())
}
