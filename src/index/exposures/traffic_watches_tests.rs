use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::GroupVersionKind;
use serde_json::json;

use super::*;
use crate::runtime::test_support::{client, failure};

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

#[tokio::test]
async fn a_change_marks_only_the_services_that_it_affects() {
    let (unlisted, listed) = watch::channel(1);
    let watches = TrafficWatches {
        client: client(|_, _| None),
        unusable: UnusableObjects::default(),
        quota: Quota::default(),
        dirty: Dirty::default(),
        index: Arc::default(),
        unlisted,
    };
    let kind = Kind::find("networking.k8s.io", "Ingress").unwrap();
    let quota = Arc::new(watches.quota.for_kind(WatchedTraffic::FLOOR));
    let mut state = KindState { kind, quota, is_listed: false, listed: HashSet::new() };
    let mut marked = |events: Vec<Event<WatchedTraffic>>| {
        for event in events {
            watches.apply(&mut state, event);
        }
        let batch = watches.dirty.take().now_or_never().unwrap_or_default();
        assert!(!batch.all && batch.namespaces.is_empty());
        let services = batch.services.into_iter().map(|(namespace, name)| format!("{namespace}/{name}"));
        (services.collect::<Vec<_>>(), *listed.borrow())
    };
    let list = |objects: Vec<WatchedTraffic>| {
        let objects = objects.into_iter().map(Event::InitApply);
        [Event::Init].into_iter().chain(objects).chain([Event::InitDone]).collect()
    };
    let both = || vec![ingress("a", "web"), ingress("b", "api")];
    assert_eq!(
        marked(vec![Event::Init, Event::InitApply(ingress("a", "web"))]),
        (vec!["shop/web".into()], 1)
    );
    assert_eq!(marked(list(both())), (vec!["shop/api".into()], 0));
    assert_eq!(marked(list(both())), (vec![], 0), "a repeated list changes nothing");
    assert_eq!(marked(vec![Event::Apply(ingress("a", "web"))]), (vec![], 0), "only its status changed");
    let moved = vec!["shop/new".into(), "shop/web".into()];
    assert_eq!(marked(vec![Event::Apply(ingress("a", "new"))]), (moved, 0));
    assert_eq!(marked(list(vec![ingress("a", "new")])), (vec!["shop/api".into()], 0));
    assert_eq!(marked(vec![Event::Delete(deleted("a"))]), (vec!["shop/new".into()], 0));
}

#[tokio::test]
async fn objects_of_a_kind_that_is_no_longer_served_are_dropped() {
    let watches = TrafficWatches {
        client: client(|_, _| None),
        unusable: UnusableObjects::default(),
        quota: Quota::default(),
        dirty: Dirty::default(),
        index: Arc::default(),
        unlisted: watch::channel(1).0,
    };
    let kind = Kind::find("networking.k8s.io", "Ingress").unwrap();
    let quota = Arc::new(watches.quota.for_kind(WatchedTraffic::FLOOR));
    let mut state = KindState { kind, quota, is_listed: false, listed: HashSet::new() };
    watches.apply(&mut state, Event::Apply(ingress("a", "web")));
    watches.dirty.take().await;
    watches.forget(&mut state);
    assert_eq!(watches.dirty.take().await.services, [("shop".to_owned(), "web".to_owned())].into());
    let index = watches.index.read().unwrap();
    assert!(index.leading_to("shop", ["web"]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_objects_of_a_kind_are_kept_until_it_is_denied_twice() {
    let lists = AtomicUsize::new(0);
    let client = client(move |_, target| {
        if target.contains("watch=") || lists.fetch_add(1, Ordering::Relaxed) > 0 {
            return Some((403, failure(403, "denied")));
        }
        let spec = json!({"defaultBackend": {"service": {"name": "web"}}});
        let items = json!([{"metadata": {"name": "a", "namespace": "shop"}, "spec": spec}]);
        Some((200, json!({"metadata": {"resourceVersion": "1"}, "items": items})))
    });
    let watches = TrafficWatches {
        client,
        unusable: UnusableObjects::default(),
        quota: Quota::default(),
        dirty: Dirty::default(),
        index: Arc::default(),
        unlisted: watch::channel(1).0,
    };
    let kind = Kind::find("networking.k8s.io", "Ingress").unwrap();
    let quota = Arc::new(watches.quota.for_kind(WatchedTraffic::FLOOR));
    let mut state = KindState { kind, quota, is_listed: false, listed: HashSet::new() };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.k8s.io", "v1", "Ingress"));
    let causes = ChangeSet::default();
    let count = || watches.index.read().unwrap().leading_to("shop", ["web"]).len();
    let check = async {
        watches.unlisted.subscribe().wait_for(|unlisted| *unlisted == 0).await.unwrap();
        assert_eq!(count(), 1);
        sleep(FIRST_DENIED_RETRY / 2).await;
        assert_eq!(count(), 1, "it was denied once");
        sleep(FIRST_DENIED_RETRY).await;
        assert_eq!(count(), 0);
    };
    tokio::select! {
        () = watches.watch(&mut state, &resource, &causes) => unreachable!(),
        () = check => {}
    }
}
