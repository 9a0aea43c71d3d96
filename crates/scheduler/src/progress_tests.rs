use serde_json::json;

use super::*;

fn rolling(kind: Kind, spec: Value, status: Value) -> bool {
    let object = json!({"metadata": {"generation": 2}, "spec": spec, "status": status});
    progress(kind, &serde_json::from_value(object).unwrap()) != Progress::Complete
}

#[test]
fn a_deployment_reports_a_failed_rollout_and_since_when() {
    let since = "2026-01-01T12:00:00Z";
    let of = |observed: i64, progressing: &str| {
        let condition = json!({"type": "Progressing", "status": progressing, "lastTransitionTime": since});
        let object = json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {
            "observedGeneration": observed, "updatedReplicas": 1, "replicas": 3, "availableReplicas": 2,
            "conditions": [condition]}});
        let progress =
            RolloutProgress::of(Kind::Deployment, &serde_json::from_value(object).unwrap(), || false);
        (progress.progress, progress.failed_since)
    };
    assert_eq!(of(2, "False"), (Progress::Failed, since.parse().ok()));
    assert_eq!(of(2, "True"), (Progress::Rolling, None));
    assert_eq!(of(1, "False"), (Progress::Rolling, None), "that was the previous rollout");
}

#[test]
fn pods_that_break_after_a_complete_rollout_are_no_rollout() {
    let of = |kind, status: Value| {
        let object = json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status});
        was_complete(kind, &serde_json::from_value(object).unwrap())
    };
    let deployment = |observed: i64, updated: i64, all: i64, reason: &str| {
        let conditions = [json!({"type": "Progressing", "status": "True", "reason": reason})];
        of(
            Kind::Deployment,
            json!({"observedGeneration": observed, "updatedReplicas": updated,
            "replicas": all, "availableReplicas": 1, "conditions": conditions}),
        )
    };
    assert!(deployment(2, 2, 2, "NewReplicaSetAvailable"));
    assert!(!deployment(1, 2, 2, "NewReplicaSetAvailable"), "that was the previous rollout");
    assert!(!deployment(2, 1, 2, "NewReplicaSetAvailable"));
    assert!(!deployment(2, 2, 3, "NewReplicaSetAvailable"));
    assert!(!deployment(2, 2, 2, "ReplicaSetUpdated"));
    let stateful = |current: &str| {
        let status = json!({"observedGeneration": 2, "updateRevision": "b", "currentRevision": current});
        of(Kind::StatefulSet, status)
    };
    assert!(stateful("b") && !stateful("a"));
    assert!(!of(Kind::DaemonSet, json!({"observedGeneration": 2})));
}

#[test]
fn rollouts_without_a_deadline_time_out() {
    let of = |kind, spec: Value| {
        patience(kind, &serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap())
    };
    let deployment = |spec| of(Kind::Deployment, spec);
    assert_eq!(deployment(json!({})), PATIENCE);
    assert_eq!(deployment(json!({"progressDeadlineSeconds": 60})), Duration::from_mins(1));
    assert_eq!(deployment(json!({"progressDeadlineSeconds": i32::MAX})), LONGEST_PATIENCE);
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let slow = json!({"template": {"spec": {"terminationGracePeriodSeconds": 3600}}});
        assert_eq!(of(kind, slow), PATIENCE + Duration::from_hours(1));
        assert_eq!(of(kind, json!({})), PATIENCE + GRACE_PERIOD);
        let endless = json!({"template": {"spec": {"terminationGracePeriodSeconds": i64::MAX}}});
        assert_eq!(of(kind, endless), PATIENCE + LONGEST_PATIENCE);
        let ready = json!({"minReadySeconds": 900});
        assert_eq!(of(kind, ready), PATIENCE + GRACE_PERIOD + Duration::from_mins(15));
    }
}

#[test]
fn a_deployment_is_complete_when_only_new_pods_are_left_and_available() {
    let status = |observed: i64, updated: i64, all: i64, available: i64| json!({"observedGeneration": observed, "updatedReplicas": updated, "replicas": all, "availableReplicas": available});
    for (spec, status, expected) in [
        (json!({"replicas": 2}), status(2, 2, 2, 2), false),
        (json!({"replicas": 2}), status(1, 2, 2, 2), true),
        (json!({"replicas": 2}), status(2, 1, 3, 3), true),
        (json!({"replicas": 2}), status(2, 2, 3, 3), true),
        (json!({"replicas": 2}), status(2, 2, 2, 1), true),
        (json!({"replicas": 2, "paused": true}), status(2, 0, 2, 2), false),
        (json!({"replicas": 0}), status(1, 0, 0, 0), false),
        (json!({}), json!({}), true),
    ] {
        assert_eq!(rolling(Kind::Deployment, spec.clone(), status.clone()), expected, "{spec} {status}");
    }
}

#[test]
fn progress_of_stateful_and_daemon_sets_uses_their_own_fields() {
    let ready = json!({"observedGeneration": 2, "updatedReplicas": 3, "readyReplicas": 3, "updateRevision": "b", "currentRevision": "a"});
    let half = json!({"observedGeneration": 2, "updatedReplicas": 1, "readyReplicas": 3, "updateRevision": "b", "currentRevision": "a"});
    let partitioned = json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}});
    let by_hand = json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}});
    assert!(!rolling(Kind::StatefulSet, json!({"replicas": 3}), ready));
    assert!(rolling(Kind::StatefulSet, json!({"replicas": 3}), half.clone()));
    assert!(!rolling(Kind::StatefulSet, partitioned, half.clone()));
    assert!(!rolling(Kind::StatefulSet, by_hand, half));

    let status = |updated: i64| json!({"observedGeneration": 2, "desiredNumberScheduled": 3, "updatedNumberScheduled": updated, "numberAvailable": 3});
    assert!(!rolling(Kind::DaemonSet, json!({}), status(3)));
    assert!(rolling(Kind::DaemonSet, json!({}), status(2)));
    assert!(!rolling(Kind::DaemonSet, json!({"updateStrategy": {"type": "OnDelete"}}), status(2)));
}
