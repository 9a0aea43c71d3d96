//! Pods that end: one of each Deployment within a minute. Whether the leader observes every termination, what that costs
//! the API server in writes, and the latency of admission meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::{Instant, interval};

use super::admissions;
use super::fleet::{PolicyFleet, Size};
use super::leader::Leader;
use super::load::Load;
use crate::bench::scale::operator::{Operator, Requests};
use crate::bench::statistics::Percentiles;
use crate::interrupt;
use crate::progress::Step;
use crate::target::Target;

/// How long it takes to delete them.
const SPAN: u32 = 60;
/// The limit for counting them.
const LIMIT: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_millis(500);
/// The pods of a page.
const PAGE: u32 = 2000;

/// What was measured.
#[derive(Clone, Debug)]
pub struct Terminations {
    /// The pods that were deleted.
    pub deleted: u32,
    /// Those that the leader counted.
    pub observed: f64,
    /// Admissions while pods were deleted.
    pub admission: Percentiles,
    /// The largest working set of a replica, in bytes.
    pub memory: f64,
    /// From the first deletion until all were counted.
    pub took: Duration,
    /// The operator's requests meanwhile.
    pub requests: Requests,
}

/// Deletes a pod of each Deployment, and waits until all terminations are counted.
pub async fn measure(
    target: &Target,
    operator: &Operator,
    leader: &Leader,
    fleet: &PolicyFleet,
    size: Size,
) -> Result<Terminations> {
    let pods = one_of_each(&fleet.client).await?;
    let deleted = u32::try_from(pods.len())?;
    ensure!(deleted == size.deployments, "{deleted} of {} Deployments have pods", size.deployments);
    let before = leader.terminations().await?;
    let mut log = operator.follow_requests()?;
    let mut admissions = admissions::start(target).await?;
    let step = Step::start(format!("deleting a pod of each of {deleted} Deployments within {SPAN} s"));
    let (began, pods) = (Instant::now(), Arc::new(pods));
    let mut deletions = Load::start(target, deleted.div_ceil(SPAN), move |client| {
        move |number| delete(client.clone(), pods.clone(), number)
    });
    let (mut memory, mut observed) = (0.0_f64, 0.0);
    let mut poll = interval(POLL);
    while observed < f64::from(deleted) && began.elapsed() < LIMIT {
        poll.tick().await;
        step.waiting();
        admissions.check().await?;
        deletions.check().await?;
        observed = leader.terminations().await? - before;
        memory = memory.max(leader.memory().await?);
    }
    deletions.stop().await?;
    let sent: Vec<f64> = admissions.stop().await?.iter().map(|sent| sent.seconds).collect();
    step.done();
    log.read()?;
    Ok(Terminations {
        deleted,
        observed,
        admission: Percentiles::of(&sent).context("no request was sent")?,
        memory,
        took: began.elapsed(),
        requests: log.requests(),
    })
}

/// The namespace and name of one pod of each Deployment.
async fn one_of_each(client: &Client) -> Result<Vec<(String, String)>> {
    let (api, mut found) = (Api::<Pod>::all(client.clone()), BTreeMap::new());
    let mut parameters = ListParams::default().labels("app").limit(PAGE);
    loop {
        interrupt::check()?;
        let page = api.list_metadata(&parameters).await.context("cannot list the pods")?;
        let after = page.metadata.continue_.clone().filter(|token| !token.is_empty());
        for pod in page {
            let app = pod.labels().get("app").cloned().unwrap_or_default();
            let key = (pod.namespace().unwrap_or_default(), pod.name_any());
            found.entry(app).or_insert(key);
        }
        match after {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(found.into_values().collect()),
        }
    }
}

async fn delete(client: Client, pods: Arc<Vec<(String, String)>>, number: u32) -> Result<()> {
    let Some((namespace, name)) = pods.get(number as usize) else { return Ok(()) };
    let api: Api<Pod> = Api::namespaced(client, namespace);
    let deleted = api.delete(name, &DeleteParams::default()).await;
    deleted.map(drop).with_context(|| format!("cannot delete the pod {namespace}/{name}"))
}
