use std::{convert::Infallible, future::pending};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use tokio::time::timeout;
use tower::service_fn;

use super::*;
use crate::runtime::test_support::client_of_bodies;

fn reporter() -> Reporter {
    Reporter { controller: "adieu".into(), instance: None }
}

#[tokio::test]
async fn events_are_published_in_order() {
    let sent: Arc<Mutex<Vec<Value>>> = Arc::default();
    let events = sent.clone();
    let server = service_fn(move |request: Request<Body>| {
        let events = events.clone();
        async move {
            let event = request.into_body().collect().await.unwrap().to_bytes();
            events.lock().unwrap().push(serde_json::from_slice(&event).unwrap());
            Ok::<_, Infallible>(Response::new(Body::from(event)))
        }
    });
    let (publisher, publishing) =
        publisher(Client::new(server, "default"), reporter(), CancellationToken::new());
    let policy = ObjectReference { name: Some("all".into()), ..ObjectReference::default() };
    for note in ["first", "second"] {
        publisher.stalled(&policy, note.into());
    }
    drop(publisher);
    publishing.await;
    let sent = sent.lock().unwrap();
    let notes: Vec<_> = sent.iter().map(|event| event["note"].as_str().unwrap()).collect();
    assert_eq!(notes, ["first", "second"]);
}

#[tokio::test]
async fn an_applied_recommendation_is_reported_with_its_evidence() {
    let sent: Arc<Mutex<Vec<Value>>> = Arc::default();
    let events = sent.clone();
    let client = client_of_bodies(move |_, _, body| {
        let event: Value = serde_json::from_slice(body).unwrap();
        events.lock().unwrap().push(event.clone());
        Some((201, event))
    });
    let (publisher, publishing) = publisher(client, reporter(), CancellationToken::new());
    let object = serde_json::json!({"metadata": {"name": "web", "namespace": "shop", "uid": "1"}});
    let change = RecommendationChange {
        before_seconds: 30,
        after_seconds: 23,
        policy: crate::plan::Source::Policy("all".into()),
        evidence: "shutdownTimeoutSeconds 30 -> 12: p99 of 214 terminations is 9 s".into(),
        annotation: String::new(),
    };
    publisher.recommendation_applied(Kind::Deployment, &serde_json::from_value(object).unwrap(), &change);
    drop(publisher);
    publishing.await;
    let sent = sent.lock().unwrap();
    assert_eq!(sent[0]["reason"], "RecommendationApplied");
    assert_eq!(
        sent[0]["note"],
        "the shutdown timeout becomes 23 s instead of 30 s, because policy all applies recommendations; the \
         recommendation is shutdownTimeoutSeconds 30 -> 12: p99 of 214 terminations is 9 s"
    );
}

#[tokio::test]
async fn one_namespace_leaves_room_for_the_events_of_others() {
    let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
    let (publisher, _publishing) =
        publisher(Client::new(server, "default"), reporter(), CancellationToken::new());
    let policy =
        |namespace: &str| ObjectReference { namespace: Some(namespace.into()), ..Default::default() };
    for _ in 0..2 * MAX_PENDING_EVENTS {
        publisher.stalled(&policy("greedy"), "a reason".into());
    }
    assert_eq!(MAX_PENDING_EVENTS - publisher.events.capacity(), MAX_PENDING_EVENTS_OF_NAMESPACE);
    publisher.stalled(&policy("shop"), "a reason".into());
    assert_eq!(MAX_PENDING_EVENTS - publisher.events.capacity(), MAX_PENDING_EVENTS_OF_NAMESPACE + 1);
    for number in 0..MAX_PENDING_EVENTS {
        publisher.stalled(&policy(&number.to_string()), "a reason".into());
    }
    assert_eq!(publisher.events.capacity(), 0);
    let counts = publisher.waiting.0.lock().unwrap();
    assert_eq!(counts.values().sum::<usize>(), MAX_PENDING_EVENTS);
}

#[tokio::test]
async fn at_most_eight_of_many_warnings_are_published() {
    let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
    let (publisher, _publishing) =
        publisher(Client::new(server, "default"), reporter(), CancellationToken::new());
    let annotations: serde_json::Map<_, _> =
        (0..1000).map(|n| (format!("adieu.dev/{n}"), "".into())).collect();
    let containers: Vec<_> = (0..400)
        .map(|n| serde_json::json!({"name": n.to_string(), "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}))
        .collect();
    let object = serde_json::json!({
        "metadata": {"name": "web", "uid": "1", "annotations": annotations},
        "spec": {"template": {"spec": {"containers": containers}}},
    });
    let mut object: DynamicObject = serde_json::from_value(object).unwrap();
    object.annotations_mut().insert("adieu.dev/graceful".into(), "true".into());
    let workload = crate::plan::Workload::of(Kind::Deployment, &object);
    let evaluation = crate::plan::evaluate(&workload, &crate::plan::NamespaceContext::default());
    assert!(evaluation.warnings.len() > 10 * MAX_WARNINGS);
    publisher.warn_once(Kind::Deployment, &object, "Degraded", evaluation.warnings);
    assert_eq!(MAX_PENDING_EVENTS - publisher.events.capacity(), MAX_WARNINGS + 1);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_delays_no_shutdown() {
    let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
    let shutdown = CancellationToken::new();
    let (publisher, publishing) = publisher(Client::new(server, "default"), reporter(), shutdown.clone());
    publisher.stalled(&ObjectReference::default(), "a reason".into());
    shutdown.cancel();
    let ended = Instant::now();
    timeout(2 * FLUSH_TIMEOUT, publishing).await.expect("an end");
    assert_eq!(ended.elapsed(), FLUSH_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_events_on_one_object_is_limited() {
    let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
    let (publisher, _publishing) =
        publisher(Client::new(server, "default"), reporter(), CancellationToken::new());
    let policy = |uid: &str| ObjectReference { uid: Some(uid.into()), ..ObjectReference::default() };
    let published = |count: u32| {
        let before = publisher.events.capacity();
        (0..count).for_each(|_| publisher.stalled(&policy("restless"), "a reason".into()));
        u32::try_from(before - publisher.events.capacity()).unwrap()
    };
    assert_eq!(published(10 * BURST), BURST);
    sleep(INTERVAL).await;
    assert_eq!(published(10 * BURST), 1);
    sleep(10 * INTERVAL).await;
    assert_eq!(published(10 * BURST), 10);
    let before = publisher.events.capacity();
    publisher.stalled(&policy("other"), "a reason".into());
    assert_eq!(before - publisher.events.capacity(), 1, "another object has its own");
    publisher.retain(|_| true);
    sleep(INTERVAL * (BURST + 1)).await;
    publisher.retain(|_| true);
    assert!(lock(&publisher.rates).is_empty());
}

#[tokio::test]
async fn unchanged_notes_are_published_once() {
    let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
    let (publisher, _) = publisher(Client::new(server, "default"), reporter(), CancellationToken::new());
    let metadata = serde_json::json!({"metadata": {"name": "web", "uid": "1"}});
    let object = serde_json::from_value(metadata).unwrap();
    let should_publish = |reason, notes: &[&str]| {
        publisher.should_publish(
            &object,
            reason,
            &notes.iter().map(|note| (*note).into()).collect::<Vec<_>>(),
        )
    };
    assert!(should_publish("Degraded", &["a", "b"]) && !should_publish("Degraded", &["a", "b"]));
    assert!(
        should_publish("WouldInject", &["a", "b"]) && !should_publish("Degraded", &["a", "b"]),
        "of each reason"
    );
    assert!(
        should_publish("Degraded", &["b"])
            && !should_publish("Degraded", &[])
            && should_publish("Degraded", &["b"])
    );
}

#[tokio::test]
async fn an_unhandled_sigterm_is_reported_once_until_it_is_handled() {
    let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
    let (publisher, _publishing) =
        publisher(Client::new(server, "default"), reporter(), CancellationToken::new());
    let metadata = serde_json::json!({"metadata": {"name": "web", "uid": "1"}});
    let object = serde_json::from_value(metadata).unwrap();
    let published = |note: Option<&str>| {
        let before = publisher.events.capacity();
        publisher.warn_once(Kind::Deployment, &object, "SigtermNotHandled", note.map(str::to_owned));
        before - publisher.events.capacity()
    };
    let notes = [Some("a"), Some("a"), Some("b"), None, Some("b")];
    assert_eq!(notes.map(published), [1, 0, 1, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn the_rates_of_deleted_objects_are_bounded() {
    let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, Infallible>>());
    let (publisher, _publishing) =
        publisher(Client::new(server, "default"), reporter(), CancellationToken::new());
    let of = |uid: &str| ObjectReference { uid: Some(uid.into()), ..ObjectReference::default() };
    // Its bucket is full again last, so its rate is kept.
    for _ in 0..BURST {
        assert!(publisher.is_within_rate(&of("busy")));
    }
    for number in 0..MAX_RATES + 500 {
        assert!(publisher.is_within_rate(&of(&number.to_string())));
    }
    assert_eq!(lock(&publisher.rates).len(), MAX_RATES);
    assert!(!publisher.is_within_rate(&of("busy")));
}

#[test]
fn every_event_and_condition_has_a_runbook() {
    let page = include_str!("../../docs/runbooks.md");
    let name = regex::Regex::new(r#""([A-Z][A-Za-z]+)""#).unwrap();
    let names = |source: &'static str| {
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        name.captures_iter(code).map(|found| found.extract::<1>().1[0]).collect::<Vec<_>>()
    };
    let unusable = [UnusableReason::Undecodable("a".into()), UnusableReason::TooLarge("a".into())];
    let sources = [
        include_str!("context.rs"),
        include_str!("events.rs"),
        include_str!("terminations/mod.rs"),
        include_str!("workloads/mod.rs"),
    ];
    let mut reasons = sources.map(names).concat();
    reasons.extend(unusable.iter().map(UnusableReason::name));
    // The action of Events, a kind, and the case of a value on the command line.
    reasons.retain(|reason| !["Inject", "Job", "PascalCase"].contains(reason));
    assert!(reasons.len() >= 15, "{reasons:?}");
    for reason in reasons {
        assert!(page.contains(&format!("\n### Event {reason}\n")), "docs/runbooks.md has no Event {reason}");
    }
    for condition in ["Ready", "Conflicted", "Stalled", "Blocked", "DrainTooShort"] {
        assert!(page.contains(&format!("\n### Condition {condition}\n")), "{condition}");
    }
    let reasons = [include_str!("policies/conditions.rs"), include_str!("backoff.rs")].map(names).concat();
    assert!(reasons.len() >= 16, "{reasons:?}");
    for reason in reasons {
        assert!(page.contains(&format!("`{reason}`")), "docs/runbooks.md has no reason {reason}");
    }
}
