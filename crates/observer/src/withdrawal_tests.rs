//! When a pod is withdrawn, by the states of its endpoints.

use k8s_openapi::jiff::Timestamp;

use crate::{
    Observer, TerminatingEndpoints,
    tests::{START, current, decode, ended},
};

#[derive(Clone, Copy, Debug)]
enum State {
    Ready,
    NotReady,
    Missing,
    /// All EndpointSlices are listed again.
    ListBegins,
}

/// The seconds until the pod is withdrawn by EndpointSlices with these names, states and times. The first state is observed
/// before the pod, and the pod is gone after 25 s.
fn withdrawn(states: &[(&str, State, Option<i64>)]) -> Option<i64> {
    let at = |second: Option<i64>| second.and_then(|second| Timestamp::from_second(START + second).ok());
    let mut observer = Observer::default();
    for (number, (name, state, second)) in states.iter().enumerate() {
        if number == 1 {
            observer.observe(decode(&ended(0, 20)));
        }
        let slice = ("shop".to_owned(), (*name).to_owned());
        let mut endpoints = TerminatingEndpoints { slice, ..TerminatingEndpoints::default() };
        match state {
            State::Ready => {
                endpoints.ready.insert("uid-1".into());
            }
            State::NotReady => endpoints.not_ready.push("uid-1".into()),
            State::Missing => {}
            State::ListBegins => {
                observer.endpoints_list_begins();
                continue;
            }
        }
        observer.endpoints(&endpoints, at(*second));
    }
    observer.observe(decode(&ended(0, 20)));
    observer.learn("uid-1", current());
    observer.deleted("uid-1", at(Some(25))).unwrap().withdrawal_seconds
}

#[test]
fn the_withdrawal_ends_with_the_last_slice() {
    use State::{ListBegins, Missing, NotReady, Ready};
    let relisted = ("a", ListBegins, None);
    for (states, seconds, why) in [
        (vec![("a", NotReady, Some(1)), ("b", NotReady, Some(3)), ("a", NotReady, Some(9))], Some(3), "once"),
        (vec![("a", NotReady, Some(-1))], Some(0), "clocks differ"),
        (vec![("a", NotReady, Some(1)), ("b", NotReady, None)], None, "withdrawn at an unknown time"),
        (vec![("a", Ready, Some(1))], Some(25), "ready until the pod is gone"),
        (vec![("a", Ready, Some(1)), ("a", Ready, Some(2)), ("a", Missing, Some(22))], Some(22), "gone"),
        (vec![("a", Ready, Some(1)), ("a", NotReady, Some(4)), ("a", Missing, Some(22))], Some(4), "first"),
        (vec![("a", NotReady, Some(1)), ("a", Ready, Some(2)), ("a", Missing, Some(22))], Some(1), "first"),
        (
            vec![("a", NotReady, Some(1)), ("b", Ready, Some(1)), ("b", Missing, Some(22))],
            Some(1),
            "not ready",
        ),
        (vec![("a", NotReady, Some(1)), ("b", Ready, Some(1))], Some(1), "b is ready until the pod is gone"),
        (vec![("a", Missing, Some(1)), ("a", Missing, Some(2))], None, "in no slice"),
        (vec![relisted, ("a", Ready, None)], Some(25), "listed while it is ready"),
        (vec![("a", Ready, Some(1)), relisted, ("a", Ready, None)], Some(25), "listed again"),
        (vec![("a", Ready, Some(1)), relisted], None, "missing in a new list"),
        (vec![relisted, ("a", Ready, None), relisted], None, "missing in the next list"),
        (vec![("a", NotReady, Some(1)), relisted, ("a", NotReady, None)], Some(1), "listed as before"),
    ] {
        assert_eq!(withdrawn(&states), seconds, "{why}: {states:?}");
    }
}

#[test]
fn a_slice_withdraws_only_the_pods_that_it_no_longer_has() {
    let at = |second: i64| Timestamp::from_second(START + second).ok();
    let endpoints = |uids: &[&str]| TerminatingEndpoints {
        slice: ("shop".into(), "a".into()),
        ready: uids.iter().map(|uid| (*uid).to_owned()).collect(),
        not_ready: vec![],
    };
    let mut observer = Observer::default();
    observer.endpoints(&endpoints(&["uid-1", "uid-2", "uid-3"]), at(1));
    // Before the pods are known to terminate.
    observer.endpoints(&endpoints(&["uid-2", "uid-3"]), at(2));
    for uid in ["uid-1", "uid-2", "uid-3"] {
        let mut pod = decode(&ended(0, 20));
        pod.uid = uid.into();
        observer.observe(pod);
        observer.learn(uid, current());
    }
    observer.endpoints(&endpoints(&["uid-3"]), at(9));
    let seconds =
        ["uid-1", "uid-2", "uid-3"].map(|uid| observer.deleted(uid, at(25)).unwrap().withdrawal_seconds);
    assert_eq!(seconds, [Some(2), Some(9), Some(25)]);
}
