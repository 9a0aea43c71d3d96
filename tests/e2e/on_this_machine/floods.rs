//! Floods of requests to the webhook's port, from the networks of attacking pods.

use std::{fs::File, sync::Arc, thread, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use nix::sched::{CloneFlags, setns};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink, split},
    join,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use super::target::{Target, review};
use crate::processes::processes;

/// Concurrent connections from each attacking pod to each replica, and the bodies sent over each.
pub(super) const CONNECTIONS: usize = 20;
pub(super) const BODIES: usize = 4;
/// Connections of each attacking pod with requests that never end, together more than a replica's, and for how long.
pub(super) const ENDLESS: (usize, Duration) = (400, Duration::from_secs(10));
/// Connections of each attacking pod with small requests that don't wait for their answers, and for how long.
pub(super) const PIPELINED: (usize, Duration) = (50, Duration::from_secs(10));

/// Bodies that need much more memory as values than as text, with their descriptions.
pub(super) fn bodies() -> Vec<(&'static str, String)> {
    let review = |object: &str| {
        format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"1","operation":"CREATE","kind":{{"group":"apps","version":"v1","kind":"Deployment"}},"object":{object}}}}}"#
        )
    };
    let list = |item: &str| {
        let count = 4 * 1024 * 1024 / (item.len() + 1);
        format!(r#"{{"a":[{}]}}"#, vec![item; count].join(","))
    };
    let keys: Vec<_> = (0..400_000).map(|n| format!("\"{n:x}\":0")).collect();
    vec![
        ("numbers", review(&list("0"))),
        ("empty strings", review(&list("\"\""))),
        ("empty objects", review(&list("{}"))),
        ("lists in lists", review(&list("[[]]"))),
        ("an object of 400,000 keys", review(&format!("{{{}}}", keys.join(",")))),
        ("100,000 nested lists", review(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)))),
        ("a string of escapes", review(&format!("\"{}\"", "\\u0041".repeat(700_000)))),
        ("numbers outside of a review", list("0")),
    ]
}

/// Runs a number of clients in a pod's network. Returns the sum of their outcomes.
fn from_network<T: Future<Output = usize> + Send + 'static>(
    pod: &Pod,
    clients: usize,
    client: impl Fn() -> T + Send + 'static,
) -> thread::JoinHandle<usize> {
    let network = File::open(format!("/proc/{}/ns/net", processes(pod)[0])).unwrap();
    thread::spawn(move || {
        setns(network, CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let all: JoinSet<_> = (0..clients).map(|_| client()).collect();
            all.join_all().await.into_iter().sum()
        })
    })
}

/// Sends a body over several connections. Returns how many were answered.
pub(super) fn flood(from: &Pod, target: &Target, body: &Arc<String>) -> thread::JoinHandle<usize> {
    let (target, body) = (target.clone(), body.clone());
    from_network(from, CONNECTIONS, move || {
        let (target, body) = (target.clone(), body.clone());
        async move {
            let mut answered = 0;
            for _ in 0..BODIES {
                answered += usize::from(send(&target, &body).await);
            }
            answered
        }
    })
}

/// Holds connections with requests that never end, and opens another for each that is closed. Returns how many it opened.
pub(super) fn hold(from: &Pod, target: &Target) -> thread::JoinHandle<usize> {
    let (target, until) = (target.clone(), Instant::now() + ENDLESS.1);
    from_network(from, ENDLESS.0, move || {
        let target = target.clone();
        async move {
            let mut opened = 0;
            while let Ok(connected) = timeout_at(until, target.try_connect()).await {
                let Ok(mut client) = connected else { continue };
                opened += 1;
                let head =
                    "POST /mutate?timeout=30s HTTP/1.1\r\nhost: adieu\r\ncontent-length: 4000000\r\n\r\n{";
                let _ = client.write_all(head.as_bytes()).await;
                let _ = timeout_at(until, client.read_to_end(&mut Vec::new())).await;
            }
            opened
        }
    })
}

/// Waits for clients. Returns the sum of their outcomes.
pub(super) async fn joined(clients: Vec<thread::JoinHandle<usize>>) -> usize {
    let join = || clients.into_iter().map(|client| client.join().unwrap()).sum();
    tokio::task::spawn_blocking(join).await.unwrap()
}

/// Whether there was an answer. A rejected client's connection may be closed instead.
async fn send(target: &Target, body: &str) -> bool {
    let Ok(Ok(mut client)) = timeout(Duration::from_secs(10), target.try_connect()).await else {
        return false;
    };
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: adieu\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut answer = Vec::new();
    let exchange = async {
        client.write_all(head.as_bytes()).await.ok()?;
        let _ = client.write_all(body.as_bytes()).await;
        let _ = client.flush().await;
        client.read_to_end(&mut answer).await.ok()
    };
    let _ = timeout(Duration::from_secs(30), exchange).await;
    answer.starts_with(b"HTTP/1.1 ")
}

/// Sends small reviews over connections without waiting for the answers. Returns how many connections it opened.
pub(super) fn pipeline(from: &Pod, target: &Target, namespace: &str) -> thread::JoinHandle<usize> {
    let (target, until) = (target.clone(), Instant::now() + PIPELINED.1);
    let body = review(namespace, &json!({"adieu.dev/graceful": "true"})).to_string();
    let request =
        format!("POST /mutate HTTP/1.1\r\nhost: adieu\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let requests = Arc::new(request.repeat(16));
    from_network(from, PIPELINED.0, move || {
        let (target, requests) = (target.clone(), requests.clone());
        async move {
            let mut opened = 0;
            while let Ok(connected) = timeout_at(until, target.try_connect()).await {
                let Ok(client) = connected else { continue };
                opened += 1;
                let (mut answers, mut client) = split(client);
                let send = async { while client.write_all(requests.as_bytes()).await.is_ok() {} };
                let mut discarded = sink();
                let exchange = async { join!(send, copy(&mut answers, &mut discarded)) };
                let _ = timeout_at(until, exchange).await;
            }
            opened
        }
    })
}
