//! The status of policies.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use super::{
    drain_seconds::DrainSeconds,
    fields::Mode,
    kind::WorkloadKind,
    limits, numbers,
    schema::{self, undescribed},
};

/// The largest sum of drain, shutdown timeout and margin, in seconds.
const MAX_SUM: i64 = limits::DRAIN_SECONDS + limits::SHUTDOWN_TIMEOUT_SECONDS + limits::MARGIN_SECONDS;

/// The status of a policy.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GracefulPolicyStatus {
    /// The most recent generation of the policy that adieu has observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = numbers::MAX_SAFE_INTEGER))]
    pub observed_generation: Option<i64>,

    /// The effective values of the policy: fields that it omits have the cluster's defaults, or the built-in ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectiveValues>,

    /// The number of workloads that the policy applies to, by state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workloads: Option<WorkloadCounts>,

    /// The failed rollouts, the oldest failures first, at most 50; `workloads.rolloutFailed` counts all. An entry is
    /// removed when the rollout of its workload completes with pods, the workload is deleted, its pod template changes
    /// (a restart does not count), or other values of the policy are written to it. The next leader reads them, so that
    /// it does not retry a failed rollout.
    // Serialized even if empty: a merge patch keeps absent fields.
    #[serde(default, deserialize_with = "readable")]
    #[schemars(length(max = limits::FAILED_ROLLOUTS))]
    pub failed_rollouts: Vec<FailedRolloutStatus>,

    /// `Ready` is true if the policy is valid and every workload that it applies to has its values; `Conflicted` if
    /// another policy of the same level overrides this one for a workload; `Stalled` if failed rollouts stop further ones,
    /// of this policy or of another one for a workload that this one opts in, everywhere or in a namespace; `Blocked` if
    /// adieu cannot write a workload, with the reason `WriteRejected`, `InjectionReverted` (by another client) or
    /// `WriteConflict` (another client keeps updating it); `DrainTooShort` if the exposures of a workload need a longer drain
    /// than the automatic one that it has.
    #[serde(default, deserialize_with = "readable", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The items that can be decoded. adieu writes them again; one that cannot be decoded must not make the policy
/// unusable.
fn readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let items = Vec::<serde_json::Value>::deserialize(deserializer)?;
    Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
}

/// A failed rollout that adieu started for a policy.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedRolloutStatus {
    /// The workload's namespace. Absent in the status of a `GracefulPolicy`, whose workloads are in its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = schema::PRINTABLE))]
    pub namespace: Option<String>,
    /// The workload's kind.
    pub kind: WorkloadKind,
    /// The workload's name.
    #[schemars(length(max = 253), regex(pattern = schema::PRINTABLE))]
    pub name: String,
    /// The workload's uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36), regex(pattern = schema::PRINTABLE))]
    pub uid: Option<String>,
    /// The generation of the policy when the rollout failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = numbers::MAX_SAFE_INTEGER))]
    pub policy_generation: Option<i64>,
    /// The hash of the pod template that adieu wrote, with the version of adieu that computed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = schema::PRINTABLE))]
    pub plan_hash: Option<String>,
    /// The hash of the resulting pod template in the API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = schema::PRINTABLE))]
    pub template_hash: Option<String>,
    /// Why the rollout failed.
    pub reason: RolloutFailureReason,
    /// When the rollout failed.
    #[schemars(
        length(max = 20),
        regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")
    )]
    pub failure_time: String,
}

/// Why a rollout failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum RolloutFailureReason {
    /// It made no progress within its progress deadline, also by the Deployment controller's condition.
    ProgressDeadlineExceeded,
    /// It made progress, but did not complete within the time for its replicas.
    TotalTimeExceeded,
    /// It made no progress, because pods cannot be created, for example because of a `ResourceQuota` (the Deployment's
    /// condition `ReplicaFailure`).
    ReplicaFailure,
}

/// The values of a policy together with its defaults: those of the cluster policy for its namespace (for a cluster policy:
/// for every namespace), then the built-in ones.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveValues {
    /// Whether workloads are changed.
    pub mode: Mode,
    /// `Auto`, or seconds between the start of a pod's termination and SIGTERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainSeconds>,
    /// Seconds between the start of a pod's termination and SIGTERM; with `Auto` those of a pod without a known exposure.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::DRAIN_SECONDS))]
    pub drain_seconds: i64,
    /// Seconds that the application may take from SIGTERM to its exit.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::SHUTDOWN_TIMEOUT_SECONDS))]
    pub shutdown_timeout_seconds: i64,
    /// Seconds of reserve on top of drain and shutdown timeout.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::MARGIN_SECONDS))]
    pub margin_seconds: i64,
    /// Their sum: the grace period, in seconds, of a pod without native sidecars.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = MAX_SUM))]
    pub grace_period_seconds: i64,
}

/// Numbers of workloads that a policy applies to.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadCounts {
    /// Workloads that name the policy, or that it selects.
    #[schemars(range(min = 0, max = limits::WORKLOADS))]
    pub matched: i32,
    /// Workloads with an injected pod template.
    #[schemars(range(min = 0, max = limits::WORKLOADS))]
    pub injected: i32,
    /// Workloads that are still to be injected or updated.
    #[schemars(range(min = 0, max = limits::WORKLOADS))]
    pub pending: i32,
    /// Workloads that cannot be injected; the condition `Ready` has the reason.
    #[serde(default)]
    #[schemars(range(min = 0, max = limits::WORKLOADS))]
    pub unsatisfiable: i32,
    /// Workloads whose rollout failed; the condition `Stalled` names the first. They also count as injected or pending.
    #[serde(default)]
    #[schemars(range(min = 0, max = limits::WORKLOADS))]
    pub rollout_failed: i32,
}
