use serde_json::{Value, json};

use super::*;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn pod(uid: &str, ready: bool, deleted: bool) -> Pod {
    let mut metadata = json!({"name": format!("web-{uid}"), "uid": uid});
    if deleted {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let status = json!({
        "podIP": "10.0.0.7",
        "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
    });
    let hook = json!({"preStop": {"sleep": {"seconds": 10}}});
    let spec = json!({"nodeName": "node-1", "containers": [{"name": "web", "lifecycle": hook}]});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
}

fn slice(name: &str, endpoints: &[(&str, Option<bool>)]) -> EndpointSlice {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(uid, ready)| json!({"addresses": ["10.0.0.7"], "conditions": {"ready": ready}, "targetRef": {"uid": uid}}))
        .collect();
    let metadata = json!({"name": name});
    serde_json::from_value(json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints}))
        .unwrap()
}

/// The timelines of a pod that is ready.
fn serving(uid: &str) -> PodTimelines {
    let mut timelines = PodTimelines::default();
    for event in [Event::Init, Event::InitApply(pod(uid, true, false)), Event::InitDone] {
        timelines.pod_event(at(1), &event);
    }
    assert!(!timelines.is_listed());
    for event in [Event::Init, Event::InitApply(slice("s", &[(uid, Some(true))])), Event::InitDone] {
        timelines.slice_event(at(2), &event);
    }
    assert!(timelines.is_listed());
    timelines
}

#[test]
fn a_pod_timeline_combines_both_watches() {
    let mut timelines = serving("a");
    timelines.pod_event(at(100), &Event::Apply(pod("a", true, true)));
    timelines.slice_event(at(150), &Event::Apply(slice("s", &[("a", Some(false))])));
    timelines.pod_event(at(900), &Event::Delete(pod("a", false, true)));
    let timeline = timelines.all().remove(0);
    assert_eq!((timeline.name.as_str(), timeline.node.as_deref()), ("web-a", Some("node-1")));
    assert_eq!((timeline.is_preexisting, timeline.drain_seconds), (true, Some(10)));
    assert_eq!(timeline.ip, Some([10, 0, 0, 7].into()));
    assert_eq!(
        [timeline.ready, timeline.terminating, timeline.withdrawn, timeline.gone],
        [1, 100, 150, 900].map(|millis| Some(at(millis)))
    );
    assert!(timelines.are_gone([&"a".to_owned()]));
    assert_eq!(timelines.alive().count(), 0);
}

#[test]
fn a_pod_that_is_created_later_is_not_preexisting() {
    let mut timelines = serving("a");
    timelines.pod_event(at(50), &Event::Apply(pod("b", false, false)));
    timelines.pod_event(at(60), &Event::Apply(pod("b", true, false)));
    let timeline = timelines.all().remove(1);
    assert_eq!((timeline.is_preexisting, timeline.first_seen, timeline.ready), (false, at(50), Some(at(60))));
    assert_eq!(timeline.terminating, None);
    assert_eq!(timelines.alive().count(), 2);
}

#[test]
fn an_endpoint_is_withdrawn_once_no_slice_lists_it() {
    let mut timelines = serving("a");
    timelines.slice_event(at(10), &Event::Apply(slice("t", &[("a", None)])));
    timelines.pod_event(at(100), &Event::Apply(pod("a", true, true)));
    timelines.slice_event(at(150), &Event::Apply(slice("s", &[])));
    assert_eq!(timelines.all()[0].withdrawn, None, "the other Service's slice still lists it");
    timelines.slice_event(at(200), &Event::Delete(slice("t", &[])));
    assert_eq!(timelines.all()[0].withdrawn, Some(at(200)));
}

#[test]
fn a_terminating_endpoint_is_withdrawn_even_with_publish_not_ready_addresses() {
    let mut timelines = serving("a");
    timelines.pod_event(at(100), &Event::Apply(pod("a", true, true)));
    let mut published = slice("s", &[("a", Some(true))]);
    let conditions = json!({"ready": true, "serving": true, "terminating": true});
    published.endpoints[0].conditions = serde_json::from_value(conditions).unwrap();
    timelines.slice_event(at(150), &Event::Apply(published));
    assert_eq!(timelines.all()[0].withdrawn, Some(at(150)));
}

#[test]
fn no_endpoint_is_withdrawn_while_slices_are_listed_again() {
    let mut timelines = serving("a");
    timelines.pod_event(at(100), &Event::Apply(pod("a", true, true)));
    timelines.slice_event(at(110), &Event::Init);
    assert_eq!(timelines.all()[0].withdrawn, None);
    timelines.slice_event(at(110), &Event::InitApply(slice("s", &[("a", Some(true))])));
    timelines.slice_event(at(110), &Event::InitDone);
    assert_eq!(timelines.all()[0].withdrawn, None);
}

#[test]
fn pods_deleted_while_the_watch_was_down_are_gone() {
    let mut timelines = serving("a");
    for event in [Event::Init, Event::InitApply(pod("b", true, false)), Event::InitDone] {
        timelines.pod_event(at(500), &event);
    }
    let timeline = timelines.all().remove(0);
    assert_eq!((timeline.terminating, timeline.gone), (Some(at(500)), Some(at(500))));
}

#[test]
fn a_pod_that_no_service_selects_is_never_withdrawn() {
    let mut timelines = serving("a");
    timelines.pod_event(at(100), &Event::Apply(pod("b", true, true)));
    assert_eq!(timelines.all()[1].withdrawn, None);
}

#[test]
fn a_pod_that_has_finished_is_neither_alive_nor_waited_for() {
    let finished = |uid: &str, phase: &str, deleted| {
        let mut pod = pod(uid, false, deleted);
        pod.status.as_mut().unwrap().phase = Some(phase.into());
        pod
    };
    for phase in ["Succeeded", "Failed"] {
        let mut timelines = serving("a");
        timelines.pod_event(at(50), &Event::Apply(finished("b", phase, false)));
        let alive: Vec<_> = timelines.alive().map(|(uid, _)| uid.as_str()).collect();
        assert_eq!(alive, ["a"], "{phase}");
        assert!(timelines.are_gone([&"b".to_owned()]), "{phase}");
        // The kubelet sets a final phase before it deletes a terminating pod.
        timelines.pod_event(at(60), &Event::Apply(finished("b", phase, true)));
        assert!(!timelines.are_gone([&"b".to_owned()]), "{phase}");
    }
}

#[test]
fn the_drain_is_the_shortest_of_the_containers_that_have_one() {
    let sleep =
        |seconds: i64| json!({"name": "c", "lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}});
    let unreadable = json!({"name": "c", "lifecycle": {"preStop": {"exec": {"command": ["/drain"]}}}});
    let none = json!({"name": "c"});
    for (containers, expected) in [
        (vec![sleep(20), sleep(10)], Some(10)),
        (vec![sleep(10), none.clone()], Some(10)),
        (vec![unreadable.clone(), sleep(10)], Some(10)),
        (vec![unreadable, none.clone()], None),
        (vec![none], Some(0)),
    ] {
        let mut pod = pod("a", true, false);
        pod.spec = serde_json::from_value(json!({"containers": containers})).unwrap();
        assert_eq!(drain(&pod), expected, "{containers:?}");
    }
}
