//! The admissions whose latency is measured.

use anyhow::{Context as _, Result, ensure};
use http::{Request, header};
use kube::Client;
use tokio::time::{Duration, sleep};

use super::fleet::PolicyFleet;
use super::load::{Load, MAX_WAITING};
use crate::target::Target;

/// Dry-run creates per second: enough to see a stall, but not enough to keep two cores busy.
const RATE: u32 = 20;
/// Until connections are open and the API server has compiled its expressions.
const WARM_UP: Duration = Duration::from_secs(5);

/// Starts dry-run creates of an opted-in Deployment, and waits until the first, slower ones are over.
pub async fn start(target: &Target) -> Result<Load> {
    let (namespace, body) = PolicyFleet::opted_in()?;
    let load = Load::start(target, RATE, MAX_WAITING, move |client| {
        move |_| create(client.clone(), namespace.clone(), body.clone())
    });
    sleep(WARM_UP).await;
    Ok(load)
}

/// One dry-run create of an opted-in Deployment.
async fn create(client: Client, namespace: String, body: Vec<u8>) -> Result<()> {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments?dryRun=All");
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json").body(body)?;
    let created = client.request_text(request).await.context("a dry-run create failed")?;
    ensure!(created.contains("preStop"), "a dry-run create came back without an injection");
    Ok(())
}
