//! `GracefulPolicy` and `ClusterGracefulPolicy`.

// The lint treats the names of the printer columns as duplicates.
#![allow(clippy::duplicated_attributes)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    drain_profile::DrainProfile,
    drain_seconds::DrainSeconds,
    fields::{
        DisruptionBudget, GracePeriodPolicy, InjectionTarget, Mode, PreStop, ReadinessProbe,
        RecommendationBounds, RecommendationMode, Rollout, TopologySpread,
    },
    kind::WorkloadKind,
    limits, numbers,
    status::GracefulPolicyStatus,
};

/// Configures the termination of workloads in its namespace: those that name this policy in the annotation
/// `adieu.dev/policy`, and those that its selector matches. An omitted field is taken from the next level: a
/// `ClusterGracefulPolicy`, or the built-in defaults.
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
    doc = "GracefulPolicy configures the termination of workloads in its namespace.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".status.effective.mode"),
    printcolumn(name = "Drain", type_ = "string", json_path = ".status.effective.drain"),
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
        "(has(self.drainSeconds) && self.drainSeconds != 'Auto' ? int(self.drainSeconds) : 0) \
         + (has(self.shutdownTimeoutSeconds) ? self.shutdownTimeoutSeconds : 0) \
         + (has(self.marginSeconds) ? self.marginSeconds : 0) \
         <= (has(self.maxGracePeriodSeconds) ? self.maxGracePeriodSeconds : 600)"
    ).message("drainSeconds + shutdownTimeoutSeconds + marginSeconds must not exceed maxGracePeriodSeconds (600 if omitted): lower them or raise the maximum"),
    validation = Rule::new(
        "!has(self.drainSeconds) || self.drainSeconds != 0 \
         || [has(self.shutdownTimeoutSeconds) ? self.shutdownTimeoutSeconds : 30, \
          has(self.marginSeconds) ? self.marginSeconds : 5].exists(seconds, seconds > 0)"
    ).message("drainSeconds, shutdownTimeoutSeconds and marginSeconds must not all be 0: a grace period of 0 kills pods immediately")
)]
#[serde(rename_all = "camelCase")]
pub struct GracefulPolicySpec {
    /// The workloads that this policy opts in, by the labels of their pod template. `{}` selects all; without a
    /// selector the policy opts in none. At most 8 matchLabels, 8 matchExpressions and 64 values in total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,

    /// The kinds of workload that the selector matches. An annotation opts in any kind. Default: Deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub kinds: Option<Vec<WorkloadKind>>,

    /// Of the policies of one level that select the same workload, the one with the highest priority wins, then the
    /// oldest, then the first by name. From -1000000 to 1000000, default 0.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -limits::PRIORITY, max = limits::PRIORITY))]
    pub priority: Option<i32>,

    /// `Enforce` injects. `Audit` changes nothing and reports the changes of `Enforce` in status and Events; an earlier
    /// injection is reverted with the next change of the pod template. Default Enforce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// Seconds from the start of a pod's termination to SIGTERM, from 0 to 3600. Meanwhile the pod still serves, and
    /// endpoints, proxies and load balancers stop sending to it. `Auto`: the longest drain that one of the pod's exposures
    /// needs, such as a Service, an Ingress or a load balancer; at least 10, unless less was measured for all of them. 0
    /// injects no preStop hook. Default Auto.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<DrainSeconds>,

    /// Seconds that the application may take from SIGTERM to its exit. Default 30.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = limits::SHUTDOWN_TIMEOUT_SECONDS))]
    pub shutdown_timeout_seconds: Option<i64>,

    /// Seconds of reserve for each native sidecar: they stop one after the other, after the main containers.
    /// Default 5.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = limits::SIDECAR_SECONDS))]
    pub sidecar_seconds: Option<i64>,

    /// Seconds of reserve on top of drain and shutdown timeout. Default 5.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = limits::MARGIN_SECONDS))]
    pub margin_seconds: Option<i64>,

    /// The longest grace period, in seconds, that may be computed. A workload that needs more is not changed, and gets a
    /// warning. Default 600; the lowest of all matching cluster policies always applies.
    #[serde(default, deserialize_with = "numbers::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::MAX_GRACE_PERIOD_SECONDS))]
    pub max_grace_period_seconds: Option<i64>,

    /// `AtLeast` never lowers the grace period of the workload, `Exact` sets the computed one. Default `AtLeast`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_policy: Option<GracePeriodPolicy>,

    /// The preStop hook for the drain.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(
        "(has(self.method) && self.method == 'HTTPGet') == has(self.httpGet)"
    ).message("httpGet is required for method HTTPGet, and not allowed for other methods"))]
    pub pre_stop: Option<PreStop>,

    /// The readiness probe for containers without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(
        "!has(self.probe) || !has(self.mode) || self.mode != 'Never'"
    ).message("probe must not be set if mode is Never"))]
    pub readiness_probe: Option<ReadinessProbe>,

    /// Names of containers that are not injected, at most 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::EXCLUDED_CONTAINERS), extend("x-kubernetes-list-type" = "set"))]
    #[schemars(inner(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")))]
    pub excluded_containers: Option<Vec<String>>,

    /// `Template` changes the workload's pod template, `Pod` only the pods when they are created. Default Template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub injection_target: Option<InjectionTarget>,

    /// How a change of this policy is rolled out to running workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,

    /// `Off` (in YAML with quotes) reports no recommendation in the `TerminationProfile` of a workload, `Report` reports it.
    /// `Apply` also sets a recommended shutdown timeout in place of that of policies, within recommendationBounds: a longer
    /// one as soon as it is recommended, a shorter one in steps of at most a quarter, one a day. It is rolled out like a
    /// change of this policy; an annotation wins over it. Default Report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommendations: Option<RecommendationMode>,

    /// Limits for the shutdown timeouts that `recommendations: Apply` sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(
        "(has(self.minSeconds) ? self.minSeconds : 0) <= (has(self.maxSeconds) ? self.maxSeconds : 86400)"
    ).message("minSeconds must not exceed maxSeconds: lower minSeconds or raise maxSeconds"))]
    pub recommendation_bounds: Option<RecommendationBounds>,

    /// A PodDisruptionBudget for each Deployment and StatefulSet whose pods no other one selects.
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
    doc = "ClusterGracefulPolicy configures the termination of workloads in many namespaces. Without a selector it opts in no workload, and sets defaults for workloads that are opted in otherwise.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".status.effective.mode"),
    printcolumn(name = "Drain", type_ = "string", json_path = ".status.effective.drain"),
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
    /// The namespaces that this policy applies to, by their labels. Absent or `{}`: all. At most 8 matchLabels,
    /// 8 matchExpressions and 64 values in total.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,

    /// The drains that exposures need in this cluster, in place of the built-in ones of `adieu profiles`, at most 24. They
    /// apply where drainSeconds is `Auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = limits::DRAIN_PROFILES),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["exposure"])
    )]
    pub drain_profiles: Option<Vec<DrainProfile>>,

    /// The fields of a `GracefulPolicy`.
    #[serde(flatten)]
    pub policy: GracefulPolicySpec,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_selector_differs_from_an_empty_one() {
        let absent: GracefulPolicySpec = serde_json::from_value(json!({})).unwrap();
        assert_eq!(absent.selector, None);
        let empty: GracefulPolicySpec = serde_json::from_value(json!({"selector": {}})).unwrap();
        assert_eq!(empty.selector, Some(LabelSelector::default()));
    }
}
