//! The memory that requests at the webhook's port need, whatever they contain. In a separate program, because it
//! counts every allocation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod reviews;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use adieu::{
    index::caches::Caches,
    runtime::{
        server::{ConnectionInfo, serve_connection},
        serving::LIMITS,
    },
    webhook::{self, PATH},
};
use axum::Router;
use peak_alloc::PeakAlloc;
use reviews::{at_the_limit, genuine, hostile, normal, restoring};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;
/// The limit for all requests together. A replica has 128 MiB, and needs some for its caches.
const BOUND: usize = 64 * MIB;
/// Concurrent connections of two peers.
const CROWD: usize = 40;
const TIMEOUT: Duration = Duration::from_mins(2);

fn peer(number: u8) -> ConnectionInfo {
    ConnectionInfo::new(IpAddr::from(Ipv4Addr::new(10, 0, 0, number)))
}

fn connect(router: &Router, number: u8) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
    let (client, server) = duplex(16 * 1024);
    let serving = serve_connection(server, peer(number), router.clone(), LIMITS, CancellationToken::new());
    tokio::spawn(serving);
    client
}

/// The answer to a body; empty if the connection was closed without one.
async fn post(router: &Router, number: u8, body: &[u8]) -> String {
    let (mut reader, mut writer) = tokio::io::split(connect(router, number));
    let head = format!(
        "POST {PATH}?timeout=30s HTTP/1.1\r\nhost: adieu\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let send = async {
        writer.write_all(head.as_bytes()).await?;
        writer.write_all(body).await
    };
    let mut answer = Vec::new();
    // After an early answer the connection is closed.
    let both = async { tokio::join!(send, reader.read_to_end(&mut answer)) };
    let _ = timeout(TIMEOUT, both).await.expect("an end of the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

fn router() -> Router {
    webhook::router(Caches::fixed(vec![], vec![], vec![]), Arc::default(), Duration::from_secs(30))
}

/// The peak of memory over the beginning.
struct Peak(usize);

impl Peak {
    fn begin() -> Self {
        MEMORY.reset_peak_usage();
        Self(MEMORY.current_usage())
    }

    fn check(&self, what: &str) {
        let peak = MEMORY.peak_usage().saturating_sub(self.0);
        println!("{what}: {} KiB", peak / 1024);
        assert!(peak < BOUND, "{what} took {} MiB", peak / MIB);
    }
}

async fn sequential(router: &Router) {
    for bytes in [MIB / 4, 4 * MIB - 1024] {
        for (what, body) in hostile(bytes) {
            let peak = Peak::begin();
            let answer = post(router, 1, &body).await;
            assert!(answer.starts_with("HTTP/1.1 "), "{what}: {answer}");
            assert!(!answer.starts_with("HTTP/1.1 5"), "{what}: {answer}");
            peak.check(&format!("{what}, {bytes} bytes"));
        }
    }
}

/// All bodies concurrently from two peers, while a third sends reviews.
async fn concurrent(router: &Router) {
    let bodies: Vec<_> =
        [4 * MIB - 1024, 8 * MIB].into_iter().flat_map(hostile).map(|(_, body)| Arc::new(body)).collect();
    let peak = Peak::begin();
    let mut crowd = JoinSet::new();
    for number in 0..CROWD {
        let (router, body) = (router.clone(), bodies[number % bodies.len()].clone());
        let number = u8::try_from(1 + number % 2).unwrap();
        crowd.spawn(async move { post(&router, number, &body).await });
    }
    let normal = normal();
    let mut reviewed = 0;
    while !crowd.is_empty() {
        let answer = post(router, 3, normal.as_bytes()).await;
        assert!(answer.contains("\"patchType\":\"JSONPatch\""), "{answer}");
        reviewed += 1;
        while crowd.try_join_next().is_some() {}
    }
    assert!(reviewed > 1);
    peak.check(&format!("{CROWD} hostile bodies concurrently, {reviewed} reviews meanwhile"));
}

/// Two peers send bodies up to the limit without their last byte, while a third sends reviews.
async fn incomplete_bodies(router: &Router) {
    let body = Arc::new(vec![b' '; 4 * MIB - 1]);
    let peak = Peak::begin();
    let mut held = Vec::new();
    for number in 0..CROWD {
        let (router, body) = (router.clone(), body.clone());
        let number = u8::try_from(1 + number % 2).unwrap();
        held.push(tokio::spawn(async move {
            let mut client = connect(&router, number);
            let head = format!(
                "POST {PATH}?timeout=10s HTTP/1.1\r\nhost: adieu\r\ncontent-length: {}\r\n\r\n",
                4 * MIB
            );
            client.write_all(head.as_bytes()).await.unwrap();
            let _ = client.write_all(&body).await;
            let mut answer = Vec::new();
            let _ = client.read_buf(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        }));
    }
    for review in [normal(), genuine(), normal()] {
        let answer = post(router, 3, review.as_bytes()).await;
        assert!(answer.contains("\"patchType\":\"JSONPatch\""), "{answer}");
    }
    peak.check(&format!("{CROWD} bodies without their last byte, the largest review meanwhile"));
    for held in held {
        let answer = timeout(TIMEOUT, held).await.expect("an answer").unwrap();
        assert!(
            ["408", "503"].iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status} "))),
            "{answer}"
        );
    }
}

/// Two peers request large answers and don't read them, while a third sends reviews.
async fn unread(router: &Router) {
    let body = restoring();
    let head =
        format!("POST {PATH}?timeout=5s HTTP/1.1\r\nhost: adieu\r\ncontent-length: {}\r\n\r\n", body.len());
    let request = Arc::new(head + &body);
    let peak = Peak::begin();
    let mut held = Vec::new();
    for number in 0..2 * CROWD {
        let mut client = connect(router, u8::try_from(1 + number % 2).unwrap());
        let request = request.clone();
        held.push(tokio::spawn(async move {
            let _ = client.write_all(request.as_bytes()).await;
            client
        }));
    }
    for review in [normal(), genuine(), normal(), body] {
        let answer = post(router, 3, review.as_bytes()).await;
        assert!(answer.contains("\"patchType\":\"JSONPatch\""), "{}", &answer[..answer.len().min(500)]);
    }
    peak.check(&format!(
        "{} large answers that the client does not read, the largest review beside them",
        2 * CROWD
    ));
    for held in held {
        drop(timeout(TIMEOUT, held).await.expect("the request was taken").unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_input_needs_bounded_memory_and_reviews_are_answered_meanwhile() {
    let router = router();
    for (what, review) in
        [("a review", normal()), ("the largest", genuine()), ("at the limit", at_the_limit())]
    {
        let peak = Peak::begin();
        let answer = post(&router, 3, review.as_bytes()).await;
        assert!(answer.contains("\"patchType\":\"JSONPatch\""), "{what}: {answer}");
        peak.check(what);
    }
    sequential(&router).await;
    concurrent(&router).await;
    incomplete_bodies(&router).await;
    unread(&router).await;
}
