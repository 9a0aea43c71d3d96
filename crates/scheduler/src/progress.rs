//! The progress of a rollout, by the same rules as `kubectl rollout status`.

use std::time::Duration;

use adieu_core::{hash::hash_of, plan::Kind};
use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::Value;

/// The state of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutState {
    /// All pods have the current template and are available.
    Complete,
    /// Pods of an older template are being replaced.
    Progressing,
    /// The Deployment controller reports that the progress deadline is exceeded.
    Failed,
}

/// The progress of a workload's rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutProgress {
    /// Its `metadata.generation`.
    pub generation: Option<i64>,
    /// As `kubectl rollout status` reports it.
    pub state: RolloutState,
    /// Since when a Deployment reports that its progress deadline is exceeded, if it does.
    pub failed_since: Option<Timestamp>,
    /// Its replicas, once its controller has observed the generation.
    pub counts: Option<ReplicaCounts>,
    /// Whether a Deployment reports that its pods can't be created.
    pub replica_failure: bool,
    /// The time without progress after which it fails.
    pub progress_deadline: Duration,
    /// The hash of the condition in which the workload's controller reports progress.
    pub condition: Option<u64>,
    /// Whether it has been complete, and all pods still have that template.
    pub was_complete: bool,
    /// Whether all pods of a DaemonSet have the current template.
    pub is_updated: bool,
    /// Why it rolls out no pods, if it doesn't.
    pub suspended: Option<Suspended>,
}

impl RolloutProgress {
    /// The progress of a workload's rollout. `has_service`: whether a Service selects its pods; it is called only for a
    /// workload that is scaled to zero.
    #[must_use]
    pub fn of(kind: Kind, object: &DynamicObject, has_service: impl FnOnce() -> bool) -> Self {
        let suspended = match suspended(kind, object) {
            Some(Suspended::ScaledToZero) if has_service() => Some(Suspended::ScaledToZeroWithService),
            suspended => suspended,
        };
        Self {
            generation: object.metadata.generation,
            state: rollout_state(kind, object),
            failed_since: failed_since(kind, object),
            counts: replica_counts(kind, object),
            replica_failure: has_replica_failure(object),
            progress_deadline: progress_deadline(kind, object),
            condition: progressing(object).map(hash_of),
            was_complete: was_complete(kind, object),
            is_updated: is_updated(kind, object),
            suspended,
        }
    }
}

/// The default of a Deployment's progressDeadlineSeconds.
const DEFAULT_PROGRESS_DEADLINE: Duration = Duration::from_mins(10);

/// The longest deadline of a Deployment (2147483647 means none) or grace period that is waited for.
const MAX_PROGRESS_DEADLINE: Duration = Duration::from_hours(1);

/// The default of a pod's terminationGracePeriodSeconds.
const DEFAULT_GRACE_PERIOD: Duration = Duration::from_secs(30);

/// The time without progress after which a rollout fails. Pods of a `StatefulSet` or `DaemonSet` are replaced one after
/// the other, each once the previous one has terminated.
fn progress_deadline(kind: Kind, object: &DynamicObject) -> Duration {
    let spec = &object.data["spec"];
    let seconds = |value: &Value| value.as_u64().map(Duration::from_secs);
    if kind == Kind::Deployment {
        return seconds(&spec["progressDeadlineSeconds"])
            .unwrap_or(DEFAULT_PROGRESS_DEADLINE)
            .min(MAX_PROGRESS_DEADLINE);
    }
    DEFAULT_PROGRESS_DEADLINE + replacement_time(kind, object)
}

/// How long replacing one pod may take without progress, at most two hours: its grace period and `minReadySeconds`. Zero
/// for a Deployment, which replaces several at a time.
#[must_use]
pub fn replacement_time(kind: Kind, object: &DynamicObject) -> Duration {
    if kind == Kind::Deployment {
        return Duration::ZERO;
    }
    let spec = &object.data["spec"];
    let seconds = |value: &Value| value.as_u64().map(Duration::from_secs);
    let grace = seconds(&spec["template"]["spec"]["terminationGracePeriodSeconds"]);
    let ready = seconds(&spec["minReadySeconds"]).unwrap_or_default();
    grace.unwrap_or(DEFAULT_GRACE_PERIOD).min(MAX_PROGRESS_DEADLINE) + ready.min(MAX_PROGRESS_DEADLINE)
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

impl ReplicaCounts {
    /// The best of both: of pods that become available again and again, only the maximum counts.
    fn merge_best(self, other: Self) -> Self {
        Self {
            desired: self.desired.max(other.desired),
            updated: self.updated.max(other.updated),
            available: self.available.max(other.available),
            old: self.old.min(other.old),
        }
    }

    /// Whether these are better than `best`, apart from the desired number.
    fn is_better_than(self, best: Self) -> bool {
        Self { desired: best.desired, ..best.merge_best(self) } != best
    }
}

/// The best replica counts of a rollout so far, and the generation that they were last observed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BestCounts {
    counts: ReplicaCounts,
    generation: i64,
}

impl BestCounts {
    /// Adds the counts of a generation to `best`, and returns whether they are progress. Another generation with fewer
    /// updated replicas is another rollout: the workload was restarted or scaled down.
    pub fn update(best: &mut Option<Self>, generation: i64, counts: ReplicaCounts) -> bool {
        let is_same = |best: &Self| generation <= best.generation || counts.updated >= best.counts.updated;
        let same = best.filter(is_same);
        *best = Some(Self { generation, counts: same.map_or(counts, |best| best.counts.merge_best(counts)) });
        same.is_none_or(|best| counts.is_better_than(best.counts))
    }

    /// The highest desired number.
    #[must_use]
    pub fn desired(self) -> i64 {
        self.counts.desired
    }
}

/// The replica counts of a workload. `None` until its controller has observed the current generation: before that, the
/// counts are of the previous rollout.
fn replica_counts(kind: Kind, object: &DynamicObject) -> Option<ReplicaCounts> {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let replicas = spec["replicas"].as_i64().unwrap_or(1);
    is_observed(object).then(|| match kind {
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
fn has_replica_failure(object: &DynamicObject) -> bool {
    let conditions = object.data["status"]["conditions"].as_array();
    let is_failure =
        |condition: &Value| condition["type"] == "ReplicaFailure" && condition["status"] == "True";
    conditions.is_some_and(|conditions| conditions.iter().any(is_failure))
}

/// The state of a workload's rollout. A rollout that doesn't progress by itself (paused, scaled to zero, `OnDelete`,
/// or up to a partition) counts as complete.
#[must_use]
pub fn rollout_state(kind: Kind, object: &DynamicObject) -> RolloutState {
    if !is_rolling(kind, object) {
        return RolloutState::Complete;
    }
    let timed_out = progressing(object).is_some_and(|condition| condition["status"] == "False");
    if is_observed(object) && timed_out { RolloutState::Failed } else { RolloutState::Progressing }
}

/// Whether a condition `Progressing` is of a rollout before which it was `before`, both as hashes. While pods of an
/// older ReplicaSet start again, the Deployment controller keeps the condition of the previous rollout
/// (`syncRolloutStatus`).
#[must_use]
pub fn is_condition_of_rollout(condition: Option<u64>, before: Option<u64>) -> bool {
    before.is_none() || condition != before
}

fn failed_since(kind: Kind, object: &DynamicObject) -> Option<Timestamp> {
    if rollout_state(kind, object) != RolloutState::Failed {
        return None;
    }
    progressing(object)?["lastTransitionTime"].as_str()?.parse().ok()
}

/// Whether the workload's controller has observed the current generation: before that, the status is of an older one.
fn is_observed(object: &DynamicObject) -> bool {
    object.data["status"]["observedGeneration"].as_i64() >= object.metadata.generation
}

/// The condition `Progressing` of a Deployment.
fn progressing(object: &DynamicObject) -> Option<&Value> {
    let conditions = object.data["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Progressing")
}

/// Whether all pods of a DaemonSet have the current template. Its status doesn't report whether a rollout was complete,
/// and with many nodes, one is always unavailable.
#[must_use]
pub fn is_updated(kind: Kind, object: &DynamicObject) -> bool {
    let status = &object.data["status"];
    let updated = status["updatedNumberScheduled"].as_i64() >= status["desiredNumberScheduled"].as_i64();
    kind == Kind::DaemonSet && is_observed(object) && updated
}

/// Whether the latest rollout was complete, and all pods still have that template: a pod that becomes unavailable later
/// is unavailable, not rolling out. Always `false` for a DaemonSet, which doesn't report it.
#[must_use]
pub fn was_complete(kind: Kind, object: &DynamicObject) -> bool {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
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
    is_observed(object) && of_template
}

/// Whether a StatefulSet has pods that aren't ready, and none of its current template: unready pods prevent its
/// controller from replacing any (`updateStatefulSet`, unless podManagementPolicy is Parallel).
#[must_use]
pub fn has_not_started(kind: Kind, object: &DynamicObject) -> bool {
    let status = &object.data["status"];
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let replicas = object.data["spec"]["replicas"].as_i64().unwrap_or(1);
    kind == Kind::StatefulSet && count("updatedReplicas") == 0 && count("readyReplicas") < replicas
}

/// Why a workload rolls out no pods. [`rollout_state`] counts it as complete, though no pod shows that the template
/// works.
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
fn suspended(kind: Kind, object: &DynamicObject) -> Option<Suspended> {
    let spec = &object.data["spec"];
    if spec["replicas"] == 0 {
        return Some(Suspended::ScaledToZero);
    }
    (kind == Kind::Deployment && spec["paused"] == true).then_some(Suspended::Paused)
}

/// Why pods of an older template stay until a user replaces them, if they do: [`rollout_state`] counts that as
/// complete.
#[must_use]
pub fn reason_pods_are_kept(kind: Kind, object: &DynamicObject) -> Option<&'static str> {
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
    let replicas = spec["replicas"].as_i64().unwrap_or(1);
    match kind {
        Kind::Deployment => {
            let updated = number(&status["updatedReplicas"]);
            let complete = updated >= replicas
                && number(&status["replicas"]) <= updated
                && number(&status["availableReplicas"]) >= updated;
            spec["paused"] != true && replicas > 0 && !(is_observed(object) && complete)
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
            by_itself && due > 0 && !(is_observed(object) && complete)
        }
        Kind::DaemonSet => {
            let by_itself = spec["updateStrategy"]["type"] != "OnDelete";
            let desired = number(&status["desiredNumberScheduled"]);
            let complete = number(&status["updatedNumberScheduled"]) >= desired
                && number(&status["numberAvailable"]) >= desired;
            by_itself && !(is_observed(object) && complete)
        }
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
