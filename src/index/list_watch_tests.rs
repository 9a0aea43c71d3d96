use std::sync::Mutex;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::*;
use crate::index::object_quota::Quota;
use crate::runtime::metrics::Metrics;
use crate::runtime::test_support::{client, failure};

fn service(name: &str, spec: Value) -> Value {
    let metadata = json!({"name": name, "namespace": "shop", "uid": name, "resourceVersion": "8"});
    json!({"metadata": metadata, "spec": spec})
}

fn list(names: &[&str], after: &str) -> Value {
    let items: Vec<_> = names.iter().map(|name| service(name, json!({}))).collect();
    json!({"metadata": {"resourceVersion": "7", "continue": after}, "items": items})
}

type Requests = Arc<Mutex<Vec<String>>>;

/// The services of an API server that gives these answers in order and then a silent watch; and the requests to it.
fn services(answers: Vec<(u16, Value)>) -> (ListWatch<Service>, Requests) {
    services_with_silence(answers.into_iter().map(Some).collect())
}

/// The same, with a silent watch in place of each `None`.
fn services_with_silence(answers: Vec<Option<(u16, Value)>>) -> (ListWatch<Service>, Requests) {
    let (requested, mut answers) = (Requests::default(), answers.into_iter());
    let (requests, answers) = (requested.clone(), Mutex::new(move || answers.next().flatten()));
    let client = client(move |_, target| {
        requests.lock().unwrap().push(target.to_owned());
        answers.lock().unwrap()()
    });
    let source = ListWatch {
        client,
        path: Service::url_path(&(), None),
        api_version: "v1".into(),
        kind: "Service",
        fields: None,
        unusable: UnusableObjects::default(),
        quota: Arc::new(Quota::default().for_kind(Service::FLOOR)),
        reuse: Arc::new(|service| service),
        pages: None,
    };
    (source, requested)
}

/// The events until the stream is silent for a minute.
async fn events_of(
    events: &mut (impl Stream<Item = watcher::Result<Event<Service>>> + Unpin),
) -> Vec<String> {
    let mut events_of = vec![];
    while let Ok(Some(event)) = timeout(Duration::from_mins(1), events.next()).await {
        events_of.push(match event {
            Ok(Event::Init) => "begin".into(),
            Ok(Event::InitApply(service)) => format!("have {}", service.name_any()),
            Ok(Event::InitDone) => "end".into(),
            Ok(Event::Apply(service)) => format!("apply {}", service.name_any()),
            Ok(Event::Delete(service)) => format!("delete {}", service.name_any()),
            Err(_) => "error".into(),
        });
    }
    events_of
}

#[tokio::test(start_paused = true)]
async fn a_failed_page_is_requested_again_and_an_expired_list_starts_over() {
    let (source, requested) = services(vec![
        (200, list(&["a"], "more")),
        (500, failure(500, "etcd has no leader")),
        (410, failure(410, "the continue token is too old")),
        (200, list(&["a"], "more")),
        (200, list(&["b"], "")),
        (410, failure(410, "too old resource version")),
        (200, list(&["c"], "")),
    ]);
    let events_of = events_of(&mut Box::pin(list_watch(source))).await;
    let expected = ["begin", "have a", "error", "error", "begin", "have a", "have b", "end", "error"];
    assert_eq!(events_of[..9], expected);
    assert_eq!(events_of[9..], ["begin", "have c", "end"]);
    let requested = requested.lock().unwrap();
    let pages = requested.iter().map(|target| target.contains("continue=more")).collect::<Vec<_>>();
    assert_eq!(pages[..5], [false, true, true, false, true]);
    assert!(requested[5].contains("resourceVersion=7") && requested[5].contains("allowWatchBookmarks=true"));
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_decoding_panics_is_unusable_and_does_not_hide_others() {
    let (mut source, _) = services(vec![(200, list(&["a", "bad", "c"], ""))]);
    source.reuse = Arc::new(|service| if service.name_any() == "bad" { panic!("a bug") } else { service });
    let metrics = Metrics::default();
    source.unusable = UnusableObjects::new(&metrics);
    let unusable = source.unusable.clone();
    assert_eq!(events_of(&mut Box::pin(list_watch(source))).await, ["begin", "have a", "have c", "end"]);
    assert_eq!(unusable.all()[0].reference.name.as_deref(), Some("bad"));
    assert!(unusable.all()[0].reason.to_string().contains("please report"));
    let text = metrics.render().unwrap();
    assert!(text.contains("adieu_panics_total{component=\"object\"} 1"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_restarted_from_its_last_resource_version() {
    let bookmark = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}});
    let (source, requested) = services(vec![(200, list(&["a"], "")), (200, bookmark)]);
    let mut events = Box::pin(list_watch(source));
    assert_eq!(events_of(&mut events).await, ["begin", "have a", "end"]);
    // A restart publishes no event.
    for _ in 0..3 {
        assert!(events_of(&mut events).await.is_empty());
    }
    let requested = requested.lock().unwrap();
    assert!(!requested[0].contains("watch="));
    assert!(requested[1].contains("resourceVersion=7"));
    assert!((4..7).contains(&requested.len()), "{requested:?}");
    assert!(
        requested[2..].iter().all(|target| target.contains("watch=") && target.contains("resourceVersion=9"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_unusable_object_does_not_hide_others() {
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
    assert_eq!(events_of(&mut events).await, ["apply bad", "delete large"], "the last version of a stays");
    let [(left, _)] = &names()[..] else { panic!("{:?}", names()) };
    assert_eq!(left, "a");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_object_is_listed_again_once_there_is_room() {
    let deleted = json!({"type": "DELETED", "object": service("a", json!({}))});
    let (source, _) = services_with_silence(vec![
        Some((200, list(&["a", "b"], ""))),
        Some((200, deleted)),
        None,
        Some((200, list(&["b"], ""))),
    ]);
    let unusable = source.unusable.clone();
    let quota = Arc::new(Quota::limited_to(6 << 10).for_kind(0));
    let mut events = Box::pin(list_watch(ListWatch { quota, ..source }));
    assert_eq!(events_of(&mut events).await, ["begin", "have a", "end", "delete a"]);
    assert!(unusable.has("Service", "shop", "b"));
    assert_eq!(unusable.all()[0].reason.name(), "TooLarge");
    let mut relisted = vec![];
    while relisted.is_empty() {
        relisted = events_of(&mut events).await;
    }
    assert_eq!(relisted, ["begin", "have b", "end"]);
    assert!(unusable.all().is_empty());
}
