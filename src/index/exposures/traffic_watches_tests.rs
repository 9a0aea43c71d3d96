use std::sync::atomic::{AtomicUsize, Ordering};

use adieu_exposures::TrafficObject;
use futures::FutureExt as _;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::{
    index::unusable_objects::UnusableReason,
    runtime::{
        metrics::Metrics,
        test_support::{client, failure},
    },
};

fn ingress(name: &str, service: &str) -> WatchedTraffic {
    let object = json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"defaultBackend": {"service": {"name": service}}},
    });
    WatchedTraffic::decode_as("networking.k8s.io/v1", "Ingress", object.to_string().as_bytes()).unwrap()
}

fn deleted(name: &str) -> WatchedTraffic {
    let (name, namespace) = (Some(name.into()), Some("shop".into()));
    WatchedTraffic::of_metadata(ObjectMeta { name, namespace, ..ObjectMeta::default() })
}

/// The watches of this number of kinds that aren't listed yet.
fn watches(client: Client, unlisted: usize) -> TrafficWatches {
    TrafficWatches {
        client,
        unusable: UnusableObjects::default(),
        quota: Quota::default(),
        dirty: Dirty::default(),
        index: Arc::default(),
        unknown: watch::Sender::new(UnknownKinds { unlisted, denied: 0 }),
        pages: Arc::new(Semaphore::new(CONCURRENT_PAGES)),
    }
}

/// The state of the watch of Ingresses.
fn ingresses(watches: &TrafficWatches) -> KindState {
    let kind = Kind::find("networking.k8s.io", "Ingress").unwrap();
    let quota = Arc::new(watches.quota.for_kind(WatchedTraffic::FLOOR));
    KindState { kind, quota, status: KindStatus::Unlisted, listed: HashSet::new() }
}

fn ingress_resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("networking.k8s.io", "v1", "Ingress"))
}

#[tokio::test]
async fn a_change_marks_only_the_services_that_it_affects() {
    let watches = watches(client(|_, _| None), 2);
    let mut state = ingresses(&watches);
    let mut marked = |events: Vec<Event<WatchedTraffic>>| {
        for event in events {
            watches.apply(&mut state, event);
        }
        let batch = watches.dirty.take().now_or_never().unwrap_or_default();
        assert!(!batch.all && batch.namespaces.is_empty());
        let services = batch.services.into_iter().map(|(namespace, name)| format!("{namespace}/{name}"));
        (services.collect::<Vec<_>>(), watches.unknown.borrow().unlisted)
    };
    let list = |objects: Vec<WatchedTraffic>| {
        let objects = objects.into_iter().map(Event::InitApply);
        [Event::Init].into_iter().chain(objects).chain([Event::InitDone]).collect()
    };
    let both = || vec![ingress("a", "web"), ingress("b", "api")];
    assert_eq!(
        marked(vec![Event::Init, Event::InitApply(ingress("a", "web"))]),
        (vec!["shop/web".into()], 2)
    );
    assert_eq!(marked(list(both())), (vec!["shop/api".into()], 1));
    assert_eq!(marked(list(both())), (vec![], 1), "a repeated list changes nothing");
    assert_eq!(marked(vec![Event::Apply(ingress("a", "web"))]), (vec![], 1), "only its status changed");
    let moved = vec!["shop/new".into(), "shop/web".into()];
    assert_eq!(marked(vec![Event::Apply(ingress("a", "new"))]), (moved, 1));
    assert_eq!(marked(list(vec![ingress("a", "new")])), (vec!["shop/api".into()], 1));
    assert_eq!(marked(vec![Event::Delete(deleted("a"))]), (vec!["shop/new".into()], 1));
}

#[tokio::test]
async fn objects_of_a_kind_that_is_no_longer_served_are_dropped() {
    let watches = watches(client(|_, _| None), 1);
    let mut state = ingresses(&watches);
    watches.apply(&mut state, Event::Apply(ingress("a", "web")));
    watches.dirty.take().await;
    watches.forget(&mut state);
    assert_eq!(watches.dirty.take().await.services, [("shop".to_owned(), "web".to_owned())].into());
    let index = watches.index.read().unwrap();
    assert!(index.leading_to("shop", ["web"]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_denied_kind_that_is_no_longer_served_does_not_count() {
    let metrics = Metrics::default();
    let mut watches = watches(client(|_, _| Some((403, failure(403, "denied")))), 1);
    watches.unusable = UnusableObjects::new(&metrics);
    let kind = Kind::find("networking.k8s.io", "Ingress").unwrap();
    let (sender, served) = watch::channel(Some(Served::from([(kind.resource, ingress_resource())])));
    let check = async {
        for denied in [1, 0] {
            let expected = UnknownKinds { unlisted: 0, denied };
            drop(watches.unknown.subscribe().wait_for(|unknown| *unknown == expected).await.unwrap());
            let line = format!("adieu_denied_kinds{{kind=\"{}\"}} {denied}", kind.resource);
            assert!(metrics.render().unwrap().contains(&line), "{line}");
            sender.send_replace(Some(Served::new()));
        }
    };
    tokio::select! {
        () = watches.follow_kind(kind, served, ChangeSet::default()) => unreachable!(),
        () = check => {}
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_becomes_unusable_or_usable_marks_the_namespaces_about_which_it_decides() {
    const GATEWAY_API: &str = "gateway.networking.k8s.io";
    const GATEWAYS: &str = "gateways.gateway.networking.k8s.io";
    let watches = watches(client(|_, _| None), 1);
    let parent = json!({"name": "public", "namespace": "infra"});
    let route = json!({"metadata": {"name": "web"}, "spec": {"parentRefs": [parent]}});
    let route = TrafficObject::read(GATEWAY_API, "HTTPRoute", "shop", &route).unwrap();
    drop(watches.index.write().unwrap().insert(route));
    let add = |kind: &'static str, namespace: &str| {
        let (name, namespace) = (Some("a".into()), Some(namespace.into()));
        let object = ObjectReference { name, namespace, ..ObjectReference::default() };
        watches.unusable.add(kind, object, UnusableReason::TooLarge("more than fits".into()));
    };
    let marked = async || {
        let batch = watches.dirty.take().await;
        (batch.all, batch.namespaces.into_iter().collect::<Vec<_>>())
    };
    let both = || (false, vec!["infra".to_owned(), "shop".to_owned()]);
    let check = async {
        add("Deployment", "bank");
        add(GATEWAYS, "infra");
        assert_eq!(marked().await, both());
        let searched = Instant::now();
        watches.unusable.remove(GATEWAYS, Some("infra"), Some("a"));
        assert_eq!(marked().await, both());
        assert!(searched.elapsed() >= MIN_SEARCH_INTERVAL, "a search reads the whole index");
        add("gatewayclasses.gateway.networking.k8s.io", "");
        assert_eq!(marked().await, (true, vec![]));
    };
    tokio::select! {
        () = watches.mark_unusable() => unreachable!(),
        () = check => {}
    }
}

#[tokio::test]
async fn an_object_counts_as_unusable_until_its_usable_version_is_in_the_index() {
    let client = client(|_, _| {
        let spec = json!({"defaultBackend": {"service": {"name": "web"}}});
        let items = json!([{"metadata": {"name": "a", "namespace": "shop"}, "spec": spec}]);
        Some((200, json!({"metadata": {"resourceVersion": "1"}, "items": items})))
    });
    let watches = watches(client, 1);
    let mut state = ingresses(&watches);
    let resource = state.kind.resource;
    let (name, namespace) = (Some("a".into()), Some("shop".into()));
    let object = ObjectReference { name, namespace, ..ObjectReference::default() };
    watches.unusable.add(resource, object, UnusableReason::TooLarge("more than fits".into()));
    let source = watches.source(&state, &ingress_resource());
    let begin: Vec<_> = list_watch(source).take(2).collect().await;
    let is_unusable = || watches.unusable.has(resource, "shop", "a");
    assert!(is_unusable());
    for event in begin {
        watches.apply(&mut state, event.unwrap());
    }
    assert!(!is_unusable());
    assert_eq!(watches.index.read().unwrap().leading_to("shop", ["web"]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_objects_of_a_kind_are_kept_until_it_is_denied_twice() {
    let lists = AtomicUsize::new(0);
    let client = client(move |_, target| {
        if target.contains("watch=") || lists.fetch_add(1, Ordering::Relaxed) == 1 {
            return Some((403, failure(403, "denied")));
        }
        let spec = json!({"defaultBackend": {"service": {"name": "web"}}});
        let items = json!([{"metadata": {"name": "a", "namespace": "shop"}, "spec": spec}]);
        Some((200, json!({"metadata": {"resourceVersion": "1"}, "items": items})))
    });
    let watches = watches(client, 1);
    let mut state = ingresses(&watches);
    let resource = ingress_resource();
    let causes = ChangeSet::default();
    let count = || watches.index.read().unwrap().leading_to("shop", ["web"]).len();
    let known = async |denied: usize| {
        let expected = UnknownKinds { unlisted: 0, denied };
        drop(watches.unknown.subscribe().wait_for(|unknown| *unknown == expected).await.unwrap());
    };
    let check = async {
        known(0).await;
        assert_eq!(count(), 1);
        sleep(FIRST_DENIED_RETRY / 2).await;
        assert_eq!(count(), 1, "it was denied once");
        known(1).await;
        assert_eq!(count(), 0);
        watches.dirty.take().await;
        known(0).await;
        assert_eq!(count(), 1);
        assert!(watches.dirty.take().await.all, "drains may be shortened again");
    };
    tokio::select! {
        () = watches.watch(&mut state, &resource, &causes) => unreachable!(),
        () = check => {}
    }
}

/// The answer of an API server that serves all kinds; `None` for other requests.
fn discovery(path: &str) -> Option<(u16, Value)> {
    if path == "/apis" {
        let groups: BTreeSet<_> = KINDS.iter().map(|kind| kind.group).collect();
        let version = |group: &str| json!({"groupVersion": format!("{group}/v1"), "version": "v1"});
        let group = |group: &&str| json!({"name": group, "versions": [version(group)]});
        let groups: Vec<_> = groups.iter().map(group).collect();
        return Some((200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})));
    }
    let group = path.strip_prefix("/apis/")?.strip_suffix("/v1")?;
    let resource = |kind: &Kind| {
        let name = kind.resource.split('.').next();
        let verbs = ["get", "list", "watch"];
        json!({"kind": kind.kind, "name": name, "namespaced": true, "singularName": "", "verbs": verbs})
    };
    let resources: Vec<_> = KINDS.iter().filter(|kind| kind.group == group).map(resource).collect();
    let version = format!("{group}/v1");
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources});
    Some((200, list))
}

/// How many lists of kinds are requested within a second, if `answer` is the answer to each, and how many
/// kinds aren't listed then.
async fn lists_requested(answer: Option<Value>) -> (usize, usize) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let client = client(move |_, target| {
        let path = target.split('?').next().unwrap_or_default();
        if let Some(found) = discovery(path) {
            return Some(found);
        }
        if target.contains("watch=") {
            return None;
        }
        if path.ends_with("/customresourcedefinitions") {
            return Some((200, json!({"metadata": {"resourceVersion": "1"}, "items": []})));
        }
        counted.fetch_add(1, Ordering::Relaxed);
        answer.clone().map(|answer| (200, answer))
    });
    let watches = watches(client, KINDS.len());
    let unknown = watches.unknown.subscribe();
    tokio::select! {
        () = watches.follow(KINDS.iter().collect()) => unreachable!(),
        () = sleep(Duration::from_secs(1)) => {}
    }
    (count.load(Ordering::Relaxed), unknown.borrow().unlisted)
}

#[tokio::test(start_paused = true)]
async fn few_kinds_are_listed_at_a_time() {
    assert_eq!(lists_requested(None).await, (CONCURRENT_PAGES, KINDS.len()));
    let empty = json!({"metadata": {"resourceVersion": "1"}, "items": []});
    assert_eq!(lists_requested(Some(empty)).await, (KINDS.len(), 0));
}
