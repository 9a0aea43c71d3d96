//! Deletes canaries, and observes until when requests arrive at them.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{pacing::Pacing, run::Canaries, stream_states::StreamStates};
use crate::{
    calibration::CanaryTermination,
    disruption::Error,
    verify::{PodTimeline, PodTimelines},
};

/// How many canaries are ready before one is deleted.
pub const CANARIES: usize = 3;
/// The limit for canaries to become ready, or to be gone after they were killed.
const POD_LIMIT: Duration = Duration::from_mins(3);
/// The limit for requests to reach canaries through every way.
const WAY_LIMIT: Duration = Duration::from_mins(5);
/// The limit for requests to reach the canary that is deleted next. A way that doesn't isn't measured with it.
const REACH_LIMIT: Duration = Duration::from_secs(30);
/// The interval of checks.
const TICK: Duration = Duration::from_millis(100);

/// Deletes canaries one after the other.
pub struct Observer<'a> {
    /// The canaries.
    pub canaries: &'a Canaries,
    /// Their pods.
    pub timelines: watch::Receiver<PodTimelines>,
    /// The requests so far.
    pub states: watch::Receiver<StreamStates>,
    /// The origin of times.
    pub origin: Instant,
    /// How long they are observed.
    pub pacing: Pacing,
}

impl Observer<'_> {
    /// Waits until all canaries are ready.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn ready(&self) -> Result<(), Error> {
        let what = "canaries are not ready";
        self.pods(what, |pods| pods.alive().filter(|(_, pod)| pod.ready.is_some()).count() >= CANARIES).await
    }

    /// Waits until requests reach canaries through every way. `names` are those of the ways.
    ///
    /// # Errors
    /// It takes too long. The error names the ways.
    pub async fn settled(&self, names: &[String]) -> Result<(), Error> {
        let settled = |states: &StreamStates, now| states.are_settled(now);
        if self.reached(WAY_LIMIT, settled).await {
            return Ok(());
        }
        let unsettled = self.states.borrow().unsettled(Instant::now());
        let reasons: Vec<_> = unsettled
            .into_iter()
            .map(|(way, reason)| format!("{} ({reason})", names.get(way).map_or("", String::as_str)))
            .collect();
        Err(Error::Incomplete(format!(
            "no canary answers within {} s through {}: check the way, use --url, or --in-cluster for addresses that are \
             reachable only there",
            WAY_LIMIT.as_secs(),
            reasons.join(", ")
        )))
    }

    /// Deletes the oldest canary, adds another one, and observes the deleted one until no more requests arrive at it. Then
    /// it ends by itself, and closes kept connections in order, so later observations can begin before. One at which
    /// requests still arrive is killed first, because they are lost when it ends.
    ///
    /// # Errors
    /// A request fails, or pods take too long.
    pub async fn terminate(&self) -> Result<CanaryTermination, Error> {
        let (uid, pod) = self.oldest()?;
        self.reached(REACH_LIMIT, |states, now| states.reach(&pod, now)).await;
        self.canaries.add().await?;
        let (deleted, deleted_at) = (self.origin.elapsed(), Instant::now());
        self.canaries.delete(&pod).await?;
        let quiet = self.pacing.quiet;
        let is_over = |states: &StreamStates, now| states.are_over(&pod, deleted_at, quiet, now);
        let is_over = self.reached(self.pacing.window, is_over).await;
        let ended = self.origin.elapsed();
        let log = self.canaries.log(&pod).await?;
        if !is_over {
            self.canaries.kill(&pod).await?;
            self.pods("a killed canary is not gone", |pods| pods.are_gone([&uid])).await?;
        }
        self.ready().await?;
        Ok(CanaryTermination { pod, deleted, ended, log })
    }

    /// The uid and the name of the canary that was ready first.
    fn oldest(&self) -> Result<(String, String), Error> {
        let timelines = self.timelines.borrow();
        let ready_since = |pod: &PodTimeline| pod.ready.map(|ready| (ready, pod.name.clone()));
        let ready = timelines.alive().filter_map(|(uid, pod)| Some((ready_since(pod)?, uid)));
        let ((_, name), uid) =
            ready.min().ok_or_else(|| Error::Incomplete("no canary is ready".to_owned()))?;
        Ok((uid.clone(), name))
    }

    /// Waits until a condition of the requests holds. Returns whether it does within the limit.
    async fn reached(&self, limit: Duration, condition: impl Fn(&StreamStates, Instant) -> bool) -> bool {
        let reached = async {
            while !condition(&self.states.borrow(), Instant::now()) {
                sleep(TICK).await;
            }
        };
        timeout(limit, reached).await.is_ok()
    }

    async fn pods(&self, what: &str, condition: impl FnMut(&PodTimelines) -> bool) -> Result<(), Error> {
        let mut timelines = self.timelines.clone();
        match timeout(POD_LIMIT, timelines.wait_for(condition)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Incomplete("the watch of the canaries ended".to_owned())),
            Err(_) => Err(Error::Incomplete(format!(
                "{what} after {} s: kubectl -n {} describe pods -l {}",
                POD_LIMIT.as_secs(),
                self.canaries.owner().namespace,
                self.canaries.selector()
            ))),
        }
    }
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
