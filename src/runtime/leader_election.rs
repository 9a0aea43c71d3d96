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
                tracing::warn!(lease = self.lease, paused = is_paused, "pause changed");
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
mod tests {
    use std::{convert::Infallible, sync::Mutex};

    use axum::body::Body as Answer;
    use bytes::Bytes;
    use http::{Method, Request, Response};
    use http_body_util::BodyExt as _;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tokio::time::{sleep, timeout};
    use tower::service_fn;

    use super::*;
    use crate::disruption::test_support::failure;

    const SELF: &str = "adieu-1";

    fn lease(holder: Option<&str>, renewed: i64) -> Lease {
        let spec = LeaseSpec {
            holder_identity: holder.map(Into::into),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    #[test]
    fn a_free_lease_is_acquired_immediately_once_it_is_observed() {
        let now = Instant::now();
        let mut observed = ObservedLease::Unknown;
        assert_eq!(observed.due(SELF), None);
        for free in [None, Some(lease(None, 0)), Some(lease(Some(""), 0))] {
            observed.update(free, now);
            assert_eq!(observed.due(SELF), Some(now));
            assert!(!observed.is_held_by_another_than(SELF));
        }
    }

    #[test]
    fn a_lease_expires_if_no_renewal_is_observed_for_its_duration() {
        let start = Instant::now();
        let mut observed = ObservedLease::Unknown;
        observed.update(Some(lease(Some("adieu-2"), 0)), start);
        let later = start + Duration::from_secs(5);
        // The same Lease again, from a restarted watch, is no renewal.
        observed.update(Some(lease(Some("adieu-2"), 0)), later);
        assert_eq!(observed.due(SELF), Some(start + Duration::from_secs(15)));
        assert!(observed.is_held_by_another_than(SELF));
        observed.update(Some(lease(Some("adieu-2"), 1)), later);
        assert_eq!(observed.due(SELF), Some(later + Duration::from_secs(15)));
    }

    /// The Lease in the API server; `None` if there is none.
    type Stored = Arc<Mutex<Option<Lease>>>;

    /// A Lease of that version, held by another replica that renewed it at that time.
    fn stored(version: &str, renewed: i64) -> Lease {
        let mut lease = lease(Some("adieu-2"), renewed);
        lease.metadata.name = Some("adieu".into());
        lease.metadata.resource_version = Some(version.into());
        lease
    }

    /// A client of an API server whose watches are silent, and whose lists take longer than [`RETRY_PERIOD`].
    fn silent(held: &Stored) -> Client {
        let held = held.clone();
        let server = service_fn(move |request: Request<Body>| {
            let held = held.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let (code, answer) = if head.method == Method::GET {
                    if head.uri.to_string().contains("watch=") {
                        let silence = futures::stream::pending::<Result<Bytes, Infallible>>();
                        return Ok::<_, Infallible>(Response::new(Answer::from_stream(silence)));
                    }
                    sleep(RETRY_PERIOD + RETRY_PERIOD / 2).await;
                    let items: Vec<_> = held.lock().unwrap().clone().into_iter().collect();
                    (200, json!({"metadata": {"resourceVersion": "1"}, "items": items}))
                } else {
                    write(&mut held.lock().unwrap(), &head.method, &body)
                };
                Ok(Response::builder().status(code).body(Answer::from(answer.to_string())).unwrap())
            }
        });
        Client::new(server, "default")
    }

    fn write(held: &mut Option<Lease>, method: &Method, body: &[u8]) -> (u16, Value) {
        let mut lease: Lease = serde_json::from_slice(body).unwrap();
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        match held {
            Some(held) if *method == Method::POST || version(held) != version(&lease) => {
                (409, failure(409, "the object has been modified"))
            }
            None if *method == Method::PUT => (404, failure(404, "not found")),
            _ => {
                let next = version(&lease).map_or(1, |version| version.parse::<i32>().unwrap() + 1);
                lease.metadata.resource_version = Some(next.to_string());
                (200, serde_json::to_value(held.insert(lease)).unwrap())
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_with_a_dead_watch_acquires_and_keeps_the_lease() {
        for changed in [Some(stored("7", 1)), None] {
            let held = Stored::new(Mutex::new(Some(stored("1", 0))));
            let elector = LeaderElector::new(silent(&held), "adieu", "adieu".into(), SELF.into());
            let ((is_leader, mut leading), (paused, _)) = (watch::channel(false), watch::channel(false));
            let (previous, previous_renewal) = watch::channel(None);
            let run = elector.run([is_leader, paused], previous, Arc::default(), CancellationToken::new());
            let renewed = changed.as_ref().map(|_| Timestamp::from_second(1).unwrap());
            let test = async {
                sleep(Duration::from_secs(10)).await;
                // From here on no replica renews it.
                *held.lock().unwrap() = changed;
                let is_leader =
                    timeout(Duration::from_secs(35), leading.wait_for(|is_leader| *is_leader)).await;
                assert!(is_leader.is_ok(), "no replica leads");
                drop(is_leader);
                assert_eq!(*previous_renewal.borrow(), renewed);

                // A leader also tolerates changes that its watch misses.
                let annotated = |lease: &mut Lease| lease.metadata.resource_version = Some("70".into());
                held.lock().unwrap().as_mut().map(annotated).unwrap();
                let lost = timeout(4 * RENEW_DEADLINE, leading.wait_for(|is_leader| !is_leader)).await;
                assert!(lost.is_err(), "stopped leading");
            };
            tokio::select! {
                () = run => panic!("stopped without a release"),
                () = test => {}
            }
        }
    }

    #[test]
    fn the_leader_renews_well_before_the_lease_expires() {
        let now = Instant::now();
        let mut observed = ObservedLease::Unknown;
        observed.update(Some(lease(Some(SELF), 0)), now);
        assert_eq!(observed.due(SELF), Some(now + RETRY_PERIOD));
        assert!(RETRY_PERIOD * 3 < RENEW_DEADLINE && RENEW_DEADLINE < LEASE_DURATION);
    }
}
