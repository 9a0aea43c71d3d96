//! `TerminationProfile`: what the terminations of a workload's pods did.

// The lint treats the names of the printer columns as duplicates.
#![allow(clippy::duplicated_attributes)]
#![allow(clippy::struct_field_names, reason = "the unit is part of a field's name in the API")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    kind::WorkloadKind,
    limits, numbers,
    schema::{PRINTABLE, TIME, undescribed},
};

/// The workload of a profile. adieu writes profiles; what you write to one is overwritten.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "adieu.dev",
    version = "v1alpha1",
    kind = "TerminationProfile",
    namespaced,
    shortname = "tprof",
    category = "adieu",
    status = "TerminationProfileStatus",
    derive = "PartialEq",
    doc = "TerminationProfile reports how the pods of a workload terminated. adieu writes it.",
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(name = "Workload", type_ = "string", json_path = ".spec.name"),
    printcolumn(name = "Terminations", type_ = "integer", json_path = ".status.terminations"),
    printcolumn(name = "Killed", type_ = "integer", json_path = ".status.outcomes.Killed"),
    printcolumn(name = "Crashed", type_ = "integer", json_path = ".status.outcomes.Crashed"),
    printcolumn(name = "PreStop-Failed", type_ = "integer", json_path = ".status.outcomes.PreStopFailed"),
    printcolumn(name = "Shutdown-P99", type_ = "integer", json_path = ".status.shutdownSeconds.p99"),
    printcolumn(name = "Problem", type_ = "string", json_path = ".status.problem"),
    printcolumn(name = "Last", type_ = "date", json_path = ".status.lastTerminationTime"),
    printcolumn(
        name = "Default-Action",
        type_ = "integer",
        json_path = ".status.outcomes.DefaultAction",
        priority = 1
    ),
    printcolumn(
        name = "Cut-Short",
        type_ = "integer",
        json_path = ".status.outcomes.CutShort",
        priority = 1
    ),
    printcolumn(
        name = "Recommendation",
        type_ = "string",
        json_path = ".status.recommendation.summary",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct TerminationProfileSpec {
    /// The workload's kind.
    pub kind: WorkloadKind,
    /// The workload's name.
    #[schemars(length(max = limits::OBJECT_NAME_LENGTH), regex(pattern = PRINTABLE))]
    pub name: String,
}

/// What the terminations did.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TerminationProfileStatus {
    /// When adieu first observed a termination of the workload.
    #[schemars(length(max = 20), regex(pattern = TIME))]
    pub observed_since: String,
    /// When the last termination that counts ended.
    #[schemars(length(max = 20), regex(pattern = TIME))]
    pub last_termination_time: String,
    /// How the last termination that counts went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<TerminationOutcome>,
    /// Pods that terminated. Pods without a running container don't count.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub terminations: i64,
    /// Terminations by outcome. A pod counts once, by its worst container.
    pub outcomes: OutcomeCounts,
    /// Terminations by cause.
    pub causes: CauseCounts,
    /// Terminations by outcome since the pods were last given other times. The problem, the recommendation and the
    /// shutdown times are about these.
    pub current_outcomes: OutcomeCounts,
    /// The longest time in seconds, since observedSince, from the end of a pod's preStop hook until all of its containers
    /// had ended. No shorter time is recommended; delete the profile to start again.
    #[serde(default, deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::MEASURED_SECONDS))]
    pub longest_seconds: i64,
    /// The most frequent problem, if terminations go wrong.
    // Serialized even if absent: a merge patch keeps absent fields.
    #[schemars(length(max = limits::SUMMARY_LENGTH), regex(pattern = PRINTABLE))]
    pub problem: Option<String>,
    /// Seconds from SIGTERM, as far as the duration of the preStop hook is known, to the end of the pod's last container.
    // Serialized even if absent: a merge patch keeps absent fields.
    pub shutdown_seconds: Option<Quantiles>,
    /// Seconds from the start of the termination until no EndpointSlice has the pod as ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_withdrawal_seconds: Option<Quantiles>,
    /// The times that the last pod was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested: Option<RequestedTimes>,
    /// The last terminations that went wrong, the latest first.
    #[serde(default)]
    #[schemars(length(max = limits::RECENT_TERMINATIONS))]
    pub recent: Vec<RecentTermination>,
    /// A better value than the one that the workload has, if there is enough evidence.
    // Serialized even if absent: a merge patch keeps absent fields.
    pub recommendation: Option<Recommendation>,
    /// The measured seconds, from which the quantiles are computed.
    #[serde(default)]
    pub histograms: Histograms,
}

/// How a termination went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum TerminationOutcome {
    /// It exited with 0.
    Completed,
    /// It exited with 143: the default action of SIGTERM ended it, or it exits so after its own cleanup, as a JVM does.
    DefaultAction,
    /// Its preStop hook failed.
    PreStopFailed,
    /// It exited with another code.
    Crashed,
    /// It ended before its grace period: the node had less time, the pod was deleted again with a shorter one, or its
    /// node is gone.
    CutShort,
    /// It was killed at the end of the grace period (exit code 137, or later than that).
    Killed,
}

/// Why a pod terminated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum TerminationCause {
    /// A newer revision of the workload replaced it.
    Rollout,
    /// The workload was scaled down.
    ScaleDown,
    /// It was evicted, through the eviction API or by the kubelet.
    Eviction,
    /// It was evicted from a node that is cordoned.
    NodeDrain,
    /// A pod of a higher priority took its place.
    Preemption,
    /// Its node shut down, or is gone.
    NodeShutdown,
    /// A taint of its node.
    Taint,
    /// It was deleted, alone or with its workload.
    Deletion,
}

/// Terminations by outcome.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OutcomeCounts {
    /// Exited with 0.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub completed: i64,
    /// Exited with 143, the default action of SIGTERM.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub default_action: i64,
    /// Killed at the end of the grace period.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub killed: i64,
    /// Exited with another code.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub crashed: i64,
    /// The preStop hook failed.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub pre_stop_failed: i64,
    /// Ended before the grace period.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub cut_short: i64,
}

impl OutcomeCounts {
    /// All terminations.
    #[must_use]
    pub fn sum(&self) -> i64 {
        let Self { completed, default_action, killed, crashed, pre_stop_failed, cut_short } = self;
        completed + default_action + killed + crashed + pre_stop_failed + cut_short
    }

    /// The count of an outcome.
    pub fn of(&mut self, outcome: TerminationOutcome) -> &mut i64 {
        match outcome {
            TerminationOutcome::Completed => &mut self.completed,
            TerminationOutcome::DefaultAction => &mut self.default_action,
            TerminationOutcome::PreStopFailed => &mut self.pre_stop_failed,
            TerminationOutcome::Crashed => &mut self.crashed,
            TerminationOutcome::CutShort => &mut self.cut_short,
            TerminationOutcome::Killed => &mut self.killed,
        }
    }
}

/// Terminations by cause.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CauseCounts {
    /// Replaced by a newer revision.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub rollout: i64,
    /// Scaled down.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub scale_down: i64,
    /// Evicted.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub eviction: i64,
    /// Evicted from a cordoned node.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub node_drain: i64,
    /// Preempted.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub preemption: i64,
    /// The node shut down, or is gone.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub node_shutdown: i64,
    /// A taint of the node.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub taint: i64,
    /// Deleted.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub deletion: i64,
}

impl CauseCounts {
    /// The count of a cause.
    pub fn of(&mut self, cause: TerminationCause) -> &mut i64 {
        match cause {
            TerminationCause::Rollout => &mut self.rollout,
            TerminationCause::ScaleDown => &mut self.scale_down,
            TerminationCause::Eviction => &mut self.eviction,
            TerminationCause::NodeDrain => &mut self.node_drain,
            TerminationCause::Preemption => &mut self.preemption,
            TerminationCause::NodeShutdown => &mut self.node_shutdown,
            TerminationCause::Taint => &mut self.taint,
            TerminationCause::Deletion => &mut self.deletion,
        }
    }
}

/// Quantiles of measured seconds. Above 100 s they are rounded up to two digits.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quantiles {
    /// The median.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::MEASURED_SECONDS))]
    pub p50: i64,
    /// The 90th percentile.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::MEASURED_SECONDS))]
    pub p90: i64,
    /// The 99th percentile.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::MEASURED_SECONDS))]
    pub p99: i64,
    /// The largest.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::MEASURED_SECONDS))]
    pub max: i64,
}

/// The times that a pod was given.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestedTimes {
    /// Its grace period, in seconds.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::MEASURED_SECONDS))]
    pub grace_period_seconds: i64,
    /// The longest preStop hook, in seconds, as far as its duration is known.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::MEASURED_SECONDS))]
    pub pre_stop_seconds: i64,
    /// The shutdown timeout of its injection, in seconds; absent if nothing was injected.
    // Serialized even if absent: a merge patch keeps absent fields.
    #[serde(default, deserialize_with = "numbers::optional")]
    #[schemars(range(min = 0, max = limits::SHUTDOWN_TIMEOUT_SECONDS))]
    pub shutdown_timeout_seconds: Option<i64>,
}

/// A termination that went wrong.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecentTermination {
    /// The pod.
    #[schemars(length(max = limits::OBJECT_NAME_LENGTH), regex(pattern = PRINTABLE))]
    pub pod: String,
    /// Its worst container.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::CONTAINER_NAME_LENGTH), regex(pattern = PRINTABLE))]
    pub container: Option<String>,
    /// When it ended.
    #[schemars(length(max = 20), regex(pattern = TIME))]
    pub time: String,
    /// How it went.
    pub outcome: TerminationOutcome,
    /// Why the pod terminated.
    pub cause: TerminationCause,
    /// What is known about it.
    #[schemars(length(max = limits::SUMMARY_LENGTH), regex(pattern = PRINTABLE))]
    pub reason: String,
}

/// A better value, with its evidence.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recommendation {
    /// The field, value and evidence in a line.
    #[schemars(length(max = limits::SUMMARY_LENGTH), regex(pattern = PRINTABLE))]
    pub summary: String,
    /// The field to set: `shutdownTimeoutSeconds`, or `terminationGracePeriodSeconds` if nothing is injected.
    #[schemars(length(max = 64), regex(pattern = PRINTABLE))]
    pub field: String,
    /// The value now, in seconds.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::MEASURED_SECONDS))]
    pub current_seconds: i64,
    /// The recommended value, in seconds.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::MEASURED_SECONDS))]
    pub recommended_seconds: i64,
    /// How reliable the evidence is.
    pub confidence: Confidence,
}

impl Recommendation {
    /// The [`field`](Self::field) of a recommended shutdown timeout.
    pub const SHUTDOWN_TIMEOUT: &'static str = "shutdownTimeoutSeconds";
}

/// How reliable a recommendation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum Confidence {
    /// From at least 100 terminations.
    High,
    /// From fewer.
    Medium,
}

/// The measured seconds.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Histograms {
    /// Of the shutdown.
    #[schemars(length(max = limits::HISTOGRAM_BUCKETS))]
    pub shutdown_seconds: Vec<Bucket>,
    /// Of the withdrawal from endpoints.
    #[schemars(length(max = limits::HISTOGRAM_BUCKETS))]
    pub endpoint_withdrawal_seconds: Vec<Bucket>,
}

/// Terminations of the same duration.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    /// The seconds, rounded up.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::MEASURED_SECONDS))]
    pub seconds: i64,
    /// How many terminations took so long.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::TERMINATIONS))]
    pub count: i64,
}
