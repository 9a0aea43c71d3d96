//! Properties that hold for any input. The fuzzer calls them, and `tests/corpus.rs` with the recorded inputs.

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
    plan::{self, Kind, NamespaceContext, PodTemplate, Workload},
    runtime::{
        server::{ConnectionInfo, serve_connection},
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

/// The memory that a connection may take, in bytes, for any input.
const MEMORY_BOUND: usize = 48 << 20;

/// The body of an admission request: it is answered or rejected, the patch applies to the object, and a patched object is
/// not patched again.
pub fn admission(body: &[u8]) {
    let Some(answer) = review(body) else { return };
    let Some(patch) = answer["response"]["patch"].as_str() else { return };
    let patch = BASE64_STANDARD.decode(patch).expect("a patch is base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a patch is JSON");
    let mut again: Value = serde_json::from_slice(body).expect("it was read before");
    let record = |object: &Value| object["spec"]["template"]["metadata"]["annotations"][INJECTED].clone();
    let (new, old) = (record(&again["request"]["object"]), record(&again["request"]["oldObject"]));
    json_patch::patch(&mut again["request"]["object"], &patch).expect("the patch fits the object");
    // The API server calls the webhook again after another one changed the object (reinvocation).
    let answer = review(again.to_string().as_bytes()).expect("a patched object can be reviewed");
    // A record in the request is reverted first, then that of the old object is used.
    let two_records = !new.is_null() && !old.is_null() && new != old;
    assert!(two_records || answer["response"].get("patch").is_none(), "patched twice: {again}");
}

fn review(body: &[u8]) -> Option<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let caches = Caches::fixed(vec![], vec![], vec![]);
    let reviewed = runtime.expect("a runtime").block_on(webhook::review(body, &caches)).ok()?;
    Some(serde_json::from_slice(&reviewed.encode()).expect("an answer is JSON"))
}

/// The decrypted bytes of a connection to the webhook's port: every request is answered or the connection is closed, in
/// bounded time and memory.
pub fn service(bytes: &[u8]) {
    // The paused clock advances while all tasks wait.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    runtime.expect("a runtime").block_on(async {
        let router =
            webhook::router(Caches::fixed(vec![], vec![], vec![]), Arc::default(), Duration::from_secs(5));
        let (client, server) = duplex(16 * 1024);
        let info = ConnectionInfo::new(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let serving = serve_connection(server, info, router, LIMITS, CancellationToken::new());
        let serving = tokio::spawn(serving);
        let (mut reader, mut writer) = split(client);
        let mut answer = Vec::new();
        // The connection may be closed before a rejected client has sent all.
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

/// Annotations, one `key=value` per line: each one is parsed, denied or reported, and the injection can be reverted.
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
    assert_eq!(admission.denials.len(), parsed.invalid.len());
    if let Some(injected) = admission.template {
        assert_eq!(plan::original(&PodTemplate::new(&injected), None), template);
        let again = plan::admit(&workload.with_template(&injected), None, &NamespaceContext::default());
        assert_eq!(again.template, None);
    }
}

/// Manifests: they are parsed or rejected. The written injection parses to the same values, and its revert restores the
/// original ones.
pub fn manifests(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(mut manifests) = Manifests::parse("input", text) else { return };
    let values = |manifests: &Manifests| manifests.values().cloned().collect::<Vec<Value>>();
    let before = values(&manifests);
    let context = NamespaceContext::default();
    if manifests.change(|workload, _| plan::render(workload, &context, true)).is_err() {
        return;
    }
    let written = manifests.yaml();
    let mut reverted = Manifests::parse("written", &written).expect("written manifests can be parsed");
    assert_eq!(values(&reverted), values(&manifests), "{written}");
    // A record in the input may have any values.
    if !text.contains("adieu") {
        reverted.change(|workload, _| plan::revert(workload)).expect("nothing is malformed");
        assert_eq!(values(&reverted), before, "{written}");
        let written = reverted.yaml();
        let again = Manifests::parse("reverted", &written).expect("written manifests can be parsed");
        assert_eq!(values(&again), before, "{written}");
    }
}
