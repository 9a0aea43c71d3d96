use std::sync::Mutex;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::*;
use crate::trial::test_support::{client, failure};

fn service(name: &str, spec: Value) -> Value {
    let metadata = json!({"name": name, "namespace": "shop", "uid": name, "resourceVersion": "8"});
    json!({"metadata": metadata, "spec": spec})
}

fn list(names: &[&str], after: &str) -> Value {
    let items: Vec<_> = names.iter().map(|name| service(name, json!({}))).collect();
    json!({"metadata": {"resourceVersion": "7", "continue": after}, "items": items})
}

type Asked = Arc<Mutex<Vec<String>>>;

/// The services of an API server that gives these answers one after the other, and then nothing but a silent
/// watch; and what it is asked for.
fn services(answers: Vec<(u16, Value)>) -> (Source<Service>, Asked) {
    let (asked, mut answers) = (Asked::default(), answers.into_iter());
    let (requests, answers) = (asked.clone(), Mutex::new(move || answers.next()));
    let client = client(move |_, target| {
        requests.lock().unwrap().push(target.to_owned());
        answers.lock().unwrap()()
    });
    let source = Source {
        client,
        path: Service::url_path(&(), None),
        api_version: "v1".into(),
        kind: "Service",
        fields: None,
        unusable: UnusableObjects::default(),
        shares: Arc::new(Shares::new(Service::LIMITS)),
        keep: Arc::new(|service| service),
    };
    (source, asked)
}

/// What the stream brings within a minute.
async fn told(events: &mut (impl Stream<Item = watcher::Result<Event<Service>>> + Unpin)) -> Vec<String> {
    let mut told = vec![];
    while let Ok(Some(event)) = timeout(Duration::from_mins(1), events.next()).await {
        told.push(match event {
            Ok(Event::Init) => "begin".into(),
            Ok(Event::InitApply(service)) => format!("have {}", service.name_any()),
            Ok(Event::InitDone) => "end".into(),
            Ok(Event::Apply(service)) => format!("apply {}", service.name_any()),
            Ok(Event::Delete(service)) => format!("delete {}", service.name_any()),
            Err(_) => "error".into(),
        });
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_page_that_fails_is_asked_for_again_and_forgotten_ones_are_listed_anew() {
    let (source, asked) = services(vec![
        (200, list(&["a"], "more")),
        (500, failure(500, "etcd has no leader")),
        (410, failure(410, "the continue token is too old")),
        (200, list(&["a"], "more")),
        (200, list(&["b"], "")),
        (410, failure(410, "too old resource version")),
        (200, list(&["c"], "")),
    ]);
    let told = told(&mut Box::pin(list_watch(source))).await;
    let expected = ["begin", "have a", "error", "error", "begin", "have a", "have b", "end", "error"];
    assert_eq!(told[..9], expected);
    assert_eq!(told[9..], ["begin", "have c", "end"]);
    let asked = asked.lock().unwrap();
    let pages = asked.iter().map(|target| target.contains("continue=more")).collect::<Vec<_>>();
    assert_eq!(pages[..5], [false, true, true, false, true]);
    assert!(asked[5].contains("resourceVersion=7") && asked[5].contains("allowWatchBookmarks=true"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_renewed_after_about_a_minute_from_where_it_was() {
    let bookmark = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}});
    let (source, asked) = services(vec![(200, list(&["a"], "")), (200, bookmark)]);
    let mut events = Box::pin(list_watch(source));
    assert_eq!(told(&mut events).await, ["begin", "have a", "end"]);
    // Renewals publish no event.
    for _ in 0..3 {
        assert!(told(&mut events).await.is_empty());
    }
    let asked = asked.lock().unwrap();
    assert!(!asked[0].contains("watch="));
    assert!(asked[1].contains("resourceVersion=7"));
    assert!((4..7).contains(&asked.len()), "{asked:?}");
    assert!(
        asked[2..].iter().all(|target| target.contains("watch=") && target.contains("resourceVersion=9"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_can_not_be_used_hides_no_other() {
    let mut listed = list(&["a", "bad", "large", "b"], "");
    let bad = json!({"ports": [{"port": 3_000_000_000_u32}]});
    listed["items"][1]["spec"] = bad.clone();
    listed["items"][2]["spec"] = json!({"externalName": "x".repeat(20 << 10)});
    let event = |kind: &str, object: Value| (200, json!({"type": kind, "object": object}));
    let (source, _) = services(vec![
        (200, listed),
        event("MODIFIED", service("a", bad)),
        event("MODIFIED", service("bad", json!({}))),
        event("DELETED", service("large", json!({"externalName": "x".repeat(20 << 10)}))),
    ]);
    let unusable = source.unusable.clone();
    let names = || {
        let all = unusable.all().into_iter();
        all.map(|one| (one.reference.name.unwrap(), one.reason)).collect::<Vec<_>>()
    };
    let mut events = Box::pin(list_watch(source));
    for expected in ["begin", "have a", "have b", "end"] {
        let Some(Ok(event)) = events.next().await else { panic!("no event") };
        assert!(event.to_string().len() > 2, "{expected}");
    }
    let [(bad, why), (large, too_large)] = &names()[..] else { panic!("{:?}", names()) };
    assert!(bad == "bad" && why.to_string().contains("3000000000") && why.name() == "Undecodable");
    assert!(large == "large" && too_large.to_string().contains("21 KiB") && too_large.name() == "TooLarge");
    assert_eq!(told(&mut events).await, ["apply bad", "delete large"], "the last version of a stays");
    let [(left, _)] = &names()[..] else { panic!("{:?}", names()) };
    assert_eq!(left, "a");
}

#[test]
fn pages_are_as_large_as_their_bytes_allow() {
    for (limit, count, bytes, next) in [
        (25, 25, 25 * 1_000, 100),
        (100, 100, 100_000, 400),
        (400, 400, 400_000, 500),
        (500, 500, 500 * 20_000, 209),
        (25, 25, 25 * 1_400_000, 2),
        (2, 2, 2 * 9_000_000, 1),
        (25, 0, 100, 100),
    ] {
        assert_eq!(next_limit(limit, count, bytes), next, "{limit} {count} {bytes}");
    }
}
