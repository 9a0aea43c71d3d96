//! The progress of a rollout, by the same rules as `kubectl rollout status`.

use std::time::Duration;

use kube::core::DynamicObject;
use serde_json::Value;

use crate::{index::caches::hash_of, plan::Kind};

/// The progress of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All pods have the current template and are available.
    Complete,
    /// Pods of an older template are being replaced.
    Rolling,
    /// The Deployment controller reports that the progress deadline is exceeded.
    Failed,
}

/// The default of a Deployment's progressDeadlineSeconds.
const PATIENCE: Duration = Duration::from_mins(10);

/// The longest deadline of a Deployment (2147483647 means none) or grace period that is waited for.
const LONGEST_PATIENCE: Duration = Duration::from_hours(1);

/// The default of a pod's terminationGracePeriodSeconds.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// The time without progress after which a rollout fails. Pods of a `StatefulSet` or `DaemonSet` are replaced one after
/// the other, each once the previous one has terminated.
pub(crate) fn patience(kind: Kind, object: &DynamicObject) -> Duration {
    let spec = &object.data["spec"];
    let seconds = |value: &Value| value.as_u64().map(Duration::from_secs);
    if kind == Kind::Deployment {
        return seconds(&spec["progressDeadlineSeconds"]).unwrap_or(PATIENCE).min(LONGEST_PATIENCE);
    }
    let grace = &spec["template"]["spec"]["terminationGracePeriodSeconds"];
    let ready = seconds(&spec["minReadySeconds"]).unwrap_or_default().min(LONGEST_PATIENCE);
    PATIENCE + seconds(grace).unwrap_or(GRACE_PERIOD).min(LONGEST_PATIENCE) + ready
}

/// A hash of the progress, for comparisons. Readiness of the pods of a StatefulSet or DaemonSet is no progress: the next
/// one is updated only once the previous one is ready.
pub(crate) fn reached(kind: Kind, object: &DynamicObject) -> u64 {
    let fields: &[&str] = match kind {
        Kind::Deployment => &["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"],
        Kind::StatefulSet => &["replicas", "updatedReplicas", "currentReplicas"],
        Kind::DaemonSet => &["updatedNumberScheduled"],
    };
    let status = &object.data["status"];
    let counts: Vec<_> = fields.iter().map(|field| status[field].as_i64()).collect();
    hash_of(&(object.metadata.generation, counts))
}

/// The replica counts of a workload's status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaCounts {
    /// The desired number.
    pub desired: i64,
    /// Replicas of the current template.
    pub updated: i64,
    /// Available replicas; of a StatefulSet, ready ones.
    pub available: i64,
    /// Replicas of an older template.
    pub old: i64,
}

/// The replica counts of a workload. `None` until its controller has observed the current generation: before that, the
/// counts are of the previous rollout.
pub(super) fn replica_counts(kind: Kind, object: &DynamicObject) -> Option<ReplicaCounts> {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let replicas = spec["replicas"].as_i64().unwrap_or(1);
    let observed = status["observedGeneration"].as_i64() >= object.metadata.generation;
    observed.then(|| match kind {
        Kind::Deployment => ReplicaCounts {
            desired: replicas,
            updated: count("updatedReplicas"),
            available: count("availableReplicas"),
            old: count("replicas") - count("updatedReplicas"),
        },
        Kind::StatefulSet => ReplicaCounts {
            desired: replicas,
            updated: count("updatedReplicas"),
            available: count("readyReplicas"),
            old: count("replicas") - count("updatedReplicas"),
        },
        Kind::DaemonSet => ReplicaCounts {
            desired: count("desiredNumberScheduled"),
            updated: count("updatedNumberScheduled"),
            available: count("numberAvailable"),
            old: count("currentNumberScheduled") - count("updatedNumberScheduled"),
        },
    })
}

/// Whether a Deployment reports that its pods can't be created.
pub(super) fn has_replica_failure(object: &DynamicObject) -> bool {
    let conditions = object.data["status"]["conditions"].as_array();
    let is_failure =
        |condition: &Value| condition["type"] == "ReplicaFailure" && condition["status"] == "True";
    conditions.is_some_and(|conditions| conditions.iter().any(is_failure))
}

/// The progress of a workload's rollout. A rollout that doesn't progress by itself (paused, scaled to zero, `OnDelete`,
/// or up to a partition) counts as complete.
#[must_use]
pub fn progress(kind: Kind, object: &DynamicObject) -> Progress {
    if !is_rolling(kind, object) {
        return Progress::Complete;
    }
    let status = &object.data["status"];
    let observed = status["observedGeneration"].as_i64() >= object.metadata.generation;
    let timed_out = progressing(object).is_some_and(|condition| condition["status"] == "False");
    if observed && timed_out { Progress::Failed } else { Progress::Rolling }
}

/// The condition `Progressing` of a Deployment.
pub(super) fn progressing(object: &DynamicObject) -> Option<&Value> {
    let conditions = object.data["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Progressing")
}

/// Whether all pods of a DaemonSet have the current template. Its status doesn't report whether a rollout was complete,
/// and with many nodes, one is always unavailable.
pub(crate) fn is_updated(kind: Kind, object: &DynamicObject) -> bool {
    let status = &object.data["status"];
    let observed = status["observedGeneration"].as_i64() >= object.metadata.generation;
    let updated = status["updatedNumberScheduled"].as_i64() >= status["desiredNumberScheduled"].as_i64();
    kind == Kind::DaemonSet && observed && updated
}

/// Whether the latest rollout was complete, and all pods still have that template: a pod that becomes unavailable later
/// is broken, not rolling out. Always `false` for a DaemonSet, which doesn't report it.
pub(crate) fn was_complete(kind: Kind, object: &DynamicObject) -> bool {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    let observed = status["observedGeneration"].as_i64() >= object.metadata.generation;
    let of_template = match kind {
        Kind::Deployment => {
            let reason = progressing(object).map(|condition| &condition["reason"]);
            let complete = reason.is_some_and(|reason| reason == "NewReplicaSetAvailable");
            let updated = status["updatedReplicas"].as_i64();
            complete
                && updated >= spec["replicas"].as_i64().or(Some(1))
                && status["replicas"].as_i64() <= updated
        }
        Kind::StatefulSet => {
            status["updateRevision"].is_string() && status["updateRevision"] == status["currentRevision"]
        }
        Kind::DaemonSet => false,
    };
    observed && of_template
}

/// Whether a StatefulSet has pods that aren't ready, and none of its current template: unready pods prevent its
/// controller from replacing any (`updateStatefulSet`, unless podManagementPolicy is Parallel).
pub(crate) fn is_not_begun(kind: Kind, object: &DynamicObject) -> bool {
    let status = &object.data["status"];
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let replicas = object.data["spec"]["replicas"].as_i64().unwrap_or(1);
    kind == Kind::StatefulSet && count("updatedReplicas") == 0 && count("readyReplicas") < replicas
}

/// Why a workload rolls out no pods. [`progress`] counts it as complete, though no pod shows that the template works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspended {
    /// It is scaled to zero.
    ScaledToZero,
    /// It is scaled to zero and has a Service: a canary tool may run its pods.
    ScaledToZeroWithService,
    /// It is a Deployment that is paused.
    Paused,
}

/// Why a workload rolls out no pods, if it doesn't.
pub(super) fn suspended(kind: Kind, object: &DynamicObject) -> Option<Suspended> {
    let spec = &object.data["spec"];
    if spec["replicas"] == 0 {
        return Some(Suspended::ScaledToZero);
    }
    (kind == Kind::Deployment && spec["paused"] == true).then_some(Suspended::Paused)
}

/// Why pods of an older template stay until a user replaces them, if they do: [`progress`] counts that as complete.
pub(crate) fn keeps_pods(kind: Kind, object: &DynamicObject) -> Option<&'static str> {
    let spec = &object.data["spec"];
    let strategy = &spec["updateStrategy"];
    if spec["replicas"] == 0 {
        return None;
    }
    match kind {
        Kind::Deployment => (spec["paused"] == true).then_some("it is paused"),
        _ if strategy["type"] == "OnDelete" => Some("its update strategy is OnDelete"),
        Kind::StatefulSet if strategy["rollingUpdate"]["partition"].as_i64() > Some(0) => {
            Some("its update strategy has a partition")
        }
        _ => None,
    }
}

fn is_rolling(kind: Kind, object: &DynamicObject) -> bool {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let observed = number(&status["observedGeneration"]) >= object.metadata.generation.unwrap_or(0);
    let replicas = spec["replicas"].as_i64().unwrap_or(1);
    match kind {
        Kind::Deployment => {
            let updated = number(&status["updatedReplicas"]);
            let complete = updated >= replicas
                && number(&status["replicas"]) <= updated
                && number(&status["availableReplicas"]) >= updated;
            spec["paused"] != true && replicas > 0 && !(observed && complete)
        }
        Kind::StatefulSet => {
            let by_itself = spec["updateStrategy"]["type"] != "OnDelete";
            let partition = number(&spec["updateStrategy"]["rollingUpdate"]["partition"]);
            let due = (replicas - partition).max(0);
            // Once complete, the controller makes the update revision the current one and counts the
            // pods as current.
            let same = status["updateRevision"] == status["currentRevision"];
            let updated = same || number(&status["updatedReplicas"]) >= due;
            let complete = updated && number(&status["readyReplicas"]) >= replicas;
            by_itself && due > 0 && !(observed && complete)
        }
        Kind::DaemonSet => {
            let by_itself = spec["updateStrategy"]["type"] != "OnDelete";
            let desired = number(&status["desiredNumberScheduled"]);
            let complete = number(&status["updatedNumberScheduled"]) >= desired
                && number(&status["numberAvailable"]) >= desired;
            by_itself && !(observed && complete)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rolling(kind: Kind, spec: Value, status: Value) -> bool {
        let object = json!({"metadata": {"generation": 2}, "spec": spec, "status": status});
        progress(kind, &serde_json::from_value(object).unwrap()) != Progress::Complete
    }

    #[test]
    fn a_deployment_reports_a_failed_rollout() {
        let of = |observed: i64, progressing: &str| {
            let object = json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {
                "observedGeneration": observed, "updatedReplicas": 1, "replicas": 3, "availableReplicas": 2,
                "conditions": [{"type": "Progressing", "status": progressing}]}});
            progress(Kind::Deployment, &serde_json::from_value(object).unwrap())
        };
        assert_eq!(of(2, "False"), Progress::Failed);
        assert_eq!(of(2, "True"), Progress::Rolling);
        assert_eq!(of(1, "False"), Progress::Rolling, "that was the previous rollout");
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
}
