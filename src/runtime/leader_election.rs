//! Leader election with a Lease, as in client-go: the local clock measures the time since a renewal was observed, so
//! clocks may differ, and a leader that can't renew stops leading before another may start. The Lease is watched, so a
//! released one is acquired immediately.

use std::{mem::replace, pin::pin, sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt as _, watcher::watch_object},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

/// Annotation of the Lease: while it is `"true"`, no workload is written.
pub const PAUSED: &str = "adieu.dev/paused";

/// The time after which a Lease that isn't renewed expires.
const LEASE_DURATION: Duration = Duration::from_secs(10);
/// The time after which a leader that can't renew stops leading, so that its writes end before another leader starts.
const RENEW_DEADLINE: Duration = Duration::from_secs(7);
/// The interval of renewals and retries.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// Runs for leadership and renews the Lease.
#[derive(Clone, Debug)]
pub struct LeaderElector {
    api: Api<Lease>,
    lease: String,
    identity: String,
}

/// The progress of an election.
#[derive(Debug, Default)]
struct ElectionState {
    observed: ObservedLease,
    /// Whether the last write conflicted, so `observed` is out of date.
    outdated: bool,
    /// When the last write started.
    attempted: Option<Instant>,
    /// When the last write started that acquired or renewed the Lease; `None` if another replica leads.
    renewed: Option<Instant>,
    /// When the previous leader last renewed the Lease, by its clock.
    previous_renewal: Option<Timestamp>,
}

impl LeaderElector {
    /// An elector for the Lease `lease`, with `identity` as the holder.
    #[must_use]
    pub fn new(client: Client, namespace: &str, lease: String, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), lease, identity }
    }

    /// Sends to `is_leader` whether this replica leads, to `paused` whether the Lease has the annotation [`PAUSED`],
    /// and to `previous_renewal`, before it leads, when the previous leader last renewed the Lease, until `release` is
    /// cancelled; then releases the Lease.
    pub async fn run(
        self,
        [is_leader, paused]: [watch::Sender<bool>; 2],
        previous_renewal: watch::Sender<Option<Timestamp>>,
        metrics: Arc<Metrics>,
        release: CancellationToken,
    ) {
        let watch_lease = || watch_object(self.api.clone(), &self.lease).default_backoff();
        let mut changes = pin!(watch_lease());
        let mut election = ElectionState::default();
        loop {
            tokio::select! {
                biased;
                () = release.cancelled() => break,
                Some(change) = changes.next() => match change {
                    Ok(lease) => {
                        election.observed.update(lease, Instant::now());
                        election.outdated = false;
                    }
                    Err(error) => tracing::warn!(%error, "watch of the Lease failed, retrying"),
                },
                () = until(election.deadline()) => {
                    tracing::error!(lease = self.lease, "cannot renew the Lease in time, no longer leading");
                    election.renewed = None;
                }
                () = until(election.next_attempt(&self.identity)) => {
                    self.acquire_or_renew(&mut election).await;
                    if election.outdated {
                        // The API server of the watch may have died with its machine, so the Lease is listed again.
                        changes.set(watch_lease());
                    }
                }
            }
            let is_paused = election.observed.is_paused();
            if paused.send_if_modified(|paused| replace(paused, is_paused) != is_paused) {
                let message = if is_paused { "writes paused" } else { "writes resumed" };
                tracing::warn!(lease = self.lease, "{message}");
            }
            if election.observed.is_held_by_another_than(&self.identity) {
                election.renewed = None;
            }
            previous_renewal.send_replace(election.previous_renewal);
            self.publish(&is_leader, &metrics, election.renewed.is_some());
        }
        self.publish(&is_leader, &metrics, false);
        if election.renewed.is_some() {
            let released =
                timeout_at(Instant::now() + RENEW_DEADLINE, self.release(&election.observed)).await;
            if !matches!(released, Ok(Ok(_))) {
                tracing::warn!(lease = self.lease, "cannot release the Lease, it will expire");
            }
        }
    }

    async fn acquire_or_renew(&self, election: &mut ElectionState) {
        let now = Instant::now();
        let limit = election.deadline().unwrap_or(now + RENEW_DEADLINE);
        (election.attempted, election.outdated) = (Some(now), false);
        match timeout_at(limit, self.write_as_holder(&election.observed)).await {
            Ok(Ok(lease)) => {
                if election.renewed.is_none() {
                    election.previous_renewal = election.observed.renewal();
                }
                election.observed.update(Some(lease), now);
                election.renewed = Some(now);
            }
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => election.outdated = true,
            Ok(Err(error)) => tracing::warn!(%error, "cannot write the Lease, retrying"),
            Err(_) => tracing::warn!("timed out writing the Lease, retrying"),
        }
    }

    fn publish(&self, is_leader: &watch::Sender<bool>, metrics: &Metrics, leading: bool) {
        let changed = is_leader.send_if_modified(|is_leader| replace(is_leader, leading) != leading);
        if changed {
            metrics.leader.set(leading.into());
            tracing::info!(lease = self.lease, identity = self.identity, leading, "leadership changed");
        }
    }

    async fn write_as_holder(&self, observed: &ObservedLease) -> kube::Result<Lease> {
        let now = MicroTime(Timestamp::now());
        let before = observed.lease();
        let spec = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let is_holder = spec.holder_identity.as_deref() == Some(&self.identity);
        let transitions = spec.lease_transitions.unwrap_or(0) + i32::from(before.is_some() && !is_holder);
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: spec.acquire_time.filter(|_| is_holder).or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..spec
        };
        self.write(before, spec).await
    }

    async fn release(&self, observed: &ObservedLease) -> kube::Result<Lease> {
        let spec = observed.lease().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        self.write(observed.lease(), LeaseSpec { holder_identity: None, ..spec }).await
    }

    /// Replaces the observed Lease; returns a conflict if it has changed.
    async fn write(&self, before: Option<&Lease>, spec: LeaseSpec) -> kube::Result<Lease> {
        let parameters = PostParams::default();
        let metadata = ObjectMeta { name: Some(self.lease.clone()), ..ObjectMeta::default() };
        match before {
            Some(before) => {
                let lease = Lease { metadata: before.metadata.clone(), spec: Some(spec) };
                self.api.replace(&self.lease, &parameters, &lease).await
            }
            None => self.api.create(&parameters, &Lease { metadata, spec: Some(spec) }).await,
        }
    }
}

impl ElectionState {
    /// When this replica stops leading unless it renews.
    fn deadline(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + RENEW_DEADLINE)
    }

    fn next_attempt(&self, identity: &str) -> Option<Instant> {
        // After a conflict each write is another one until the list has arrived, which may take a while.
        let pause = if self.outdated { RENEW_DEADLINE } else { RETRY_PERIOD };
        let retry = self.attempted.map(|attempted| attempted + pause);
        self.observed.due(identity).map(|due| retry.map_or(due, |retry| due.max(retry)))
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// The Lease as of the last watch event or own write.
#[derive(Debug, Default)]
enum ObservedLease {
    #[default]
    Unknown,
    /// There is no Lease; observed first at that time.
    Absent(Instant),
    /// The Lease, and when its spec was observed first.
    Present(Box<Lease>, Instant),
}

impl ObservedLease {
    fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Present(lease, _) => Some(lease),
            Self::Unknown | Self::Absent(_) => None,
        }
    }

    fn update(&mut self, lease: Option<Lease>, now: Instant) {
        let Some(lease) = lease else {
            *self = Self::Absent(now);
            return;
        };
        let same = |known: &Lease| known.spec == lease.spec;
        let since = match self {
            Self::Present(known, since) if same(known) => *since,
            _ => now,
        };
        *self = Self::Present(Box::new(lease), since);
    }

    fn holder(&self) -> Option<&str> {
        self.lease()?.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    fn renewal(&self) -> Option<Timestamp> {
        Some(self.lease()?.spec.as_ref()?.renew_time.as_ref()?.0)
    }

    fn is_paused(&self) -> bool {
        let annotations = self.lease().and_then(|lease| lease.metadata.annotations.as_ref());
        annotations.and_then(|all| all.get(PAUSED)).is_some_and(|value| value == "true")
    }

    fn is_held_by_another_than(&self, identity: &str) -> bool {
        self.holder().is_some_and(|holder| holder != identity)
    }

    /// When `identity` may write the Lease; `None` while it is unknown.
    fn due(&self, identity: &str) -> Option<Instant> {
        match (self, self.holder()) {
            (Self::Unknown, _) => None,
            (Self::Absent(since), _) | (Self::Present(_, since), None) => Some(*since),
            (Self::Present(_, since), Some(holder)) if holder == identity => Some(*since + RETRY_PERIOD),
            (Self::Present(lease, since), Some(_)) => {
                let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
                let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
                Some(*since + seconds.map_or(LEASE_DURATION, Duration::from_secs))
            }
        }
    }
}

#[cfg(test)]
#[path = "leader_election_tests.rs"]
mod tests;
