//! The types of a policy's fields.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    limits,
    numbers::{self, IntOrString},
    probe::Probe,
    schema::{self, undescribed},
};

/// Whether a policy changes workloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum Mode {
    /// It changes them.
    #[default]
    Enforce,
    /// It only reports the changes.
    Audit,
}

/// How a workload's grace period is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum GracePeriodPolicy {
    /// It is raised if it is lower than the computed one.
    #[default]
    AtLeast,
    /// It is set to the computed one.
    Exact,
}

/// Where injection happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum InjectionTarget {
    /// In the workload's pod template.
    #[default]
    Template,
    /// In the pods, when they are created.
    Pod,
}

/// The preStop hook for the drain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreStop {
    /// `Sleep`: the native sleep action. `Exec`: the command `sleep`. `HTTPGet`: a request to the containers that declare
    /// its port, and a sleep in the others. `Auto`: the native action if every kubelet supports it, otherwise an exec.
    /// Default Auto.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<PreStopMethod>,
    /// For `HTTPGet`: the request to an application that fails its readiness and drains on its own. Containers that do
    /// not declare the port get a sleep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// `Keep` keeps a user's preStop and counts its duration. `Replace` replaces it until the workload is opted out.
    /// Default Keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_hook_policy: Option<ExistingHookPolicy>,
}

/// A kind of preStop hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum PreStopMethod {
    /// The native `sleep` action if every kubelet supports it, otherwise `Exec`.
    #[default]
    Auto,
    /// The native `sleep` action (Kubernetes 1.30 and later).
    Sleep,
    /// The program `sleep` in the container's image.
    Exec,
    /// A request to the application.
    #[serde(rename = "HTTPGet")]
    HttpGet,
}

/// Whether a user's preStop is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum ExistingHookPolicy {
    /// It is kept.
    #[default]
    Keep,
    /// It is replaced, except `sleep: {seconds: 0}`, which opts the container out.
    Replace,
}

/// A request that the kubelet sends to the container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpGet {
    /// The path, such as /prestop.
    #[schemars(regex(pattern = schema::PATH), length(max = limits::PATH_LENGTH))]
    pub path: String,
    /// The container's port, by number or name.
    pub port: IntOrString,
}

/// The readiness probe for containers without one.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReadinessProbe {
    /// `Auto`: a TCP probe on the port that the Service sends to, unless that is ambiguous. `Never`: none. Default Auto.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ProbeMode>,
    /// The probe to use, unchanged, for the container that declares its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// Whether a readiness probe is injected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum ProbeMode {
    /// Unless the port is ambiguous.
    #[default]
    Auto,
    /// Never.
    Never,
}

/// How a change of the policy is rolled out to running workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// `Progressive`: some workloads at a time, until each rollout is complete. `NextUpdate`: with the next change of each
    /// workload's pod template; a workload without an annotation of adieu gets adieu.dev/pending, so that the change
    /// reaches the webhook. `Revert`: injections into workloads that a policy opts in are reverted, some workloads at a
    /// time, and nothing more is injected; workloads with the annotation adieu.dev/graceful: "true" keep their injection.
    /// Default Progressive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<RolloutMode>,
    /// The maximum number of workloads that may roll out at the same time, of those that this policy opts in or that
    /// its changes affect. Rollouts that adieu did not start do not count. Default: the value of the cluster's
    /// defaults, otherwise 1.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MAX_CONCURRENT))]
    pub max_concurrent: Option<i32>,
    /// The maximum number of workloads of one namespace that may roll out at the same time because of policies, even if
    /// the policies of the namespace allow more. Only allowed in a `ClusterGracefulPolicy`. Of all cluster policies
    /// that match the namespace, the lowest value applies. From 1 to 1000. Default: no limit except the slots of the
    /// cluster.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MAX_CONCURRENT))]
    pub max_concurrent_per_namespace: Option<i32>,
    /// The number of failed rollouts that stop further ones, or a percentage of the matched workloads (rounded up). A
    /// `ClusterGracefulPolicy` always stops in the namespace of a failed rollout, and everywhere after failed rollouts
    /// in this many namespaces. From 1 to 50, or 1% to 100% but at most 50. Default 1 for a `GracefulPolicy`, 3 for a
    /// `ClusterGracefulPolicy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<IntOrString>,
    /// What happens if the exposures of a workload need a longer drain than it has, and its drain is `Auto`. `NextUpdate`:
    /// it gets the longer drain with the next change of its pod template. `Progressive`: the longer drain is rolled out like
    /// a change of this policy, some workloads at a time. A shorter drain never causes a rollout. Default `NextUpdate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_exposure_change: Option<ExposureChangeMode>,
}

/// How a change of the policy is rolled out to running workloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum RolloutMode {
    /// Some workloads at a time.
    #[default]
    Progressive,
    /// With the next change of each workload's pod template.
    NextUpdate,
    /// Injections are reverted, some workloads at a time.
    Revert,
}

/// How a longer drain reaches running workloads, if their exposures change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum ExposureChangeMode {
    /// With the next change of each workload's pod template.
    #[default]
    NextUpdate,
    /// Some workloads at a time.
    Progressive,
}

/// What adieu does with the values that it recommends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum RecommendationMode {
    /// It recommends none.
    Off,
    /// It reports them in the `TerminationProfile`.
    #[default]
    Report,
    /// It also applies them.
    Apply,
}

/// The values that adieu applies at least and at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecommendationBounds {
    /// The shortest shutdown timeout that is applied, in seconds. Default 5.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = limits::SHUTDOWN_TIMEOUT_SECONDS))]
    pub min_seconds: Option<i64>,
    /// The longest shutdown timeout that is applied, in seconds. Default: what maxGracePeriodSeconds leaves, which is the
    /// limit in any case.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = limits::SHUTDOWN_TIMEOUT_SECONDS))]
    pub max_seconds: Option<i64>,
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudget {
    /// The maximum number of pods that may be evicted at the same time, or a percentage of the replicas. At least 1: a
    /// pod that cannot be evicted blocks the drain of its node. At most 10000, or 100%.
    pub max_unavailable: IntOrString,
}

/// A soft topology spread constraint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpread {
    /// The node label to spread over, such as kubernetes.io/hostname.
    #[schemars(length(max = 317), regex(pattern = schema::QUALIFIED_NAME))]
    pub topology_key: String,
}
