//! What must hold whatever comes in. The fuzzer calls these, and so does `tests/corpus.rs` with the inputs
//! that are kept.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use adieu::{
    api::annotations::{self, INJECTED},
    index::caches::Caches,
    manifests::Manifests,
    plan::{self, Kind, NamespaceContext, Workload},
    runtime::{
        server::{Peer, serve_connection},
        serving::LIMITS,
    },
    webhook,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What a connection may take of memory, in bytes, whatever it is sent.
const MEMORY_BOUND: usize = 48 << 20;

/// The body of an admission request: it is answered or refused, the patch fits the object, and what was
/// patched is not patched again.
pub fn admission(body: &[u8]) {
    let Some(answer) = review(body) else { return };
    let Some(patch) = answer["response"]["patch"].as_str() else { return };
    let patch = BASE64_STANDARD.decode(patch).expect("a patch is base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a patch is JSON");
    let mut again: Value = serde_json::from_slice(body).expect("it was read before");
    let record = |object: &Value| object["spec"]["template"]["metadata"]["annotations"][INJECTED].clone();
    let (brought, there) = (record(&again["request"]["object"]), record(&again["request"]["oldObject"]));
    json_patch::patch(&mut again["request"]["object"], &patch).expect("the patch fits the object");
    // As the API server asks again where another webhook changed something (reinvocation).
    let answer = review(again.to_string().as_bytes()).expect("a patched object can be reviewed");
    // Once the record that somebody wrote is followed and gone, the one from before counts.
    let two_records = !brought.is_null() && !there.is_null() && brought != there;
    assert!(two_records || answer["response"].get("patch").is_none(), "patched twice: {again}");
}

fn review(body: &[u8]) -> Option<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let caches = Caches::fixed(vec![], vec![], vec![]);
    let reviewed = runtime.expect("a runtime").block_on(webhook::review(body, &caches)).ok()?;
    Some(serde_json::to_value(&reviewed.answer).expect("an answer is JSON"))
}

/// What comes over a connection to the webhook's port, once it is decrypted: every request is answered or the
/// connection is closed, in bounded time and memory.
pub fn service(bytes: &[u8]) {
    // Its clock goes on by itself while everybody waits.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    runtime.expect("a runtime").block_on(async {
        let router =
            webhook::router(Caches::fixed(vec![], vec![], vec![]), Arc::default(), Duration::from_secs(5));
        let (client, server) = duplex(16 * 1024);
        let peer = Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let serving = serve_connection(server, peer, router, LIMITS, CancellationToken::new());
        let serving = tokio::spawn(serving);
        let (mut reader, mut writer) = split(client);
        let mut answer = Vec::new();
        // A client that is refused early may find the connection closed.
        let both = async { tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut answer)) };
        let ended = timeout(LIMITS.age + LIMITS.head + 2 * LIMITS.drain, both).await;
        assert!(ended.is_ok(), "neither answered nor closed");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "no answer of HTTP");
        let panicked = answer.starts_with(b"HTTP/1.1 500 ") || serving.await.is_err();
        assert!(!panicked, "it panicked");
    });
    let peak = MEMORY.peak_usage().saturating_sub(before);
    assert!(peak < MEMORY_BOUND, "it took {peak} bytes");
}

/// Annotations, a line each, `key=value`: every one of them is read, refused or reported, and what is read
/// leads to an injection that can be taken back.
pub fn annotations(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let map: BTreeMap<String, String> =
        pairs.map(|(key, value)| (format!("adieu.dev/{key}"), value.to_owned())).collect();
    let parsed = annotations::parse(&map, "metadata.annotations");
    for invalid in &parsed.invalid {
        assert!(map.get(invalid.key).is_some_and(|value| *value == invalid.value), "{invalid}");
    }
    assert!(parsed.unknown.iter().all(|key| map.contains_key(key)));

    let template = json!({"spec": {
        "containers": [{"name": "web", "ports": [{"containerPort": 8080, "name": "http"}]}, {"name": "log-shipper"}],
        "terminationGracePeriodSeconds": 30,
    }});
    let workload = Workload::new(Kind::Deployment, &map, &template);
    let admission = plan::admit(&workload, None, &NamespaceContext::default());
    assert_eq!(admission.refusals.len(), parsed.invalid.len());
    if let Some(injected) = admission.template {
        assert_eq!(plan::original(&injected, None), template);
        let again =
            plan::admit(&Workload { template: &injected, ..workload }, None, &NamespaceContext::default());
        assert_eq!(again.template, None);
    }
}

/// Manifests: they are read or refused. What is injected is read back as what was meant, and taken back
/// gives what was there.
pub fn manifests(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(mut manifests) = Manifests::parse("input", text) else { return };
    let values = |manifests: &Manifests| manifests.values().cloned().collect::<Vec<Value>>();
    let before = values(&manifests);
    let around = NamespaceContext::default();
    if manifests.change(|workload, _| plan::render(workload, &around, true)).is_err() {
        return;
    }
    let written = manifests.yaml();
    let mut reverted = Manifests::parse("written", &written).expect("what was written can be read");
    assert_eq!(values(&reverted), values(&manifests), "{written}");
    // Who brings a record of his own may say of values what he likes.
    if !text.contains("adieu") {
        reverted.change(|workload, _| plan::revert(workload)).expect("nothing is malformed");
        assert_eq!(values(&reverted), before, "{written}");
        let written = reverted.yaml();
        let again = Manifests::parse("reverted", &written).expect("what was written can be read");
        assert_eq!(values(&again), before, "{written}");
    }
}
