//! Terminations of pods as the API server shows them.

use adieu_core::{
    api::{
        TerminationCause as Cause, TerminationOutcome as Outcome, WorkloadKind as Kind, annotations::INJECTED,
    },
    plan::Source,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::observer::{MAX_PODS, MAX_PODS_OF_NAMESPACE};
use crate::{CauseEvidence, Observer, PodOwner, TerminatingPod, Termination};

/// The start of every termination here.
pub(crate) const START: i64 = 1_800_000_000;
const GRACE: i64 = 30;

pub(crate) fn time(second: i64) -> String {
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
        "spec": {
            "nodeName": "node-1", "terminationGracePeriodSeconds": GRACE, "containers": [{"name": "app"}],
        },
        "status": {"phase": "Running", "containerStatuses": [{"name": "app", "state": {"running": {"startedAt": time(-100)}}}]},
    })
}

fn terminated(exit_code: i32, second: i64) -> Value {
    json!({"terminated": {"exitCode": exit_code, "finishedAt": time(second), "startedAt": time(-100)}})
}

pub(crate) fn ended(exit_code: i32, second: i64) -> Value {
    let mut pod = pod();
    pod["status"]["containerStatuses"][0]["state"] = terminated(exit_code, second);
    pod
}

pub(crate) fn decode(pod: &Value) -> TerminatingPod {
    TerminatingPod::decode(pod.to_string().as_bytes()).unwrap().expect("a terminating pod")
}

pub(crate) fn current() -> CauseEvidence {
    CauseEvidence { workload_exists: true, is_current_revision: Some(true), ..CauseEvidence::default() }
}

/// The termination of a pod that is observed at its start, at its end, and when it is gone.
pub(crate) fn observe(end: &Value, evidence: CauseEvidence) -> Option<Termination> {
    observe_versions(&pod(), end, evidence)
}

fn observe_versions(start: &Value, end: &Value, evidence: CauseEvidence) -> Option<Termination> {
    let mut observer = Observer::default();
    assert!(observer.observe(decode(start)));
    assert!(observer.learn("uid-1", evidence).is_none(), "it is not gone");
    assert!(!observer.observe(decode(end)), "it is known");
    let termination = observer.deleted("uid-1", None);
    assert!(observer.is_empty() && observer.deleted("uid-1", None).is_none());
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
        // By itself, or by a child process.
        (137, 3, Outcome::Crashed, 3),
        (137, 28, Outcome::Crashed, 28),
        (137, 29, Outcome::Killed, 29),
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
    let mut end = ended(137, 30);
    end["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] = "OOMKilled".into();
    assert_eq!(observe(&end, current()).unwrap().outcome, Outcome::Crashed);
}

#[test]
fn less_time_than_requested_is_cut_short() {
    let disrupted = |reason: &str| {
        let mut end = ended(137, 10);
        end["metadata"]["deletionTimestamp"] = time(0).into();
        end["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        end["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": time(0)}]);
        observe(&end, current()).unwrap()
    };
    assert_eq!(disrupted("TerminationByKubelet").outcome, Outcome::CutShort);
    assert_eq!(disrupted("EvictionByEvictionAPI").outcome, Outcome::Crashed, "it has the whole grace period");
    let mut again = ended(137, 5);
    again["metadata"]["deletionTimestamp"] = time(5).into();
    again["metadata"]["deletionGracePeriodSeconds"] = 5.into();
    let shortened = observe(&again, current()).unwrap();
    assert_eq!((shortened.outcome, shortened.requested.grace_period_seconds), (Outcome::CutShort, GRACE));
    // kubectl delete --grace-period=60.
    let mut longer = ended(0, 50);
    longer["metadata"]["deletionTimestamp"] = time(60).into();
    longer["metadata"]["deletionGracePeriodSeconds"] = 60.into();
    let longer = observe_versions(&longer, &longer, current()).unwrap();
    assert_eq!((longer.outcome, longer.requested.grace_period_seconds), (Outcome::Completed, GRACE));
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
    let mut stopped = pod();
    stopped["spec"]["containers"] = json!([{"name": "app"}, {"name": "proxy"}]);
    stopped["status"]["containerStatuses"] = json!([{"name": "app", "state": terminated(137, -590)}, {"name": "proxy", "state": terminated(1, -700)}]);
    // Deleted later, without a grace period: its phase is Failed.
    stopped["metadata"]["deletionTimestamp"] = time(0).into();
    stopped["metadata"]["deletionGracePeriodSeconds"] = 0.into();
    stopped["status"]["phase"] = "Failed".into();
    stopped["status"]["reason"] = "Terminated".into();
    stopped["status"]["conditions"] = json!([{
        "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "lastTransitionTime": time(-588),
    }]);
    let mut observer = Observer::default();
    assert!(observer.observe(decode(&stopped)));
    observer.deleted("uid-1", None);
    let found = observer.learn("uid-1", current()).unwrap();
    assert_eq!((found.outcome, found.cause), (Outcome::CutShort, Cause::NodeShutdown));
    assert_eq!(
        (found.container.as_str(), found.exit_code),
        ("app", Some(137)),
        "the other one had ended before"
    );
    assert_eq!((found.used_seconds, found.shutdown_seconds), (None, None), "the kubelet reports no start");
    assert!(found.reason().contains("by the kubelet"), "{}", found.reason());
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
    let found = observe_versions(&end, &end, current()).unwrap();
    assert_eq!((found.outcome, found.container.as_str()), (Outcome::Crashed, "worker"));
    assert_eq!((found.shutdown_seconds, found.used_seconds), (Some(6), Some(9)), "the sidecar ends later");
}

#[test]
fn pods_without_a_running_container_are_not_followed() {
    let mut waiting = pod();
    waiting["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "ImagePullBackOff"}});
    let mut unscheduled = pod();
    unscheduled.as_object_mut().unwrap().remove("status");
    for pod in [waiting, unscheduled, ended(0, -1)] {
        let mut observer = Observer::default();
        assert!(!observer.observe(decode(&pod)) && observer.is_empty(), "{pod}");
    }
}

#[test]
fn a_container_that_ran_counts_although_the_clock_of_its_node_is_slow() {
    let found = observe(&ended(143, -2), current()).unwrap();
    assert_eq!((found.outcome, found.used_seconds), (Outcome::DefaultAction, Some(0)));
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
    let found = observe_versions(&end, &end, current()).unwrap();
    assert_eq!(found.shutdown_seconds, Some(4));
    end["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"httpGet": {"port": 80}}});
    assert_eq!(
        observe_versions(&end, &end, current()).unwrap().shutdown_seconds,
        Some(14),
        "its duration is not known"
    );
}

#[test]
fn a_failed_hook_is_an_outcome_unless_the_pod_was_killed() {
    for (exit_code, second, outcome) in
        [(0, 1, Outcome::PreStopFailed), (143, 1, Outcome::PreStopFailed), (137, 30, Outcome::Killed)]
    {
        let mut observer = Observer::default();
        observer.observe(decode(&pod()));
        observer.pre_stop_failed("uid-1", "app", Timestamp::from_second(START).unwrap());
        observer.pre_stop_failed("another", "app", Timestamp::from_second(START).unwrap());
        observer.observe(decode(&ended(exit_code, second)));
        observer.learn("uid-1", current());
        assert_eq!(observer.deleted("uid-1", None).unwrap().outcome, outcome);
    }
}

#[test]
fn a_failed_hook_is_that_of_its_container_and_takes_no_time() {
    let mut end = ended(0, 8);
    let hook = json!({"preStop": {"exec": {"command": ["sleep", "10"]}}});
    let state = json!({"running": {"startedAt": time(-100)}});
    let mut start = pod();
    for pod in [&mut start, &mut end] {
        pod["spec"]["containers"] = json!([{"name": "app", "lifecycle": hook}, {"name": "proxy"}]);
    }
    start["status"]["containerStatuses"] =
        json!([{"name": "app", "state": state}, {"name": "proxy", "state": state}]);
    end["status"]["containerStatuses"] =
        json!([{"name": "app", "state": terminated(0, 8)}, {"name": "proxy", "state": terminated(0, 1)}]);
    let observed = |container: &str, at: i64| {
        let mut observer = Observer::default();
        // Before the pod is known to terminate.
        observer.pre_stop_failed("uid-1", container, Timestamp::from_second(START + at).unwrap());
        observer.observe(decode(&start));
        observer.observe(decode(&end));
        observer.learn("uid-1", current());
        let found = observer.deleted("uid-1", None).unwrap();
        (found.outcome, found.container, found.shutdown_seconds)
    };
    assert_eq!(observed("app", 0), (Outcome::PreStopFailed, "app".into(), Some(8)));
    assert_eq!(observed("proxy", 0), (Outcome::PreStopFailed, "proxy".into(), Some(1)));
    assert_eq!(observed("app", -60), (Outcome::Completed, "app".into(), Some(1)), "of a restart before");
    assert_eq!(observed("other", 0).0, Outcome::Completed);
}

#[test]
fn owners_with_a_name_of_any_length_are_ignored() {
    let mut pod = pod();
    pod["metadata"]["ownerReferences"][0]["kind"] = "StatefulSet".into();
    pod["metadata"]["ownerReferences"][0]["name"] = "x".repeat(1 << 20).into();
    assert_eq!(decode(&pod).owner, PodOwner::Other);
}

#[test]
fn the_cause_is_the_disruption_or_what_the_workload_does() {
    let exists = current();
    for (reason, status_reason, evidence, cause) in [
        ("PreemptionByScheduler", "", exists, Cause::Preemption),
        ("DeletionByTaintManager", "", exists, Cause::Taint),
        ("EvictionByEvictionAPI", "", exists, Cause::Eviction),
        ("EvictionByEvictionAPI", "", CauseEvidence { node_is_cordoned: true, ..exists }, Cause::NodeDrain),
        ("TerminationByKubelet", "Evicted", exists, Cause::Eviction),
        ("TerminationByKubelet", "Terminated", exists, Cause::NodeShutdown),
        ("DeletionByPodGC", "", exists, Cause::NodeShutdown),
        ("", "", CauseEvidence::default(), Cause::Deletion),
        (
            "",
            "",
            CauseEvidence { is_current_revision: Some(false), scaled_down: true, ..exists },
            Cause::Rollout,
        ),
        ("", "", CauseEvidence { scaled_down: true, ..exists }, Cause::ScaleDown),
        ("", "", CauseEvidence { is_current_revision: None, ..exists }, Cause::Deletion),
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
        assert_eq!(observe(&end, evidence).unwrap().cause, cause, "{reason} {status_reason} {evidence:?}");
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
fn a_pod_counts_once_its_cause_is_known_in_any_order() {
    let mut observer = Observer::default();
    observer.observe(decode(&ended(0, 2)));
    assert!(observer.deleted("uid-1", None).is_none(), "the cause is not known yet");
    assert!(observer.deleted("uid-1", None).is_none());
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
fn the_number_of_followed_pods_is_limited() {
    let mut observer = Observer::default();
    let add = |observer: &mut Observer, namespace: usize, number: usize| {
        let mut pod = decode(&pod());
        (pod.namespace, pod.uid) = (namespace.to_string(), format!("{namespace}-{number}"));
        observer.observe(pod)
    };
    assert!((0..MAX_PODS_OF_NAMESPACE).all(|number| add(&mut observer, 0, number)));
    assert!(!add(&mut observer, 0, MAX_PODS_OF_NAMESPACE));
    assert!(add(&mut observer, 1, 0), "another namespace has room");
    for number in 0..MAX_PODS {
        add(&mut observer, 2 + number / 1000, number);
    }
    assert_eq!((observer.len(), observer.take_ignored(), observer.take_ignored()), (MAX_PODS, 2002, 0));
    observer.learn("0-0", current());
    observer.deleted("0-0", None);
    assert!(add(&mut observer, 0, MAX_PODS_OF_NAMESPACE), "one has gone");
}
