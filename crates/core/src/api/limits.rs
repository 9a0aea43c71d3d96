//! The largest values in the schema of policies, and in annotations. The spec of a policy of the largest size takes less
//! than 36 KiB, so that hundreds of them fit into a replica; that of a cluster policy, with drain profiles, less than 64 KiB.

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
/// The priority between policies, which may be negative.
pub const PRIORITY: i32 = 1_000_000;
/// Workloads that may roll out at the same time for one policy.
pub const MAX_CONCURRENT: i32 = 1000;
/// Failed rollouts in a policy's status.
pub const FAILED_ROLLOUTS: usize = 50;
/// Rollouts of a policy that may fail: as many as its status records, or the next leader would not stop it.
pub const MAX_FAILURES: i64 = 50;
/// Pods that may be evicted at a time.
pub const MAX_UNAVAILABLE: i64 = 10_000;
/// A probe's times: an hour.
pub const PROBE_SECONDS: i32 = 3600;
/// A probe's successes or failures in a row.
pub const PROBE_THRESHOLD: i32 = 1000;
/// Characters of an HTTP request's path.
pub const PATH_LENGTH: usize = 1024;
/// Containers of a template that is injected. A pod of this size fits on no node.
pub const CONTAINERS: usize = 500;
/// Bytes of the preStop commands of a template that is injected.
pub const MAX_COMMANDS_SIZE: usize = 128 * 1024;
/// Bytes of a container's name.
pub const CONTAINER_NAME_LENGTH: usize = 63;
/// Bytes of the name of a port.
pub const PORT_NAME_LENGTH: usize = 63;
/// Ports of Services that select the pods of a workload, as far as they are read.
pub const SERVICE_PORTS: usize = 1000;
/// Bytes of a probe, as JSON: more than with a path and headers of the largest size, all escaped.
pub const PROBE_LENGTH: usize = 16 * 1024;
/// Bytes of an object's name.
pub const OBJECT_NAME_LENGTH: usize = 253;
/// Excluded containers.
pub const EXCLUDED_CONTAINERS: usize = 32;
/// Labels of a selector.
pub const MATCH_LABELS: i64 = 8;
/// Expressions of a selector.
pub const MATCH_EXPRESSIONS: i64 = 8;
/// Values of a selector's expressions in total.
pub const MATCH_VALUES: i64 = 64;
/// Bytes of a topology key: of a label's key.
pub const TOPOLOGY_KEY_LENGTH: usize = 317;
/// Characters of the key of a label: a DNS subdomain, a slash and a name.
pub const LABEL_KEY_LENGTH: i64 = 317;
/// Conditions of a policy's status.
pub const CONDITIONS: usize = 6;
/// Characters of a condition's message.
pub const MESSAGE_LENGTH: usize = 4096;
/// Workloads in a policy's counts.
pub const WORKLOADS: i32 = 1_000_000;
/// Terminations that a profile counts.
pub const TERMINATIONS: i64 = 1_000_000_000;
/// Seconds that a profile can have measured: a grace period of a week.
pub const MEASURED_SECONDS: i64 = 604_800;
/// Buckets of a profile's histogram: as many as there are numbers of two digits up to its maximum.
pub const HISTOGRAM_BUCKETS: usize = 500;
/// Terminations in a profile that went wrong.
pub const RECENT_TERMINATIONS: usize = 5;
/// Drain profiles of a cluster policy: more than there are built-in ones.
pub const DRAIN_PROFILES: usize = 24;
/// Characters of the exposure of a drain profile: the longest kind of a class, a slash, and the name of the class.
pub const EXPOSURE_LENGTH: usize = 17 + 1 + OBJECT_NAME_LENGTH;
/// Bytes of a line in a profile.
pub const SUMMARY_LENGTH: usize = 256;
