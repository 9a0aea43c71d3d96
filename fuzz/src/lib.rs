//! What must hold whatever comes in. The fuzzer calls these, and so does `tests/corpus.rs` with the inputs
//! that are kept.

use std::{collections::BTreeMap, fs, path::Path, process::ExitCode};

use adieu::{
    api::annotations,
    cli,
    plan::{self, Kind, Surroundings, Workload},
    runtime::caches::Caches,
    webhook,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::Parser as _;
use serde_json::{Value, json};

/// The body of an admission request: it is answered or refused, the patch fits the object, and what was
/// patched is not patched again.
pub fn admission(body: &[u8]) {
    let Some(answer) = review(body) else { return };
    let Some(patch) = answer["response"]["patch"].as_str() else { return };
    let patch = BASE64_STANDARD.decode(patch).expect("a patch is base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a patch is JSON");
    let mut again: Value = serde_json::from_slice(body).expect("it was read before");
    json_patch::patch(&mut again["request"]["object"], &patch).expect("the patch fits the object");
    // As the API server asks again where another webhook changed something (reinvocation).
    let answer = review(again.to_string().as_bytes()).expect("a patched object can be reviewed");
    assert_eq!(answer["response"].get("patch"), None, "patched twice: {again}");
}

fn review(body: &[u8]) -> Option<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let caches = Caches::fixed(vec![], vec![], vec![]);
    let reviewed = runtime.expect("a runtime").block_on(webhook::review(body, &caches)).ok()?;
    Some(serde_json::to_value(&reviewed.answer).expect("an answer is JSON"))
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
    let admission = plan::admit(&workload, None, &Surroundings::default());
    assert_eq!(admission.refusals.len(), parsed.invalid.len());
    if let Some(injected) = admission.template {
        assert_eq!(plan::opt_out(&injected, None), template);
        let again =
            plan::admit(&Workload { template: &injected, ..workload }, None, &Surroundings::default());
        assert_eq!(again.template, None);
    }
}

/// Manifests: injected or refused, without a half. Injecting again changes nothing, and taking it back gives
/// what it was.
pub fn manifests(text: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    let (given, injected, again) = (file("given.yaml"), file("injected.yaml"), file("again.yaml"));
    fs::write(&given, text).expect("a temporary file");
    if !command("inject", &given, &injected, "yaml") {
        assert!(!injected.exists(), "refused, and written all the same");
        return;
    }
    assert!(command("inject", &injected, &again, "yaml"), "what was written is refused");
    let read = |path: &Path| fs::read_to_string(path).expect("it was written");
    assert_eq!(read(&again), read(&injected), "injected twice");

    let meaning = |from: &Path, to: &Path| -> Value {
        assert!(command("revert", from, to, "json"), "what was written can't be taken back");
        serde_json::from_str(&read(to)).unwrap_or(Value::Null)
    };
    assert_eq!(meaning(&injected, &file("reverted.json")), meaning(&given, &file("given.json")));
}

fn command(name: &str, from: &Path, to: &Path, format: &str) -> bool {
    let [from, to] = [from, to].map(|path| path.display().to_string());
    let arguments = ["adieu", name, "-f", &from, "--output-file", &to, "--output", format];
    cli::run(cli::Arguments::parse_from(arguments)) == ExitCode::SUCCESS
}
