//! The state of a run before the load starts.

use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    disruption::{self, Disruptor, Image, TargetWorkload},
    verify::{LoadBalancer, PodTimelines},
};

/// The limit for the initial lists of the watches.
const LIST_LIMIT: Duration = Duration::from_secs(30);

/// The state before the load starts.
pub(super) struct PreparedRun {
    pub(super) client: Client,
    /// The image of the load, if it runs in the cluster.
    pub(super) image: Option<Image>,
    pub(super) disruptor: Disruptor,
    pub(super) workload: TargetWorkload,
    pub(super) origin: Instant,
    pub(super) timelines: watch::Receiver<PodTimelines>,
    /// The load balancers whose idle timeout is known.
    pub(super) load_balancers: Vec<LoadBalancer>,
    /// Ends the watches.
    pub(super) _watches: DropGuard,
}

/// Follows the workload's pods in times from now on, until the guard is dropped.
pub(super) async fn follow(
    client: &Client,
    workload: &TargetWorkload,
) -> anyhow::Result<(Instant, watch::Receiver<PodTimelines>, DropGuard)> {
    let origin = Instant::now();
    let (timelines, follow) = disruption::follow(client, &workload.namespace, &workload.selector, origin);
    let ended = CancellationToken::new();
    tokio::spawn(ended.clone().run_until_cancelled_owned(follow));
    let watches = ended.drop_guard();
    let listed = timeout(LIST_LIMIT, timelines.clone().wait_for(PodTimelines::is_listed)).await.map(|_| ());
    listed.context("timed out listing the workload's pods and EndpointSlices")?;
    Ok((origin, timelines, watches))
}
