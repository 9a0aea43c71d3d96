//! Leader election by a Lease, in the manner of client-go: time is measured on our own clock from when a
//! renewal was seen, so that clocks needn't agree, and a leader that can't renew stops leading before anybody
//! else may start. The Lease is watched, so that one which is given up is taken at once.

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

/// On the Lease: while it is `"true"`, no workload is written. It is set by people, at run time.
pub const PAUSED: &str = "adieu.dev/paused";

/// How long a Lease that nobody renews keeps others out.
const LEASE: Duration = Duration::from_secs(10);
/// How long a leader leads without having been able to renew; less than the above, so that whatever it was about
/// to write is let go before another begins.
const DEADLINE: Duration = Duration::from_secs(7);
/// How often it renews, and how soon it tries again.
const RENEWAL: Duration = Duration::from_secs(2);

/// A replica that may come to lead.
#[derive(Clone, Debug)]
pub struct Candidate {
    api: Api<Lease>,
    lease: String,
    identity: String,
}

impl Candidate {
    /// A candidate for the Lease `lease`, known to the others as `identity`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, lease: String, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), lease, identity }
    }

    /// Keeps `leads` true to whether this replica leads, until `resign`; then the Lease is given up. `paused`
    /// is whether the Lease carries the annotation [`PAUSED`].
    pub async fn campaign(
        self,
        [is_leader, paused]: [watch::Sender<bool>; 2],
        metrics: Arc<Metrics>,
        resign: CancellationToken,
    ) {
        let follow = || watch_object(self.api.clone(), &self.lease).default_backoff();
        let mut changes = pin!(follow());
        let mut seen = Seen::Nothing;
        // Whether that is known to be something else by now.
        let mut outdated = false;
        // When the last write was begun, and the last one that made or kept us the leader.
        let (mut tried, mut renewed) = (None, None);
        loop {
            // A list may take its time, and until it is there each write is another conflict.
            let again = tried.map(|tried: Instant| tried + if outdated { DEADLINE } else { RENEWAL });
            let next = seen.due(&self.identity).map(|due| again.map_or(due, |again| due.max(again)));
            let deadline = renewed.map(|renewed: Instant| renewed + DEADLINE);
            tokio::select! {
                biased;
                () = resign.cancelled() => break,
                Some(change) = changes.next() => match change {
                    Ok(lease) => {
                        seen.update(lease, Instant::now());
                        outdated = false;
                    }
                    Err(error) => tracing::warn!(%error, "watch of the lease failed, trying again"),
                },
                () = until(deadline) => {
                    tracing::error!(lease = self.lease, "not renewed in time");
                    renewed = None;
                }
                () = until(next) => {
                    let now = Instant::now();
                    (tried, outdated) = (Some(now), false);
                    let limit = deadline.unwrap_or(now + DEADLINE);
                    match timeout_at(limit, self.take(&seen)).await {
                        Ok(Ok(lease)) => {
                            seen.update(Some(lease), now);
                            renewed = Some(now);
                        }
                        // Who was faster, the watch should have told, or will. One whose API server died with its
                        // machine tells nothing for minutes, so the Lease is listed anew.
                        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                            changes.set(follow());
                            outdated = true;
                        }
                        Ok(Err(error)) => tracing::warn!(%error, "lease not written, trying again"),
                        Err(_) => tracing::warn!("lease not written in time, trying again"),
                    }
                }
            }
            let pause = seen.is_paused();
            if paused.send_if_modified(|paused| replace(paused, pause) != pause) {
                tracing::warn!(lease = self.lease, paused = pause, "pause changed");
            }
            if seen.is_held_by_another_than(&self.identity) {
                renewed = None;
            }
            self.tell(&is_leader, &metrics, renewed.is_some());
        }
        self.tell(&is_leader, &metrics, false);
        if renewed.is_some() {
            let given_up = timeout_at(Instant::now() + DEADLINE, self.give_up(&seen)).await;
            if !matches!(given_up, Ok(Ok(_))) {
                tracing::warn!(lease = self.lease, "lease not given up; it runs out by itself");
            }
        }
    }

    fn tell(&self, is_leader: &watch::Sender<bool>, metrics: &Metrics, leading: bool) {
        let changed = is_leader.send_if_modified(|is_leader| replace(is_leader, leading) != leading);
        if changed {
            metrics.leader.set(leading.into());
            tracing::info!(lease = self.lease, identity = self.identity, leading, "leadership changed");
        }
    }

    async fn take(&self, seen: &Seen) -> kube::Result<Lease> {
        let now = MicroTime(Timestamp::now());
        let before = seen.lease();
        let spec = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let ours = spec.holder_identity.as_deref() == Some(&self.identity);
        let transitions = spec.lease_transitions.unwrap_or(0) + i32::from(before.is_some() && !ours);
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: spec.acquire_time.filter(|_| ours).or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..spec
        };
        self.write(before, spec).await
    }

    async fn give_up(&self, seen: &Seen) -> kube::Result<Lease> {
        let spec = seen.lease().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        self.write(seen.lease(), LeaseSpec { holder_identity: None, ..spec }).await
    }

    /// Replaces what was seen; a conflict where it is something else by now.
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

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// What the watch, or our own write, last brought.
#[derive(Debug)]
enum Seen {
    Nothing,
    /// There is no Lease, since then.
    Absent(Instant),
    /// The Lease, and since when its spec is so.
    Lease(Box<Lease>, Instant),
}

impl Seen {
    fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Lease(lease, _) => Some(lease),
            Self::Nothing | Self::Absent(_) => None,
        }
    }

    fn update(&mut self, lease: Option<Lease>, now: Instant) {
        let Some(lease) = lease else {
            *self = Self::Absent(now);
            return;
        };
        let same = |known: &Lease| known.spec == lease.spec;
        let since = match self {
            Self::Lease(known, since) if same(known) => *since,
            _ => now,
        };
        *self = Self::Lease(Box::new(lease), since);
    }

    fn holder(&self) -> Option<&str> {
        self.lease()?.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    fn is_paused(&self) -> bool {
        let annotations = self.lease().and_then(|lease| lease.metadata.annotations.as_ref());
        annotations.and_then(|all| all.get(PAUSED)).is_some_and(|value| value == "true")
    }

    fn is_held_by_another_than(&self, identity: &str) -> bool {
        self.holder().is_some_and(|holder| holder != identity)
    }

    /// When `identity` shall write the Lease; never before it is known.
    fn due(&self, identity: &str) -> Option<Instant> {
        match (self, self.holder()) {
            (Self::Nothing, _) => None,
            (Self::Absent(since), _) | (Self::Lease(_, since), None) => Some(*since),
            (Self::Lease(_, since), Some(holder)) if holder == identity => Some(*since + RENEWAL),
            (Self::Lease(lease, since), Some(_)) => {
                let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
                let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
                Some(*since + seconds.map_or(LEASE, Duration::from_secs))
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
    use crate::trial::test_support::failure;

    const US: &str = "adieu-1";

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
    fn what_nobody_holds_is_taken_at_once_and_nothing_before_it_is_known() {
        let now = Instant::now();
        let mut seen = Seen::Nothing;
        assert_eq!(seen.due(US), None);
        for free in [None, Some(lease(None, 0)), Some(lease(Some(""), 0))] {
            seen.update(free, now);
            assert_eq!(seen.due(US), Some(now));
            assert!(!seen.is_held_by_another_than(US));
        }
    }

    #[test]
    fn another_s_lease_runs_out_when_no_renewal_is_seen_for_its_duration() {
        let start = Instant::now();
        let mut seen = Seen::Nothing;
        seen.update(Some(lease(Some("adieu-2"), 0)), start);
        let later = start + Duration::from_secs(5);
        // The same again, as a watch that begins anew brings it, is no renewal.
        seen.update(Some(lease(Some("adieu-2"), 0)), later);
        assert_eq!(seen.due(US), Some(start + Duration::from_secs(15)));
        assert!(seen.is_held_by_another_than(US));
        seen.update(Some(lease(Some("adieu-2"), 1)), later);
        assert_eq!(seen.due(US), Some(later + Duration::from_secs(15)));
    }

    /// What the API server has; `None` where there is no Lease.
    type Held = Arc<Mutex<Option<Lease>>>;

    /// The Lease of that version, held by another replica that renewed it then.
    fn stored(version: &str, renewed: i64) -> Lease {
        let mut lease = lease(Some("adieu-2"), renewed);
        lease.metadata.name = Some("adieu".into());
        lease.metadata.resource_version = Some(version.into());
        lease
    }

    /// A client of an API server whose watches bring nothing, and that takes longer for a list than passes from one
    /// attempt to the next.
    fn silent(held: &Held) -> Client {
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
                    sleep(RENEWAL + RENEWAL / 2).await;
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
    async fn whose_watch_tells_nothing_any_more_leads_as_soon_as_others() {
        for changed in [Some(stored("7", 1)), None] {
            let held = Held::new(Mutex::new(Some(stored("1", 0))));
            let candidate = Candidate::new(silent(&held), "adieu", "adieu".into(), US.into());
            let ((is_leader, mut leading), (paused, _)) = (watch::channel(false), watch::channel(false));
            let campaign = candidate.campaign([is_leader, paused], Arc::default(), CancellationToken::new());
            let test = async {
                sleep(Duration::from_secs(10)).await;
                // Nobody renews it from here on.
                *held.lock().unwrap() = changed;
                let is_leader =
                    timeout(Duration::from_secs(35), leading.wait_for(|is_leader| *is_leader)).await;
                assert!(is_leader.is_ok(), "nobody leads");
                drop(is_leader);

                // A leader too keeps up with what changes without its watch.
                let annotated = |lease: &mut Lease| lease.metadata.resource_version = Some("70".into());
                held.lock().unwrap().as_mut().map(annotated).unwrap();
                let lost = timeout(4 * DEADLINE, leading.wait_for(|is_leader| !is_leader)).await;
                assert!(lost.is_err(), "led no more");
            };
            tokio::select! {
                () = campaign => panic!("nobody asked it to resign"),
                () = test => {}
            }
        }
    }

    #[test]
    fn our_own_is_renewed_well_before_it_runs_out() {
        let now = Instant::now();
        let mut seen = Seen::Nothing;
        seen.update(Some(lease(Some(US), 0)), now);
        assert_eq!(seen.due(US), Some(now + RENEWAL));
        assert!(RENEWAL * 3 < DEADLINE && DEADLINE < LEASE);
    }
}
