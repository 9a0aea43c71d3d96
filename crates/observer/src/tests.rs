//! Terminations of pods as the API server shows them.

use adieu_core::{
    api::{
        TerminationCause as Cause, TerminationOutcome as Outcome, WorkloadKind as Kind,
        annotations::INJECTED, limits,
    },
    plan::Source,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::{Facts, MAX_PODS, Observer, PodOwner, Profile, TerminatingPod, Termination, profile_name};

/// The start of every termination here.
const START: i64 = 1_800_000_000;
const GRACE: i64 = 30;

fn time(second: i64) -> String {
    Timestamp::from_second(START + second).unwrap().to_string()
}

fn pod() -> Value {
    json!({
        "metadata": {
            "namespace": "shop", "name": "web-7d4b9-x2x", "uid": "uid-1",
            "labels": {"pod-template-hash": "7d4b9"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9", "uid": "2", "controller": true}],
            "deletionTimestamp": time(GRACE), "deletionGracePeriodSeconds": GRACE,
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "app"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "state": {"running": {"startedAt": time(-100)}}}]},
    })
}

fn terminated(exit_code: i32, second: i64) -> Value {
    json!({"terminated": {"exitCode": exit_code, "finishedAt": time(second), "startedAt": time(-100)}})
}

fn ended(exit_code: i32, second: i64) -> Value {
    let mut pod = pod();
    pod["status"]["containerStatuses"][0]["state"] = terminated(exit_code, second);
    pod
}

fn decode(pod: &Value) -> TerminatingPod {
    TerminatingPod::decode(pod.to_string().as_bytes()).unwrap().expect("a terminating pod")
}

fn current() -> Facts {
    Facts { workload_exists: true, is_current_revision: Some(true), ..Facts::default() }
}

/// The termination of a pod that is observed at its start, at its end, and when it is gone.
fn observe(end: &Value, facts: Facts) -> Option<Termination> {
    let mut observer = Observer::default();
    assert!(observer.observe(decode(&pod())));
    assert!(observer.learn("uid-1", facts).is_none(), "it is not gone");
    assert!(!observer.observe(decode(end)), "it is known");
    let termination = observer.deleted("uid-1");
    assert!(observer.is_empty() && observer.deleted("uid-1").is_none());
    termination
}

#[test]
fn a_pod_that_is_not_deleted_is_ignored() {
    let mut running = pod();
    running["metadata"].as_object_mut().unwrap().remove("deletionTimestamp");
    assert_eq!(TerminatingPod::decode(running.to_string().as_bytes()).unwrap(), None);
    assert!(TerminatingPod::decode(b"[]").is_err());
}

#[test]
fn the_exit_of_a_container_decides_the_outcome() {
    for (exit_code, second, outcome, shutdown) in [
        (0, 4, Outcome::Completed, 4),
        (143, 0, Outcome::DefaultAction, 0),
        (1, 7, Outcome::Crashed, 7),
        (137, 30, Outcome::Killed, 30),
        (137, 3, Outcome::Killed, 3),
        (0, 32, Outcome::Completed, 32),
        (0, 33, Outcome::Killed, 33),
    ] {
        let found = observe(&ended(exit_code, second), current()).unwrap();
        assert_eq!(
            (found.outcome, found.shutdown_seconds),
            (outcome, Some(shutdown)),
            "{exit_code} {second}"
        );
        assert_eq!((found.used_seconds, found.exit_code), (Some(shutdown), Some(exit_code)));
        assert_eq!(found.end, Timestamp::from_second(START + second).unwrap());
        assert_eq!(found.is_bad(), !matches!(exit_code, 0 | 143) || second > 32, "{exit_code} {second}");
    }
}

#[test]
fn a_container_that_the_kernel_killed_crashed() {
    let mut end = ended(137, 3);
    end["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] = "OOMKilled".into();
    assert_eq!(observe(&end, current()).unwrap().outcome, Outcome::Crashed);
}

#[test]
fn less_time_than_requested_is_cut_short() {
    let disrupted = |reason: &str| {
        let mut end = ended(137, 10);
        end["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": time(0)}]);
        observe(&end, current()).unwrap()
    };
    assert_eq!(disrupted("TerminationByKubelet").outcome, Outcome::CutShort);
    assert_eq!(
        disrupted("EvictionByEvictionAPI").outcome,
        Outcome::Killed,
        "the whole grace period is its own"
    );
    let mut again = ended(137, 5);
    again["metadata"]["deletionTimestamp"] = time(5).into();
    again["metadata"]["deletionGracePeriodSeconds"] = 5.into();
    let shortened = observe(&again, current()).unwrap();
    assert_eq!((shortened.outcome, shortened.requested.grace_period_seconds), (Outcome::CutShort, GRACE));
    let gone = observe(&pod(), current()).unwrap();
    assert_eq!((gone.outcome, gone.shutdown_seconds, gone.exit_code), (Outcome::CutShort, None, None));
    let mut last = ended(0, 4);
    // The kubelet's deletion at the end.
    last["metadata"]["deletionTimestamp"] = time(0).into();
    last["metadata"]["deletionGracePeriodSeconds"] = 0.into();
    let completed = observe(&last, current()).unwrap();
    assert_eq!((completed.outcome, completed.requested.grace_period_seconds), (Outcome::Completed, GRACE));
}

#[test]
fn a_node_that_shuts_down_stops_its_pods_before_they_are_deleted() {
    let mut stopped = ended(137, -590);
    stopped["status"]["reason"] = "Terminated".into();
    stopped["status"]["conditions"] = json!([{
        "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "lastTransitionTime": time(-600),
    }]);
    let mut observer = Observer::default();
    assert!(observer.observe(decode(&stopped)));
    observer.deleted("uid-1");
    let found = observer.learn("uid-1", current()).unwrap();
    assert_eq!((found.outcome, found.cause), (Outcome::CutShort, Cause::NodeShutdown));
    assert_eq!(found.used_seconds, Some(10));
}

#[test]
fn the_worst_container_counts() {
    let mut end = ended(0, 4);
    end["spec"]["containers"] = json!([{"name": "app"}, {"name": "worker"}]);
    end["spec"]["initContainers"] = json!([{"name": "setup"}, {"name": "proxy", "restartPolicy": "Always"}]);
    let statuses = &mut end["status"];
    statuses["containerStatuses"] =
        json!([{"name": "app", "state": terminated(0, 4)}, {"name": "worker", "state": terminated(3, 6)}]);
    statuses["initContainerStatuses"] =
        json!([{"name": "setup", "state": terminated(1, -90)}, {"name": "proxy", "state": terminated(0, 9)}]);
    let found = observe(&end, current()).unwrap();
    assert_eq!((found.outcome, found.container.as_str()), (Outcome::Crashed, "worker"));
    assert_eq!((found.shutdown_seconds, found.used_seconds), (Some(6), Some(9)), "the sidecar ends later");
}

#[test]
fn pods_without_a_running_container_do_not_count() {
    assert_eq!(observe(&ended(0, -1), current()), None);
    let mut waiting = pod();
    waiting["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "ImagePullBackOff"}});
    assert_eq!(observe(&waiting, current()), None);
}

#[test]
fn the_shutdown_begins_after_the_pre_stop_hook() {
    let mut end = ended(0, 14);
    end["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"exec": {"command": ["sleep", "10"]}}});
    let by = Source::WorkloadAnnotation;
    let record = json!({"optedInBy": by, "settings": {"shutdownTimeoutSeconds": {"value": 20, "from": by}}});
    end["metadata"]["annotations"] = json!({INJECTED: record.to_string()});
    let pod = decode(&end);
    assert_eq!((pod.requested.pre_stop_seconds, pod.requested.grace_period_seconds), (10, GRACE));
    assert_eq!(pod.requested.shutdown_timeout_seconds, Some(20));
    let found = observe(&end, current()).unwrap();
    assert_eq!(found.shutdown_seconds, Some(4));
    end["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"httpGet": {"port": 80}}});
    assert_eq!(observe(&end, current()).unwrap().shutdown_seconds, Some(14), "its duration is not known");
}

#[test]
fn a_failed_hook_is_an_outcome_unless_the_pod_was_killed() {
    for (exit_code, second, outcome) in
        [(0, 1, Outcome::PreStopFailed), (143, 1, Outcome::PreStopFailed), (137, 30, Outcome::Killed)]
    {
        let mut observer = Observer::default();
        observer.observe(decode(&pod()));
        observer.pre_stop_failed("uid-1");
        observer.pre_stop_failed("another");
        observer.observe(decode(&ended(exit_code, second)));
        observer.learn("uid-1", current());
        assert_eq!(observer.deleted("uid-1").unwrap().outcome, outcome);
    }
}

#[test]
fn the_cause_is_the_disruption_or_what_the_workload_does() {
    let exists = current();
    for (reason, status_reason, facts, cause) in [
        ("PreemptionByScheduler", "", exists, Cause::Preemption),
        ("DeletionByTaintManager", "", exists, Cause::Taint),
        ("EvictionByEvictionAPI", "", exists, Cause::Eviction),
        ("EvictionByEvictionAPI", "", Facts { node_is_cordoned: true, ..exists }, Cause::NodeDrain),
        ("TerminationByKubelet", "Evicted", exists, Cause::Eviction),
        ("TerminationByKubelet", "Terminated", exists, Cause::NodeShutdown),
        ("DeletionByPodGC", "", exists, Cause::NodeShutdown),
        ("", "", Facts::default(), Cause::Deletion),
        ("", "", Facts { is_current_revision: Some(false), scaled_down: true, ..exists }, Cause::Rollout),
        ("", "", Facts { scaled_down: true, ..exists }, Cause::ScaleDown),
        ("", "", Facts { is_current_revision: None, ..exists }, Cause::Deletion),
        ("", "", exists, Cause::Deletion),
    ] {
        let mut end = ended(0, 4);
        if !reason.is_empty() {
            end["status"]["conditions"] = json!([
                {"type": "Ready", "status": "False"},
                {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": time(0)},
            ]);
        }
        end["status"]["reason"] = status_reason.into();
        assert_eq!(observe(&end, facts).unwrap().cause, cause, "{reason} {status_reason} {facts:?}");
    }
}

#[test]
fn the_owner_is_the_workload_with_what_tells_the_revision() {
    let owned = |kind: &str, name: &str, api_version: &str| {
        let mut pod = pod();
        pod["metadata"]["labels"] = json!({
            "pod-template-hash": "7d4b9", "controller-revision-hash": "db-5f", "pod-template-generation": "3",
        });
        pod["metadata"]["ownerReferences"] =
            json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": "2", "controller": true}]);
        decode(&pod).owner
    };
    let workload = |kind, name: &str, revision: &str| PodOwner::Workload {
        kind,
        name: name.into(),
        revision: Some(revision.into()),
    };
    for (kind, name, api_version, expected) in [
        ("ReplicaSet", "web-7d4b9", "apps/v1", workload(Kind::Deployment, "web", "web-7d4b9")),
        ("ReplicaSet", "web", "apps/v1", PodOwner::Other),
        ("StatefulSet", "db", "apps/v1", workload(Kind::StatefulSet, "db", "db-5f")),
        ("DaemonSet", "agent", "apps/v1", workload(Kind::DaemonSet, "agent", "3")),
        ("Job", "report", "batch/v1", PodOwner::Job),
        ("Rollout", "web", "argoproj.io/v1alpha1", PodOwner::Other),
    ] {
        assert_eq!(owned(kind, name, api_version), expected, "{kind}");
    }
    let mut alone = pod();
    alone["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    assert_eq!(decode(&alone).owner, PodOwner::Other);
}

#[test]
fn a_pod_counts_once_the_facts_are_known_in_any_order() {
    let mut observer = Observer::default();
    observer.observe(decode(&ended(0, 2)));
    assert!(observer.deleted("uid-1").is_none(), "the cause is not known yet");
    assert!(observer.deleted("uid-1").is_none());
    assert!(observer.learn("uid-1", current()).is_some());
    assert!(observer.learn("uid-1", current()).is_none());
}

#[test]
fn pods_that_a_new_list_does_not_have_are_gone() {
    let mut observer = Observer::default();
    let named = |uid: &str| {
        let mut pod = ended(0, 2);
        pod["metadata"]["uid"] = uid.into();
        decode(&pod)
    };
    for uid in ["stays", "goes"] {
        observer.observe(named(uid));
        observer.learn(uid, current());
    }
    observer.list_begins();
    assert!(!observer.observe(named("stays")) && observer.observe(named("new")));
    assert_eq!(observer.list_ends().len(), 1);
    assert_eq!(["stays", "goes", "new"].map(|uid| observer.follows(uid)), [true, false, true]);
}

#[test]
fn the_withdrawal_ends_with_the_last_slice() {
    let slice = |name: &str| ("shop".to_owned(), name.to_owned());
    let at = |second: i64| Timestamp::from_second(START + second).ok();
    let withdrawn = |events: &[(&str, Option<Timestamp>)]| {
        let mut observer = Observer::default();
        // The first event arrives before the pod's.
        observer.withdrawn("uid-1", &slice(events[0].0), events[0].1);
        observer.observe(decode(&pod()));
        for (name, at) in &events[1..] {
            observer.withdrawn("uid-1", &slice(name), *at);
        }
        observer.observe(decode(&ended(0, 20)));
        observer.learn("uid-1", current());
        observer.deleted("uid-1").unwrap().withdrawal_seconds
    };
    assert_eq!(
        withdrawn(&[("a", at(1)), ("b", at(3)), ("a", at(9))]),
        Some(3),
        "repeated events don't count"
    );
    assert_eq!(withdrawn(&[("a", at(-1))]), Some(0), "clocks differ");
    assert_eq!(withdrawn(&[("a", at(1)), ("b", None)]), None, "withdrawn at an unknown time");
}

#[test]
fn the_number_of_followed_pods_is_limited() {
    let mut observer = Observer::default();
    for number in 0..=MAX_PODS {
        let mut pod = decode(&pod());
        pod.uid = number.to_string();
        observer.observe(pod);
    }
    assert_eq!((observer.len(), observer.take_ignored(), observer.take_ignored()), (MAX_PODS, 1, 0));
}

#[test]
fn a_profile_sums_up_terminations_and_survives_a_restart() {
    let slow = observe(&ended(137, 30), current()).unwrap();
    let good = observe(&ended(0, 4), Facts { is_current_revision: Some(false), ..current() }).unwrap();
    let mut profile = Profile::new(&slow);
    for _ in 0..9 {
        profile.add(&good);
    }
    let status = profile.status();
    assert_eq!((status.terminations, status.outcomes.completed, status.outcomes.killed), (10, 9, 1));
    assert_eq!((status.causes.deletion, status.causes.rollout), (1, 9));
    assert_eq!(status.problem.as_deref(), Some("too slow, killed (1 of 10)"));
    let quantiles = status.shutdown_seconds.unwrap();
    assert_eq!((quantiles.p50, quantiles.p90, quantiles.max), (4, 4, 30));
    let [recent] = status.recent.as_slice() else { panic!("{:?}", status.recent) };
    assert_eq!((recent.pod.as_str(), recent.outcome), ("web-7d4b9-x2x", Outcome::Killed));
    assert_eq!(recent.reason, "killed at the end of the grace period of 30 s");
    assert_eq!(status.last_termination_time, time(30), "the latest end, in any order");

    let stored = serde_json::to_value(&status).unwrap();
    let mut restored = Profile::of(serde_json::from_value(stored).unwrap());
    assert_eq!(restored, profile);
    for _ in 0..20 {
        restored.add(&slow);
    }
    assert_eq!((restored.status().terminations, restored.status().recent.len()), (30, 5));
}

#[test]
fn evidence_is_about_the_times_that_pods_have_now() {
    let killed = observe(&ended(137, 30), current()).unwrap();
    let mut profile = Profile::new(&killed);
    (0..30).for_each(|_| profile.add(&killed));
    let mut longer = observe(&ended(0, 4), current()).unwrap();
    longer.requested.grace_period_seconds = 60;
    (0..20).for_each(|_| profile.add(&longer));
    let status = profile.status();
    assert_eq!((status.outcomes.killed, status.current_outcomes.killed, status.problem), (31, 0, None));
    assert_eq!(status.shutdown_seconds.unwrap().max, 4);
    let summary = status.recommendation.unwrap().summary;
    assert_eq!(summary, "terminationGracePeriodSeconds 60 -> 5: p99 of 20 terminations is 4 s");
    let stored = serde_json::to_value(profile.status()).unwrap();
    assert_eq!(Profile::of(serde_json::from_value(stored).unwrap()), profile);
}

#[test]
fn an_application_that_ignores_sigterm_differs_from_a_slow_one() {
    let killed = observe(&ended(137, 30), current()).unwrap();
    let mut profile = Profile::new(&killed);
    assert_eq!(profile.status().problem.as_deref(), Some("too slow, killed (1 of 1)"), "once can be chance");
    (0..30).for_each(|_| profile.add(&killed));
    let status = profile.status();
    assert_eq!(status.problem.as_deref(), Some("ignores SIGTERM, killed (31 of 31)"));
    assert_eq!(status.recommendation, None, "no time is enough");
}

#[test]
fn the_name_of_a_profile_is_not_longer_than_a_name_may_be() {
    assert_eq!(profile_name(Kind::StatefulSet, "db"), "statefulset-db");
    let [long, other] = ["a", "b"].map(|last| profile_name(Kind::Deployment, &("x".repeat(252) + last)));
    assert!(long.len() <= limits::OBJECT_NAME_LENGTH && long != other, "{long}");
}
