use serde_json::json;

use super::*;

/// A workload of generation 2.
fn object(spec: &Value, status: &Value) -> DynamicObject {
    let object = json!({"metadata": {"generation": 2}, "spec": spec, "status": status});
    serde_json::from_value(object).unwrap()
}

/// The object with other fields.
fn with(object: &Value, fields: &Value) -> Value {
    let mut object = object.clone();
    for (field, value) in fields.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}

/// The progress of a workload without a Service.
fn of(kind: Kind, spec: &Value, status: &Value) -> RolloutProgress {
    RolloutProgress::of(kind, &object(spec, status), || false)
}

#[test]
fn a_deployment_reports_a_failed_rollout_and_since_when() {
    let since = "2026-01-01T12:00:00Z";
    let of = |observed: i64, progressing: &str| {
        let available = json!({"type": "Available", "status": "True"});
        let condition = json!({"type": "Progressing", "status": progressing, "lastTransitionTime": since});
        let status = json!({"observedGeneration": observed, "updatedReplicas": 1, "replicas": 3,
            "availableReplicas": 2, "conditions": [available, condition]});
        let progress = of(Kind::Deployment, &json!({"replicas": 2}), &status);
        (progress.state, progress.failed_since)
    };
    assert_eq!(of(2, "False"), (RolloutState::Failed, since.parse().ok()));
    assert_eq!(of(2, "True"), (RolloutState::Progressing, None));
    assert_eq!(of(1, "False"), (RolloutState::Progressing, None), "that was the previous rollout");
}

#[test]
fn unavailable_pods_after_a_complete_rollout_do_not_count_as_a_rollout() {
    let of = |kind, status: Value| of(kind, &json!({"replicas": 2}), &status).was_complete;
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
    assert!(!of(Kind::StatefulSet, json!({"observedGeneration": 2})), "it has no revision yet");
    assert!(!of(Kind::DaemonSet, json!({"observedGeneration": 2})));
    // Without a number there is one replica.
    let conditions = json!([{"type": "Progressing", "reason": "NewReplicaSetAvailable"}]);
    let status =
        json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "conditions": conditions});
    for (updated, expected) in [(1, true), (0, false)] {
        let object =
            object(&json!({}), &with(&status, &json!({"updatedReplicas": updated, "replicas": updated})));
        assert_eq!(was_complete(Kind::Deployment, &object), expected);
    }
}

#[test]
fn rollouts_without_a_deadline_time_out() {
    let of = |kind, spec: Value| {
        progress_deadline(kind, &serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap())
    };
    let deployment = |spec| of(Kind::Deployment, spec);
    assert_eq!(deployment(json!({})), DEFAULT_PROGRESS_DEADLINE);
    assert_eq!(deployment(json!({"progressDeadlineSeconds": 60})), Duration::from_mins(1));
    assert_eq!(deployment(json!({"progressDeadlineSeconds": i32::MAX})), MAX_PROGRESS_DEADLINE);
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let slow = json!({"template": {"spec": {"terminationGracePeriodSeconds": 3600}}});
        assert_eq!(of(kind, slow), DEFAULT_PROGRESS_DEADLINE + Duration::from_hours(1));
        assert_eq!(of(kind, json!({})), DEFAULT_PROGRESS_DEADLINE + DEFAULT_GRACE_PERIOD);
        let endless = json!({"template": {"spec": {"terminationGracePeriodSeconds": i64::MAX}}});
        assert_eq!(of(kind, endless), DEFAULT_PROGRESS_DEADLINE + MAX_PROGRESS_DEADLINE);
        let ready = json!({"minReadySeconds": 900});
        assert_eq!(
            of(kind, ready),
            DEFAULT_PROGRESS_DEADLINE + DEFAULT_GRACE_PERIOD + Duration::from_mins(15)
        );
    }
}

/// Checks a complete rollout, and whether it is one in progress with other fields of its spec and status.
fn check_progress(kind: Kind, spec: &Value, status: &Value, changes: &[(Value, Value, bool)]) {
    assert_eq!(of(kind, spec, status).state, RolloutState::Complete);
    for (of_spec, of_status, is_rolling) in changes {
        let (spec, status) = (with(spec, of_spec), with(status, of_status));
        let expected = if *is_rolling { RolloutState::Progressing } else { RolloutState::Complete };
        assert_eq!(of(kind, &spec, &status).state, expected, "{spec} {status}");
    }
}

#[test]
fn a_deployment_is_complete_when_only_new_pods_are_left_and_available() {
    let status =
        json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2});
    let old = json!({"updatedReplicas": 0});
    check_progress(
        Kind::Deployment,
        &json!({"replicas": 2}),
        &status,
        &[
            (json!({}), json!({"observedGeneration": 3}), false),
            (json!({}), json!({"observedGeneration": 1}), true),
            (json!({}), json!({"updatedReplicas": 1}), true),
            (json!({}), json!({"updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}), true),
            (json!({}), json!({"updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}), false),
            (json!({}), json!({"replicas": 3}), true),
            (json!({}), json!({"availableReplicas": 1}), true),
            (json!({"replicas": null}), json!({}), false),
            (json!({"replicas": null}), old.clone(), true),
            (json!({"paused": false}), old.clone(), true),
            (json!({"paused": true}), old.clone(), false),
            (json!({"replicas": 0}), old, false),
        ],
    );
    assert_eq!(of(Kind::Deployment, &json!({}), &json!({})).state, RolloutState::Progressing);
}

#[test]
fn a_stateful_set_is_complete_when_its_pods_above_the_partition_are_new_and_all_are_ready() {
    let status = json!({"observedGeneration": 2, "updatedReplicas": 3, "readyReplicas": 3,
        "updateRevision": "b", "currentRevision": "a"});
    let partition = |partition: i64| json!({"updateStrategy": {"rollingUpdate": {"partition": partition}}});
    let one = json!({"updatedReplicas": 1});
    check_progress(
        Kind::StatefulSet,
        &json!({"replicas": 3}),
        &status,
        &[
            (json!({}), json!({"observedGeneration": 1}), true),
            (json!({}), one.clone(), true),
            (json!({}), json!({"readyReplicas": 2}), true),
            // Its controller counts no updated pods once they are the current ones.
            (json!({}), json!({"updatedReplicas": 0, "currentRevision": "b"}), false),
            (json!({}), json!({"updatedReplicas": 0, "currentRevision": "b", "readyReplicas": 2}), true),
            (partition(2), one.clone(), false),
            (partition(1), one.clone(), true),
            (partition(2), json!({"updatedReplicas": 1, "readyReplicas": 2}), true),
            (partition(3), json!({"updatedReplicas": 0, "readyReplicas": 2}), false),
            (partition(4), json!({"updatedReplicas": 0, "readyReplicas": 2}), false),
            (json!({"replicas": 0}), one.clone(), false),
            (json!({"updateStrategy": {"type": "RollingUpdate"}}), one.clone(), true),
            (json!({"updateStrategy": {"type": "OnDelete"}}), one, false),
        ],
    );
}

#[test]
fn a_daemon_set_is_complete_when_it_has_new_and_available_pods_on_all_nodes() {
    let status = json!({"observedGeneration": 2, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3,
        "numberAvailable": 3});
    let two = json!({"updatedNumberScheduled": 2});
    check_progress(
        Kind::DaemonSet,
        &json!({}),
        &status,
        &[
            (json!({}), json!({"observedGeneration": 1}), true),
            (json!({}), two.clone(), true),
            (json!({}), json!({"numberAvailable": 2}), true),
            (json!({}), json!({"updatedNumberScheduled": 4, "numberAvailable": 4}), false),
            (json!({"updateStrategy": {"type": "RollingUpdate"}}), two.clone(), true),
            (json!({"updateStrategy": {"type": "OnDelete"}}), two, false),
        ],
    );
}

#[test]
fn all_pods_of_a_daemon_set_are_updated_though_some_are_unavailable() {
    let status = |observed: i64, updated: i64| {
        json!({"observedGeneration": observed, "desiredNumberScheduled": 3, "updatedNumberScheduled": updated,
            "numberAvailable": 2})
    };
    for (kind, status, expected) in [
        (Kind::DaemonSet, status(2, 3), true),
        (Kind::DaemonSet, status(2, 4), true),
        (Kind::DaemonSet, status(2, 2), false),
        (Kind::DaemonSet, status(1, 3), false),
        (Kind::Deployment, status(2, 3), false),
    ] {
        assert_eq!(of(kind, &json!({}), &status).is_updated, expected, "{kind} {status}");
    }
}

#[test]
fn replicas_are_counted_once_the_generation_is_observed() {
    let of_pods = json!({"replicas": 7, "updatedReplicas": 2, "availableReplicas": 4, "readyReplicas": 5});
    let of_nodes = json!({"desiredNumberScheduled": 9, "currentNumberScheduled": 7, "updatedNumberScheduled": 2,
        "numberAvailable": 4});
    for (kind, status, desired, available) in [
        (Kind::Deployment, &of_pods, 6, 4),
        (Kind::StatefulSet, &of_pods, 6, 5),
        (Kind::DaemonSet, &of_nodes, 9, 4),
    ] {
        let counts = |observed: i64| {
            of(kind, &json!({"replicas": 6}), &with(status, &json!({"observedGeneration": observed}))).counts
        };
        assert_eq!(counts(1), None, "{kind}: they are of the previous rollout");
        assert_eq!(counts(2), Some(ReplicaCounts { desired, updated: 2, available, old: 5 }), "{kind}");
    }
}

#[test]
fn pods_that_can_not_be_created_are_a_replica_failure() {
    for (condition, status, expected) in
        [("ReplicaFailure", "True", true), ("ReplicaFailure", "False", false), ("Available", "True", false)]
    {
        let status = json!({"conditions": [{"type": condition, "status": status}]});
        assert_eq!(of(Kind::Deployment, &json!({}), &status).replica_failure, expected, "{status}");
    }
    assert!(!of(Kind::Deployment, &json!({}), &json!({})).replica_failure);
}

#[test]
fn the_condition_of_a_rollout_is_known_by_its_content() {
    let condition = |message: &str| {
        let conditions = json!([{"type": "Progressing", "status": "True", "message": message}]);
        of(Kind::Deployment, &json!({}), &json!({"conditions": conditions})).condition
    };
    assert!(condition("a").is_some() && condition("a") == condition("a") && condition("a") != condition("b"));
    assert_eq!(of(Kind::StatefulSet, &json!({}), &json!({})).condition, None);
}

#[test]
fn a_suspended_workload_rolls_out_no_pods() {
    for (kind, spec, without_service, with_service) in [
        (
            Kind::Deployment,
            json!({"replicas": 0}),
            Some(Suspended::ScaledToZero),
            Some(Suspended::ScaledToZeroWithService),
        ),
        (Kind::Deployment, json!({"replicas": 1}), None, None),
        (Kind::Deployment, json!({"paused": true}), Some(Suspended::Paused), Some(Suspended::Paused)),
        (Kind::Deployment, json!({"paused": false}), None, None),
        (Kind::StatefulSet, json!({"paused": true}), None, None),
        (Kind::DaemonSet, json!({}), None, None),
    ] {
        let suspended =
            |has_service| RolloutProgress::of(kind, &object(&spec, &json!({})), || has_service).suspended;
        assert_eq!(suspended(false), without_service, "{kind} {spec}");
        assert_eq!(suspended(true), with_service, "{kind} {spec}");
    }
}

#[test]
fn pods_of_an_older_template_stay_for_a_reason() {
    let partition = |partition: i64| json!({"updateStrategy": {"rollingUpdate": {"partition": partition}}});
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    let (by_hand, partitioned) =
        (Some("its update strategy is OnDelete"), Some("its update strategy has a partition"));
    for (kind, spec, expected) in [
        (Kind::Deployment, json!({"paused": true}), Some("it is paused")),
        (Kind::Deployment, json!({"paused": true, "replicas": 0}), None),
        (Kind::Deployment, json!({"paused": false}), None),
        (Kind::Deployment, on_delete.clone(), None),
        (Kind::StatefulSet, on_delete.clone(), by_hand),
        (Kind::StatefulSet, partition(1), partitioned),
        (Kind::StatefulSet, partition(0), None),
        (Kind::StatefulSet, json!({}), None),
        (Kind::DaemonSet, on_delete, by_hand),
        (Kind::DaemonSet, partition(1), None),
        (Kind::DaemonSet, json!({"paused": true}), None),
    ] {
        assert_eq!(reason_pods_are_kept(kind, &object(&spec, &json!({}))), expected, "{kind} {spec}");
    }
}

#[test]
fn unready_pods_prevent_the_start_of_a_rollout_of_a_stateful_set() {
    let spec = json!({"replicas": 2});
    for (kind, spec, status, expected) in [
        (Kind::StatefulSet, &spec, json!({"readyReplicas": 1}), true),
        (Kind::StatefulSet, &spec, json!({"readyReplicas": 2}), false),
        (Kind::StatefulSet, &spec, json!({"readyReplicas": 3}), false),
        (Kind::StatefulSet, &spec, json!({"readyReplicas": 1, "updatedReplicas": 1}), false),
        (Kind::StatefulSet, &json!({}), json!({}), true),
        (Kind::StatefulSet, &json!({}), json!({"readyReplicas": 1}), false),
        (Kind::Deployment, &spec, json!({"readyReplicas": 1}), false),
    ] {
        assert_eq!(has_not_started(kind, &object(spec, &status)), expected, "{kind} {spec} {status}");
    }
}

#[test]
fn only_better_counts_are_progress() {
    let best = ReplicaCounts { desired: 3, updated: 2, available: 2, old: 1 };
    for (counts, expected) in [
        (best, false),
        (ReplicaCounts { updated: 1, ..best }, false),
        (ReplicaCounts { available: 0, ..best }, false),
        (ReplicaCounts { old: 2, ..best }, false),
        (ReplicaCounts { desired: 9, ..best }, false),
        (ReplicaCounts { updated: 3, available: 0, ..best }, true),
        (ReplicaCounts { updated: 0, available: 3, ..best }, true),
        (ReplicaCounts { old: 0, ..best }, true),
    ] {
        assert_eq!(counts.is_better_than(best), expected, "{counts:?}");
    }
    let worse = ReplicaCounts { desired: 4, updated: 1, available: 3, old: 0 };
    assert_eq!(best.merge_best(worse), ReplicaCounts { desired: 4, updated: 2, available: 3, old: 0 });
}

#[test]
fn another_generation_with_fewer_updated_replicas_is_another_rollout() {
    let mut best = None;
    let counts = |updated, available, old| ReplicaCounts { desired: 3, updated, available, old };
    for (generation, counts, is_progress) in [
        (1, counts(0, 3, 3), true),
        (1, counts(2, 3, 1), true),
        (1, counts(2, 1, 1), false),
        (1, counts(1, 3, 2), false),
        (2, counts(2, 3, 1), false),
        (3, counts(0, 3, 3), true),
        (3, counts(1, 3, 2), true),
    ] {
        assert_eq!(BestCounts::update(&mut best, generation, counts), is_progress, "{generation} {counts:?}");
    }
}
