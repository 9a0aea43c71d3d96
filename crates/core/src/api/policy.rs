//! `GracefulPolicy` and `ClusterGracefulPolicy`: a platform team's defaults and caps.

// Every printer column has a name of its own, which the lint takes for a repeated one.
#![allow(clippy::duplicated_attributes)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use super::{IntOrString, Probe, WorkloadKind, limits, numbers, patterns};

/// Says how the workloads of its namespace terminate: those that name this policy in the annotation
/// `adieu.dev/policy`, and those that its selector selects. A field that is left out is taken from the next
/// level: a `ClusterGracefulPolicy`, or adieu's defaults.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "adieu.dev",
    version = "v1alpha1",
    kind = "GracefulPolicy",
    namespaced,
    shortname = "grpol",
    category = "adieu",
    status = "GracefulPolicyStatus",
    derive = "PartialEq",
    doc = "GracefulPolicy says how the workloads of its namespace terminate.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".status.effective.mode"),
    printcolumn(name = "Drain", type_ = "integer", json_path = ".status.effective.drainSeconds"),
    printcolumn(
        name = "Shutdown",
        type_ = "integer",
        json_path = ".status.effective.shutdownTimeoutSeconds"
    ),
    printcolumn(name = "Margin", type_ = "integer", json_path = ".status.effective.marginSeconds"),
    printcolumn(name = "Grace", type_ = "integer", json_path = ".status.effective.gracePeriodSeconds"),
    printcolumn(name = "Workloads", type_ = "integer", json_path = ".status.workloads.matched"),
    printcolumn(name = "Injected", type_ = "integer", json_path = ".status.workloads.injected"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = 1
    ),
    printcolumn(
        name = "Stalled",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Stalled')].status",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new(
        "(has(self.drainSeconds) ? self.drainSeconds : 0) \
         + (has(self.shutdownTimeoutSeconds) ? self.shutdownTimeoutSeconds : 0) \
         + (has(self.marginSeconds) ? self.marginSeconds : 0) \
         <= (has(self.maxGracePeriodSeconds) ? self.maxGracePeriodSeconds : 600)"
    ).message("drainSeconds + shutdownTimeoutSeconds + marginSeconds must not exceed maxGracePeriodSeconds (600 where it is left out): lower them or raise the maximum"),
    validation = Rule::new(
        "[has(self.drainSeconds) ? self.drainSeconds : 10, \
          has(self.shutdownTimeoutSeconds) ? self.shutdownTimeoutSeconds : 30, \
          has(self.marginSeconds) ? self.marginSeconds : 5].exists(seconds, seconds > 0)"
    ).message("drainSeconds, shutdownTimeoutSeconds and marginSeconds must not all be 0: a grace period of 0 kills at once")
)]
#[serde(rename_all = "camelCase")]
pub struct GracefulPolicySpec {
    /// The workloads that this policy opts in, by the labels of their pod template. `{}` selects all;
    /// without a selector the policy opts nobody in. At most 8 matchLabels, 8 matchExpressions and 64 values in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,

    /// The kinds of workload that the selector takes. An annotation opts in any kind. Default: Deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub kinds: Option<Vec<WorkloadKind>>,

    /// Between policies of one level that select the same workload, the higher priority wins, then the
    /// older, then the first by name. From -1000000 to 1000000, default 0.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -limits::PRIORITY, max = limits::PRIORITY))]
    pub priority: Option<i32>,

    /// `Enforce` injects. `Audit` changes nothing: status and events say what would be. What was injected before is taken
    /// back with the next change of the pod template. Default Enforce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// Seconds between the start of a pod's termination and SIGTERM, in which it still serves while
    /// endpoints, proxies and load balancers stop sending to it. 0 injects no preStop hook. Default 10.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = limits::DRAIN_SECONDS))]
    pub drain_seconds: Option<i64>,

    /// Seconds that the application may take from SIGTERM to its exit. Default 30.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = limits::SHUTDOWN_TIMEOUT_SECONDS))]
    pub shutdown_timeout_seconds: Option<i64>,

    /// Seconds of reserve for each native sidecar: they stop one after the other, after the main
    /// containers. Default 5.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = limits::SIDECAR_SECONDS))]
    pub sidecar_seconds: Option<i64>,

    /// Seconds of reserve on top of drain and shutdown timeout. Default 5.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = limits::MARGIN_SECONDS))]
    pub margin_seconds: Option<i64>,

    /// The longest grace period, in seconds, that may be computed. A workload that needs more is left as
    /// it is, with a warning. Default 600; the lowest of all cluster policies that match counts in any case.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MAX_GRACE_PERIOD_SECONDS))]
    pub max_grace_period_seconds: Option<i64>,

    /// `AtLeast` never lowers the grace period that the workload has, `Exact` sets what is computed.
    /// Default `AtLeast`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_policy: Option<GracePeriodPolicy>,

    /// How the drain is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(
        "(has(self.method) && self.method == 'HTTPGet') == has(self.httpGet)"
    ).message("method HTTPGet and the field httpGet go together"))]
    pub pre_stop: Option<PreStop>,

    /// Which readiness probe a container gets that has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(
        "!has(self.probe) || !has(self.mode) || self.mode != 'Never'"
    ).message("mode Never and a probe contradict each other"))]
    pub readiness_probe: Option<ReadinessProbe>,

    /// Names of containers that are left alone, at most 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::EXCLUDED_CONTAINERS), extend("x-kubernetes-list-type" = "set"))]
    #[schemars(inner(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")))]
    pub excluded_containers: Option<Vec<String>>,

    /// `Template` changes the workload's pod template, `Pod` only the pods as they are created.
    /// Default Template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub injection_target: Option<InjectionTarget>,

    /// How a change of this policy reaches workloads that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,

    /// A PodDisruptionBudget for each Deployment and StatefulSet whose pods no other covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<DisruptionBudget>,

    /// A soft topology spread constraint for workloads that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(
        "self.topologyKey.matches('^([^/]{1,253}/)?[^/]+$')"
    ).message("topologyKey must have at most 253 characters before its /"))]
    pub topology_spread: Option<TopologySpread>,
}

/// Defaults, caps and opt-ins across namespaces.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "adieu.dev",
    version = "v1alpha1",
    kind = "ClusterGracefulPolicy",
    plural = "clustergracefulpolicies",
    shortname = "cgrpol",
    category = "adieu",
    status = "GracefulPolicyStatus",
    derive = "PartialEq",
    doc = "ClusterGracefulPolicy says how the workloads of many namespaces terminate. Without a selector it opts nobody in, and gives defaults to those opted in otherwise.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".status.effective.mode"),
    printcolumn(name = "Drain", type_ = "integer", json_path = ".status.effective.drainSeconds"),
    printcolumn(
        name = "Shutdown",
        type_ = "integer",
        json_path = ".status.effective.shutdownTimeoutSeconds"
    ),
    printcolumn(name = "Margin", type_ = "integer", json_path = ".status.effective.marginSeconds"),
    printcolumn(name = "Grace", type_ = "integer", json_path = ".status.effective.gracePeriodSeconds"),
    printcolumn(name = "Maximum", type_ = "integer", json_path = ".spec.maxGracePeriodSeconds"),
    printcolumn(name = "Workloads", type_ = "integer", json_path = ".status.workloads.matched"),
    printcolumn(name = "Injected", type_ = "integer", json_path = ".status.workloads.injected"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = 1
    ),
    printcolumn(
        name = "Stalled",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Stalled')].status",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterGracefulPolicySpec {
    /// The namespaces that this policy holds for, by their labels. Absent or `{}`: all. At most 8 matchLabels,
    /// 8 matchExpressions and 64 values in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,

    /// What the policy says, as in a `GracefulPolicy`.
    #[serde(flatten)]
    pub policy: GracefulPolicySpec,
}

/// Whether a policy changes anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It only says what would be.
    Audit,
}

/// What happens to a grace period that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum GracePeriodPolicy {
    /// It is raised where it is lower.
    #[default]
    AtLeast,
    /// It is set to what is computed.
    Exact,
}

/// Where injection happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum InjectionTarget {
    /// In the workload's pod template.
    #[default]
    Template,
    /// In the pods, as they are created.
    Pod,
}

/// How the drain is done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreStop {
    /// `Sleep`: the native sleep action. `Exec`: an exec of `sleep`. `HTTPGet`: a request to the containers that
    /// declare its port, and a sleep in the others. `Auto`: the native action where every kubelet has it, or
    /// else an exec. Default Auto.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<PreStopMethod>,
    /// For `HTTPGet`: what is asked of an application that fails its readiness and drains by itself.
    /// Containers that don't declare the port get a sleep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// `Keep` leaves a preStop that the user wrote, and counts with it. `Replace` puts the policy's in its place
    /// until the workload is opted out. Default Keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_hook_policy: Option<ExistingHookPolicy>,
}

/// A kind of preStop hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum PreStopMethod {
    /// The native `sleep` action where every kubelet can have it, else `Exec`.
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

/// What happens to a preStop that the user wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum ExistingHookPolicy {
    /// It stays.
    #[default]
    Keep,
    /// It is replaced. `sleep: {seconds: 0}` stays even so: it opts the container out.
    Replace,
}

/// A request that the kubelet sends to the container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpGet {
    /// The path, such as /prestop.
    #[schemars(regex(pattern = patterns::PATH), length(max = limits::PATH_LENGTH))]
    pub path: String,
    /// The container's port, by number or name.
    pub port: IntOrString,
}

/// Which readiness probe a container gets that has none.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReadinessProbe {
    /// `Auto`: a TCP probe on the port that the Service in front sends to, where there is no doubt which.
    /// `Never`: none. Default Auto.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ProbeMode>,
    /// The probe to use, as it is, for the container that declares its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// Whether a readiness probe is injected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum ProbeMode {
    /// Where there is no doubt which.
    #[default]
    Auto,
    /// Never.
    Never,
}

/// Lets a field that holds the enum be described by its own words, which kube would put the enum's in the place of.
pub(super) fn undescribed(schema: &mut Schema) {
    schema.remove("description");
}

/// How a change of the policy reaches workloads that run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// `Progressive`: some workloads at a time, each waited for. `NextUpdate`: with the next change of each
    /// workload's pod template; who carries nothing of adieu's until then is marked by the annotation
    /// adieu.dev/pending, so that the change meets the webhook. `Revert`: what was injected into workloads that a
    /// policy opts in is reverted, some workloads at a time, and nothing is injected any more; workloads with the
    /// annotation adieu.dev/graceful: "true" keep what they have. Default Progressive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<RolloutMode>,
    /// How many workloads may roll out at a time, of those that this policy opts in and those that a change of
    /// it reaches; rollouts that adieu did not start don't count. Default: what the cluster's defaults say, or else 1.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MAX_CONCURRENT))]
    pub max_concurrent: Option<i32>,
    /// Only in a `ClusterGracefulPolicy`: how many workloads of one namespace may roll out at a time because of
    /// policies, whatever the policies of the namespace allow. Of all cluster policies that match the namespace, the
    /// lowest value counts. From 1 to 1000. Default: no limit beside the slots of the cluster.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MAX_CONCURRENT))]
    pub max_concurrent_per_namespace: Option<i32>,
    /// How many rollouts may fail before no other starts, as a number or a percentage of the matched workloads
    /// (rounded up). A `ClusterGracefulPolicy` stops in the namespace of a failed rollout in any case, and everywhere
    /// once rollouts failed in this many namespaces. From 1 to 1000, or 1% to 100%. Default 1 for a `GracefulPolicy`, 3 for a
    /// `ClusterGracefulPolicy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<IntOrString>,
}

/// How a change of the policy reaches workloads that run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = undescribed)]
pub enum RolloutMode {
    /// Some workloads at a time.
    #[default]
    Progressive,
    /// With the next change of each workload's pod template.
    NextUpdate,
    /// What was injected is reverted, some workloads at a time.
    Revert,
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudget {
    /// How many pods may be evicted at a time, as a number or a percentage of the replicas. At least 1: what
    /// may never be evicted blocks the drain of its node for ever. At most 10000, or 100%.
    pub max_unavailable: IntOrString,
}

/// A soft topology spread constraint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpread {
    /// The node label to spread over, such as kubernetes.io/hostname.
    #[schemars(length(max = 317), regex(pattern = patterns::QUALIFIED_NAME))]
    pub topology_key: String,
}

/// The largest sum of drain, shutdown timeout and margin, in seconds.
const LARGEST_SUM: i64 = limits::DRAIN_SECONDS + limits::SHUTDOWN_TIMEOUT_SECONDS + limits::MARGIN_SECONDS;

/// What adieu has made of the policy.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GracefulPolicyStatus {
    /// The generation of the spec that this status was computed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = numbers::MAX_SAFE_INTEGER))]
    pub observed_generation: Option<i64>,

    /// The values of a workload that takes everything from this policy and, where it leaves something out, from
    /// the cluster's and adieu's defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectiveValues>,

    /// How many workloads the policy holds for, and how far they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workloads: Option<WorkloadCounts>,

    /// The rollouts that failed, the oldest failures first, at most 50; `workloads.rolloutFailed` counts all. An entry
    /// is removed when its workload's rollout completes with pods, the workload is deleted, its pod template changes
    /// (a restart doesn't count), or other values of the policy are written to it. The next leader reads them: a failed
    /// rollout is not retried.
    // Written also if it is empty: a merge patch keeps what it doesn't name.
    #[serde(default, deserialize_with = "readable")]
    #[schemars(length(max = limits::FAILED_ROLLOUTS))]
    pub failed_rollouts: Vec<FailedRollout>,

    /// `Ready` is true when the policy is valid and every workload it holds for carries its values;
    /// `Conflicted` when another policy of the same level wins for a workload that this one selects or
    /// would give defaults to; `Stalled` when so many rollouts failed that no other starts, of the policy or of
    /// another one for a workload that this one opts in, anywhere or in some namespace; `Blocked` when something refuses or
    /// undoes what adieu writes.
    #[serde(default, deserialize_with = "readable", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The items that can be read. They are adieu's own, and written anew; none of them may hide the policy.
fn readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let items = Vec::<serde_json::Value>::deserialize(deserializer)?;
    Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
}

/// A rollout that adieu started for a policy, and that failed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedRollout {
    /// The workload's namespace. Absent in the status of a `GracefulPolicy`, whose workloads are in its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = patterns::PRINTABLE))]
    pub namespace: Option<String>,
    /// The workload's kind.
    pub kind: WorkloadKind,
    /// The workload's name.
    #[schemars(length(max = 253), regex(pattern = patterns::PRINTABLE))]
    pub name: String,
    /// The workload's uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36), regex(pattern = patterns::PRINTABLE))]
    pub uid: Option<String>,
    /// The generation of the policy when the rollout failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = numbers::MAX_SAFE_INTEGER))]
    pub policy_generation: Option<i64>,
    /// A hash of the pod template that adieu wrote, with the version of adieu that computed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = patterns::PRINTABLE))]
    pub plan_hash: Option<String>,
    /// The same of the pod template that the API server made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = patterns::PRINTABLE))]
    pub template_hash: Option<String>,
    /// Why it failed.
    pub reason: RolloutFailureReason,
    /// When it failed.
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
    /// It made no progress for its progress deadline, or the Deployment controller says so.
    ProgressDeadlineExceeded,
    /// It made progress, but did not complete in the time that its replicas may take.
    TotalTimeExceeded,
    /// It made no progress, because pods can't be created, such as for a `ResourceQuota` (the Deployment's
    /// condition `ReplicaFailure`).
    ReplicaFailure,
}

/// What a policy comes to together with the defaults that it inherits: the cluster policy's that gives them in its
/// namespace (for a cluster policy: in every namespace), and then adieu's.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveValues {
    /// Whether workloads are changed.
    pub mode: Mode,
    /// Seconds between the start of a pod's termination and SIGTERM.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::DRAIN_SECONDS))]
    pub drain_seconds: i64,
    /// Seconds that the application may take from SIGTERM to its exit.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::SHUTDOWN_TIMEOUT_SECONDS))]
    pub shutdown_timeout_seconds: i64,
    /// Seconds of reserve on top.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = limits::MARGIN_SECONDS))]
    pub margin_seconds: i64,
    /// Their sum: the grace period, in seconds, of a pod without native sidecars.
    #[serde(deserialize_with = "numbers::required")]
    #[schemars(range(min = 0, max = LARGEST_SUM))]
    pub grace_period_seconds: i64,
}

/// Workloads that a policy holds for.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadCounts {
    /// Workloads that name the policy or that it selects.
    #[schemars(range(min = 0, max = limits::WORKLOADS))]
    pub matched: i32,
    /// Those of them whose pod template carries what adieu injects.
    #[schemars(range(min = 0, max = limits::WORKLOADS))]
    pub injected: i32,
    /// Those still to be injected or updated.
    #[schemars(range(min = 0, max = limits::WORKLOADS))]
    pub pending: i32,
    /// Those that can't be injected, as the condition `Ready` says.
    #[serde(default)]
    #[schemars(range(min = 0, max = limits::WORKLOADS))]
    pub unsatisfiable: i32,
    /// Those whose rollout failed, as the condition `Stalled` says. They count as injected or pending as well.
    #[serde(default)]
    #[schemars(range(min = 0, max = limits::WORKLOADS))]
    pub rollout_failed: i32,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_absent_selector_and_an_empty_one_are_told_apart() {
        let absent: GracefulPolicySpec = serde_json::from_value(json!({})).unwrap();
        assert_eq!(absent.selector, None);
        let empty: GracefulPolicySpec = serde_json::from_value(json!({"selector": {}})).unwrap();
        assert_eq!(empty.selector, Some(LabelSelector::default()));
    }
}
