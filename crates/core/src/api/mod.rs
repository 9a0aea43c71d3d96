//! What users write: the `GracefulPolicy` resources and the `adieu.dev/` annotations and labels.

pub mod annotations;
mod check;
mod conditions;
mod crds;
mod kind;
pub mod labels;
mod numbers;
mod policy;
mod probe;

pub use annotations::Annotations;
pub use check::{Violation, as_stored, check_policy, check_status};
pub use conditions::merge_condition;
pub use crds::crds;
pub use kind::WorkloadKind;
pub use numbers::IntOrString;
pub use policy::{
    ClusterGracefulPolicy, ClusterGracefulPolicySpec, DisruptionBudget, EffectiveValues, ExistingHookPolicy,
    FailedRollout, GracePeriodPolicy, GracefulPolicy, GracefulPolicySpec, GracefulPolicyStatus, HttpGet,
    InjectionTarget, Mode, PreStop, PreStopMethod, ProbeMode, ReadinessProbe, Rollout, RolloutFailureReason,
    RolloutMode, TopologySpread, WorkloadCounts,
};
pub use probe::{GrpcProbe, HttpHeader, HttpProbe, Probe, Scheme, TcpProbe};

/// The API group, which is also the prefix of every annotation.
pub const GROUP: &str = "adieu.dev";

/// Seconds that adieu uses where neither an annotation nor a policy says otherwise.
pub mod defaults {
    /// Drain: ten times what kube-proxy needs on a small cluster, and what Spring Boot's documentation
    /// recommends behind a Service.
    ///
    /// The feature `other-defaults` stands for a release that thinks otherwise; an upgrade to it is tried.
    pub const DRAIN_SECONDS: i64 = if cfg!(feature = "other-defaults") { 20 } else { 10 };
    /// Shutdown timeout: the time Kubernetes gives an application that says nothing.
    pub const SHUTDOWN_TIMEOUT_SECONDS: i64 = 30;
    /// Margin on top of drain and shutdown timeout.
    pub const MARGIN_SECONDS: i64 = 5;
    /// Reserve for each native sidecar. They stop one after the other, once the main containers have
    /// exited, on what is left of the grace period (KEP-753).
    pub const SIDECAR_SECONDS: i64 = 5;
    /// The longest grace period that adieu computes: what the cluster autoscaler waits for a pod.
    pub const MAX_GRACE_PERIOD_SECONDS: i64 = 600;
    /// Workloads that may roll out at a time because of one policy.
    pub const MAX_CONCURRENT: i32 = 1;
    /// Rollouts of a `GracefulPolicy` that fail before no other starts.
    pub const MAX_FAILURES: usize = 1;
    /// Rollouts of a `ClusterGracefulPolicy` that fail, in different namespaces, before no other starts anywhere.
    pub const MAX_FAILURES_OF_CLUSTER: usize = 3;
}

/// The largest values that the policy's schema accepts; where an annotation says the same, it has the same limit.
/// The spec of a policy as large as they allow takes less than 36 KiB, so that hundreds of them fit into a replica.
pub mod limits {
    /// An hour: longer than any load balancer takes to deregister a target.
    pub const DRAIN_SECONDS: i64 = 3600;
    /// A day, for workers that finish long jobs.
    pub const SHUTDOWN_TIMEOUT_SECONDS: i64 = 86_400;
    /// An hour.
    pub const SIDECAR_SECONDS: i64 = 3600;
    /// An hour.
    pub const MARGIN_SECONDS: i64 = 3600;
    /// A day.
    pub const MAX_GRACE_PERIOD_SECONDS: i64 = 86_400;
    /// The priority between policies, which may as well be negative.
    pub const PRIORITY: i32 = 1_000_000;
    /// Workloads that may roll out at a time because of one policy.
    pub const MAX_CONCURRENT: i32 = 1000;
    /// Rollouts of a policy that may fail.
    pub const MAX_FAILURES: i64 = 1000;
    /// Failed rollouts that a policy's status names.
    pub const FAILED_ROLLOUTS: usize = 50;
    /// Pods that may be evicted at a time.
    pub const MAX_UNAVAILABLE: i64 = 10_000;
    /// A probe's times: an hour.
    pub const PROBE_SECONDS: i32 = 3600;
    /// A probe's successes or failures in a row.
    pub const PROBE_THRESHOLD: i32 = 1000;
    /// Characters of an HTTP request's path.
    pub const PATH_LENGTH: usize = 1024;
    /// Containers that are left alone.
    pub const EXCLUDED_CONTAINERS: usize = 32;
    /// Labels of a selector.
    pub const MATCH_LABELS: i64 = 8;
    /// Expressions of a selector.
    pub const MATCH_EXPRESSIONS: i64 = 8;
    /// Values of a selector's expressions, in all.
    pub const MATCH_VALUES: i64 = 64;
    /// Characters of the key of a label: a DNS subdomain, a slash and a name.
    pub const LABEL_KEY_LENGTH: i64 = 317;
    /// Conditions of a policy's status.
    pub const CONDITIONS: usize = 6;
    /// Characters of a condition's message.
    pub const MESSAGE_LENGTH: usize = 4096;
    /// Workloads that a policy's status counts.
    pub const WORKLOADS: i32 = 1_000_000;
}

/// What names look like, as regular expressions for the policy's schema (Kubernetes' `apimachinery`,
/// `util/validation`).
mod patterns {
    /// The key of a label: a name of at most 63 characters, and perhaps a DNS subdomain before it.
    pub(super) const QUALIFIED_NAME: &str = concat!(
        r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?",
        r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
    );
    /// The value of a label.
    pub(super) const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";
    /// The path of an HTTP request: the characters that a URL may have (RFC 3986), others are escaped in it.
    pub(super) const PATH: &str = r"^/[-A-Za-z0-9._~!$&'()*+,;=:@%/?#\[\]]*$";
    /// Printable ASCII characters.
    pub(super) const PRINTABLE: &str = "^[ -~]*$";
    /// The name of a port: no two dashes in a row, and a letter among its characters.
    pub(super) const PORT_NAME: &str = "^([a-z0-9]+-)*[a-z0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$";
}
