//! The labels of the metrics.

use http::StatusCode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::api::{TerminationCause, TerminationOutcome};

/// Labels of [`super::Metrics::admission_requests`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct AdmissionLabels {
    /// The object's kind.
    pub kind: KindLabel,
    /// The outcome.
    pub result: AdmissionResult,
}

/// Labels of [`super::Metrics::reconciles`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReconcileLabels {
    /// The object's kind.
    pub kind: KindLabel,
    /// The outcome.
    pub result: ReconcileResult,
}

/// Labels of [`super::Metrics::workloads`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct WorkloadLabels {
    /// The object's kind.
    pub kind: KindLabel,
    /// Its state.
    pub state: WorkloadState,
}

/// Labels of [`super::Metrics::policy_workloads`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PolicyWorkloadLabels {
    /// The policy's kind, or `other` for the sum over all policies without series of their own.
    pub policy_kind: KindLabel,
    /// Its namespace; empty for a cluster policy.
    pub policy_namespace: String,
    /// Its name.
    pub policy: String,
    /// The state of the workloads.
    pub state: WorkloadState,
}

/// Labels of [`super::Metrics::terminations`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct TerminationLabels {
    /// The kind of the pod's controller.
    pub kind: KindLabel,
    /// How it went.
    pub outcome: OutcomeLabel,
    /// Why the pod terminated.
    pub cause: CauseLabel,
}

/// Labels of [`super::Metrics::failed_terminations`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct FailedTerminationLabels {
    /// The namespace of the pod, or `other` if too many namespaces have failed terminations.
    pub workload_namespace: String,
    /// How it went.
    pub outcome: OutcomeLabel,
}

/// Labels of [`super::Metrics::api_requests`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ApiRequestLabels {
    /// What the request does.
    pub verb: Verb,
    /// The status of the response.
    pub code: ApiCode,
}

/// Labels of metrics by the kind of an object.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ObjectLabels {
    /// The object's kind.
    pub kind: KindLabel,
}

/// Labels of [`super::Metrics::overload`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct OverloadLabels {
    /// The reason.
    pub reason: Overload,
}

/// Labels of [`super::Metrics::rejected_connections`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PortLabel {
    /// The port.
    pub port: Port,
}

/// Labels of [`super::Metrics::panics`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PanicLabels {
    /// The component.
    pub component: Component,
}

/// A label with fixed values.
macro_rules! label_values {
    ($(#[$meta:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The value of the label.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $value,)* }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(
                &self,
                encoder: &mut LabelValueEncoder<'_>,
            ) -> Result<(), std::fmt::Error> {
                self.as_str().encode(encoder)
            }
        }
    };
    // With a value for each variant of another type.
    ($(#[$meta:meta])* $name:ident of $source:ident { $($(#[$of:meta])* $variant:ident = $value:literal,)* }) => {
        label_values! { $(#[$meta])* $name { $($(#[$of])* $variant = $value,)* } }

        impl From<$source> for $name {
            fn from(source: $source) -> Self {
                match source { $($source::$variant => Self::$variant,)* }
            }
        }
    };
}

label_values! {
    /// Why a request to the webhook wasn't reviewed.
    Overload {
        /// No memory was free in time.
        Memory = "memory",
        /// The body arrived too slowly.
        SlowBody = "slow_body",
    }
}

label_values! {
    /// A port that the operator serves.
    Port {
        /// The webhook's.
        Webhook = "webhook",
        /// The port of health, readiness and metrics.
        Admin = "admin",
    }
}

label_values! {
    /// The component that panicked.
    Component {
        /// A request to the webhook.
        Webhook = "webhook",
        /// A request to the admin port.
        Admin = "admin",
        /// A connection to one of the ports, outside of a request: only it is closed.
        Connection = "connection",
        /// The reconciliation of a workload or policy.
        Reconcile = "reconcile",
        /// Decoding or evaluating one watched object.
        Object = "object",
        /// A task that the operator needs: the process ends.
        Background = "background",
    }
}

/// The kind of a workload, of another watched object, or `Pod`, as a label.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct KindLabel(pub &'static str);

label_values! {
    /// What a request to the API server does.
    Verb {
        /// Reads one object, or a path that isn't an object's, such as `/version`.
        Get = "get",
        /// Lists objects.
        List = "list",
        /// Watches objects.
        Watch = "watch",
        /// Creates an object.
        Create = "create",
        /// Replaces an object.
        Update = "update",
        /// Patches an object.
        Patch = "patch",
        /// Deletes an object.
        Delete = "delete",
    }
}

/// The status of a response of the API server; `error` if there is none.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct ApiCode(pub Option<StatusCode>);

impl EncodeLabelValue for ApiCode {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.as_ref().map_or("error", StatusCode::as_str).encode(encoder)
    }
}

label_values! {
    /// The outcome of an admission request.
    AdmissionResult {
        /// Allowed unchanged.
        Unchanged = "unchanged",
        /// Allowed with a patch.
        Patched = "patched",
        /// Denied because of an invalid annotation.
        Denied = "denied",
        /// Allowed unchanged, because it is too large for injection.
        TooLarge = "too_large",
    }
}

label_values! {
    /// The outcome of a reconciliation.
    ReconcileResult {
        /// The workload is in its desired state.
        Unchanged = "unchanged",
        /// The workload was patched.
        Patched = "patched",
        /// The workload waits for another's rollout, its own, or its next update.
        Waiting = "waiting",
        /// The workload would be patched, but the policy's mode is `Audit`.
        Audit = "audit",
        /// Another client, such as another webhook, reverted the patch.
        Reverted = "reverted",
        /// Another client wrote the workload at the same time: it is retried.
        Conflict = "conflict",
        /// The API server rejected the write or was not reachable.
        ApiError = "api_error",
    }
}

label_values! {
    /// How a termination went.
    OutcomeLabel of TerminationOutcome {
        /// Exited with 0.
        Completed = "completed",
        /// Exited with 143.
        DefaultAction = "default_action",
        /// The preStop hook failed.
        PreStopFailed = "pre_stop_failed",
        /// Exited with another code.
        Crashed = "crashed",
        /// Ended before the grace period.
        CutShort = "cut_short",
        /// Killed at the end of the grace period.
        Killed = "killed",
    }
}

label_values! {
    /// Why a pod terminated.
    CauseLabel of TerminationCause {
        /// A newer revision replaced it.
        Rollout = "rollout",
        /// The workload was scaled down.
        ScaleDown = "scale_down",
        /// Evicted.
        Eviction = "eviction",
        /// Evicted from a cordoned node.
        NodeDrain = "node_drain",
        /// Preempted.
        Preemption = "preemption",
        /// Its node shut down, or is gone.
        NodeShutdown = "node_shutdown",
        /// A taint of its node.
        Taint = "taint",
        /// Deleted.
        Deletion = "deletion",
    }
}

label_values! {
    /// The state of a managed workload.
    WorkloadState {
        /// Its template is in its desired state.
        Injected = "injected",
        /// Its template is in its desired state until it changes, but its exposures need a longer drain.
        DrainTooShort = "drain_too_short",
        /// Its pods are injected as they are created.
        PodInjection = "pod_injection",
        /// Its template has to be changed.
        Pending = "pending",
        /// Its template has to be changed, but the write is rejected or reverted, or conflicts.
        Blocked = "blocked",
        /// It can't be injected, for example because a maximum is too low.
        Unsatisfiable = "unsatisfiable",
        /// It would be changed, but the policy's mode is `Audit`.
        Audit = "audit",
    }
}

impl EncodeLabelValue for KindLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}
