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
use crate::runtime::test_support::failure;

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
    // The same Lease again, from a restarted watch, is not a renewal.
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
            let is_leader = timeout(Duration::from_secs(35), leading.wait_for(|is_leader| *is_leader)).await;
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
