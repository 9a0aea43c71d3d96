//! Unknown clients at the webhook's port, and their effect on admissions of the API server.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::client::TlsStream;

use super::{
    attack::Attack,
    target::{TIMEOUT, Target, ended, post, review},
};
use crate::{
    operator::{Operator, restarts},
    support::{Scene, drain, eventually, web},
};

/// Concurrent connections: with the slow ones nearly the limit of one peer.
const CROWD: usize = 400;
/// Connections that never complete their request.
const SLOW: usize = 100;
/// More connections than the limit of one peer.
const TOO_MANY: usize = 600;
/// Connections that repeatedly send the most expensive bodies, and for how long.
const COSTLY: (usize, Duration) = (16, Duration::from_secs(20));
/// Connections that hold a body of the maximal size.
const HEAVY: usize = 40;
/// The bytes that each sends of its declared length: together more than a replica's memory.
const WEIGHT: usize = 4 * 1024 * 1024 - 1;
/// The share of its memory limit that a container may use: sockets count in addition to resident memory.
const ENOUGH: f64 = 0.75;

/// Sends most of a large body, and waits. Returns the answer, or a part of it: a client that is rejected while it
/// sends may get a reset connection.
async fn heavy_and_slow(target: &Target) -> String {
    let mut client = target.connect().await;
    let head = format!("POST /mutate HTTP/1.1\r\nhost: adieu\r\ncontent-length: {}\r\n\r\n", WEIGHT + 1);
    client.write_all(head.as_bytes()).await.unwrap();
    let _ = client.write_all(&vec![b' '; WEIGHT]).await;
    let mut answer = Vec::new();
    let _ = timeout(2 * TIMEOUT, client.read_to_end(&mut answer)).await.expect("an end of the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Invalid requests, which get an answer with the reason.
async fn bad_input(attack: &Attack<'_>, target: &Target) {
    let not_a_review = "not an admission.k8s.io/v1 AdmissionReview";
    for (what, body, status, reason) in [
        ("invalid JSON", "not a review".to_owned(), "400", not_a_review),
        (
            "another kind of object",
            json!({"kind": "Pod", "apiVersion": "v1"}).to_string(),
            "400",
            "AdmissionReview",
        ),
        (
            "a review of v1beta1",
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}).to_string(),
            "400",
            "v1",
        ),
        ("100,000 nested lists", format!("{{\"object\": {}", "[".repeat(100_000)), "400", not_a_review),
        ("10 MiB", " ".repeat(10 * 1024 * 1024), "413", "limit"),
    ] {
        let result = format!("response {status} with the reason");
        let answer = attack.phase(what, target.post(body.as_bytes()), |_| result).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert!(answer.contains(reason), "{what}: {answer}");
    }
    let plain = async { post(target.plain().await, b"{}").await };
    let answer = attack.phase("a request without TLS", plain, |_| "the connection was closed".into()).await;
    assert!(!answer.contains("200 OK"), "no TLS: {answer}");
}

/// How many of the answers have this status.
fn count(answers: &[String], status: u16) -> usize {
    let begin = format!("HTTP/1.1 {status} ");
    answers.iter().filter(|answer| answer.starts_with(&begin)).count()
}

/// Clients that send bodies up to the limit, without the last byte.
async fn incomplete_bodies(attack: &Attack<'_>, target: &Target) {
    let send = async {
        let mut heavy = JoinSet::new();
        for _ in 0..HEAVY {
            let target = target.clone();
            heavy.spawn(async move { heavy_and_slow(&target).await });
        }
        heavy.join_all().await
    };
    let what = format!("{HEAVY} concurrent requests of 4 MiB, each without its last byte");
    let answers = attack
        .phase(&what, send, |answers| {
            let (rejected, timed_out) = (count(answers, 503), count(answers, 408));
            let closed = HEAVY - rejected - timed_out;
            format!(
                "{rejected} responses with 503, {timed_out} with 408 after the time limit, {closed} closed \
                 connections"
            )
        })
        .await;
    // Clients that wait for memory hold none.
    assert_eq!(count(&answers, 200), 0, "{answers:?}");
    assert!(count(&answers, 408) + count(&answers, 503) > 0, "{answers:?}");
}

/// Complete bodies of 4 MiB that are the most expensive to read: reviews and other JSON.
fn costly_bodies() -> Vec<(&'static str, String)> {
    let list = |item: &str| format!("[{}{item}]", format!("{item},").repeat(WEIGHT / (item.len() + 1) - 200));
    let foreign = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"1","object":{{"a":{}}}}}}}"#,
        list("0")
    );
    let of = |containers: &str| {
        let kind = r#"{"group":"apps","version":"v1","kind":"Deployment"}"#;
        let metadata = r#"{"name":"web","annotations":{"adieu.dev/graceful":"true"}}"#;
        let spec = format!(r#"{{"template":{{"spec":{{"containers":{containers}}}}}}}"#);
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"1","kind":{kind},"namespace":"default","operation":"CREATE","object":{{"metadata":{metadata},"spec":{spec}}}}}}}"#
        )
    };
    vec![
        ("HTTP/1.1 4", foreign),
        ("HTTP/1.1 200 ", of(&list("0"))),
        ("HTTP/1.1 200 ", of(&list(r#"{"a":1}"#))),
        ("HTTP/1.1 200 ", of(&list("[0]"))),
        ("HTTP/1.1 200 ", of(&list("\"\""))),
    ]
}

/// Clients that send the most expensive bodies.
async fn costly(attack: &Attack<'_>, target: &Target) {
    let bodies = Arc::new(costly_bodies());
    let send = async {
        let mut senders = JoinSet::new();
        for sender in 0..COSTLY.0 {
            let (target, bodies) = (target.clone(), bodies.clone());
            senders.spawn(async move { send_repeatedly(&target, &bodies, sender).await });
        }
        senders.join_all().await.into_iter().sum::<usize>()
    };
    let what = format!(
        "the bodies of 4 MiB that cost most to read, for {} s over {} connections",
        COSTLY.1.as_secs(),
        COSTLY.0
    );
    attack.phase(&what, send, |answered| format!("{answered} were answered")).await;
}

/// Sends one body after the other, from the one with this number on. Returns how many were answered.
async fn send_repeatedly(target: &Target, bodies: &[(&str, String)], first: usize) -> usize {
    let (begun, mut answered) = (Instant::now(), 0);
    while begun.elapsed() < COSTLY.1 {
        let (status, body) = &bodies[(first + answered) % bodies.len()];
        let answer = target.post(body.as_bytes()).await;
        // 503: the limit of this peer is reached.
        let allowed = [*status, "HTTP/1.1 503 ", "HTTP/1.1 408 "];
        assert!(allowed.iter().any(|status| answer.starts_with(status)), "{answer}");
        answered += 1;
    }
    answered
}

/// Clients that open more connections than the limit of one peer.
async fn too_many(attack: &Attack<'_>, target: &Target) {
    let connect = async {
        let mut open = Vec::new();
        for _ in 0..TOO_MANY {
            open.push(target.plain().await);
        }
        let mut closed = 0;
        for client in &mut open {
            // The others send nothing, and are closed after some seconds.
            if timeout(Duration::from_millis(5), client.read(&mut [0])).await.is_ok() {
                closed += 1;
            }
        }
        closed
    };
    let what = format!("{TOO_MANY} connections of one peer");
    let closed = attack.phase(&what, connect, |closed| format!("{closed} were closed immediately")).await;
    assert!(closed > 0, "all {TOO_MANY} were kept");
}

/// A client that sends nothing, until it is disconnected, and clients that never complete a request.
async fn incomplete_requests(attack: &Attack<'_>, target: &Target) -> Vec<TlsStream<TcpStream>> {
    let send = async {
        let (mut silent, since) = (target.plain().await, Instant::now());
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            let mut client = target.connect().await;
            client.write_all(b"POST /mutate HTTP/1.1\r\n").await.unwrap();
            slow.push(client);
        }
        ended(&mut silent).await;
        (slow, since.elapsed())
    };
    let what = format!("the first line of a request over {SLOW} connections, and nothing over another");
    let (slow, _) = attack
        .phase(&what, send, |(_, after)| {
            format!("the last one was closed after {:.1} s", after.as_secs_f64())
        })
        .await;
    slow
}

/// Clients that send valid reviews concurrently.
async fn crowd(attack: &Attack<'_>, target: &Target, annotations: &Value) {
    let review = Arc::new(review("default", annotations).to_string());
    let send = async {
        let mut crowd = JoinSet::new();
        for _ in 0..CROWD {
            let (target, review) = (target.clone(), review.clone());
            crowd.spawn(async move { target.post(review.as_bytes()).await });
        }
        let answers = crowd.join_all().await;
        answers.iter().filter(|answer| answer.contains("\"patchType\":\"JSONPatch\"")).count()
    };
    let what = format!("{CROWD} concurrent reviews, while {SLOW} requests are never completed");
    let result = |patched: &usize| format!("{patched} were answered with the injection");
    assert_eq!(attack.phase(&what, send, result).await, CROWD);
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn unknown_clients_get_clear_answers_and_delay_no_admission() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    let pod = operator.pods().await.remove(0);
    let target = Target::of(&scene, &operator.name, &pod).await;
    // kube-proxy may not know a new pod yet.
    let annotations = json!({"adieu.dev/graceful": "true"});
    let annotated = web("web", &annotations);
    eventually("the webhook behind its Service", || async {
        let created = scene.try_create_dry(&annotated).await.unwrap();
        drain(&serde_json::to_value(created).unwrap()) == Some(10)
    })
    .await;

    // With `failurePolicy: Ignore`, a review without a timely answer results in no injection.
    let attack = Attack::start("hostile", &scene, ENOUGH).await;
    attack.run("no requests", async {}, "–").await;
    bad_input(&attack, &target).await;
    let slow = incomplete_requests(&attack, &target).await;
    incomplete_bodies(&attack, &target).await;
    crowd(&attack, &target, &annotations).await;
    drop(slow);
    costly(&attack, &target).await;
    too_many(&attack, &target).await;
    attack.run("no requests, afterwards", async {}, "–").await;
    attack.end();
    let now = operator.pods().await.remove(0);
    assert_eq!(restarts(&now), restarts(&pod), "it was killed");
    scene.end().await;
}
