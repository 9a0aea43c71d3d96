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

/// What the watches bring of a pod that is there and ready.
fn serving(uid: &str) -> Lives {
    let mut lives = Lives::default();
    for event in [Event::Init, Event::InitApply(pod(uid, true, false)), Event::InitDone] {
        lives.pod_event(at(1), &event);
    }
    assert!(!lives.is_listed());
    for event in [Event::Init, Event::InitApply(slice("s", &[(uid, Some(true))])), Event::InitDone] {
        lives.slice_event(at(2), &event);
    }
    assert!(lives.is_listed());
    lives
}

#[test]
fn a_pods_life_is_put_together_from_both_watches() {
    let mut lives = serving("a");
    lives.pod_event(at(100), &Event::Apply(pod("a", true, true)));
    lives.slice_event(at(150), &Event::Apply(slice("s", &[("a", Some(false))])));
    lives.pod_event(at(900), &Event::Delete(pod("a", false, true)));
    let life = lives.all().remove(0);
    assert_eq!((life.name.as_str(), life.node.as_deref()), ("web-a", Some("node-1")));
    assert_eq!((life.before, life.drain_seconds), (true, Some(10)));
    assert_eq!(life.ip, Some([10, 0, 0, 7].into()));
    assert_eq!(
        [life.ready, life.terminating, life.withdrawn, life.gone],
        [1, 100, 150, 900].map(|millis| Some(at(millis)))
    );
    assert!(lives.are_gone([&"a".to_owned()]));
    assert_eq!(lives.alive().count(), 0);
}

#[test]
fn a_pod_that_came_later_was_not_there_before() {
    let mut lives = serving("a");
    lives.pod_event(at(50), &Event::Apply(pod("b", false, false)));
    lives.pod_event(at(60), &Event::Apply(pod("b", true, false)));
    let life = lives.all().remove(1);
    assert_eq!((life.before, life.seen, life.ready), (false, at(50), Some(at(60))));
    assert_eq!(life.terminating, None);
    assert_eq!(lives.alive().count(), 2);
}

#[test]
fn an_endpoint_is_withdrawn_once_no_slice_names_it() {
    let mut lives = serving("a");
    lives.slice_event(at(10), &Event::Apply(slice("t", &[("a", None)])));
    lives.pod_event(at(100), &Event::Apply(pod("a", true, true)));
    lives.slice_event(at(150), &Event::Apply(slice("s", &[])));
    assert_eq!(lives.all()[0].withdrawn, None, "the other Service's slice still names it");
    lives.slice_event(at(200), &Event::Delete(slice("t", &[])));
    assert_eq!(lives.all()[0].withdrawn, Some(at(200)));
}

#[test]
fn a_terminating_endpoint_is_withdrawn_though_its_service_publishes_what_is_not_ready() {
    let mut lives = serving("a");
    lives.pod_event(at(100), &Event::Apply(pod("a", true, true)));
    let mut published = slice("s", &[("a", Some(true))]);
    let conditions = json!({"ready": true, "serving": true, "terminating": true});
    published.endpoints[0].conditions = serde_json::from_value(conditions).unwrap();
    lives.slice_event(at(150), &Event::Apply(published));
    assert_eq!(lives.all()[0].withdrawn, Some(at(150)));
}

#[test]
fn while_slices_are_listed_anew_nothing_is_withdrawn() {
    let mut lives = serving("a");
    lives.pod_event(at(100), &Event::Apply(pod("a", true, true)));
    lives.slice_event(at(110), &Event::Init);
    assert_eq!(lives.all()[0].withdrawn, None);
    lives.slice_event(at(110), &Event::InitApply(slice("s", &[("a", Some(true))])));
    lives.slice_event(at(110), &Event::InitDone);
    assert_eq!(lives.all()[0].withdrawn, None);
}

#[test]
fn what_vanished_while_nobody_watched_is_gone() {
    let mut lives = serving("a");
    for event in [Event::Init, Event::InitApply(pod("b", true, false)), Event::InitDone] {
        lives.pod_event(at(500), &event);
    }
    let life = lives.all().remove(0);
    assert_eq!((life.terminating, life.gone), (Some(at(500)), Some(at(500))));
}

#[test]
fn a_pod_that_no_service_selects_is_never_withdrawn() {
    let mut lives = serving("a");
    lives.pod_event(at(100), &Event::Apply(pod("b", true, true)));
    assert_eq!(lives.all()[1].withdrawn, None);
}

#[test]
fn a_pod_that_has_finished_is_neither_alive_nor_waited_for() {
    let finished = |uid: &str, phase: &str, deleted| {
        let mut pod = pod(uid, false, deleted);
        pod.status.as_mut().unwrap().phase = Some(phase.into());
        pod
    };
    for phase in ["Succeeded", "Failed"] {
        let mut lives = serving("a");
        lives.pod_event(at(50), &Event::Apply(finished("b", phase, false)));
        let alive: Vec<_> = lives.alive().map(|(uid, _)| uid.as_str()).collect();
        assert_eq!(alive, ["a"], "{phase}");
        assert!(lives.are_gone([&"b".to_owned()]), "{phase}");
        // As the kubelet says of a pod that is being deleted before it is gone.
        lives.pod_event(at(60), &Event::Apply(finished("b", phase, true)));
        assert!(!lives.are_gone([&"b".to_owned()]), "{phase}");
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
