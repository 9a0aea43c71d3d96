//! The built-in defaults.

/// Drain: ten times the time of kube-proxy on a small cluster, and the recommendation of Spring Boot behind a Service.
///
/// The feature `other-defaults` is a release with another default, to test upgrades.
pub const DRAIN_SECONDS: i64 = if cfg!(feature = "other-defaults") { 20 } else { 10 };
/// Shutdown timeout: the default grace period of Kubernetes.
pub const SHUTDOWN_TIMEOUT_SECONDS: i64 = 30;
/// Margin on top of drain and shutdown timeout.
pub const MARGIN_SECONDS: i64 = 5;
/// Reserve for each native sidecar. They stop one after the other, after the main containers have exited, in the rest of
/// the grace period (KEP-753).
pub const SIDECAR_SECONDS: i64 = 5;
/// The longest grace period that adieu computes: the time that the cluster autoscaler waits for a pod.
pub const MAX_GRACE_PERIOD_SECONDS: i64 = 600;
/// The shortest shutdown timeout that is applied because of a recommendation: a process that ends within a second today
/// may need some seconds on a busy node.
pub const MIN_RECOMMENDATION_SECONDS: i64 = 5;
/// Workloads that may roll out at the same time for one policy.
pub const MAX_CONCURRENT: i32 = 1;
/// Failed rollouts of a `GracefulPolicy` after which no other starts.
pub const MAX_FAILURES: usize = 1;
/// Failed rollouts of a `ClusterGracefulPolicy`, in different namespaces, after which no other starts anywhere.
pub const CLUSTER_MAX_FAILURES: usize = 3;
