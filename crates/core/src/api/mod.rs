//! The API: the `GracefulPolicy` resources, and the `adieu.dev/` annotations and labels.

pub mod annotations;
mod check;
mod conditions;
mod crds;
pub mod defaults;
mod drain_profile;
mod drain_seconds;
mod fields;
mod group;
mod kind;
pub mod labels;
pub mod limits;
mod numbers;
mod policy;
mod probe;
mod schema;
mod status;
mod termination_profile;

pub use annotations::Annotations;
pub use check::{Violation, as_stored, check_policy, check_status};
pub use conditions::merge_condition;
pub use crds::crds;
pub use drain_profile::{DrainMeasurement, DrainProfile};
pub use drain_seconds::DrainSeconds;
pub use fields::{
    DisruptionBudget, ExistingHookPolicy, ExposureChangeMode, GracePeriodPolicy, HttpGet, InjectionTarget,
    Mode, PreStop, PreStopMethod, ProbeMode, ReadinessProbe, RecommendationBounds, RecommendationMode,
    Rollout, RolloutMode, TopologySpread,
};
pub use group::{FIELD_MANAGER, GROUP};
pub use kind::WorkloadKind;
pub use numbers::IntOrString;
pub use policy::{ClusterGracefulPolicy, ClusterGracefulPolicySpec, GracefulPolicy, GracefulPolicySpec};
pub use probe::{GrpcProbe, HttpHeader, HttpProbe, Probe, Scheme, TcpProbe};
pub use status::{
    EffectiveValues, FailedRolloutStatus, GracefulPolicyStatus, RolloutFailureReason, WorkloadCounts,
};
pub use termination_profile::{
    Bucket, CauseCounts, Confidence, Histograms, OutcomeCounts, Quantiles, RecentTermination, Recommendation,
    RequestedTimes, TerminationCause, TerminationOutcome, TerminationProfile, TerminationProfileSpec,
    TerminationProfileStatus,
};
